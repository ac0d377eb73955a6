//! `workloads/subjects.toml`, files of the same form, and the selection that the command line makes of it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::linked::{self, Linked};
use super::shim::Shim;
use super::version::{VersionSource, VersionTable};
use super::{Access, Subject, object_file};
use crate::error::{Error, Result};
use crate::toml_text::{self, nearest};

/// All known subjects, the default selection and the default baseline.
#[derive(Clone, Debug)]
pub struct Catalogue {
    subjects: Vec<Subject>,
    /// Subjects that this build lacks, and the cargo feature that brings each.
    absent: Vec<(String, &'static str)>,
    defaults: Vec<String>,
    baseline: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defaults: Option<Vec<Spanned<String>>>,
    baseline: Option<Spanned<String>>,
    #[serde(default)]
    subject: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    description: String,
    linked: Option<Spanned<String>>,
    #[serde(default)]
    system: bool,
    path: Option<PathBuf>,
    shim: Option<Spanned<String>>,
    #[serde(default)]
    environment: BTreeMap<Spanned<String>, Spanned<String>>,
    version: Option<Spanned<VersionTable>>,
}

/// In place of names: every subject that can be had here.
pub const ALL: &str = "all";

/// What is wrong, and where in the text.
type Mistake = (Range<usize>, String);

/// The file as it was when the program was built.
const BUILT_IN: &str = include_str!("../../workloads/subjects.toml");

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Errors
    /// None, or a test would have found it.
    pub fn load() -> Result<Self> {
        let path = Path::new("workloads/subjects.toml");
        let mut catalogue = Self {
            subjects: Vec::new(),
            absent: Vec::new(),
            defaults: Vec::new(),
            baseline: String::new(),
        };
        catalogue.add(BUILT_IN, path)?;
        Ok(catalogue)
    }

    /// The same, and on top of it what stands in a file of that form, if one is given: its entries are
    /// added, or take the place of those of the same name. They join the default selection, unless the
    /// file has `defaults` of its own.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is wrong.
    pub fn load_with(path: Option<&Path>) -> Result<Self> {
        let mut catalogue = Self::load()?;
        if let Some(path) = path {
            let text =
                std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
            catalogue.add(&text, path)?;
        }
        Ok(catalogue)
    }

    /// Adds what stands in a file; `path` is for messages, and relative paths start beside it.
    fn add(&mut self, text: &str, path: &Path) -> Result<()> {
        let file: File = toml_text::parse(path, text)?;
        self.add_file(file, path)
            .map_err(|(place, what)| Error::line(path, toml_text::line_at(text, place.start), what))
    }

