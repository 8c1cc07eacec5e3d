//! What the proofs of the gate's guarantees share: load on every CPU, threads that are in a call for as long as a test wants, and sessions
//! that a test goes through step by step, looking at everything that programs have changed.

mod experiment;
mod lesser;
mod recorded;
mod threads;
mod traced;

use std::{fmt, ops::Range, time::Duration};

use portcullis::{clock, kernel::RunningKernel};
use portcullis_ebpf::{Kernel as _, ProbeSpec};
use rustix::time::{ClockId, clock_gettime};

pub use self::{
    experiment::Experiment,
    lesser::Lesser,
    recorded::Recorded,
    threads::{Blocked, Load},
    traced::{Counts, Nothing, Traced},
};
use crate::{kernel::probe, note};

/// How long anything here is waited for that is bound to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that takes a tenth of a millisecond and more: in its midst it goes through a large table. What it does first it does again
/// at its end, and then tells the time. `None` on a kernel that does not let programs go through tables.
pub fn slow(kernel: &RunningKernel) -> Option<ProbeSpec> {
    let body = "let @large = hash(16384); @large[0] = 1; @began[tid] = count(); emit began { tid }; $n = len(@large); \
                @ended[tid] = count(); emit ended { n: $n, end: nsecs(boot) }";
    let features = kernel.features();
    (features.for_each_map && features.time_boot).then(|| probe("slow", "tracepoint:syscalls:sys_enter_lseek", None, body))
}

/// The runs of the program [`slow`] that came to their end: from when to when, CLOCK_MONOTONIC.
pub fn runs<S>(traced: &mut Traced<'_, S>, plugin: usize) -> Vec<Range<u64>> {
    // A hit knows one time of CLOCK_MONOTONIC, that of its beginning.
    let boot = clock_gettime(ClockId::Boottime);
    let ahead = (boot.tv_sec.cast_unsigned() * 1_000_000_000 + boot.tv_nsec.cast_unsigned()).saturating_sub(clock::now());
    let mut runs = Vec::new();
    traced.records(plugin, |stream, time, fields| {
        if stream == "ended" {
            runs.push(time..fields[1] - ahead);
        }
    });
    runs
}

/// Repeats a round that lacks a mechanism until its violation is seen, which has to be within so many.
pub fn seen(what: &str, within: usize, mut round: impl FnMut() -> Vec<String>) {
    for number in 1..=within {
        if let Some(violation) = round().first() {
            note(&format!("{what}: seen in round {number}: {violation}"));
            return;
        }
    }
    panic!("{what}: not seen in {within} rounds, so the check that looks for it proves nothing");
}

/// Fails with what was found, or says how much was looked at.
pub fn holds(what: &str, rounds: usize, violations: &[String], looked_at: fmt::Arguments<'_>) {
    assert!(violations.is_empty(), "{what}, {rounds} rounds: {} violations\n{}", violations.len(), first(violations));
    note(&format!("{what}: {rounds} rounds, {looked_at}: none"));
}

fn first(violations: &[String]) -> String {
    violations.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
}
