//! Maps, programs and attach points, each made the way that a run makes it: compiled, loaded, attached, and dropped behind a gate
//! that stays closed.

use std::error::Error as _;

use portcullis_ebpf::{Diagnostic, Options, ProbeSpec, Scope};
use rustix::thread::CapabilitySet;

use super::{
    ATTACH, Finding,
    user::{User, privilege},
};
use crate::{
    kernel::{PRIVILEGE, RunningKernel, TRIED_FUNCTIONS},
    session::{Compiled, Config, Plugin},
};

/// A kind of map: a body that makes the compiler ask for one.
const MAPS: [(&str, &str); 8] = [
    ("ring buffer", "emit s { pid }"),
    ("hash table", "@a[pid] = 1"),
    ("hash table that forgets", "let @a = lruhash(16); @a[pid] = 1;"),
    ("hash table per CPU", "@a[pid] = count()"),
    ("hash table per CPU that forgets", "let @a = percpulruhash(16); @a[pid] = count();"),
    ("array", "@a = 1"),
    ("array per CPU", "@a = count()"),
    ("large keys, for whole stacks", "@a[kstack] = count()"),
];

/// Where the programs of [`MAPS`] would attach; they are loaded alone.
const NOWHERE: &str = "rawtracepoint:sched_process_exec";

/// A kind of attach point.
struct Kind {
    name: &'static str,
    /// Places for it that hardly ever run: the first that the kernel has is taken.
    places: Vec<String>,
    /// What the kernel needs for it.
    needs: &'static str,
    /// The kinds that do the same, or nearly.
    instead: &'static [&'static str],
}

fn kinds() -> Vec<Kind> {
    let one = |place: &str| vec![place.to_owned()];
    let functions = |kind: &str| TRIED_FUNCTIONS.iter().map(|function| format!("{kind}:{function}")).collect();
    // Of a return the function has to be named; this one is hardly ever called.
    let called = |kind: &str| one(&format!("{kind}:libc:personality"));
    let own = |kind: &str| own_place().map(|place| format!("{kind}:{place}")).into_iter().collect();
    let kind = |name, places, needs, instead| Kind { name, places, needs, instead };
    let (kprobes, trampolines) = (
        "a kernel built with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y",
        "a kernel built with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y and CONFIG_BPF_JIT=y",
    );
    let uprobes = "a kernel built with CONFIG_UPROBE_EVENTS=y";
    vec![
        kind("tracepoint", one("tracepoint:sched:sched_process_exec"), "tracefs, and CONFIG_BPF_EVENTS=y", &["rawtracepoint"]),
        kind("rawtracepoint", one(NOWHERE), "Linux 5.5 or newer, built with CONFIG_BPF_EVENTS=y", &["tracepoint"]),
        kind("span:syscall", one("span:syscall:personality"), "a kernel built with CONFIG_FTRACE_SYSCALLS=y", &[]),
        kind("kprobe", functions("kprobe"), kprobes, &["fentry"]),
        kind("kretprobe", functions("kretprobe"), kprobes, &["fexit"]),
        kind("fentry", functions("fentry"), trampolines, &["kprobe"]),
        kind("fexit", functions("fexit"), trampolines, &["kretprobe"]),
        kind("uprobe", own("uprobe"), uprobes, &[]),
        kind("uretprobe", called("uretprobe"), uprobes, &[]),
        kind("profile", one("profile:hz:1"), "a kernel built with CONFIG_PERF_EVENTS=y", &[]),
        kind("interval", one("interval:s:1"), "a kernel built with CONFIG_PERF_EVENTS=y", &[]),
        kind("software", one("software:page-faults:1000000"), "a kernel built with CONFIG_PERF_EVENTS=y", &[]),
        kind(
            "hardware",
            one("hardware:cycles:1000000000"),
            "a processor with counters, which virtual machines often hide",
            &["profile"],
        ),
        kind("begin", one("begin"), "Linux 5.10 or newer", &[]),
    ]
}

/// What became of all of them.
pub(super) fn tried(kernel: &RunningKernel, user: &User) -> Vec<Finding> {
    let mut findings: Vec<Finding> = MAPS
        .iter()
        .map(|&(name, body)| match attempt(kernel, NOWHERE, body, false) {
            Ok(_) => Finding::yes("maps", name, "made"),
            Err(refused) => {
                let way_out = way_out(user, &refused, "it takes a newer kernel: see docs/kernels.md");
                Finding::no("maps", name, refused.reason, way_out)
            }
        })
        .collect();
    let kinds = kinds();
    let results: Vec<Result<String, Refused>> = kinds.iter().map(|kind| first(kernel, &kind.places)).collect();
    let works = |name: &&&str| kinds.iter().zip(&results).any(|(kind, result)| kind.name == **name && result.is_ok());
    findings.extend(kinds.iter().zip(&results).map(|(kind, result)| match result {
        Ok(place) => Finding::yes(ATTACH, kind.name, place),
        Err(refused) => {
            let instead = kind.instead.iter().find(works).map(|name| format!("; `{name}:` does here"));
            let way_out = match kind.name {
                "uprobe" | "uretprobe" if user.privileged() && !user.can(CapabilitySet::SYS_ADMIN) => "run it as root".to_owned(),
                _ => way_out(user, refused, &format!("it takes {}{}", kind.needs, instead.unwrap_or_default())),
            };
            Finding::no(ATTACH, kind.name, &refused.reason, way_out)
        }
    }));
    findings
}

