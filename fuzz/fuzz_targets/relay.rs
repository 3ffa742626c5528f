#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pontoon_tests::fuzz::relay_any(data));
