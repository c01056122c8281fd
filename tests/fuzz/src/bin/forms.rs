//! Runs libFuzzer over [`lightcone_tests::fuzz::forms`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lightcone_tests::fuzz::forms::forms(data));
