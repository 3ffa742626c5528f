#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pontoon_tests::fuzz::datapath_any(data));
