#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mymalloc_fuzz::begin("inputs"),
    |data: &[u8]| mymalloc_fuzz::check("inputs", data)
);