    fn add_file(&mut self, file: File, path: &Path) -> std::result::Result<(), Mistake> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut added: Vec<String> = Vec::new();
        for entry in file.subject {
            let (place, entry) = (entry.span(), entry.into_inner());
            let name = entry.name.get_ref().clone();
            if added.contains(&name) {
                return Err((entry.name.span(), format!("subject {name:?} stands twice")));
            }
            added.push(name.clone());
            self.absent.retain(|(absent, _)| *absent != name);
            let linked = entry
                .linked
                .as_ref()
                .map(|linked| linked.get_ref().as_str());
            if let Some(feature) = linked.and_then(linked::absent_feature) {
                self.subjects.retain(|known| known.name != name);
                self.absent.push((name, feature));
                continue;
            }
            let subject = entry.into_subject(&place, folder)?;
            match self.subjects.iter_mut().find(|known| known.name == name) {
                Some(known) => *known = subject,
                None => self.subjects.push(subject),
            }
        }
        match file.defaults {
            Some(defaults) => {
                for name in &defaults {
                    self.check_named(name)?;
                }
                self.defaults = defaults.into_iter().map(Spanned::into_inner).collect();
            }
            None => {
                added.retain(|name| self.find(name).is_some() && !self.defaults.contains(name));
                self.defaults.extend(added);
            }
        }
        if let Some(baseline) = file.baseline {
            self.check_named(&baseline)?;
            self.baseline = baseline.into_inner();
        }
        Ok(())
    }

    fn check_named(&self, name: &Spanned<String>) -> std::result::Result<(), Mistake> {
        let place = name.span();
        let name = name.get_ref();
        match self.find(name) {
            Some(_) => Ok(()),
            None => Err((place, format!("no [[subject]] is named {name:?}"))),
        }
    }

    /// All subjects, in the order of the file.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// The baseline when none is asked for.
    pub fn default_baseline(&self) -> &str {
        &self.baseline
    }

    /// The subject of that name.
    pub fn find(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// The subjects that [`ALL`] leaves out, each with the reason.
    pub fn left_out(&self) -> Vec<(String, String)> {
        let absent = self.absent.iter();
        let absent = absent.map(|(name, feature)| {
            let why = format!("this program was built without --features {feature}");
            (name.clone(), why)
        });
        let known = self.subjects.iter();
        let missing = known.filter_map(|one| Some((one.name.clone(), missing(one)?)));
        absent.chain(missing).collect()
    }

    /// The subjects to compare: those named (or the defaults; [`ALL`] for all that can be had here),
    /// the extra `NAME=PATH.so` ones, and the baseline, which is added if it was not among them.
    pub fn select(
        &self,
        names: Option<&[String]>,
        extra: &[String],
        baseline: &str,
    ) -> Result<Vec<Subject>> {
        let mut selected: Vec<Subject> = Vec::new();
        let mut add = |subject: Subject| -> Result<()> {
            if selected.iter().any(|other| other.name == subject.name) {
                return Err(Error::usage(format!(
                    "subject {:?} is named twice",
                    subject.name
                )));
            }
            selected.push(subject);
            Ok(())
        };
        for name in names.unwrap_or(&self.defaults) {
            if name == ALL {
                let usable = self.subjects.iter().filter(|one| missing(one).is_none());
                usable.cloned().try_for_each(&mut add)?;
            } else {
                add(self.known(name)?.clone())?;
            }
        }
        for text in extra {
            let subject = parse_extra(text)?;
            let absent = self.absent.iter().any(|(name, _)| *name == subject.name);
            if absent || self.find(&subject.name).is_some() {
                return Err(Error::usage(format!(
                    "--subject {text:?}: {} is the name of a known subject; choose another",
                    subject.name
                )));
            }
            add(subject)?;
        }
        if !selected.iter().any(|subject| subject.name == baseline) {
            selected.insert(0, self.known(baseline)?.clone());
        }
        for subject in &selected {
            if let Some(message) = missing(subject) {
                return Err(Error::usage(format!("subject {}: {message}", subject.name)));
            }
        }
        Ok(selected)
    }

    fn known(&self, name: &str) -> Result<&Subject> {
        if let Some(subject) = self.find(name) {
            return Ok(subject);
        }
        if let Some((_, feature)) = self.absent.iter().find(|(absent, _)| absent == name) {
            return Err(Error::usage(format!(
                "subject {name}: this program was built without the feature {feature}; run it as: \
                 cargo run --features {feature} ..."
            )));
        }
        let known = || self.subjects.iter().map(|subject| subject.name.as_str());
        let meant = nearest(name, known())
            .map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        Err(Error::usage(format!(
            "no subject is named {name:?}{meant}; known: {}; or give a shared object as --subject \
             NAME=PATH.so, or an entry with --subjects-file",
            known().collect::<Vec<_>>().join(", ")
        )))
    }
}

impl Entry {
    /// `place` is where it stands; a relative path starts at `folder`.
    fn into_subject(
        self,
        place: &Range<usize>,
        folder: &Path,
    ) -> std::result::Result<Subject, Mistake> {
        let name_place = self.name.span();
        let name = self.name.into_inner();
        if !is_valid_name(&name) {
            return Err((name_place, format!("name {name:?}: {NAME_RULE}")));
        }
        let at = |place: Range<usize>, what: &str| (place, format!("subject {name:?}: {what}"));
        let access = match (&self.linked, self.system, &self.path, &self.shim) {
            (Some(linked), false, None, None) => {
                let word = linked.get_ref();
                let known = Linked::from_name(word);
                let what = format!("nothing is linked in as {word:?}");
                Access::Linked(known.ok_or_else(|| at(linked.span(), &what))?)
            }
            (None, true, None, None) => Access::System,
            (None, false, Some(path), None) => {
                let absolute = std::path::absolute(folder.join(path));
                Access::Preloaded(absolute.map_err(|error| {
                    at(place.clone(), &format!("path {}: {error}", path.display()))
                })?)
            }
            (None, false, None, Some(shim)) => {
                let word = shim.get_ref();
                let what = format!("this program carries no shared object {word:?}");
                let known = Shim::from_name(word).ok_or_else(|| at(shim.span(), &what))?;
                Access::Preloaded(known.file())
            }
            _ => {
                let what = "it needs exactly one of linked, system = true, path, shim";
                return Err(at(place.clone(), what));
            }
        };
        let mut environment = BTreeMap::new();
        for (variable, value) in self.environment {
            let (place, variable) = (variable.span(), variable.into_inner());
            let value = value.into_inner();
            if variable.is_empty() || variable.contains(['=', '\0']) || value.contains('\0') {
                let what = format!("environment: {variable:?} cannot be set");
                return Err(at(place, &what));
            }
            if ["LD_PRELOAD", "LD_AUDIT"].contains(&variable.as_str()) {
                let what = format!("environment: {variable} is not for subjects; use path");
                return Err(at(place, &what));
            }
            environment.insert(variable, value);
        }
        let version = match self.version {
            Some(table) => {
                let place = table.span();
                VersionSource::try_from(table.into_inner()).map_err(|what| at(place, &what))?
            }
            // As old as this program.
            None if self.shim.is_some() => {
                VersionSource::Text(env!("CARGO_PKG_VERSION").to_owned())
            }
            None => VersionSource::Probe,
        };
        Ok(Subject {
            name,
            description: self.description,
            access,
            environment,
            version,
        })
    }
}

