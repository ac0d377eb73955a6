//! Which object really served a program: what the dynamic linker told of each name that it bound.
//!
//! In the verify pass a program runs with `LD_DEBUG=files,bindings` (ld.so(8)), so that each of its
//! processes tells into a file of its own which objects it loads, and for each symbol of each object
//! in which one it was found, also for those that are looked up late. A program that is mapped next
//! to an allocator is not served by it yet: it may bring functions of its own, all or some.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::order::real_path;
use crate::run::supervisor::{Measured, Order, Seen, refuses_preloads};
use crate::subject::functions::function_names;
use crate::subject::object_file;

/// Further functions whose blocks `free` takes: served by another object, they would mix.
const ALSO: [&str; 3] = ["memalign", "valloc", "pvalloc"];
/// How the names of C++'s operators begin: new, new[], delete, delete[].
const OPERATORS: [&str; 4] = ["_Znw", "_Zna", "_Zdl", "_Zda"];
/// The dynamic linker maps the object long before so many looks.
const LOOKS: u32 = 4;

/// Whether the object that was asked for served a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It did, alone.
    ByIt,
    /// It did not, or not alone.
    ByAnother(String),
    /// Nothing was told of a process that it must serve.
    Unknown(String),
}

/// Reads what the dynamic linker told under an order. `seen` is what was seen of its executables.
pub(super) fn served(order: &Order, seen: &[Seen]) -> Served {
    let (Some(folder), Some(object)) = (&order.bindings, &order.object) else {
        return Served::ByIt;
    };
    let images = read(folder);
    let case = Case {
        order,
        object,
        seen,
        images: &images,
    };
    match case.objection() {
        Some(reason) => Served::ByAnother(reason),
        None => match case.untold() {
            Some(reason) => Served::Unknown(reason),
            None => Served::ByIt,
        },
    }
}

/// What one process told while it executed one file.
#[derive(Debug, Default)]
struct Image {
    process: u32,
    /// The command's first word (`argv[0]`), when it had been loaded.
    name: Option<String>,
    /// Objects it loaded.
    objects: BTreeSet<String>,
    /// Bindings of the allocator's names: from which object, to which one, which name.
    bindings: BTreeSet<(String, String, String)>,
    /// Names that other objects found in an object.
    used: BTreeMap<String, BTreeSet<String>>,
}

impl Image {
    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("a process")
    }

    fn take(&mut self, words: &str) {
        if let Some(rest) = words.strip_prefix("initialize program: ") {
            self.name = Some(rest.to_owned());
        } else if let Some(rest) = words.strip_prefix("file=") {
            if let Some((path, _)) = rest.split_once(" [")
                && rest.ends_with("generating link map")
            {
                self.objects.insert(path.to_owned());
            }
        } else if let Some(path) = words.strip_prefix("calling init: ") {
            self.objects.insert(path.to_owned());
        } else if let Some((from, to, symbol)) = binding(words) {
            // What is needed by name is told by name when it is loaded, by path when it is bound.
            for path in [from, to] {
                if path.contains('/') && !self.objects.contains(path) {
                    self.objects.insert(path.to_owned());
                }
            }
            if is_allocators(symbol) {
                let binding = (from.to_owned(), to.to_owned(), symbol.to_owned());
                self.bindings.insert(binding);
            }
            if from != to {
                let used = self.used.entry(to.to_owned()).or_default();
                used.insert(symbol.to_owned());
            }
        }
    }
}

fn is_allocators(symbol: &str) -> bool {
    is_family(symbol) || OPERATORS.iter().any(|start| symbol.starts_with(start))
}

/// Whether the object must serve it.
fn is_family(symbol: &str) -> bool {
    function_names().contains(&symbol) || ALSO.contains(&symbol)
}

/// `binding file FROM [0] to TO [0]: normal symbol `NAME' [VERSION]`
fn binding(words: &str) -> Option<(&str, &str, &str)> {
    let (from, rest) = words.strip_prefix("binding file ")?.split_once(" [")?;
    let (_, rest) = rest.split_once("] to ")?;
    let (to, rest) = rest.split_once(" [")?;
    let (_, rest) = rest.split_once('`')?;
    let (symbol, _) = rest.split_once('\'')?;
    Some((from, to, symbol))
}

