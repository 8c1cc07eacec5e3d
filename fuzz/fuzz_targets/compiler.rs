//! The whole compiler, for a kernel that never changes: whatever the specs say, it compiles them or says what is wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_ebpf::{Options, compile, fixture};

fuzz_target!(|text: &str| {
    let specs = fixture::specs(text);
    let kernel = fixture::FixtureKernel::new();
    match compile(&specs, &kernel, &Options::default()) {
        Ok(compiled) => compiled.programs.iter().for_each(|program| assert!(!program.listing().is_empty())),
        Err(errors) => errors.iter().for_each(|error| assert!(!error.to_string().is_empty())),
    }
});
