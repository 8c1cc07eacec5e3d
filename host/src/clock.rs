//! The clock of every time in a run: CLOCK_MONOTONIC, which is what `bpf_ktime_get_ns` reads.

use std::mem::MaybeUninit;

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

/// What to add to UTC for the time of the clock on the wall, as it is now, in seconds.
pub fn utc_offset() -> i64 {
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    let mut local = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call. localtime_r(3) reads the environment: it is called before there are threads
    // that could change it, and none does.
    let found = unsafe { libc::localtime_r(&raw const now, local.as_mut_ptr()) };
    if found.is_null() {
        // A year that does not fit, which has no local time.
        return 0;
    }
    // SAFETY: localtime_r(3) has filled it.
    unsafe { local.assume_init() }.tm_gmtoff
}
