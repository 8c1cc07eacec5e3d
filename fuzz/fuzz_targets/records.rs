//! Whatever stands in a ring, the batches that are made of it are what a worker can read.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/records.rs"]
mod check;

fuzz_target!(|data: &[u8]| check::check(data));
