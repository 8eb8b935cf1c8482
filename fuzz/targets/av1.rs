#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluice_wire::exercise::av1(bytes));
