//! `software:NAME[:COUNT]`, `hardware:NAME[:COUNT]`: events that the kernel or the processor counts; a hit is one in COUNT of them.

use super::{AttachError, ContextKind, Kind, Listed, Site, Target, glob, listed_names, number, select, timer::SOFTWARE};
use crate::{
    kernel::{Kernel, SourceError},
    output::Hook,
};

/// `PERF_TYPE_HARDWARE`, include/uapi/linux/perf_event.h.
const HARDWARE: u32 = 0;

/// An event: its names, its number, and how many make a hit if nothing is said. Names and counts are those of bpftrace.
type Event = (&'static str, &'static str, u64, u64);

/// Source of the numbers: `enum perf_sw_ids`, include/uapi/linux/perf_event.h.
const SOFTWARE_EVENTS: [Event; 11] = [
    ("alignment-faults", "", 7, 1),
    ("bpf-output", "", 10, 1),
    ("context-switches", "cs", 3, 1000),
    ("cpu-clock", "cpu", 0, 1_000_000),
    ("cpu-migrations", "", 4, 1),
    ("dummy", "", 9, 1),
    ("emulation-faults", "", 8, 1),
    ("major-faults", "", 6, 1),
    ("minor-faults", "", 5, 100),
    ("page-faults", "faults", 2, 100),
    ("task-clock", "", 1, 1_000_000),
];

/// Source of the numbers: `enum perf_hw_id`, include/uapi/linux/perf_event.h.
const HARDWARE_EVENTS: [Event; 10] = [
    ("backend-stalls", "", 8, 1_000_000),
    ("branch-instructions", "branches", 4, 100_000),
    ("branch-misses", "", 5, 100_000),
    ("bus-cycles", "", 6, 100_000),
    ("cache-misses", "", 3, 1_000_000),
    ("cache-references", "", 2, 1_000_000),
    ("cpu-cycles", "cycles", 0, 1_000_000),
    ("frontend-stalls", "", 7, 1_000_000),
    ("instructions", "", 1, 1_000_000),
    ("ref-cycles", "", 9, 1_000_000),
];

pub(super) struct Software;
pub(super) struct Hardware;

impl Kind for Software {
    fn names(&self) -> &'static [&'static str] {
        &["software", "s"]
    }

    fn notation(&self) -> &'static str {
        "software:NAME[:COUNT]"
    }

    fn expand(&self, rest: &str, _: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        expand("software", SOFTWARE, &SOFTWARE_EVENTS, rest)
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed_names(self, pattern, kernel, SOFTWARE_EVENTS.iter().map(|e| e.0)))
    }
}

impl Kind for Hardware {
    fn names(&self) -> &'static [&'static str] {
        &["hardware", "h"]
    }

    fn notation(&self) -> &'static str {
        "hardware:NAME[:COUNT]"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        let message = "this machine has no counters of its processor, as is usual for virtual ones";
        let error = AttachError::missing(0..rest.len(), message);
        (!kernel.features().hardware).then(|| error.help("a count of time or of the kernel's events may do: profile, software"))
    }

    fn expand(&self, rest: &str, _: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        expand("hardware", HARDWARE, &HARDWARE_EVENTS, rest)
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed_names(self, pattern, kernel, HARDWARE_EVENTS.iter().map(|e| e.0)))
    }
}

fn expand(kind: &str, typ: u32, events: &[Event], rest: &str) -> Result<Vec<Target>, AttachError> {
    let (name, count) = match rest.split_once(':') {
        None => (rest, None),
        Some((name, text)) => {
            let count = number(text).filter(|n| (1..=i64::MAX as u64).contains(n)).ok_or_else(|| {
                let message = "how many events make a hit belongs here, a number above 0";
                AttachError::wrong(name.len() + 1..rest.len(), message).help(format!("as in {kind}:{name}:100"))
            })?;
            (name, Some(count))
        }
    };
    let names = events.iter().flat_map(|e| [e.0, e.1]).filter(|name| !name.is_empty());
    select(name, &format!("{kind} event"), "", 0, names)?;
    let found = events
        .iter()
        .filter(|(full, short, ..)| glob::matches(name, full) || !short.is_empty() && !glob::is_pattern(name) && *short == name);
    let target = |(full, _, config, usual): &Event| {
        let period = count.unwrap_or(*usual);
        let hook = Hook::PerfEvent { kind: typ, config: *config, period, frequency: false, every_cpu: true };
        let point = if count.is_some() { format!("{kind}:{full}:{period}") } else { format!("{kind}:{full}") };
        Target { point, site: Site::new(hook, ContextKind::Registers, ""), entry: None, key: None }
    };
    Ok(found.map(target).collect())
}