/// All images that were told of in a folder.
fn read(folder: &Path) -> Vec<Image> {
    let mut images: HashMap<u32, Vec<Image>> = HashMap::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for file in entries.filter_map(|entry| File::open(entry.path()).ok()) {
        // A process that forks goes on writing into the same file, each line with its own number.
        for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let Some((process, words)) = line.split_once(':') else {
                continue;
            };
            let Ok(process) = process.trim().parse() else {
                continue;
            };
            let words = words.trim();
            let own = images.entry(process).or_default();
            // The first thing that the dynamic linker does with a new executable.
            let begins = words.starts_with("binding file linux-vdso") || own.is_empty();
            if begins && own.last().is_none_or(|last| last.name.is_some()) {
                own.push(Image {
                    process,
                    ..Image::default()
                });
            }
            if let Some(image) = own.last_mut() {
                image.take(words);
            }
        }
    }
    images.into_values().flatten().collect()
}

struct Case<'a> {
    order: &'a Order,
    object: &'a str,
    seen: &'a [Seen],
    images: &'a [Image],
}

impl Case<'_> {
    /// Why the object did not serve alone, if so.
    fn objection(&self) -> Option<String> {
        let own = self.seen.iter().find_map(|seen| seen.own_allocator.clone());
        own.or_else(|| self.unseen_executables())
            .or_else(|| {
                let mut measured = self.images.iter().filter(|image| self.is_measured(image));
                measured.find_map(|image| self.objection_to(image))
            })
            .or_else(|| self.ignored())
    }

    /// Why no process counts for an executable, if so.
    fn untold(&self) -> Option<String> {
        let told = |measured: &Measured| {
            self.images.iter().any(|image| {
                self.is_of(image, measured)
                    && image
                        .bindings
                        .iter()
                        .any(|(_, to, symbol)| is_family(symbol) && self.is_object(to))
            })
        };
        let unseen = self
            .order
            .measured
            .iter()
            .find(|measured| !told(measured))?;
        Some(format!(
            "no process of {} told which allocator served it",
            unseen.name
        ))
    }

    fn is_measured(&self, image: &Image) -> bool {
        let mut measured = self.order.measured.iter();
        measured.any(|measured| self.is_of(image, measured))
    }

    /// Whether an image is of this executable: by its command's name, or as it was seen.
    fn is_of(&self, image: &Image, measured: &Measured) -> bool {
        let named = image.name.as_ref().is_some_and(|name| {
            measured.is(Path::new(name))
                || self.path_of(name).is_some_and(|path| {
                    real_path(&path) == measured.path && measured.path.is_some()
                })
        });
        named
            || self
                .seen
                .iter()
                .any(|seen| seen.process == image.process && measured.is(&seen.path))
    }

    /// The file of a command's first word, if it names one.
    fn path_of(&self, name: &str) -> Option<PathBuf> {
        name.contains('/').then(|| self.order.work.join(name))
    }

    /// Whether the executable's file was looked at: when it was seen, or by its path.
    fn is_inspected(&self, image: &Image) -> bool {
        let mut seen = self.seen.iter();
        let mut measured = self.order.measured.iter();
        let path = image.name.as_ref().and_then(|name| self.path_of(name));
        path.is_some_and(|path| path.is_file())
            || seen.any(|seen| seen.process == image.process)
            || measured.any(|one| one.path.is_some() && self.is_of(image, one))
    }

    /// Executables that ended before they were seen, but whose files are known.
    fn unseen_executables(&self) -> Option<String> {
        let known = self
            .order
            .measured
            .iter()
            .filter_map(|one| one.path.clone());
        let told = self.images.iter().filter(|image| self.is_measured(image));
        let told = told.filter_map(|image| self.path_of(image.name.as_ref()?));
        let paths: BTreeSet<PathBuf> = known.map(PathBuf::from).chain(told).collect();
        paths.iter().find_map(|path| {
            // A script is no executable; what it starts is seen or told.
            let is_script = std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!"));
            let file = File::open(path).ok().filter(|_| !is_script)?;
            refuses_preloads(path, &file)
        })
    }

    fn objection_to(&self, image: &Image) -> Option<String> {
        let title = image.title();
        // One without a name executed nothing: it is a copy of a process that did.
        let has_loaded = image.objects.iter().any(|path| self.is_object(path));
        if image.name.is_some() && !has_loaded {
            return Some(format!(
                "the preload was ignored: {title} did not load {}",
                self.object
            ));
        }
        // What the object takes from elsewhere is its own affair.
        let bindings = image.bindings.iter();
        for (from, to, symbol) in bindings.filter(|(from, ..)| !self.is_object(from)) {
            let is_foreign = match is_family(symbol) {
                // An executable that takes a function's address gives it one of its own, from which the
                // call goes on to where it is bound; whether it defines the function was looked at.
                true => !(image.name.as_ref() == Some(to) && self.is_inspected(image)),
                // The library of C++ itself looks all of them up, also where no C++ runs.
                false => from != to && !is_of_cpp(from) && is_other_allocator(to),
            };
            if is_foreign && !self.is_object(to) {
                return Some(format!(
                    "{symbol} of {title} is served by {to} instead of {}",
                    self.object
                ));
            }
        }
        let own = image.objects.iter().find(|path| {
            let used = image.used.get(*path);
            let used: Vec<&str> = used.into_iter().flatten().map(String::as_str).collect();
            !self.is_object(path)
                && !is_system(path)
                && object_file::serves_itself(Path::new(path), &function_names(), &used)
        })?;
        Some(format!(
            "{title} loads {own}, which calls an allocator of its own instead of {}",
            self.object
        ))
    }

    /// A process that the dynamic linker did not tell of, and in which the object was not seen.
    fn ignored(&self) -> Option<String> {
        let silent = |seen: &&Seen| {
            !self
                .images
                .iter()
                .any(|image| image.process == seen.process)
        };
        let seen = self
            .seen
            .iter()
            .filter(|seen| !seen.has_object && seen.looks >= LOOKS)
            .find(silent)?;
        Some(format!(
            "the preload was ignored: {} did not load {}",
            seen.path.display(),
            self.object
        ))
    }

    fn is_object(&self, path: &str) -> bool {
        path == self.object || real_path(Path::new(path)).as_deref() == Some(self.object)
    }
}

