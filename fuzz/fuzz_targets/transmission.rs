//! Requests against any bytes; the promises are in `treering_nbd_server::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| treering_nbd_server::fuzzing::transmission(data));
