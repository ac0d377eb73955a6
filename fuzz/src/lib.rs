//! What the fuzz targets of parsers share: the properties of `../tests/fuzzing`, and an allocator that counts.
#![cfg(feature = "parsers")]

#[path = "../../tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::families::{FAMILIES, Family};
use fuzzing::memory::Counting;

#[global_allocator]
static HEAP: Counting = Counting;

fn family(name: &str) -> &'static Family {
    let family = FAMILIES.iter().find(|family| family.name == name);
    family.expect("each target has its family")
}

/// Where `FUZZ_SEEDS` names a folder, fills it with the family's seeds and ends the process.
pub fn begin(name: &str) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else {
        return;
    };
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder for seeds can be made");
    let seeds = (family(name).seeds)();
    let found = fuzzing::seeds::found(name);
    let count = seeds.len() + found.len();
    for (file, bytes) in seeds.into_iter().chain(found) {
        std::fs::write(folder.join(file), bytes).expect("a seed can be written");
    }
    println!("{count} seeds in {}", folder.display());
    std::process::exit(0);
}

/// Panics where a property does not hold of these bytes.
pub fn check(name: &str, data: &[u8]) {
    (family(name).check)(data);
}
