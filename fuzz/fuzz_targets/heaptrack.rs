#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mymalloc_fuzz::begin("heaptrack"),
    |data: &[u8]| mymalloc_fuzz::check("heaptrack", data)
);
