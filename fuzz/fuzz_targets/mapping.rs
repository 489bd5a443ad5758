//! See `pg_sequin_fuzz::targets::mapping`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pg_sequin_fuzz::targets::mapping(data));
