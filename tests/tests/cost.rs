//! The gate costs next to nothing.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use portcullis::kernel::RunningKernel;
use portcullis_tests::{
    cost::{GATE, quantile, stay},
    lock, note,
};

/// What the load of the gate word and its branch may cost a hit, in ns.
const LIMIT: f64 = 1.0;
/// A machine that does much else shows a little more now and then.
const ATTEMPTS: usize = 5;

/// With the load of the gate word and its branch a program takes no more than a nanosecond longer, whether the gate is open or closed.
#[test]
fn gate() {
    let Some(_lock) = lock() else { return };
    stay().unwrap();
    let kernel = RunningKernel::open().unwrap();
    if let Err(error) = GATE[0].measure(&kernel, 1) {
        // Before Linux 6.10 no program that is repeated may ask who runs.
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
        note("skipped: this kernel does not repeat such programs");
        return;
    }
    for pair in GATE {
        let attempt = || {
            let cost = pair.measure(&kernel, 21).unwrap();
            let found = quantile(&cost.difference, 50);
            note(&format!("{}: {found:.2} ns of {:.2} ns", pair.name, quantile(&cost.with, 50)));
            found
        };
        assert!((0..ATTEMPTS).any(|_| attempt() <= LIMIT), "{} costs more than {LIMIT} ns", pair.name);
    }
}
