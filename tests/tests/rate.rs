//! The rate limit: so many hits a second go into a body, and the others are shed and counted.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use portcullis::contract::ProbeCounts;
use portcullis_ebpf::{Kernel as _, Options, ProbeSpec, Rate};
use portcullis_tests::{
    Bundle,
    accounting::model,
    adhoc,
    kernel::{self, Traced, Workloads, probe},
    lock, manifest, note, trace, workload,
};

/// Reads of one byte, of which nobody else makes any.
const READS: &str = "args.count == 1";

fn limited(rate: Rate) -> Options {
    Options { rate: Some(rate), ..kernel::options() }
}

/// How long the gate was open at the most, ns.
fn open(traced: &Traced) -> u64 {
    let (open, close) = (traced.closed.opened().unwrap(), traced.closed.interval().unwrap());
    close.latest - open.earliest
}

/// That each of so many hits went into the body or was shed, the burst among the former, and no more than may be.
fn check(traced: &Traced, probe: &ProbeCounts, hits: u64, rate: Rate) {
    assert_eq!(traced.report.check(), []);
    // A kernel that can be preempted in a program skips hits of others meanwhile.
    let missed: u64 = traced.closed.misses().unwrap().iter().map(|misses| misses.count).sum();
    assert!((hits.saturating_sub(missed)..=hits).contains(&(probe.completed + probe.shed)), "{missed} missed: {probe:?}");
    let (least, most) = (hits.min(rate.burst.into()), model::most(rate, open(traced)));
    assert!((least..=most).contains(&probe.completed), "{least} to {most}: {probe:?}");
}

/// The times of the rows, whose only field they are, in order.
fn times(traced: &Traced) -> Vec<u64> {
    let mut times: Vec<u64> = traced.rows.iter().map(|(_, fields)| fields[0]["nsecs=".len()..].parse().unwrap()).collect();
    times.sort_unstable();
    times
}

/// By how many more than a rate allows these hits were ahead of it at the most, whenever that was.
fn ahead(times: &[u64], rate: Rate) -> u64 {
    let kept = rate.interval() * u64::from(rate.burst);
    let (mut taken, mut most) = (0, 0);
    for time in times {
        taken = taken.max(time - kept) + rate.interval();
        most = most.max(taken.saturating_sub(*time));
    }
    most.div_ceil(rate.interval())
}

/// Threads on all CPUs that come at once: a burst goes in and then what the rate allows, for as long as they come.
#[test]
fn on_all_cpus() {
    const HITS: u64 = 4 * 200_000;
    let Some(_lock) = lock() else { return };
    let rate = Rate { a_second: 10_000, burst: 1_000 };
    let specs = [probe("reads", "tracepoint:syscalls:sys_enter_read", Some(READS), "emit reads { nsecs }")];
    let reads: &[&str] = &["reads", "200000", "4"];
    let traced = kernel::trace(&specs, &limited(rate), Workloads { before: &[], open: &[reads] });
    let counts = &traced.probes[0];
    check(&traced, counts, HITS, rate);
    let times = times(&traced);
    assert_eq!(times.len() as u64, counts.completed);
    let long = times[times.len() - 1] - times[0];
    note(&format!("{} of {HITS} went in, of {} that {} ms allow", counts.completed, 1_000 + long / 100_000, long / 1_000_000));
    // Half of what is allowed leaves the machine time to do something else.
    assert!(counts.completed >= 1_000 + long / 100_000 / 2, "too few: {counts:?} in {long} ns");
}

/// Where nothing may come at once all CPUs want the same interval, again and again: no more go in over time than intervals.
#[test]
fn one_at_a_time() {
    let Some(_lock) = lock() else { return };
    let rate = Rate { a_second: 20_000, burst: 1 };
    let specs = [probe("reads", "tracepoint:syscalls:sys_enter_read", Some(READS), "emit reads { nsecs }")];
    let readers: &[&str] = &["readers", "1", "4"];
    let traced = kernel::trace(&specs, &limited(rate), Workloads { before: &[], open: &[readers] });
    let counts = &traced.probes[0];
    check(&traced, counts, counts.hits - counts.filtered, rate);
    let ahead = ahead(&times(&traced), rate);
    note(&format!("{} of {} went in, {ahead} too early", counts.completed, open(&traced) / rate.interval()));
    // One for each thread, and what 20 ms allow for one that was interrupted at the worst place.
    assert!(counts.shed > 0 && ahead <= 4 + 20_000_000 / rate.interval(), "{ahead} too early: {counts:?}");
}

