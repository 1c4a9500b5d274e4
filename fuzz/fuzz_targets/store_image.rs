//! Opening, reading and checking a store whose bytes were changed, checksums made to fit again or not; the promises are in
//! `treering_proptests::images`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| treering_proptests::images::fuzz(data));
