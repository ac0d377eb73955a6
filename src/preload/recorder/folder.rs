//! The folder for the files. Its handle is kept, so that `chdir`, `chroot` and a renamed folder do no
//! harm; where the program has closed the handle, the path is asked again. Whatever number the handle
//! had may by then belong to a file of the program's: nothing is done with it before its identity is
//! checked.
//!
//! Used under the process's lock only; survives a fork.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int};

use super::system::{self, ESTALE, Identity};

/// Longest path, in bytes.
pub(crate) const PATH_BYTES: usize = 3900;

struct Folder {
    /// The path, ended by NUL.
    path: [u8; PATH_BYTES + 1],
    handle: c_int,
    identity: Option<Identity>,
}

struct Shared(UnsafeCell<Folder>);

// SAFETY: touched under the process's lock only.
unsafe impl Sync for Shared {}

static FOLDER: Shared = Shared(UnsafeCell::new(Folder {
    path: [0; PATH_BYTES + 1],
    handle: -1,
    identity: None,
}));

fn folder() -> &'static mut Folder {
    // SAFETY: the callers hold the process's lock, and each uses the reference for one call.
    unsafe { &mut *FOLDER.0.get() }
}

/// Sets the path and opens it.
pub(crate) fn set(path: &[u8]) -> Result<(), i32> {
    let folder = folder();
    folder.path[..path.len()].copy_from_slice(path);
    folder.path[path.len()] = 0;
    reopen(folder)
}

/// The path, for messages.
pub(crate) fn path() -> &'static [u8] {
    text_of(folder()).to_bytes()
}

fn text_of(folder: &Folder) -> &CStr {
    CStr::from_bytes_until_nul(&folder.path).unwrap_or(c"")
}

fn reopen(folder: &mut Folder) -> Result<(), i32> {
    let handle = system::move_out_of_the_way(system::open_folder(text_of(folder))?);
    let identity = system::identity(handle)?;
    if folder.identity.is_some_and(|known| known != identity) {
        system::close(handle);
        return Err(ESTALE);
    }
    folder.identity = Some(identity);
    folder.handle = handle;
    Ok(())
}

/// Opens a file of the folder.
pub(crate) fn open(name: &CStr, flags: c_int) -> Result<c_int, i32> {
    let folder = folder();
    if system::identity(folder.handle).ok() != folder.identity {
        reopen(folder)?;
    }
    system::open(folder.handle, name, flags)
}

/// Whether the folder has a file of this name.
pub(crate) fn has(name: &CStr) -> bool {
    let folder = folder();
    system::identity(folder.handle).ok() == folder.identity && system::exists(folder.handle, name)
}
