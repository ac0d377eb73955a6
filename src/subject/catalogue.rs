//! `workloads/subjects.toml`, and the selection that the command line makes of it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::linked::{self, Linked};
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
    defaults: Vec<String>,
    baseline: String,
    subject: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    description: String,
    linked: Option<String>,
    #[serde(default)]
    system: bool,
    path: Option<PathBuf>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    version: Option<VersionTable>,
}

/// The file as it was when the program was built.
const BUILT_IN: &str = include_str!("../../workloads/subjects.toml");

impl Catalogue {
    /// The catalogue of this project.
    pub fn load() -> Result<Self> {
        Self::parse(BUILT_IN, Path::new("workloads/subjects.toml"))
    }

    /// Parses a catalogue; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let file: File = toml_text::parse(path, text)?;
        let mut catalogue = Self {
            subjects: Vec::new(),
            absent: Vec::new(),
            defaults: file.defaults,
            baseline: file.baseline,
        };
        for entry in file.subject {
            let name = entry.name.clone();
            let feature = entry.linked.as_deref().and_then(linked::absent_feature);
            if let Some(feature) = feature {
                catalogue.absent.push((name, feature));
                continue;
            }
            let subject = entry
                .into_subject()
                .map_err(|message| Error::file(path, message))?;
            if catalogue.find(&name).is_some() {
                return Err(Error::file(path, format!("subject {name:?} stands twice")));
            }
            catalogue.subjects.push(subject);
        }
        for name in catalogue.defaults.iter().chain([&catalogue.baseline]) {
            if catalogue.find(name).is_none() {
                return Err(Error::file(
                    path,
                    format!("no [[subject]] is named {name:?}"),
                ));
            }
        }
        Ok(catalogue)
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

    /// The subjects to compare: those named (or the defaults), the extra `NAME=PATH.so` ones, and
    /// the baseline, which is added if it was not among them.
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
            add(self.known(name)?.clone())?;
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
            if let Access::Preloaded(path) = &subject.access {
                object_file::check_allocator(path).map_err(|message| {
                    Error::usage(format!("subject {}: {message}", subject.name))
                })?;
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
             NAME=PATH.so",
            known().collect::<Vec<_>>().join(", ")
        )))
    }
}

impl Entry {
    fn into_subject(self) -> std::result::Result<Subject, String> {
        let access = match (&self.linked, self.system, &self.path) {
            (Some(linked), false, None) => {
                Access::Linked(Linked::from_name(linked).ok_or_else(|| {
                    format!(
                        "subject {:?}: nothing is linked in as {linked:?}",
                        self.name
                    )
                })?)
            }
            (None, true, None) => Access::System,
            (None, false, Some(path)) => Access::Preloaded(path.clone()),
            _ => {
                return Err(format!(
                    "subject {:?} needs exactly one of linked, system = true, path",
                    self.name
                ));
            }
        };
        let version = match self.version {
            Some(table) => VersionSource::try_from(table)
                .map_err(|message| format!("subject {:?}: {message}", self.name))?,
            None => VersionSource::Probe,
        };
        Ok(Subject {
            name: self.name,
            description: self.description,
            access,
            environment: self.environment,
            version,
        })
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
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if !name.chars().all(valid) || name.len() > 40 {
        return Err(Error::usage(format!(
            "--subject {text:?}: a name has at most 40 letters, digits and -_.+"
        )));
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
    fn a_subject_of_a_feature_is_offered_or_says_which_one() {
        let catalogue = Catalogue::load().expect("valid");
        for (name, built) in [
            ("snmalloc", cfg!(feature = "snmalloc")),
            ("rpmalloc", cfg!(feature = "rpmalloc")),
            ("dlmalloc", cfg!(feature = "dlmalloc")),
            ("talc", cfg!(feature = "talc")),
        ] {
            let selected = catalogue.select(Some(&[name.to_owned()]), &[], "system");
            match selected {
                Ok(_) => assert!(built, "{name}"),
                Err(error) => {
                    assert!(!built, "{name}: {error}");
                    let text = error.to_string();
                    assert!(
                        text.contains(&format!("cargo run --features {name}")),
                        "{text}"
                    );
                }
            }
        }
        // An object that would be hidden by a build with more features is refused in every build.
        let extra = ["talc=/lib/x.so".to_owned()];
        assert!(catalogue.select(None, &extra, "system").is_err());
    }

    #[test]
    fn versions_are_read() {
        let text = "defaults = []\nbaseline = 'a'\n[[subject]]\nname = 'a'\ndescription = ''\n\
                    system = true\nversion = { package = 'libc6' }\n";
        let catalogue = Catalogue::parse(text, Path::new("s.toml")).expect("sound");
        let version = &catalogue.find("a").expect("there").version;
        assert_eq!(*version, VersionSource::Package("libc6".to_owned()));
        let text = text.replace("package", "pakage");
        let error = Catalogue::parse(&text, Path::new("s.toml")).expect_err("misspelt");
        let expected = "s.toml:7: unknown key `pakage`; did you mean `package`?";
        assert_eq!(error.to_string(), expected);
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
        let text =
            "defaults = []\nbaseline = \"system\"\n[[subject]]\nname = \"x\"\ndescripton = \"\"\n";
        let error = Catalogue::parse(text, Path::new("s.toml")).expect_err("misspelt key");
        assert_eq!(
            error.to_string(),
            "s.toml:5: unknown key `descripton`; did you mean `description`?"
        );
    }

    #[test]
    fn malformed_extra_subjects_are_refused() {
        for text in ["libx.so", "=libx.so", "x=", "a b=libx.so"] {
            assert_eq!(parse_extra(text).expect_err(text).exit_code(), 2);
        }
    }
}
