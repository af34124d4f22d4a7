#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater::fuzz::proxy::target(data));
