//! International atomic time, which several machines share: how well this one knows it, and waiting for a moment of it.
//!
//! CLOCK_TAI counts leap seconds, and so is the one clock that names each moment once. The kernel keeps it as CLOCK_REALTIME and an
//! offset, which whoever disciplines the clock tells it (adjtimex(2); it is 0 where nobody does, and then both say the same).

use std::{
    io,
    mem::MaybeUninit,
    time::{Duration, Instant},
};

/// How long before the moment the sleep ends and the clock is read over and over: what a wake-up may be late.
const AWAKE: u64 = 200_000;

/// What the kernel says of its clock (adjtimex(2), `struct timex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discipline {
    /// TAI less UTC, s.
    pub tai_offset: i32,
    /// Somebody keeps the clock in step with others.
    pub synchronised: bool,
    /// How far the clock may be from the right time at most, as its keeper states it, ns.
    pub max_error: u64,
    /// How far it is likely to be, as its keeper states it, ns.
    pub estimated_error: u64,
}

impl Discipline {
    /// As it is now.
    ///
    /// # Errors
    /// If the kernel does not say it: a filter of system calls may be in the way.
    pub fn read() -> io::Result<Discipline> {
        let mut timex = MaybeUninit::<libc::timex>::zeroed();
        // SAFETY: all fields are integers, for which zero is valid; with `modes` 0 adjtimex(2) only writes to it.
        let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
        if state < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed is initialized, for these types.
        let timex = unsafe { timex.assume_init() };
        // In microseconds, also where STA_NANO is set, which is for the offset (include/uapi/linux/timex.h).
        let nanoseconds = |microseconds: i64| microseconds.unsigned_abs() * 1000;
        Ok(Discipline {
            tai_offset: timex.tai,
            synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            max_error: nanoseconds(timex.maxerror),
            estimated_error: nanoseconds(timex.esterror),
        })
    }
}

/// CLOCK_TAI, ns.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives over the call. It does not fail for a clock that every kernel has since 3.10.
    unsafe { libc::clock_gettime(libc::CLOCK_TAI, &raw mut time) };
    // Neither is ever negative in this century.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Sleeps until a moment of CLOCK_TAI, or until a signal comes.
fn sleep_until(moment: u64) {
    let time = libc::timespec { tv_sec: (moment / 1_000_000_000) as i64, tv_nsec: (moment % 1_000_000_000) as i64 };
    // SAFETY: `time` lives over the call; with TIMER_ABSTIME nothing is written to where the rest would be told.
    unsafe { libc::clock_nanosleep(libc::CLOCK_TAI, libc::TIMER_ABSTIME, &raw const time, std::ptr::null_mut()) };
}

/// Waits for a moment of CLOCK_TAI that is near, ns, and returns with the first look at the clock that does not come before it. With real-time
/// priority, where that is allowed, so that no other thread is in the way; whether it was is returned.
pub fn wait_until(moment: u64) -> bool {
    let priority = Priority::raise();
    // A signal that ends the sleep early makes the looking longer; its handler has run.
    sleep_until(moment.saturating_sub(AWAKE));
    // The clock may be stepped back in between; the run does not wait for that.
    let give_up = Instant::now() + Duration::from_millis(500);
    while now() < moment && Instant::now() < give_up {
        std::hint::spin_loop();
    }
    priority.is_some()
}

/// Real-time priority of this thread, until it is dropped.
struct Priority;

impl Priority {
    fn raise() -> Option<Priority> {
        // The least there is: it stands before all that have none.
        schedule(libc::SCHED_FIFO, 1).then_some(Priority)
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        schedule(libc::SCHED_OTHER, 0);
    }
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters live over the call, which changes how this thread is scheduled and nothing else.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The wait ends at the moment, not before, and soon after it; one that has passed is not waited for.
    #[test]
    fn waits() {
        let moment = now() + 30_000_000;
        wait_until(moment);
        let late = now().checked_sub(moment).unwrap();
        assert!(late < 100_000_000, "{late} ns late");
        let start = Instant::now();
        wait_until(moment);
        assert!(start.elapsed() < Duration::from_millis(100));
    }

    /// The kernel's offset is the distance of the two clocks.
    #[test]
    fn offset() {
        let discipline = Discipline::read().unwrap();
        let distance = i128::from(now()) - i128::from(crate::clock::realtime());
        assert!((distance - i128::from(discipline.tai_offset) * 1_000_000_000).abs() < 1_000_000_000, "{distance}");
    }
}
