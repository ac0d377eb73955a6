//! What recording costs a program: single runs of it, with and without an observer, and the CPU time
//! that they took. Whoever compares runs them in turns and takes ratios.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::drain::Drain;
use super::session::Session;
use super::system;
use crate::error::{Error, Result};

/// Who looks on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observer {
    /// Nobody.
    Nobody,
    /// This project's recorder, as `mymalloc record` preloads it.
    Recorder,
    /// Another object that is preloaded, with a variable that names the file or folder it writes.
    Other {
        /// The object.
        preload: PathBuf,
        /// The variable.
        variable: String,
    },
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// User and system time of the program, and of the processes that it waited for.
    pub cpu: Duration,
    /// Time from its start to its end.
    pub wall: Duration,
    /// CPU time of this process, in which it copied what the program wrote.
    pub copying_cpu: Duration,
    /// Bytes that the observer wrote.
    pub written_bytes: u64,
}

/// A place for the observers' files, and the recorder.
pub struct Rig {
    session: Session,
}

impl Rig {
    /// Makes a folder in this one; it goes with the rig.
    ///
    /// # Errors
    /// The folder is missing or cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let session = Session::new(&folder.join("cost"))?;
        session.release_reserve();
        Ok(Self { session })
    }

    /// Runs a program to its end. Its output goes nowhere; what the observer wrote is removed. The
    /// trace is not made of it: `mymalloc record` does that when the program has ended.
    ///
    /// # Errors
    /// The program cannot be run, or fails; the observer wrote nothing.
    pub fn run(&self, command: &mut Command, observer: &Observer) -> Result<Cost> {
        let folder = self.session.path().join("run");
        let failed = |source| Error::io(&folder, "make a folder there", source);
        std::fs::create_dir(&folder).map_err(failed)?;
        let cost = self.run_in(&folder, command, observer);
        let _ = std::fs::remove_dir_all(&folder);
        cost
    }

    fn run_in(&self, folder: &Path, command: &mut Command, observer: &Observer) -> Result<Cost> {
        let drain = match observer {
            Observer::Recorder => Some(Drain::begin(folder)?),
            _ => None,
        };
        let preload = match observer {
            Observer::Nobody => OsStr::new(""),
            Observer::Recorder => self.session.shim().as_os_str(),
            Observer::Other { preload, .. } => preload.as_os_str(),
        };
        match observer {
            Observer::Nobody => command.env_remove("LD_PRELOAD"),
            _ => command.env("LD_PRELOAD", preload),
        };
        if *observer == Observer::Recorder {
            command
                .env("MYMALLOC_RECORD", folder)
                .env("MYMALLOC_RECORD_OPTIONS", "limit=1000000000000");
        }
        if let Observer::Other { variable, .. } = observer {
            command.env(variable, folder.join("observed"));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let shown = command.get_program().to_owned();
        let began = Instant::now();
        let ended = command
            .spawn()
            .and_then(|child| system::wait(child.id()))
            .map_err(|source| Error::io(Path::new(&shown), "run", source));
        let wall = began.elapsed();
        let copying_cpu = drain.map(Drain::end).unwrap_or_default();
        let end = ended?;
        if end.status != 0 {
            return Err(Error::Failed(format!(
                "{} failed under {observer:?} (wait status {})",
                shown.display(),
                end.status
            )));
        }
        let written_bytes = bytes_in(folder);
        if written_bytes == 0 && *observer != Observer::Nobody {
            return Err(Error::Failed(format!(
                "{}: {observer:?} wrote nothing",
                shown.display()
            )));
        }
        Ok(Cost {
            cpu: end.cpu,
            wall,
            copying_cpu,
            written_bytes,
        })
    }
}

/// Bytes of what observers wrote: of every file but the bell.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let written = entries.filter(|entry| entry.file_name() != "bell");
    let lengths = written.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    lengths.sum()
}
