//! Is this file a shared object that can be preloaded as an allocator, and which one is it?

#![forbid(unsafe_code)]

use std::path::Path;

use object::read::elf::ProgramHeader as _;
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, ObjectSymbolTable as _};
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

/// Why a preloaded allocator cannot serve a program, if so: the content of an executable file, and
/// the allocator's functions.
pub fn own_allocator(executable: &[u8], names: &[&str]) -> Option<String> {
    let Ok(file) = ElfFile64::<Endianness>::parse(executable) else {
        return Some("is not a 64-bit ELF executable".to_owned());
    };
    let is_dynamic = file
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type.get(file.endian()) == object::elf::PT_INTERP);
    if !is_dynamic {
        return Some("is linked statically, so that nothing can be preloaded".to_owned());
    }
    // Its symbols come first in the search of the dynamic linker. A local malloc is no different; other
    // local names may mean anything.
    let is_own = |symbol: &object::read::elf::ElfSymbol64<'_, '_, Endianness>, name: &&&str| {
        symbol.is_definition()
            && symbol.name() == Ok(**name)
            && (**name == "malloc" || !symbol.is_local())
    };
    let own: Vec<&str> = names
        .iter()
        .filter(|name| {
            let mut symbols = file.dynamic_symbols().chain(file.symbols());
            symbols.any(|symbol| is_own(&symbol, name))
        })
        .copied()
        .collect();
    (!own.is_empty()).then(|| {
        format!(
            "is linked with an allocator of its own ({}), which comes before any preloaded one",
            own.join(", ")
        )
    })
}

/// Whether a shared object calls functions of its own where it means the allocator's: it defines some
/// of these names, and its calls to them do not go through the dynamic linker, which would have led
/// them to a preloaded object. `used` are the names that other objects take from it.
pub fn serves_itself(path: &Path, names: &[&str], used: &[&str]) -> bool {
    let Ok(bytes) = std::fs::read(path) else {
        return false;
    };
    let Ok(file) = ElfFile64::<Endianness>::parse(&*bytes) else {
        return false;
    };
    let defines = |symbol: &object::read::elf::ElfSymbol64<'_, '_, Endianness>| {
        symbol.is_definition() && symbol.name().is_ok_and(|name| names.contains(&name))
    };
    if file
        .symbols()
        .any(|symbol| symbol.is_local() && symbol.is_definition() && symbol.name() == Ok("malloc"))
    {
        return true;
    }
    let own: Vec<_> = file.dynamic_symbols().filter(defines).collect();
    if own.is_empty() {
        return false;
    }
    let is_protected = own
        .iter()
        .any(|symbol| symbol.elf_symbol().st_visibility() == object::elf::STV_PROTECTED);
    // Bound function by function (-Bsymbolic-functions) it shows no flag, but none of its relocations
    // names a function of the allocator. Nor do those of a library that is nothing but an allocator,
    // which is told by what others take from it.
    let looks_up = file
        .dynamic_relocations()
        .into_iter()
        .flatten()
        .any(|(_, one)| {
            let object::RelocationTarget::Symbol(index) = one.target() else {
                return false;
            };
            let table = file.dynamic_symbol_table();
            let symbol = table.and_then(|table| table.symbol_by_index(index).ok());
            symbol.is_some_and(|symbol| symbol.name().is_ok_and(|name| names.contains(&name)))
        });
    let has_other_uses = used.iter().any(|name| !is_allocators(name));
    is_protected || is_symbolic(&file) || (!looks_up && has_other_uses)
}

/// Whether a name is one that an allocator's library gives to others.
fn is_allocators(name: &str) -> bool {
    ["alloc", "mall", "free"]
        .iter()
        .any(|part| name.contains(part))
        || ["_Zn", "_Zd", "je_", "mi_", "tc_"]
            .iter()
            .any(|start| name.starts_with(start))
}

/// Whether it was linked so that its own definitions come first in its own search (-Bsymbolic).
fn is_symbolic(file: &ElfFile64<'_, Endianness>) -> bool {
    let endian = file.endian();
    let entries = file
        .elf_program_headers()
        .iter()
        .find_map(|header| header.dynamic(endian, file.data()).ok().flatten());
    entries.into_iter().flatten().any(|entry| {
        let (tag, value) = (entry.d_tag.get(endian), entry.d_val.get(endian));
        tag == object::elf::DT_SYMBOLIC
            || (tag == object::elf::DT_FLAGS && value & object::elf::DF_SYMBOLIC.0 != 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["malloc", "free", "calloc", "realloc"];

    #[test]
    fn a_program_that_uses_the_c_library_can_be_preloaded() {
        let shell = std::fs::read("/bin/sh").expect("a shell");
        assert_eq!(own_allocator(&shell, &NAMES), None);
        assert!(
            own_allocator(b"#!/bin/sh\n", &NAMES)
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
        // Everything but malloc is its own.
        let part = "#include <stddef.h>\nvoid free(void *p) { (void)p; }\n\
                    int main(void) { free(NULL); return 0; }\n";
        let cases = [
            (own, "-rdynamic", "of its own (malloc)"),
            (own, "-O0", "of its own (malloc)"),
            (part, "-rdynamic", "of its own (free)"),
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
            assert!(
                own_allocator(&bytes, &NAMES)
                    .expect("a reason")
                    .contains(word)
            );
        }
    }

    #[test]
    fn a_library_that_serves_itself_is_told_from_one_that_looks_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "#include <stddef.h>\nvoid *malloc(size_t n) { return n ? NULL : (void *)16; }\n\
                    void *work(void) { return malloc(1); }\n";
        let plain = "#include <stdlib.h>\nvoid *work(void) { return malloc(1); }\n";
        let built = |text: &str, flag: &str| {
            let source = folder.path().join("own.c");
            std::fs::write(&source, text).expect("ours");
            let library = folder.path().join("own.so");
            let done = std::process::Command::new("cc")
                .args(["-fno-builtin", "-O0", "-fPIC", "-shared", flag, "-o"])
                .args([&library, &source])
                .output()
                .expect("a C compiler is needed to build mimalloc, so it is there");
            assert!(done.status.success(), "{done:?}");
            library
        };
        for flag in ["-Wl,-Bsymbolic", "-Wl,-Bsymbolic-functions"] {
            assert!(
                serves_itself(&built(text, flag), &NAMES, &["work"]),
                "{flag}"
            );
        }
        // Its calls can be led elsewhere.
        assert!(!serves_itself(&built(text, "-g0"), &NAMES, &["work"]));
        assert!(!serves_itself(
            &built(plain, "-Wl,-Bsymbolic"),
            &NAMES,
            &["work"]
        ));
        // Nothing but an allocator: nobody asks it for other work.
        let bound = built(text, "-Wl,-Bsymbolic-functions");
        assert!(!serves_itself(&bound, &NAMES, &["malloc"]));
    }
}
