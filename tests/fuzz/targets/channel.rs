#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgimux_fuzz::channel(data));