/// The C library and the dynamic linker look their own names up as all others do.
fn is_system(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["libc.so", "ld-", "linux-vdso"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn is_of_cpp(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("libstdc++.so") || name.starts_with("libc++.so")
}

fn is_other_allocator(path: &str) -> bool {
    !is_system(path) && object_file::inspect(Path::new(path)).is_ok_and(|file| file.defines_malloc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_dynamic_linker_are_understood() {
        let line = "binding file sh [0] to /lib/libc.so.6 [0]: normal symbol `free' [GLIBC_2.2.5]";
        assert_eq!(binding(line), Some(("sh", "/lib/libc.so.6", "free")));
        let unversioned = "binding file ./a [0] to /x/b.so [1]: weak symbol `_Znwm'";
        assert_eq!(binding(unversioned), Some(("./a", "/x/b.so", "_Znwm")));
        for other in [
            "",
            "calling init: /x",
            "binding file",
            "binding file a [0] to b",
        ] {
            assert_eq!(binding(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_executes_twice_has_two_images() {
        let folder = tempfile::tempdir().expect("a folder");
        let vdso = "binding file linux-vdso.so.1 [0] to linux-vdso.so.1 [0]: normal symbol `x' [V]";
        let malloc = "binding file sh [0] to /o.so [0]: normal symbol `malloc' [V]";
        let late = "binding file sh [0] to /o.so [0]: normal symbol `calloc' [V]";
        let loaded = "file=/o.so [0];  generating link map";
        let words = [
            (7, vdso),
            (7, loaded),
            (7, malloc),
            (7, "initialize program: sh"),
            (8, late),
            (7, vdso),
            (7, loaded),
            (7, "initialize program: /bin/git"),
        ];
        let lines = words.map(|(process, words)| format!("{process:10}:\t{words}\n"));
        std::fs::write(folder.path().join("of.7"), lines.concat()).expect("ours");
        let mut images = read(folder.path());
        images.sort_by_key(|image| (image.process, image.bindings.is_empty()));
        let names: Vec<_> = images
            .iter()
            .map(|image| (image.process, image.title()))
            .collect();
        // The child of the first one, made without executing, told of late lookups only.
        assert_eq!(names, [(7, "sh"), (7, "/bin/git"), (8, "a process")]);
        assert_eq!(images[0].bindings.len(), 1);
        assert!(images[1].objects.contains("/o.so") && images[1].bindings.is_empty());
    }
}