/// What comes while the gate is closed takes nothing of the burst: nothing is written before the opening (G1).
#[test]
fn nothing_before_the_opening() {
    let Some(_lock) = lock() else { return };
    let rate = Rate { a_second: 1, burst: 100 };
    let specs = [probe("calls", "tracepoint:syscalls:sys_enter_getppid", None, "return")];
    let calls: &[&str] = &["getppid", "5000"];
    let run = |gate| kernel::trace(&specs, &Options { gate, ..limited(rate) }, Workloads { before: &[calls], open: &[calls] });
    let traced = run(Some(0));
    let seconds = open(&traced) / 1_000_000_000;
    assert_eq!(traced.probes[0].hits_closed, 5_000);
    check(&traced, &traced.probes[0], 5_000, rate);
    assert!(traced.probes[0].completed <= 100 + seconds + 1, "{:?}", traced.probes[0]);
    // Without a gate the same calls share one burst.
    let counts = &run(None).probes[0];
    assert_eq!(counts.completed + counts.shed, 10_000);
}

/// The attach points of a probe share its rate, and each probe has its own.
#[test]
fn of_a_probe() {
    let Some(_lock) = lock() else { return };
    let rate = Rate { a_second: 1, burst: 100 };
    let both = ["tracepoint:syscalls:sys_enter_getppid", "tracepoint:syscalls:sys_exit_getppid"];
    let both = ProbeSpec { attach: both.map(String::from).into(), ..probe("both", "", None, "return") };
    let specs = [both, probe("one", "tracepoint:syscalls:sys_enter_getppid", None, "return")];
    let traced = kernel::trace(&specs, &limited(rate), Workloads { before: &[], open: &[&["getppid", "5000"]] });
    check(&traced, &traced.probes[0], 10_000, rate);
    check(&traced, &traced.probes[1], 5_000, rate);
}

/// A span is shed where it ends: every entry finds its exit. What was shed is in no map, and what the host runs is never shed.
#[test]
fn spans_and_maps() {
    const CALLS: u64 = 20_000;
    let Some(_lock) = lock() else { return };
    let rate = Rate { a_second: 50, burst: 10 };
    let features = kernel::running().features();
    let within = |kind: &str| format!("{kind}:{}:workload_double", workload().display());
    let mut specs = vec![
        probe("span", "span:syscall:getppid", None, "@spans = count(); emit spans { duration }"),
        probe("map", "tracepoint:syscalls:sys_enter_getppid", None, "@calls++; @longest = max(@calls)"),
        probe("stack", "tracepoint:syscalls:sys_enter_getppid", None, "@stacks[kstack] = count()"),
    ];
    let host = specs.len();
    if features.moments {
        specs.extend([probe("begin", "begin", None, "@begun++"), probe("end", "end", None, "@ended++")]);
    }
    let functions = specs.len();
    if features.uprobe {
        specs.extend([
            probe("function-span", &within("span:uprobe"), None, "@functions = count()"),
            probe("function", &within("uprobe"), None, "@uprobes = count()"),
        ]);
    }
    let (calls, count) = (["getppid", "20000"], ["calls", "20000"]);
    let options = limited(rate);
    let traced = kernel::trace(&specs, &options, Workloads { before: &[], open: &[&calls, &count] });
    for (number, counts) in traced.probes.iter().enumerate().filter(|(number, _)| !(host..functions).contains(number)) {
        check(&traced, counts, CALLS, rate);
        assert_eq!((counts.filtered, counts.map_full), (0, 0), "{counts:?}");
        if specs[number].attach[0].starts_with("span:") {
            assert_eq!((counts.entered, counts.matched, counts.in_flight), (CALLS, CALLS, 0), "{counts:?}");
        }
    }
    for counts in &traced.probes[host..functions] {
        assert_eq!((counts.hits, counts.completed, counts.shed), (1, 1, 0), "{counts:?}");
    }
    assert_eq!(traced.streams[0].attempted, traced.probes[0].completed);
    let sum = |map: &str| -> u64 {
        let elements = traced.elements.iter().filter(|(name, _)| name == map);
        elements.map(|(_, words)| words.last().unwrap().parse::<u64>().unwrap()).sum()
    };
    for (map, probe) in [("spans", 0), ("calls", 1), ("longest", 1), ("stacks", 2)] {
        assert_eq!(sum(map), traced.probes[probe].completed, "{map}");
    }
    if features.uprobe {
        assert_eq!(sum("functions"), traced.probes[functions].completed);
        assert_eq!(sum("uprobes"), traced.probes[functions + 1].completed);
    }
}

