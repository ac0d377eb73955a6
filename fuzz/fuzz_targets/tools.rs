#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mymalloc_fuzz::begin("tools"),
    |data: &[u8]| mymalloc_fuzz::check("tools", data)
);
