//! Copies full windows of the recorded processes to the ends of their files (see [`crate::trace::wire`]),
//! in a thread of this process, so that the program does not spend its own time on it. If this process
//! is killed, or too slow, the program does it itself: nobody ever waits for this thread.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::system;
use super::window_file::{Mapped, WindowFile};
use crate::error::{Error, Result};
use crate::trace::wire::bell as at;

/// Processes whose windows are copied at a time; further ones copy their own.
const FILES_MAX: usize = 256;
/// A ring that was missed is made up for after this time.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The thread, from its beginning to its end.
pub(super) struct Drain {
    shared: Arc<Shared>,
    thread: JoinHandle<Duration>,
}

struct Shared {
    bell: Mapped,
    is_ending: AtomicBool,
}

impl Drain {
    /// Begins, for the recorder's files that will be made in a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        let path = folder.join(at::NAME.to_str().expect("plain"));
        let failed = |source| Error::io(&path, "write", source);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed)?;
        // A program that root starts may go on as another user before it becomes another program.
        let mode = match system::effective_ids() {
            (0, _) => 0o666,
            _ => 0o600,
        };
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(failed)?;
        file.set_len(at::BYTES as u64).map_err(failed)?;
        let shared = Arc::new(Shared {
            bell: Mapped::new(&file, 0, at::BYTES).map_err(failed)?,
            is_ending: AtomicBool::new(false),
        });
        let (folder, own) = (folder.to_owned(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("copies windows".to_owned())
            .spawn(move || own.run(&folder))
            .map_err(failed)?;
        Ok(Self { shared, thread })
    }

    /// Ends; the CPU time that it took. What is full and not copied stays where it is, and is read there.
    pub(super) fn end(self) -> Duration {
        self.shared.is_ending.store(true, Ordering::Release);
        let rings = self.shared.bell.word(at::RINGS);
        rings.fetch_add(1, Ordering::SeqCst);
        system::futex_wake(rings);
        self.thread.join().unwrap_or_default()
    }
}

impl Shared {
    fn run(&self, folder: &Path) -> Duration {
        let (rings, sleeps) = (self.bell.word(at::RINGS), self.bell.word(at::SLEEPS));
        let mut files = Files::new(folder);
        while !self.is_ending.load(Ordering::Acquire) {
            let heard = rings.load(Ordering::SeqCst);
            files.look(self.bell.word(at::FILES).load(Ordering::Relaxed));
            if files.copy_full_windows() {
                continue;
            }
            // SeqCst: whoever rings does so before he looks whether anybody sleeps.
            sleeps.store(1, Ordering::SeqCst);
            // Returns at once if it has rung since.
            system::futex_wait(rings, heard, SLEEP_MAX);
            sleeps.store(0, Ordering::SeqCst);
        }
        system::thread_cpu_time()
    }
}

/// The files that have windows.
struct Files {
    folder: PathBuf,
    /// What the bell said of their number when they were looked for.
    told: u32,
    /// None: it cannot be used.
    found: BTreeMap<OsString, Option<WindowFile>>,
    open: usize,
}

impl Files {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            told: 0,
            found: BTreeMap::new(),
            open: 0,
        }
    }

    /// Looks for new files, if there are any.
    fn look(&mut self, told: u32) {
        if told == self.told {
            return;
        }
        self.told = told;
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !name.as_encoded_bytes().ends_with(b".wire") || self.found.contains_key(&name) {
                continue;
            }
            if self.open == FILES_MAX {
                self.forget_ended();
            }
            if self.open == FILES_MAX {
                return;
            }
            // One without windows may get some later.
            match WindowFile::open(&entry.path()) {
                Ok(Some(file)) => {
                    self.open += 1;
                    self.found.insert(name, Some(file));
                }
                Ok(None) => {}
                Err(_) => {
                    self.found.insert(name, None);
                }
            }
        }
    }

    fn forget_ended(&mut self) {
        for file in self.found.values_mut() {
            if file.as_ref().is_some_and(WindowFile::has_ended) {
                *file = None;
                self.open -= 1;
            }
        }
    }

    /// Whether there were any.
    fn copy_full_windows(&mut self) -> bool {
        let files = self.found.values_mut().flatten();
        let copied = files.map(WindowFile::copy_full_windows);
        copied.fold(false, |any, this| any | this)
    }
}