/// The reason without what the way out says again.
fn without_privilege(reason: &str) -> String {
    let end = reason.find(PRIVILEGE).and_then(|at| reason[..at].rfind(';'));
    end.map_or(reason, |end| &reason[..end]).to_owned()
}

/// Why something can't be had.
struct Refused {
    reason: String,
    /// The kernel has not what it takes, whoever asks.
    missing: bool,
}

/// Without the privilege to try, nothing is known of the kernel but what it says that it lacks.
fn way_out(user: &User, refused: &Refused, otherwise: &str) -> String {
    if user.privileged() || refused.missing { otherwise.to_owned() } else { privilege() }
}

/// The first place that takes a probe and by which mechanism, or why the first of all does not.
fn first(kernel: &RunningKernel, places: &[String]) -> Result<String, Refused> {
    let mut refused = None;
    for place in places {
        // Only for a field of the record does a trace event take the way of a perf event.
        let body = if place.starts_with("tracepoint:") { "@a = args.pid" } else { "@a = count()" };
        match attempt(kernel, place, body, true) {
            Ok(mechanism) => return Ok(format!("{place}, by {mechanism}")),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    let unknown = || Refused { reason: "/proc/self/maps does not tell where this program is".to_owned(), missing: false };
    Err(refused.unwrap_or_else(unknown))
}

/// Takes a probe as far as a run would, and drops it. The mechanism.
fn attempt(kernel: &RunningKernel, place: &str, body: &str, attach: bool) -> Result<String, Refused> {
    let spec = ProbeSpec { name: "doctor".into(), attach: vec![place.into()], body: body.into(), ..ProbeSpec::default() };
    let options = Options { gate: Some(0), scope: Scope::System, ..Options::default() };
    let first = |errors: Vec<Diagnostic>| {
        let error = errors.into_iter().next();
        error.map_or(Refused { reason: String::new(), missing: false }, |e| Refused { reason: e.message, missing: e.missing })
    };
    let compiled = portcullis_ebpf::compile(&[spec], kernel, &options).map_err(first)?;
    let mechanism = compiled.probes.first().map(|probe| probe.mechanism.clone()).unwrap_or_default();
    let plugin = Plugin { name: "doctor".into(), compiled, ring: 1 << 16 };
    let config = Config { gate: true, scope: Scope::System, tracker: None };
    // Which plugin and probe it is does not matter, but why.
    let reason = |error: crate::session::Error| Refused {
        reason: without_privilege(&error.source().map_or_else(|| error.to_string(), ToString::to_string)),
        missing: false,
    };
    let loaded = Compiled::new(vec![plugin], config).map_err(reason)?.load(kernel).map_err(reason)?;
    if attach {
        drop(loaded.attach().map_err(reason)?);
    }
    Ok(mechanism)
}

/// What nothing calls.
#[inline(never)]
extern "C" fn untouched() {
    std::hint::black_box(());
}

/// Where [`untouched`] is: `PATH:0xOFFSET`.
fn own_place() -> Option<String> {
    let executable = std::env::current_exe().ok()?;
    let offset = offset(&std::fs::read_to_string("/proc/self/maps").ok()?, untouched as *const () as usize as u64)?;
    Some(format!("{}:{offset:#x}", executable.display()))
}

/// The byte of its file that is at an address (proc_pid_maps(5)): `FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH`.
fn offset(maps: &str, address: u64) -> Option<u64> {
    let number = |text| u64::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let (from, to, offset) = (number(from)?, number(to)?, number(words.nth(1)?)?);
        (from..to).contains(&address).then(|| address - from + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address is as far into its file as it is into the mapping, and the mapping into the file.
    #[test]
    fn offsets() {
        let maps = "5000-6000 r--p 00000000 fe:00 12 /bin/a\n6000-8000 r-xp 00001000 fe:00 12 /bin/a\nbroken\n";
        let check = |address, expect: Option<u64>| assert_eq!(offset(maps, address), expect, "{address:x}");
        check(0x4fff, None);
        check(0x5000, Some(0));
        check(0x6010, Some(0x1010));
        check(0x8000, None);
    }

    /// What is missing is said once.
    #[test]
    fn reasons() {
        let check = |reason: &str, expect: &str| assert_eq!(without_privilege(reason), expect);
        check(
            &format!("bpf(BPF_PROG_LOAD): no (os error 1); loading programs needs {PRIVILEGE}"),
            "bpf(BPF_PROG_LOAD): no (os error 1)",
        );
        check("perf_event_open(2): no; this event needs root", "perf_event_open(2): no; this event needs root");
        check(PRIVILEGE, PRIVILEGE);
    }

    /// This very function is in this very program.
    #[test]
    fn own() {
        let place = own_place().unwrap_or_default();
        let (path, offset) = place.rsplit_once(":0x").unwrap_or_default();
        assert!(std::path::Path::new(path).exists() && u64::from_str_radix(offset, 16).is_ok(), "{place}");
    }
}
