//! What is counted, counted exactly.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;

use portcullis_ebpf::{
    Options,
    counters::{Counter, StreamCounter},
};
use portcullis_tests::{
    Bundle, adhoc,
    kernel::{self, Traced, Workloads, probe},
    lock, manifest, workload,
};

/// Two million calls are two million hits, each emitted, delivered and printed.
#[test]
fn two_million() {
    const CALLS: u64 = 2_000_000;
    let Some(_lock) = lock() else { return };
    let probes = [("ppid", "tracepoint:syscalls:sys_enter_getppid", None, "emit calls { tid }")];
    let bundle = Bundle::new(&manifest(&[adhoc("all", "256MiB", &probes)]));
    let outcome = bundle.run(&["--", workload().to_str().unwrap(), "getppid", &CALLS.to_string()]);
    outcome.good();
    assert_eq!(outcome.probe("all", "ppid")["hits"], CALLS);
    assert_eq!(outcome.probe("all", "ppid")["completed"], CALLS);
    let plugin = outcome.plugin("all");
    assert_eq!(plugin["emitted"].as_u64().unwrap() + plugin["streams"][0]["ring_full"].as_u64().unwrap(), CALLS);
    assert_eq!(plugin["undelivered"], 0);
    assert_eq!(outcome.stdout.lines().count() as u64, plugin["delivered"].as_u64().unwrap());
    assert_eq!(plugin["delivered"], CALLS, "the ring was full, though it holds them all");
}

/// A ring that is too small loses events, and says how many.
#[test]
fn small_ring() {
    const CALLS: u64 = 300_000;
    let Some(_lock) = lock() else { return };
    let probes = [("ppid", "tracepoint:syscalls:sys_enter_getppid", None, "emit calls { tid, comm }; emit more { pid }")];
    let bundle = Bundle::new(&manifest(&[adhoc("all", "4KiB", &probes)]));
    let outcome = bundle.run(&["--", workload().to_str().unwrap(), "getppid", &CALLS.to_string()]);
    outcome.good();
    assert_eq!(outcome.probe("all", "ppid")["hits"], CALLS);
    for stream in outcome.plugin("all")["streams"].as_array().unwrap() {
        assert_eq!(stream["attempted"], CALLS);
        assert!(stream["ring_full"].as_u64().unwrap() > 0);
    }
    assert_eq!(outcome.stdout.lines().count() as u64, outcome.plugin("all")["emitted"].as_u64().unwrap());
}

/// A clone returns twice: in the child it is an exit that never had an entry.
#[test]
fn clones_return_twice() {
    let Some(_lock) = lock() else { return };
    let specs = [probe("clone", "span:syscall:clone", None, "return")];
    let traced = kernel::trace(&specs, &kernel::options(), Workloads { before: &[], open: &[&["forks", "100"]] });
    let clone = &traced.probes[0];
    assert_eq!((clone.entered, clone.matched, clone.hits, clone.unpaired), (100, 100, 200, Some(100)));
    assert_eq!(traced.report.check(), []);
}

/// A call that was entered before the opening is not one of the run, whenever it returns; one that does not return before the close
/// is in flight. Both are counted, and nothing of them is emitted.
#[test]
fn across_the_gate() {
    let Some(_lock) = lock() else { return };
    let specs = [probe("sleep", "span:syscall:clock_nanosleep", None, "emit s { duration }")];
    let traced = kernel::across(&specs, &["idle", "1", "1"], &["idle", "2", "1"]);
    let sleep = &traced.probes[0];
    assert_eq!((sleep.entry_hits_closed, sleep.unpaired, sleep.hits), (1, Some(1), 1), "{sleep:?}");
    assert_eq!((sleep.entered, sleep.matched, sleep.in_flight), (1, 0, 1), "{sleep:?}");
    assert_eq!(traced.rows, []);
    let in_flight = traced.closed.in_flight(0).unwrap();
    assert!(in_flight[0].age > 300_000_000 && in_flight[0].age < 3_000_000_000, "{in_flight:?}");
    assert_eq!(traced.report.check(), []);
}

/// On a hook with one probe, the hits are what the kernel counts as runs of the program.
#[test]
fn hits_are_runs() {
    let Some(_lock) = lock() else { return };
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    for (hook, program) in
        [("rawtracepoint:task_newtask", "pc_task_newtask"), ("tracepoint:task:task_newtask", "pc_task_newtask")]
    {
        let specs = [probe("fork", hook, None, "return")];
        let forks: &[&str] = &["forks", "500"];
        let options = Options::default();
        let traced = kernel::trace(&specs, &options, Workloads { before: &[forks], open: &[forks] });
        let fork = &traced.probes[0];
        assert!(fork.hits >= 500 && fork.hits_closed >= 500, "{fork:?}");
        let loaded = aya::programs::loaded_programs().filter_map(Result::ok);
        let runs: Vec<u64> = loaded.filter(|p| p.name_as_str() == Some(program)).map(|p| p.run_count()).collect();
        assert_eq!(runs, [fork.hits + fork.hits_closed]);
    }
}

