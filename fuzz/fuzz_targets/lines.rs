#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mymalloc_fuzz::begin("lines"),
    |data: &[u8]| mymalloc_fuzz::check("lines", data)
);
