//! Whatever a worker says, the host hears what can be or ends it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/worker.rs"]
mod check;

fuzz_target!(|data: &[u8]| check::check(data));
