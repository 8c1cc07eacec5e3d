//! What is counted, counted exactly.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;

use portcullis_ebpf::Options;
use portcullis_tests::{
    Bundle, adhoc,
    kernel::{self, Workloads, probe},
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

/// Entries and exits of one key on several CPUs at a time: each entry is matched by one exit, or lost, or in flight.
#[test]
fn one_key_on_all_cpus() {
    let Some(_lock) = lock() else { return };
    let attach = "span:tracepoint:raw_syscalls:sys_enter..raw_syscalls:sys_exit key 1";
    for body in ["return", "emit s { entry: entry.nsecs }", "emit s { stack: entry.kstack }"] {
        let specs = [probe("one", attach, None, body)];
        let reads: &[&str] = &["reads", "100000", "4"];
        let traced = kernel::trace(&specs, &kernel::options(), Workloads { before: &[], open: &[reads] });
        assert!(traced.probes[0].lost > 0, "no two entries met: {:?}", traced.probes[0]);
        assert_eq!(traced.report.check(), [], "{body}");
    }
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