/// The limit of one plugin is not another's, and a run that shed what it was asked to went well; its report says what did it.
#[test]
fn of_a_plugin() {
    const HITS: u64 = 40_000;
    let Some(_lock) = lock() else { return };
    let probes = [("reads", "tracepoint:syscalls:sys_enter_read", Some(READS), "emit reads { tid }")];
    let limits = "limits = { rate = 100, burst = 50, ring";
    let plugins = [adhoc("limited", "8MiB", &probes).replace("limits = { ring", limits), adhoc("free", "8MiB", &probes)];
    let outcome = Bundle::new(&manifest(&plugins)).run(&["--", workload().to_str().unwrap(), "reads", "10000", "4"]);
    let report = outcome.good();
    let count = |plugin: &str, key: &str| outcome.probe(plugin, "reads")[key].as_u64().unwrap();
    let all = |plugin: &str| {
        let missed = outcome.plugin(plugin)["kernel_misses"].as_u64().unwrap();
        assert!((HITS.saturating_sub(missed)..=HITS).contains(&(count(plugin, "completed") + count(plugin, "shed"))), "{plugin}");
    };
    all("free");
    all("limited");
    assert_eq!(count("free", "shed"), 0);
    let time = |key: &str, end: usize| report["gate"][key][end].as_u64().unwrap();
    let most = model::most(Rate { a_second: 100, burst: 50 }, time("close", 1) - time("open", 0));
    assert!((50..=most).contains(&count("limited", "completed")), "50 to {most}: {}", outcome.probe("limited", "reads"));
    assert_eq!(outcome.plugin("limited")["delivered"].as_u64().unwrap(), count("limited", "completed"));
    assert_eq!(outcome.plugin("limited")["limits"].to_string(), r#"{"rate":100,"burst":50}"#);
    assert_eq!(outcome.plugin("free")["limits"].to_string(), r#"{"rate":null,"burst":null}"#);
    let said = "over `limits.rate = 100` (`burst = 50`), as was asked for\n";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    let missed = ["limited", "free"].iter().any(|plugin| outcome.plugin(plugin)["kernel_misses"] != 0);
    assert_eq!(outcome.stderr.contains(&format!("{said}Nothing else was lost: ")), !missed, "{}", outcome.stderr);
}

/// A one-liner is limited by its options.
#[test]
fn of_a_one_liner() {
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:syscalls:sys_enter_getppid { @ = count(); }";
    let workload = workload();
    let arguments = ["--rate", "1", "--burst", "5", program, "--", workload.to_str().unwrap(), "getppid", "10000"];
    let outcome = trace(&arguments, std::process::Stdio::null()).finish();
    let plugins = outcome.good()["plugins"].as_array().unwrap();
    let probes = plugins[0]["probes"].as_array().unwrap();
    let probe = probes.iter().find(|probe| probe["hits"] == 10_000).unwrap();
    let completed = probe["completed"].as_u64().unwrap();
    assert!((5..1_000).contains(&completed), "{probe}");
    assert!(outcome.stdout.contains(&format!("@: {completed}")), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("hits over `limits.rate = 1` (`burst = 5`)"), "{}", outcome.stderr);
}
