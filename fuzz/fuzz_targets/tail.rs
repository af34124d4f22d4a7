#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater::fuzz::tail::target(data));
