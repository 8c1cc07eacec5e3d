//! The clock of every time in a run: CLOCK_MONOTONIC, which is what `bpf_ktime_get_ns` reads.

use std::mem::MaybeUninit;

use rustix::time::{ClockId, clock_gettime};

/// Now, in ns. It does not go on while the machine is suspended.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative on this clock.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// How this clock lies to CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Realtime {
    /// What to add to a time of this clock for ns since 1970, as it is now.
    pub offset: i64,
    /// How far that may be off, ns: one clock was read between two looks at the other.
    pub error: u64,
}

/// How this clock lies to CLOCK_REALTIME now: the best of a few looks.
pub fn realtime_offset() -> Realtime {
    let look = || {
        let before = now();
        let real = realtime();
        let after = now();
        let middle = before + (after - before) / 2;
        Realtime { offset: real.cast_signed().wrapping_sub(middle.cast_signed()), error: (after - before).div_ceil(2) }
    };
    (0..5).map(|_| look()).min_by_key(|look| look.error).unwrap_or_default()
}

/// CLOCK_REALTIME, ns since 1970.
pub fn realtime() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    // A clock that is set before 1970 is as good as one at it.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + time.tv_nsec.unsigned_abs()
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
