#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mymalloc_fuzz::begin("bytes"),
    |data: &[u8]| mymalloc_fuzz::check("bytes", data)
);
