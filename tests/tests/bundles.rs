//! Many plugins at once, whatever they attach to: all see the same, and one whose worker is killed takes nothing from the others.
//!
//! Bundles are made at random. `BUNDLES_SEED=1` makes those of that seed again; each run says which it was.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use portcullis_ebpf::Kernel as _;
use portcullis_tests::{
    Bundle, Outcome, adhoc, assert_no_programs, kernel, lock, manifest, note,
    watch::{Watched, assert_gone, signal, state, until},
    workload,
};
use rustix::process::Signal;
use serde_json::Value;

const BUNDLES: usize = 50;
const PLUGINS: usize = 8;
const PROBES: usize = 4;

/// xorshift64
struct Random(u64);

impl Random {
    /// Of the environment's seed, or of the time.
    fn new() -> Random {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let asked = std::env::var("BUNDLES_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = asked.unwrap_or_else(now).max(1);
        note(&format!("BUNDLES_SEED={seed}"));
        Random(seed)
    }

    /// Below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

/// A probe that any plugin may have, and its hits under `workload each N`.
struct Kind {
    name: &'static str,
    attach: String,
    when: Option<String>,
    hits: Hits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hits {
    /// As many as there are calls.
    Calls,
    /// So many.
    Fixed(u64),
    /// Nobody knows how many, but each plugin has the same.
    Same,
    /// Nobody knows, and each plugin has its own: time that passes.
    Any,
}

/// The name of the probe without which the workload does not run.
const MARKER: &str = "marker";

/// What this kernel has.
fn kinds() -> Vec<Kind> {
    let features = kernel::running().features();
    let within = |kind: &str, rest: &str| format!("{kind}:{}:{rest}", workload().display());
    let kind = |name, attach: &str, hits| Kind { name, attach: attach.to_owned(), when: None, hits };
    let mut kinds = vec![
        kind("enter", "tracepoint:syscalls:sys_enter_getppid", Hits::Calls),
        kind("exit", "tracepoint:syscalls:sys_exit_getppid", Hits::Calls),
        kind("span", "span:syscall:getppid", Hits::Calls),
        kind("sync", "span:syscall:fsync", Hits::Calls),
        // It never returns.
        kind("end-of-process", "span:syscall:exit_group", Hits::Fixed(0)),
        kind("opens", "span:syscall:openat", Hits::Same),
        kind("all", "tracepoint:raw_syscalls:sys_enter", Hits::Same),
        kind("raw", "rawtracepoint:sys_exit", Hits::Same),
        kind("joined", "span:tracepoint:raw_syscalls:sys_enter..raw_syscalls:sys_exit", Hits::Same),
        kind("exits", "tracepoint:sched:sched_process_exit", Hits::Fixed(1)),
        kind("tasks", "rawtracepoint:task_newtask", Hits::Fixed(0)),
        kind("profile", "profile:hz:999", Hits::Any),
        kind("interval", "interval:ms:5", Hits::Any),
        kind("faults", "software:page-faults:1", Hits::Any),
    ];
    let getppid = Some(format!("args.id == {}", libc::SYS_getppid));
    kinds.push(Kind { name: "chosen", attach: "tracepoint:raw_syscalls:sys_enter".into(), when: getppid, hits: Hits::Same });
    if features.uprobe {
        kinds.extend([
            kind("function", &within("uprobe", "workload_double"), Hits::Calls),
            kind("return", &within("uretprobe", "workload_double"), Hits::Calls),
            kind("function-span", &within("span:uprobe", "workload_double"), Hits::Calls),
            kind(MARKER, &within("usdt", "workload:marker"), Hits::Calls),
        ]);
    }
    if features.moments {
        kinds.extend([kind("begin", "begin", Hits::Fixed(1)), kind("end", "end", Hits::Fixed(1))]);
    }
    if features.iter {
        kinds.push(kind("threads", "iter:task", Hits::Fixed(1)));
    }
    if features.kprobe {
        kinds.push(kind("kernel-span", "span:kprobe:noop_fsync", Hits::Calls));
    }
    if features.fentry {
        kinds.push(kind("kernel", "fexit:noop_fsync", Hits::Calls));
    }
    kinds
}

/// Which kinds each plugin has, in its order.
fn choose(random: &mut Random, kinds: &[Kind]) -> Vec<Vec<usize>> {
    let mut chosen: Vec<Vec<usize>> = Vec::new();
    for _ in 0..PLUGINS {
        let mut left: Vec<usize> = (0..kinds.len()).collect();
        chosen.push((0..PROBES).map(|_| left.swap_remove(random.below(left.len()))).collect());
    }
    let marker = kinds.iter().position(|kind| kind.name == MARKER);
    if let Some(marker) = marker.filter(|marker| !chosen.concat().contains(marker)) {
        let (plugin, probe) = (random.below(PLUGINS), random.below(PROBES));
        chosen[plugin][probe] = marker;
    }
    chosen
}

/// Each probe has maps of its own.
fn body(random: &mut Random, probe: usize) -> String {
    let map = format!("@m{probe}");
    match random.below(4) {
        0 => "emit rows { tid, comm }".to_owned(),
        1 => format!("{map} = count(); emit rows {{ tid, comm }}"),
        2 => format!("{map}[comm] = count()"),
        _ => "return".to_owned(),
    }
}

/// Whatever is told of a probe that does not depend on the plugin.
fn counts(probe: &Value) -> Value {
    let mut counts = probe.clone();
    // Beside a probe of returns alone a span's own are not skipped, but counted.
    counts["unpaired"] = counts["unpaired"].as_u64().unwrap_or(0).into();
    counts.as_object_mut().unwrap().retain(|key, _| key != "mechanism");
    counts
}

/// The counts are those of the workload, and those of the same probe in two plugins are equal, whatever else there is.
fn check(outcome: &Outcome, kinds: &[Kind], chosen: &[Vec<usize>], calls: u64) {
    outcome.good();
    let rows = outcome.rows();
    let mut seen: BTreeMap<&str, Value> = BTreeMap::new();
    for (plugin, probes) in chosen.iter().enumerate() {
        let name = format!("p{plugin}");
        let reported = outcome.plugin(&name);
        assert_eq!(reported["state"], "ok", "{name}");
        assert_eq!((&reported["undelivered"], &reported["emitted"]), (&0.into(), &reported["delivered"]), "{name}");
        let shown = rows.iter().filter(|row| row["plugin"] == *name).count();
        assert!(shown as u64 >= reported["delivered"].as_u64().unwrap(), "{name}: {shown} rows");
        for kind in probes.iter().map(|kind| &kinds[*kind]) {
            let probe = outcome.probe(&name, kind.name);
            let hits = probe["hits"].as_u64().unwrap();
            match kind.hits {
                Hits::Calls => assert_eq!(hits, calls, "{name}: {probe}"),
                Hits::Fixed(count) => assert_eq!(hits, count, "{name}: {probe}"),
                Hits::Same => assert!(hits > 0, "{name}: {probe}"),
                Hits::Any => continue,
            }
            if kind.when.is_some() {
                assert_eq!(probe["completed"], calls, "{name}: {probe}");
            }
            let counts = counts(probe);
            let first = seen.entry(kind.name).or_insert_with(|| counts.clone());
            assert_eq!(*first, counts, "{name}: {}", kind.name);
        }
    }
}

/// Eight plugins with four kinds of probe each, in any order: every plugin counts every hit, whoever its neighbours are.
#[test]
fn any_bundle() {
    let Some(_lock) = lock() else { return };
    let mut random = Random::new();
    let kinds = kinds();
    let begin = Instant::now();
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..BUNDLES {
        let chosen = choose(&mut random, &kinds);
        let plugins: Vec<String> = chosen
            .iter()
            .enumerate()
            .map(|(plugin, probes)| {
                let bodies: Vec<String> = (0..PROBES).map(|probe| body(&mut random, probe)).collect();
                let kinds = probes.iter().map(|kind| &kinds[*kind]).zip(&bodies);
                let probes: Vec<_> = kinds.map(|(k, body)| (k.name, &*k.attach, k.when.as_deref(), &**body)).collect();
                adhoc(&format!("p{plugin}"), "4MiB", &probes)
            })
            .collect();
        chosen.concat().iter().for_each(|kind| *met.entry(kinds[*kind].name).or_default() += 1);
        let calls = 1 + random.below(300) as u64;
        let bundle = Bundle::new(&manifest(&plugins));
        let outcome = bundle.run(&["--", workload().to_str().unwrap(), "each", &calls.to_string()]);
        if outcome.code != Some(0) {
            note(&format!("bundle {number}:\n{}", plugins.join("\n")));
        }
        check(&outcome, &kinds, &chosen, calls);
        assert_no_programs();
    }
    note(&format!("{BUNDLES} bundles in {:?}: {met:?}", begin.elapsed()));
}

/// When a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The workers are there, and sooner or later the gate opens.
    AroundTheOpening,
    /// COMMAND runs: directly behind the opening.
    AfterTheOpening,
    /// Some time later.
    InTheRun,
    /// COMMAND has ended, and so does the run.
    AtTheClose,
}

/// What the workload calls, for a quarter of a second or so.
const CALLS: u64 = 100_000;
/// One call in so many is a row.
const EVERY: u64 = 10;

impl Moment {
    /// Waits for it, and a while more.
    fn wait(self, run: &Watched, random: &mut Random) {
        let command = || until("COMMAND", || run.commands().first().copied());
        let released = || {
            let command = command();
            until("the release", || (!matches!(state(command), Some('t' | 'T'))).then_some(()));
            command
        };
        let micros = match self {
            Moment::AroundTheOpening => random.below(60_000),
            Moment::AfterTheOpening => {
                released();
                random.below(500)
            }
            Moment::InTheRun => {
                released();
                random.below(50_000)
            }
            Moment::AtTheClose => {
                let command = released();
                until("the end of COMMAND", || matches!(state(command), None | Some('Z' | 'X')).then_some(()));
                random.below(4_000)
            }
        };
        std::thread::sleep(Duration::from_micros(micros as u64));
    }
}

/// A worker that is killed at any moment of the run is named, with what it was not handed; the others have seen every call and got every row.
#[test]
fn killed_at_any_moment() {
    const WORKERS: usize = 4;
    let Some(_lock) = lock() else { return };
    let mut random = Random::new();
    let probes = [
        ("calls", "tracepoint:syscalls:sys_enter_getppid", None, "@n++; if @n % 10 == 0 { emit rows { tid, n: @n } }"),
        ("span", "span:syscall:getppid", None, "@ns = hist(duration)"),
    ];
    let plugins: Vec<String> = (0..WORKERS).map(|n| adhoc(&format!("p{n}"), "16MiB", &probes)).collect();
    let bundle = Bundle::new(&manifest(&plugins));
    let mut ends: BTreeMap<(Moment, Option<i32>), usize> = BTreeMap::new();
    let moments = [Moment::AroundTheOpening, Moment::AfterTheOpening, Moment::InTheRun, Moment::AtTheClose];
    for moment in moments.into_iter().cycle().take(4 * moments.len()) {
        let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &CALLS.to_string()]);
        let killed = format!("p{}", random.below(WORKERS));
        let victim = run.worker(&killed);
        moment.wait(&run, &mut random);
        let workers = run.workers();
        let running = !run.commands().is_empty();
        signal(victim, Signal::KILL);
        let outcome = run.finish();
        *ends.entry((moment, outcome.code)).or_default() += 1;
        let cause = "its worker process ended unexpectedly (killed by signal 9)";
        assert_gone(&workers);
        assert_no_programs();
        if outcome.code == Some(1) {
            // It was met before the opening: nothing has happened.
            assert_eq!(moment, Moment::AroundTheOpening, "{}", outcome.stderr);
            let named = [format!("error: plugin \"{killed}\": "), cause.to_owned()];
            assert!(named.iter().all(|part| outcome.stderr.contains(part)), "{}", outcome.stderr);
            assert!(outcome.report.is_none() && outcome.stdout.is_empty(), "{}", outcome.stderr);
            continue;
        }
        let failed = outcome.code == Some(4);
        for name in (0..WORKERS).map(|n| format!("p{n}")) {
            let plugin = outcome.plugin(&name);
            if name == killed && failed {
                assert_eq!(plugin["state"], format!("failed: {cause}"), "{moment:?}");
                assert!(outcome.stderr.contains(&format!("plugin {name}: FAILED: {cause}\n")), "{}", outcome.stderr);
                let undelivered = plugin["undelivered"].as_u64().unwrap();
                assert_eq!(
                    undelivered > 0,
                    outcome.stderr.contains("that it had not taken when it failed"),
                    "{}",
                    outcome.stderr
                );
                assert!(outcome.probe(&name, "calls")["hits"].as_u64().unwrap() <= CALLS);
                continue;
            }
            assert_eq!(plugin["state"], "ok", "{moment:?}, {killed} was killed: {}", outcome.stderr);
            for probe in ["calls", "span"] {
                assert_eq!(outcome.probe(&name, probe)["hits"], CALLS, "{moment:?}");
            }
            assert_eq!(
                (&plugin["emitted"], &plugin["delivered"]),
                (&(CALLS / EVERY).into(), &(CALLS / EVERY).into()),
                "{moment:?}"
            );
            let rows = outcome.rows().iter().filter(|row| row["plugin"] == *name && row.get("tid").is_some()).count() as u64;
            assert_eq!(rows, CALLS / EVERY, "{moment:?}");
        }
        // At the very end it may have done all that it had to.
        assert!(failed || !running && outcome.code == Some(0), "{moment:?}: {}", outcome.stderr);
        std::fs::remove_file(bundle.directory.path().join("report.json")).unwrap();
    }
    note(&format!("moments, exit codes and how often: {ends:?}"));
    for moment in [Moment::AfterTheOpening, Moment::InTheRun] {
        assert!(ends.contains_key(&(moment, Some(4))), "no worker was met: {ends:?}");
    }
}
