#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mymalloc_fuzz::begin("native"),
    |data: &[u8]| mymalloc_fuzz::check("native", data)
);