const NAME_RULE: &str = "a name has 1 to 40 letters, digits and -_.+, and is not \"all\"";

fn is_valid_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    (1..=40).contains(&name.len()) && name.chars().all(valid) && name != ALL
}

/// Why a subject cannot be had here, if so.
fn missing(subject: &Subject) -> Option<String> {
    match &subject.access {
        Access::Preloaded(path) => object_file::check_allocator(path).err(),
        Access::Linked(_) | Access::System => None,
    }
}

/// `NAME=PATH.so` from the command line.
fn parse_extra(text: &str) -> Result<Subject> {
    let (name, path) = text
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
        .ok_or_else(|| {
            Error::usage(format!(
                "--subject {text:?}: expected NAME=PATH.so, e.g. my=./libmy.so"
            ))
        })?;
    if !is_valid_name(name) {
        return Err(Error::usage(format!("--subject {text:?}: {NAME_RULE}")));
    }
    let absolute = std::path::absolute(path).map_err(|error| Error::io(path, "find", error))?;
    Ok(Subject {
        name: name.to_owned(),
        description: format!("The shared object {path}"),
        access: Access::Preloaded(absolute),
        environment: BTreeMap::new(),
        version: VersionSource::Probe,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_valid() {
        let catalogue = Catalogue::load().expect("valid");
        let selected = catalogue
            .select(None, &[], catalogue.default_baseline())
            .expect("known");
        assert!(selected.iter().any(|subject| subject.name == "pagelist"));
    }

    #[test]
    fn an_unknown_subject_lists_the_known_ones() {
        let catalogue = Catalogue::load().expect("valid");
        let error = catalogue
            .select(Some(&["hoard".to_owned()]), &[], "system")
            .expect_err("unknown");
        let text = error.to_string();
        assert!(
            text.contains("hoard") && text.contains("mimalloc"),
            "{text}"
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn all_of_them_but_those_that_cannot_be_had() {
        let text = "[[subject]]\nname = 'gone'\ndescription = ''\npath = '/no/such.so'\n";
        let catalogue = with(text).expect("sound");
        let all = ["all".to_owned()];
        let selected = catalogue
            .select(Some(&all), &[], "system")
            .expect("what is left");
        let left_out = catalogue.left_out();
        let is_left_out = |name: &str| left_out.iter().any(|(other, _)| other == name);
        for subject in catalogue.subjects() {
            let is_selected = selected.iter().any(|one| one.name == subject.name);
            assert_ne!(is_selected, is_left_out(&subject.name), "{}", subject.name);
        }
        assert!(is_left_out("gone") && !is_left_out("system"));
        assert_eq!(is_left_out("talc"), !cfg!(feature = "talc"));
        assert!(left_out.iter().all(|(_, why)| !why.is_empty()));
        let twice = ["all", "system"].map(str::to_owned);
        assert!(catalogue.select(Some(&twice), &[], "system").is_err());
        let extra = ["all=/lib/x.so".to_owned()];
        assert!(catalogue.select(None, &extra, "system").is_err());
        assert!(with(&text.replace("gone", "all")).is_err());
    }

    /// The built-in catalogue and a file above it.
    fn with(text: &str) -> Result<Catalogue> {
        let mut catalogue = Catalogue::load()?;
        catalogue.add(text, Path::new("dir/s.toml"))?;
        Ok(catalogue)
    }

    #[test]
    fn a_file_adds_to_the_catalogue_and_replaces() {
        let text = "[[subject]]\nname = 'mine'\ndescription = ''\npath = 'lib/mine.so'\n\
                    environment = { MINE = '1' }\nversion = { package = 'mine' }\n\
                    [[subject]]\nname = 'talc'\ndescription = 'now here'\nsystem = true\n\
                    [[subject]]\nname = 'mimalloc'\ndescription = 'other'\nlinked = 'mimalloc'\n";
        let built_in = Catalogue::load().expect("valid");
        let catalogue = with(text).expect("sound");
        let mine = catalogue.find("mine").expect("added");
        assert_eq!(mine.version, VersionSource::Package("mine".to_owned()));
        assert_eq!(mine.environment["MINE"], "1");
        let path = std::path::absolute("dir/lib/mine.so").expect("a folder");
        assert_eq!(mine.access, Access::Preloaded(path));
        let talc = catalogue.known("talc").expect("whatever the features");
        assert_eq!(talc.access, Access::System);
        assert_eq!(
            catalogue.find("mimalloc").expect("there").description,
            "other"
        );
        let own: Vec<&str> = catalogue.defaults[built_in.defaults.len()..]
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(own, ["mine", "talc"]);
        let chosen = with(&format!("defaults = ['mine']\nbaseline = 'mine'\n{text}"));
        let chosen = chosen.expect("sound");
        assert_eq!(chosen.defaults, ["mine"]);
        assert_eq!(chosen.default_baseline(), "mine");
    }

    #[test]
    fn the_shim_serves_where_shared_objects_do() {
        let catalogue = Catalogue::load().expect("valid");
        let shim = catalogue.known("mymalloc-so").expect("built in");
        assert!(shim.is_own() && missing(shim).is_none());
        assert!(matches!(&shim.access, Access::Preloaded(path) if path.is_absolute()));
        let version = VersionSource::Text(env!("CARGO_PKG_VERSION").to_owned());
        assert_eq!(shim.version, version);
    }

    #[test]
    fn the_baseline_joins_the_selection() {
        let catalogue = Catalogue::load().expect("valid");
        let selected = catalogue
            .select(Some(&["mimalloc".to_owned()]), &[], "system")
            .expect("known");
        let names: Vec<_> = selected
            .iter()
            .map(|subject| subject.name.as_str())
            .collect();
        assert_eq!(names, ["system", "mimalloc"]);
    }

    #[test]
    fn faults_in_the_file_name_the_line() {
        const GOOD: &str = "defaults = ['x']\nbaseline = 'x'\n\n[[subject]] # one\nname = 'x'\n\
                            description = ''\nsystem = true\n\n[[subject]]\nname = 'y'\n\
                            description = ''\nlinked = 'mimalloc'\n\
                            version = { package = 'p' }\nenvironment = { A = 'b' }\n";
        with(GOOD).expect("sound");
        for (from, to, expected) in [
            ("['x']", "['x',\n'z']", "2: no [[subject]] is named \"z\""),
            (
                "baseline = 'x'",
                "baseline = 'z'",
                "2: no [[subject]] is named",
            ),
            ("'y'", "'x'", "10: subject \"x\" stands twice"),
            ("'y'", "'y y'", "10: name \"y y\": a name has"),
            (
                "description",
                "descripton",
                "6: unknown key `descripton`; did you mean `description`?",
            ),
            (
                "'mimalloc'",
                "'minalloc'",
                "12: subject \"y\": nothing is linked in as",
            ),
            (
                "linked = 'mimalloc'",
                "shim = 'mimalloc'",
                "12: subject \"y\": this program carries no shared object",
            ),
            (
                "system = true",
                "",
                "4: subject \"x\": it needs exactly one",
            ),
            (
                "package",
                "pakage",
                "13: unknown key `pakage`; did you mean `package`?",
            ),
            (
                "package = 'p'",
                "",
                "13: subject \"y\": version needs exactly one",
            ),
            (
                "{ A =",
                "{ LD_PRELOAD =",
                "14: subject \"y\": environment: LD_PRELOAD",
            ),
            ("'b'", "1", "14: invalid type"),
            (
                "[[subject]] # one",
                "[[subjects]] # one",
                "4: unknown key `subjects`; did you mean `subject`?",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = with(&GOOD.replacen(from, to, 1))
                .expect_err(expected)
                .to_string();
            let place = error.strip_prefix("dir/s.toml:").expect("the file");
            assert!(place.starts_with(expected), "{place} is not {expected}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn malformed_extra_subjects_are_refused() {
        for text in ["libx.so", "=libx.so", "x=", "a b=libx.so"] {
            assert_eq!(parse_extra(text).expect_err(text).exit_code(), 2);
        }
    }
}
