//! When a plugin's timers are due.

use std::time::{Duration, Instant};

/// One of a plugin's timers.
#[derive(Debug)]
pub(super) struct Timer {
    period: Duration,
    /// When it is due.
    pub(super) next: Instant,
    /// It has been sent and has not returned.
    pub(super) queued: bool,
}

impl Timer {
    /// It begins with [`Timer::begin`].
    pub(super) fn new(period: Duration, now: Instant) -> Timer {
        Timer { period, next: now, queued: false }
    }

    /// Is due at the next whole period since what was `since` ago.
    pub(super) fn begin(&mut self, now: Instant, since: Duration) {
        let period = self.period.as_nanos().max(1);
        let into = (since.as_nanos() % period) as u64;
        self.next = now + self.period.saturating_sub(Duration::from_nanos(into));
    }

    /// It is due, and counts as sent from now on. Those that were missed become this one.
    pub(super) fn fire(&mut self, now: Instant) -> bool {
        if self.queued || self.next > now {
            return false;
        }
        let missed = now.duration_since(self.next).as_nanos() / self.period.as_nanos().max(1);
        self.next += self.period.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1));
        self.queued = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It fires at whole periods since the opening, once for all that were missed, and not again before the last has returned.
    #[test]
    fn periods() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut timer = Timer::new(second, now);
        timer.begin(now, Duration::from_millis(2_250));
        assert!(!timer.fire(now + Duration::from_millis(740)) && timer.fire(now + Duration::from_millis(750)));
        assert!(!timer.fire(now + 9 * second));
        timer.queued = false;
        assert!(timer.fire(now + 9 * second));
        timer.queued = false;
        assert!(!timer.fire(now + Duration::from_millis(9_740)) && timer.fire(now + Duration::from_millis(9_750)));
    }
}
