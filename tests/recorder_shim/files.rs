//! What can happen to the file: a limit, a full disk, handles and folders that go away.

use super::{Recorder, folder};

const LIMIT: u32 = 1;
const DISK_FULL: u32 = 2;
const IO: u32 = 3;

#[test]
fn at_the_limit_the_program_goes_on_and_calls_are_counted() {
    for limit in [16_384_u64, 40_000, 65_536, 200_000] {
        let recording = Recorder::new(&format!("limit={limit}")).scene(&["pairs", "50000", "64"]);
        let recording = recording.succeeded();
        let wire = recording.wire();
        assert_eq!(wire.stopped().0, LIMIT);
        let length = std::fs::metadata(&wire.path).expect("there").len();
        assert!(
            length <= limit && wire.file_bytes() == length,
            "{length} {limit}"
        );
        assert_eq!(wire.events.len() as u64 + wire.unrecorded(), 100_000);
        assert_eq!(wire.missing(), 0);
        assert!(limit < 40_000 || !wire.events.is_empty());
        wire.check_blocks(0);
    }
}

#[test]
fn at_the_limit_with_threads_no_block_is_handed_out_twice() {
    for _ in 0..5 {
        let recording = Recorder::new("limit=400000")
            .scene(&["pipeline", "60000"])
            .succeeded();
        let wire = recording.wire();
        assert_eq!(wire.stopped().0, LIMIT);
        assert!(wire.unrecorded() > 0);
        assert_eq!(wire.missing(), 0);
        wire.check_blocks(0);
    }
}

#[test]
fn a_limit_of_the_systems_on_files_does_not_kill() {
    let recorder = Recorder::new("").prepare(|command| {
        use std::os::unix::process::CommandExt;
        let limit = libc::rlimit {
            rlim_cur: 200_000,
            rlim_max: 200_000,
        };
        // SAFETY: setrlimit may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
                Ok(())
            });
        }
    });
    let recording = recorder.scene(&["pairs", "50000", "64"]).succeeded();
    let wire = recording.wire();
    assert_eq!(wire.stopped(), (IO, libc::EFBIG as u32));
    assert_eq!(wire.events.len() as u64 + wire.unrecorded(), 100_000);
    wire.check_blocks(0);
}

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where it may not be mounted.
    fn mount(bytes: u32) -> Option<Self> {
        let folder = folder();
        let target = std::ffi::CString::new(folder.path().to_str()?).ok()?;
        let options = std::ffi::CString::new(format!("size={bytes}")).ok()?;
        // SAFETY: texts ended by NUL.
        let mounted = unsafe {
            libc::mount(
                c"none".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        (mounted == 0).then_some(Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Ok(target) = std::ffi::CString::new(self.0.path().as_os_str().as_encoded_bytes()) {
            // SAFETY: what `mount` mounted.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

#[test]
fn a_full_disk_is_told_and_the_program_goes_on() {
    let Some(disk) = Disk::mount(512 * 1024) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let path = disk.0.path().to_owned();
    let recorder = Recorder::new("").prepare(move |command| {
        command.env(super::options::FOLDER_VARIABLE, &path);
    });
    let recording = recorder.scene(&["pairs", "100000", "64"]).succeeded();
    let files = std::fs::read_dir(disk.0.path()).expect("mounted");
    let mut wires = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "wire"));
    let wire = super::Wire::read(&wires.next().expect("one"));
    assert_eq!(wire.stopped(), (DISK_FULL, libc::ENOSPC as u32));
    assert_eq!(wire.events.len() as u64 + wire.unrecorded(), 200_000);
    assert!(!wire.events.is_empty());
    wire.check_blocks(0);
    drop(recording);
}

#[test]
fn a_program_that_closes_all_files_keeps_its_own_and_is_recorded() {
    let recording = Recorder::new("").scene(&["closes_everything"]).succeeded();
    let wire = recording.wire();
    assert_eq!(wire.mallocs(64), 200_010);
    assert_eq!(
        (wire.stopped(), wire.unrecorded(), wire.missing()),
        ((0, 0), 0, 0)
    );
    let own = recording.folder.path().join("own");
    assert_eq!(std::fs::metadata(own).expect("the program's").len(), 0);
}

#[test]
fn a_folder_that_vanishes_does_no_harm_while_the_file_is_open() {
    let recorder = Recorder::new("");
    let out = recorder.out().display().to_string();
    let recording = recorder.scene(&["folder_vanishes", &out, "0"]).succeeded();
    assert_eq!(recording.output, "went on\n");
}

#[test]
fn a_folder_that_vanishes_with_all_handles_stops_the_recording_only() {
    let recorder = Recorder::new("");
    let out = recorder.out().display().to_string();
    // The file is kept by a second name, to be looked at.
    let recorder = recorder.prepare(|_| ());
    let recording = recorder.scene(&["folder_vanishes", &out, "1"]).succeeded();
    assert_eq!(recording.output, "went on\n");
}