/// What the tests below run: every counter moves. The text of `cut` is longer than what is kept, that of `bad` is not there; two
/// threads sleep at a time where there is room for one span; and with the ring of one page there is no room for all records.
fn everything(options: &Options) -> Traced {
    let specs = [
        probe("calls", "span:syscall:getppid", Some("duration > 0"), "emit calls { tid, comm }"),
        probe("none", "tracepoint:syscalls:sys_enter_getppid", Some("pid != tid"), "emit calls { tid, comm }"),
        probe("clone", "span:syscall:clone", None, "return"),
        probe(
            "open",
            "span:syscall:openat",
            Some("str(entry.args.filename) != \"x\""),
            "emit opens { path: str(entry.args.filename, 4) }",
        ),
        probe("sleep", "span:syscall:clock_nanosleep", None, "return"),
    ];
    let options = Options { spans: 1, ..options.clone() };
    let forks: &[&str] = &["forks", "10"];
    let open: &[&[&str]] = &[forks, &["opens-bad", "3"], &["idle", "1", "2"], &["getppid", "5000"]];
    kernel::trace_with(&specs, &options, Workloads { before: &[forks, &["getppid", "7"]], open }, 4096)
}

/// The value of a counter, summed over the probes; entries and exits apart.
fn sum(traced: &Traced, counter: Counter) -> u64 {
    let value = |p: &portcullis::contract::ProbeCounts| match counter {
        Counter::Hits => p.hits,
        Counter::HitsClosed => p.hits_closed,
        Counter::Unpaired => p.unpaired.unwrap_or(0),
        Counter::Filtered => p.filtered,
        Counter::Completed => p.completed,
        Counter::EntryHits => p.entry_hits,
        Counter::EntryHitsClosed => p.entry_hits_closed,
        Counter::Entered => p.entered,
        Counter::Matched => p.matched,
        Counter::Lost => p.lost,
        Counter::MapFull => p.map_full,
        Counter::ReadFault => p.read_fault,
        Counter::Truncated => p.truncated,
    };
    traced.probes.iter().map(value).sum()
}

/// Each counter is bumped at one place that nothing stands in for: with all in place the equations hold and every one has counted;
/// with any one taken out of the programs either an equation fails or a count that has no equation is missing.
#[test]
fn every_counter_is_needed() {
    let Some(_lock) = lock() else { return };
    let whole = everything(&kernel::options());
    assert_eq!(whole.report.check(), []);
    for counter in Counter::ALL {
        assert!(sum(&whole, counter) > 0, "{counter:?} never counts");
    }
    for counter in Counter::ALL {
        let options = Options { without_counter: Some(counter), ..kernel::options() };
        let traced = everything(&options);
        assert_eq!(sum(&traced, counter), 0, "{counter:?}");
        let equations = !matches!(
            counter,
            Counter::HitsClosed | Counter::EntryHitsClosed | Counter::MapFull | Counter::ReadFault | Counter::Truncated
        );
        assert_eq!(!traced.report.check().is_empty(), equations, "{counter:?}: {:?}", traced.report.check());
    }
    let streams = |traced: &Traced, counter| -> u64 {
        let value = |s: &portcullis::contract::StreamCounts| match counter {
            StreamCounter::Attempted => s.attempted,
            StreamCounter::Emitted => s.emitted,
            StreamCounter::RingFull => s.ring_full,
        };
        traced.streams.iter().map(value).sum()
    };
    for counter in StreamCounter::ALL {
        assert!(streams(&whole, counter) > 0, "{counter:?} never counts");
        let options = Options { without_stream_counter: Some(counter), ..kernel::options() };
        let traced = everything(&options);
        assert_eq!(streams(&traced, counter), 0, "{counter:?}");
        assert!(!traced.report.check().is_empty(), "{counter:?}");
    }
}

/// A child of the command is in scope from its first instruction, and its sibling outside is not.
#[test]
fn scope_is_the_command() {
    let Some(_lock) = lock() else { return };
    let probes = [("ppid", "tracepoint:syscalls:sys_enter_getppid", None, "emit calls { pid }")];
    let bundle = Bundle::new(&manifest(&[adhoc("all", "1MiB", &probes)]));
    let mut noise = std::process::Command::new(workload()).args(["getppid", "4000000000"]).spawn().unwrap();
    let outcome = bundle.run(&["--", workload().to_str().unwrap(), "forks", "50"]);
    outcome.good();
    // Each child makes one call.
    assert_eq!(outcome.probe("all", "ppid")["hits"], 50);
    assert_eq!(outcome.rows().len(), 50);
    let outcome = bundle.run(&["--system-wide", "--", workload().to_str().unwrap(), "forks", "50"]);
    outcome.good();
    assert!(outcome.probe("all", "ppid")["hits"].as_u64().unwrap() > 50);
    noise.kill().unwrap();
    noise.wait().unwrap();
}

/// The report's file is written whole, over what was there.
#[test]
fn report_replaces() {
    let Some(_lock) = lock() else { return };
    let probes = [("ppid", "tracepoint:syscalls:sys_enter_getppid", None, "return")];
    let bundle = Bundle::new(&manifest(&[adhoc("all", "1MiB", &probes)]));
    let path = bundle.directory.path().join("report.json");
    fs::write(&path, "old".repeat(100_000)).unwrap();
    let outcome = bundle.run(&["--", workload().to_str().unwrap(), "getppid", "3"]);
    assert_eq!(outcome.good()["plugins"][0]["probes"][0]["hits"], 3);
    assert_eq!(outcome.good()["command"]["status"], "exited with 0");
}
