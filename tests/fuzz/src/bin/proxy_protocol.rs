//! Runs libFuzzer over [`lightcone_tests::fuzz::proxy_protocol`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lightcone_tests::fuzz::proxy_protocol::proxy_protocol(data));
