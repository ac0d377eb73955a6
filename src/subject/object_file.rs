//! Is this file a shared object that can be preloaded as an allocator, and which one is it?

#![forbid(unsafe_code)]

use std::path::Path;

use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

/// What an ELF shared object tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    /// Build id in hexadecimal.
    pub build_id: Option<String>,
    /// Whether it defines `malloc` for others.
    pub defines_malloc: bool,
}

impl ObjectFile {
    /// A text that tells two builds apart.
    pub fn version(&self) -> Option<String> {
        self.build_id
            .as_ref()
            .map(|id| format!("build id {}", &id[..id.len().min(12)]))
    }
}

/// Reads a file as an ELF shared object of this machine. The error says what it is instead.
pub fn inspect(path: &Path) -> Result<ObjectFile, String> {
    let named = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{named}: no such file"),
        _ => format!("{named}: cannot read it: {error}"),
    })?;
    if metadata.is_dir() {
        return Err(format!("{named}: a directory, not a shared object"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{named}: cannot read it: {error}"))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(format!(
            "{named}: not an ELF file, so it cannot be preloaded"
        ));
    }
    let file = ElfFile64::<Endianness>::parse(&*bytes).map_err(|_| {
        format!("{named}: a damaged or 32-bit ELF file, not a 64-bit shared object")
    })?;
    let header = file.elf_header();
    if header.e_type(file.endian()) != object::elf::ET_DYN {
        return Err(format!("{named}: an ELF file, but not a shared object"));
    }
    if header.e_machine(file.endian()) != native_machine() {
        return Err(format!(
            "{named}: a shared object for another kind of processor"
        ));
    }
    let build_id = file
        .build_id()
        .ok()
        .flatten()
        .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect());
    let defines_malloc = file
        .dynamic_symbols()
        .any(|symbol| symbol.name() == Ok("malloc") && symbol.is_definition());
    Ok(ObjectFile {
        build_id,
        defines_malloc,
    })
}

/// Refuses what cannot serve as an allocator.
pub fn check_allocator(path: &Path) -> Result<(), String> {
    let object = inspect(path)?;
    if !object.defines_malloc {
        return Err(format!(
            "{}: defines no malloc, so it is not an allocator",
            path.display()
        ));
    }
    // ld.so splits LD_PRELOAD at these, with no way to quote them.
    if path.to_string_lossy().contains([' ', ':']) {
        return Err(format!(
            "{}: LD_PRELOAD cannot name a path with a space or colon; copy or link it elsewhere",
            path.display()
        ));
    }
    Ok(())
}

const fn native_machine() -> object::elf::Machine {
    if cfg!(target_arch = "aarch64") {
        object::elf::EM_AARCH64
    } else {
        object::elf::EM_X86_64
    }
}
