//! The clock of every time in a run: CLOCK_MONOTONIC, which is what `bpf_ktime_get_ns` reads.

use rustix::time::{ClockId, clock_gettime};

/// Now, in ns. It does not go on while the machine is suspended.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative on this clock.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// What to add to a time of this clock for ns since 1970 (CLOCK_REALTIME), as it is now.
pub fn realtime_offset() -> i64 {
    let ns = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    i64::try_from(ns(ClockId::Realtime) - ns(ClockId::Monotonic)).unwrap_or_default()
}
