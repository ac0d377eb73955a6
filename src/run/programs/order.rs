//! What a supervisor is told: the command in its fresh folder, its environment, the object to preload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Limits;
use crate::error::{Error, Result};
use crate::measure::results::Pass;
use crate::run::supervisor::{Looks, Measured, Order};
use crate::subject::{Access, Subject, libc_path};
use crate::workload::program::{RealProgram, find_command, search_path};

/// Path of the object to preload, or why there is none. `None`: nothing is preloaded.
pub(super) fn object_of(subject: &Subject) -> std::result::Result<Option<PathBuf>, String> {
    match &subject.access {
        Access::System => Ok(c_library()),
        Access::Preloaded(path) if path.is_file() => Ok(Some(path.clone())),
        Access::Preloaded(path) => Err(format!("{}: no such file", path.display())),
        Access::Linked(_) => {
            Err("it is linked into this program and cannot be preloaded into another".to_owned())
        }
    }
}

/// The file of the C library that serves this process. musl is its own dynamic linker, and nothing
/// comes before it.
fn c_library() -> Option<PathBuf> {
    match cfg!(target_env = "gnu") {
        true => std::fs::canonicalize(libc_path()?).ok(),
        false => None,
    }
}

/// A run of a program, before its folder.
pub(super) struct Run<'a> {
    pub(super) program: &'a RealProgram,
    pub(super) subject: &'a Subject,
    /// What the run is for: [`Pass::Verify`], [`Pass::Program`] or [`Pass::Memory`].
    pub(super) pass: Pass,
    pub(super) limits: &'a Limits,
    /// Bytes of an environment variable that moves the program's stack, against layout bias.
    pub(super) environment_bytes: usize,
    /// What is preloaded, if anything.
    pub(super) object: Option<PathBuf>,
}

impl Run<'_> {
    /// The order, for a working folder that this makes in `folder` and fills.
    pub(super) fn order(&self, folder: &Path) -> Result<Order> {
        let made = |name: &str| {
            let path = folder.join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => Ok(path),
                Err(source) => Err(Error::io(&path, "create", source)),
            }
        };
        let work = made("work")?;
        for path in &self.program.files {
            let name = path.file_name().unwrap_or_default();
            std::fs::copy(path, work.join(name))
                .map_err(|source| Error::io(path, "copy", source))?;
        }
        let mut environment = self.environment(&work);
        let mut bindings = None;
        if self.pass == Pass::Verify && self.object.is_some() {
            let said = made("bindings")?;
            environment.insert("LD_DEBUG".to_owned(), "files,bindings".to_owned());
            let prefix = said.join("of").display().to_string();
            environment.insert("LD_DEBUG_OUTPUT".to_owned(), prefix);
            bindings = Some(said);
        }
        let table = &self.program.table;
        let name = table.command.first().map_or("", String::as_str);
        let executable = find_command(name).unwrap_or_else(|| PathBuf::from(name));
        let measured = table.measured_names().into_iter().map(|name| Measured {
            path: find_command(&name).and_then(|path| real_path(&work.join(path))),
            name: name.rsplit('/').next().unwrap_or(&name).to_owned(),
        });
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|source| Error::io(path, "find", source))
        };
        let own_timeout = table.timeout_seconds.map(Duration::from_secs_f64);
        let timeout = self.limits.timeout;
        Ok(Order {
            folder: folder.to_owned(),
            executable,
            command: table.command.clone(),
            environment,
            input: self.program.input.as_ref().map(absolute).transpose()?,
            output: folder.join("output"),
            errors: folder.join("errors"),
            timeout: own_timeout.map_or(timeout, |own| own.max(timeout)),
            memory_limit_bytes: self.limits.memory_limit_bytes,
            looks: match self.pass {
                Pass::Verify => Looks::Objects,
                Pass::Memory => Looks::Memory,
                _ => Looks::Limits,
            },
            object: self.object.as_deref().and_then(real_path),
            measured: measured.collect(),
            bindings,
            expected_sha256: table.expected_sha256.clone(),
            answer: folder.join("answer"),
            work,
        })
    }

    /// The whole environment: nothing of the user's but where his home and his toolchains are.
    fn environment(&self, work: &Path) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            (
                "PATH".to_owned(),
                search_path().to_string_lossy().into_owned(),
            ),
            ("TMPDIR".to_owned(), work.display().to_string()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
            (
                "MYMALLOC_PADDING".to_owned(),
                "x".repeat(self.environment_bytes),
            ),
        ]);
        for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
            if let Ok(value) = std::env::var(name) {
                all.insert(name.to_owned(), value);
            }
        }
        if let Some(object) = &self.object {
            all.insert("LD_PRELOAD".to_owned(), object.display().to_string());
        }
        all.extend(self.program.table.environment.clone());
        all.extend(self.subject.environment.clone());
        all
    }
}

/// A file behind all links, as text.
pub(super) fn real_path(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    path.to_str().map(str::to_owned)
}
