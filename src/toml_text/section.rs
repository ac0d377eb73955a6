//! One table of a file, understood by itself, with the place of everything in it.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{explained, line_at, nearest};
use crate::error::{Error, Result};

/// A table `[name]` of a file.
#[derive(Clone, Debug)]
pub(crate) struct Section<'a> {
    path: &'a Path,
    text: &'a str,
    name: &'a str,
    table: DeTable<'a>,
    span: Range<usize>,
    /// Keys that were taken out: known, though the type that is read does not have them.
    taken: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Finds the table; `path` is for messages.
    ///
    /// # Errors
    /// The text is no TOML, or has no such table.
    pub(crate) fn of(path: &'a Path, text: &'a str, name: &'a str) -> Result<Self> {
        let mut file = DeTable::parse(text).map_err(|error| {
            let place = error.span().map_or(0, |span| span.start);
            Error::line(path, line_at(text, place), error.message())
        })?;
        let found = file.get_mut().remove_entry(name);
        let (key, value) =
            found.ok_or_else(|| Error::file(path, format!("[{name}]: the table is missing")))?;
        let mut section = Self {
            path,
            text,
            name,
            table: DeTable::new(),
            span: key.span(),
            taken: Vec::new(),
        };
        match value.into_inner() {
            DeValue::Table(table) => section.table = table,
            _ => return Err(section.error(&key.span(), "expected a table")),
        }
        Ok(section)
    }

    /// Takes out a number, 0 or more.
    ///
    /// # Errors
    /// It is missing, perhaps misspelt, or no such number.
    pub(crate) fn take_number(&mut self, key: &'static str) -> Result<u64> {
        self.taken.push(key);
        let Some(value) = self.table.remove(key) else {
            return Err(self.missing(&self.table, &self.span, key));
        };
        let number = match value.get_ref() {
            DeValue::Integer(digits) => {
                u64::from_str_radix(&digits.as_str().replace('_', ""), digits.radix()).ok()
            }
            _ => None,
        };
        number.ok_or_else(|| {
            let what = format!("{key}: expected a number, 0 or more");
            self.error(&value.span(), &what)
        })
    }

    /// Reads `{ tag = "word", … }` as the variant `word` of an enum with the rest as its fields. This is
    /// serde's `tag = "…"`, which forgets where each key stood.
    ///
    /// # Errors
    /// There is no tag, or it is not a word.
    pub(crate) fn tagged(&mut self, tag: &'static str) -> Result<()> {
        let table = std::mem::take(&mut self.table);
        self.table = self.variant(table, &self.span, tag)?;
        Ok(())
    }

    /// The same for a table inside, if it is there.
    ///
    /// # Errors
    /// As [`Section::tagged`], or it is not a table.
    pub(crate) fn inner_tagged(&mut self, key: &'static str, tag: &'static str) -> Result<()> {
        let Some((name, value)) = self.table.remove_entry(key) else {
            return Ok(());
        };
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let what = format!("{key}: expected a table such as {{ {tag} = \"…\", … }}");
            return Err(self.error(&span, &what));
        };
        let variant = self.variant(table, &span, tag)?;
        let value = Spanned::new(span, DeValue::Table(variant));
        self.table.insert(name, value);
        Ok(())
    }

    fn variant(
        &self,
        mut table: DeTable<'a>,
        span: &Range<usize>,
        tag: &'static str,
    ) -> Result<DeTable<'a>> {
        let Some(word) = table.remove(tag) else {
            return Err(self.missing(&table, span, tag));
        };
        let place = word.span();
        let DeValue::String(word) = word.into_inner() else {
            return Err(self.error(&place, &format!("{tag}: expected a word in quotes")));
        };
        let mut variant = DeTable::new();
        let rest = Spanned::new(span.clone(), DeValue::Table(table));
        variant.insert(Spanned::new(place, word), rest);
        Ok(variant)
    }

    /// Reads what is left.
    ///
    /// # Errors
    /// The line of the first mistake, and what it is.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let value = Spanned::new(self.span.clone(), DeValue::Table(self.table.clone()));
        T::deserialize(ValueDeserializer::from(value)).map_err(|error| {
            let span = error.span().unwrap_or(self.span.clone());
            let what = explained(error.message(), &self.text[span.clone()], &self.taken);
            self.error(&span, &what)
        })
    }

    /// The mistake that a sentence tells: at the first key that it names, or at the table.
    pub(crate) fn mistake(&self, what: &str) -> Error {
        let letter = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let mut words = what.split(|c| !letter(c)).filter(|word| !word.is_empty());
        let place = words.find_map(|word| find(&self.table, word));
        self.error(&place.unwrap_or(self.span.clone()), what)
    }

    /// A key that is not there, or that another one may be meant to be.
    fn missing(&self, table: &DeTable<'_>, span: &Range<usize>, key: &'static str) -> Error {
        let meant = nearest(key, table.keys().map(|own| own.get_ref().as_ref()));
        let found = table
            .keys()
            .find(|own| Some(own.get_ref().as_ref()) == meant);
        match found {
            Some(own) => {
                let what = format!("unknown key `{}`; did you mean `{key}`?", own.get_ref());
                self.error(&own.span(), &what)
            }
            None => self.error(span, &format!("missing key `{key}`")),
        }
    }

    fn error(&self, place: &Range<usize>, what: &str) -> Error {
        let message = format!("[{}]: {what}", self.name);
        Error::line(self.path, line_at(self.text, place.start), message)
    }
}

