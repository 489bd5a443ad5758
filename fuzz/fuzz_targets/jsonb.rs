//! See `pg_sequin_fuzz::targets::jsonb`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pg_sequin_fuzz::targets::jsonb(data));
