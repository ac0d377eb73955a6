//! MyMalloc under any sequence of operations, in up to three threads, against the shadow model and with the
//! heap checker: `tests/common/shadow.rs`, which says how bytes become operations.
#![no_main]

#[path = "../../tests/common/shadow.rs"]
mod shadow;

/// Where `FUZZ_SEEDS` names a folder, writes seeds into it and ends the process.
fn begin() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else {
        return;
    };
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder for seeds can be made");
    for threads in 1..4_u8 {
        // Every kind of action with sizes of every kind.
        let actions = (0..=255_u8).flat_map(|kind| [kind, kind.wrapping_mul(7), 0, kind, kind]);
        let bytes: Vec<u8> = std::iter::once(threads).chain(actions).collect();
        std::fs::write(folder.join(format!("{threads}-threads")), bytes)
            .expect("a seed can be written");
    }
    std::process::exit(0);
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| shadow::run(data));