/// Where a key stands, at any depth. One that holds a table is the last choice: it may be the word of a
/// tag.
fn find(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let tables = || table.iter().filter(|(_, value)| value.get_ref().is_table());
    let mut plain = table
        .iter()
        .filter(|(_, value)| !value.get_ref().is_table());
    let mut inner = tables().filter_map(|(_, value)| value.get_ref().as_table());
    plain
        .find(|(own, _)| own.get_ref() == key)
        .map(|(own, _)| own.span())
        .or_else(|| inner.find_map(|table| find(table, key)))
        .or_else(|| {
            let mut tables = tables();
            let (own, _) = tables.find(|(own, _)| own.get_ref() == key)?;
            Some(own.span())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Shape {
        Round { radius: u64, colour: Colour },
        Nothing,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Colour {
        Grey { shade: u64 },
        Black,
    }

    fn read(text: &str) -> Result<(u64, Shape)> {
        let mut section = Section::of(Path::new("d.toml"), text, "shape")?;
        let seed = section.take_number("seed")?;
        section.inner_tagged("colour", "called")?;
        section.tagged("form")?;
        Ok((seed, section.read()?))
    }

    #[test]
    fn tables_become_variants() {
        let text = "[other]\nform = 7\n[shape] # note\nseed = 1_0\nform = 'round'\nradius = 2\n\
                    [shape.colour]\ncalled = 'grey'\nshade = 3\n";
        let colour = Colour::Grey { shade: 3 };
        let round = Shape::Round { radius: 2, colour };
        assert_eq!(read(text).expect("sound"), (10, round));
        let plain = "shape = { seed = 0x1f, form = 'nothing' }";
        assert_eq!(read(plain).expect("sound"), (31, Shape::Nothing));
    }

    #[test]
    fn each_mistake_names_its_line() {
        const GOOD: &str = "x = 1\n[ shape ] # note\n\nseed = 1\nform = 'round'\nradius = 2\n\
                            colour = { called = 'grey', shade = 3 }\n";
        read(GOOD).expect("sound");
        for (from, to, expected) in [
            (
                "seed",
                "sede",
                "4: [shape]: unknown key `sede`; did you mean `seed`?",
            ),
            ("seed = 1", "", "2: [shape]: missing key `seed`"),
            (
                "seed = 1",
                "seed = -1",
                "4: [shape]: seed: expected a number",
            ),
            (
                "seed = 1",
                "seed = 1.5",
                "4: [shape]: seed: expected a number",
            ),
            (
                "form",
                "from",
                "5: [shape]: unknown key `from`; did you mean `form`?",
            ),
            ("form = 'round'", "", "2: [shape]: missing key `form`"),
            (
                "'round'",
                "'ruond'",
                "5: [shape]: unknown word `ruond`; did you mean `round`?",
            ),
            ("'round'", "7", "5: [shape]: form: expected a word"),
            (
                "radius",
                "raduis",
                "6: [shape]: unknown key `raduis`; did you mean `radius`?",
            ),
            ("radius = 2", "", "2: [shape]: missing key `radius`"),
            ("radius = 2", "radius = 'x'", "6: [shape]: invalid type"),
            (
                "radius = 2",
                "radius = 2\nseeds = 1",
                "7: [shape]: unknown key `seeds`; did you",
            ),
            (
                "{ called = 'grey', shade = 3 }",
                "'grey'",
                "7: [shape]: colour: expected a table",
            ),
            (
                "called",
                "caled",
                "7: [shape]: unknown key `caled`; did you mean `called`?",
            ),
            (
                "'grey'",
                "'gray'",
                "7: [shape]: unknown word `gray`; did you mean `grey`?",
            ),
            ("shade = 3", "shade = []", "7: [shape]: invalid type"),
            ("'grey'", "'black'", "7: [shape]: no further key"),
            ("[ shape ]", "[ shap ]", "[shape]: the table is missing"),
        ] {
            assert!(GOOD.contains(from));
            let text = GOOD.replace(from, to);
            let error = read(&text).expect_err(&text).to_string();
            assert!(
                error
                    .strip_prefix("d.toml:")
                    .is_some_and(|rest| { rest.trim_start().starts_with(expected) }),
                "{error} is not {expected}"
            );
        }
    }

    #[test]
    fn a_mistake_stands_at_the_key_that_it_names() {
        let text = "[shape]\nform = 'round'\nradius = 2\ncolour = { shade = 3 }\n";
        let section = Section::of(Path::new("d.toml"), text, "shape").expect("there");
        let line = |what: &str| section.mistake(what).to_string();
        assert_eq!(
            line("radius must be 3"),
            "d.toml:3: [shape]: radius must be 3"
        );
        assert!(line("a deep shade").starts_with("d.toml:4: "));
        assert!(line("all is wrong").starts_with("d.toml:1: "));
    }
}
