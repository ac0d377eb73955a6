//! Is this file a shared object that can be preloaded as an allocator, and which one is it?

#![forbid(unsafe_code)]

use std::path::Path;

use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};
use sha2::{Digest as _, Sha256};

/// What an ELF shared object tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    /// Whether it defines `malloc` for others.
    pub defines_malloc: bool,
}

/// What tells two builds of an ELF file apart: its build id, or `sha256:` and the hash of the file if
/// it has none.
pub fn build(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let file = ElfFile64::<Endianness>::parse(&*bytes).ok();
    let id = file.and_then(|file| file.build_id().ok().flatten().map(hexadecimal));
    Some(id.unwrap_or_else(|| format!("sha256:{}", hexadecimal(&Sha256::digest(&bytes)))))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let defines_malloc = file
        .dynamic_symbols()
        // Whatever its kind: it may be one that the linker resolves by calling it (IFUNC).
        .any(|symbol| symbol.name() == Ok("malloc") && !symbol.is_undefined());
    Ok(ObjectFile { defines_malloc })
}

/// Of these functions, the ones that a shared object defines for others.
pub fn defined_functions(path: &Path, names: &[&str]) -> Vec<String> {
    let Ok(bytes) = std::fs::read(path) else {
        return Vec::new();
    };
    let Ok(file) = ElfFile64::<Endianness>::parse(&*bytes) else {
        return Vec::new();
    };
    let defined: Vec<&str> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    names
        .iter()
        .filter(|name| defined.contains(*name))
        .map(|name| (*name).to_owned())
        .collect()
}

/// Why a preloaded allocator cannot serve a program, if so: the content of an executable file.
pub fn own_allocator(executable: &[u8]) -> Option<&'static str> {
    let Ok(file) = ElfFile64::<Endianness>::parse(executable) else {
        return Some("is not a 64-bit ELF executable");
    };
    let is_dynamic = file
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type.get(file.endian()) == object::elf::PT_INTERP);
    if !is_dynamic {
        return Some("is linked statically, so that nothing can be preloaded");
    }
    // Its symbols come first in the search of the dynamic linker; a local one is no different.
    let defines = file
        .dynamic_symbols()
        .chain(file.symbols())
        .any(|symbol| symbol.name() == Ok("malloc") && symbol.is_definition());
    defines
        .then_some("is linked with an allocator of its own, which comes before any preloaded one")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_uses_the_c_library_can_be_preloaded() {
        let shell = std::fs::read("/bin/sh").expect("a shell");
        assert_eq!(own_allocator(&shell), None);
        assert!(
            own_allocator(b"#!/bin/sh\n")
                .expect("a reason")
                .contains("not a 64-bit ELF")
        );
    }

    #[test]
    fn a_program_with_an_allocator_of_its_own_cannot() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = "#include <stddef.h>\nvoid *malloc(size_t n) { return n ? NULL : (void *)16; }\n\
                   int main(void) { return malloc(0) == NULL; }\n";
        let plain = "int main(void) { return 0; }\n";
        let cases = [
            (own, "-rdynamic", "of its own"),
            (plain, "-static", "statically"),
        ];
        for (text, flag, word) in cases {
            let source = folder.path().join("own.c");
            std::fs::write(&source, text).expect("ours");
            let program = folder.path().join("own");
            let done = std::process::Command::new("cc")
                .args(["-fno-builtin", flag, "-o"])
                .args([&program, &source])
                .output()
                .expect("a C compiler is needed to build mimalloc, so it is there");
            assert!(done.status.success(), "{done:?}");
            let bytes = std::fs::read(&program).expect("built");
            assert!(own_allocator(&bytes).expect("a reason").contains(word));
        }
    }
}
