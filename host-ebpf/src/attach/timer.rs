//! `profile:hz:N` on every CPU, and `interval:s:N` on one: perf events that count time.

use super::{AttachError, ContextKind, Kind, Listed, Site, Target, Whose, number};
use crate::{
    kernel::{Kernel, SourceError},
    output::Hook,
};

/// `PERF_TYPE_SOFTWARE`, include/uapi/linux/perf_event.h.
pub(super) const SOFTWARE: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`.
const CPU_CLOCK: u64 = 0;
/// The shortest time between two hits, in ns: perf_swevent_start_hrtimer(), kernel/events/core.c.
const SHORTEST: u64 = 10_000;
/// The longest, about 292 years: times are signed.
const LONGEST: u64 = i64::MAX as u64;
const SECOND: u64 = 1_000_000_000;

pub(super) struct Profile;
pub(super) struct Interval;

impl Kind for Profile {
    fn names(&self) -> &'static [&'static str] {
        &["profile", "p"]
    }

    fn notation(&self) -> &'static str {
        "profile:UNIT:N"
    }

    fn expand(&self, rest: &str, _: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        Ok(vec![target("profile", rest, true)?])
    }

    fn list(&self, pattern: &str, _: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(list("profile", pattern))
    }
}

impl Kind for Interval {
    fn names(&self) -> &'static [&'static str] {
        &["interval", "i"]
    }

    fn notation(&self) -> &'static str {
        "interval:UNIT:N"
    }

    fn expand(&self, rest: &str, _: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        Ok(vec![target("interval", rest, false)?])
    }

    fn list(&self, pattern: &str, _: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(list("interval", pattern))
    }
}

fn target(kind: &str, rest: &str, every_cpu: bool) -> Result<Target, AttachError> {
    let help =
        format!("{kind}:hz:N, {kind}:s:N, {kind}:ms:N or {kind}:us:N, as in {kind}:{}", if every_cpu { "hz:99" } else { "s:1" });
    let Some((unit, text)) = rest.split_once(':') else {
        return Err(AttachError::wrong(0..rest.len(), "a unit and a number belong here").help(help));
    };
    let at = unit.len() + 1..rest.len();
    let n = number(text).filter(|n| *n > 0);
    let n = n.ok_or_else(|| AttachError::wrong(at.clone(), "a number above 0 belongs here").help(help.clone()))?;
    let factor = match unit {
        "hz" => None,
        "s" => Some(SECOND),
        "ms" => Some(1_000_000),
        "us" => Some(1000),
        _ => return Err(AttachError::wrong(0..unit.len(), format!("`{unit}` is no unit of time")).help(help)),
    };
    let ns = factor.map_or(Some(SECOND / n), |factor| n.checked_mul(factor).filter(|ns| *ns <= LONGEST));
    let ns = ns.ok_or_else(|| AttachError::wrong(at.clone(), "this is more than 292 years"))?;
    if ns < SHORTEST {
        return Err(AttachError::wrong(at, "the kernel's timers hit once in 10 µs at most"));
    }
    // By time alone, also where a rate is given: that the kernel would turn into a time as well.
    let hook = Hook::PerfEvent { kind: SOFTWARE, config: CPU_CLOCK, period: ns, frequency: false, every_cpu };
    // Whatever runs when an interval is over is not what is traced; a profile asks what runs.
    let whose = if every_cpu { Whose::Running } else { Whose::Nobody };
    let site = Site { whose, ..Site::new(hook, ContextKind::Registers, "") };
    Ok(Target { point: format!("{kind}:{unit}:{n}"), site, entry: None, key: None })
}

/// There is nothing to list but how it is written.
fn list(kind: &str, pattern: &str) -> Vec<Listed> {
    let all = ["hz", "ms", "s", "us"].map(|unit| format!("{unit}:N"));
    let fitting = all.iter().filter(|rest| super::glob::matches(pattern, rest));
    fitting.map(|rest| Listed { point: format!("{kind}:{rest}"), arguments: Vec::new(), retval: None }).collect()
}
