#![no_main]

#[path = "../../names/tests/world/any.rs"]
mod any;

libfuzzer_sys::fuzz_target!(|data: &[u8]| any::names_any(data));
