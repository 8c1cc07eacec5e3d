//! The seed experiment: two plugins watch enter and exit of read(2) while a process reads one byte at a time as fast as it can.
//!
//! With the gate both begin at one instant: of each thread, enters and exits alternate from its first event on, but for one exit
//! whose enter came before the opening. Without it they begin one after the other, and the same check finds that.
//!
//! `cargo test --release -p portcullis-tests --test seed -- --nocapture` prints each run.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    io::Read,
    process::{Command, Stdio},
    thread,
};

use portcullis_tests::{Bundle, Outcome, adhoc, lock, manifest, note, workload};

const RUNS: usize = 20;
/// How often each thread reads when it is told.
const READS: u64 = 50_000;
/// More than CPUs, so that some thread reads whenever probes are attached.
const THREADS: &str = "4";

/// Starts the reader and the run, and tells the reader when the first row is out, so that it has read from before the first probe
/// was attached: then it reads a fixed number of times more.
fn run(arguments: &[&str]) -> Outcome {
    let mut reader =
        Command::new(workload()).args(["reads-until-told", &READS.to_string(), THREADS]).stdin(Stdio::piped()).spawn().unwrap();
    let only = format!("pid == {}", reader.id());
    let enter = ("enter", "tracepoint:syscalls:sys_enter_read", Some(only.as_str()), "emit e { tid }");
    let exit = ("exit", "tracepoint:syscalls:sys_exit_read", Some(only.as_str()), "emit e { tid }");
    // The second plugin is of ordinary size: it watches some twenty other places, too, which are attached before its last.
    let others = ("others", "rawtracepoint:block_*", None, "return");
    let plugins = [adhoc("enter", "64MiB", &[enter]), adhoc("exit", "64MiB", &[others, exit])];
    let bundle = Bundle::new(&manifest(&plugins));
    let mut started = bundle.start(arguments);
    let mut rows = started.child.stdout.take().unwrap();
    let mut first = [0];
    let opened = rows.read_exact(&mut first);
    drop(reader.stdin.take());
    let rest = thread::spawn(move || {
        let mut rest = String::from_utf8_lossy(&first).into_owned();
        rows.read_to_string(&mut rest).map(|_| rest)
    });
    assert!(reader.wait().unwrap().success());
    if opened.is_ok() {
        started.signal(rustix::process::Signal::INT);
    }
    let outcome = started.finish();
    Outcome { stdout: rest.join().unwrap().unwrap(), ..outcome }
}

/// What the rows of one run say.
struct Seen {
    events: usize,
    /// How far the threads were from alternating: events of one kind in a row, and exits at the start beyond the one that may be.
    wrong: usize,
    /// The latest of the plugins' first events less the earliest, ns.
    skew: u64,
}

fn check(outcome: &Outcome) -> Seen {
    let report = outcome.good();
    for plugin in ["enter", "exit"] {
        assert_eq!(outcome.plugin(plugin)["streams"][0]["ring_full"], 0, "a run with losses says nothing");
        assert_eq!(outcome.plugin(plugin)["undelivered"], 0, "a run with losses says nothing");
    }
    let opened = report["gate"]["open"][0].as_u64();
    let mut threads: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    let mut first = [u64::MAX; 2];
    for row in outcome.rows() {
        let (time, enter) = (row["time"].as_u64().unwrap(), row["plugin"] == "enter");
        if let Some(opened) = opened {
            assert!(time >= opened, "an event {} ns before the opening", opened - time);
        }
        first[usize::from(enter)] = first[usize::from(enter)].min(time);
        threads.entry(row["tid"].as_u64().unwrap()).or_default().push((time, enter));
    }
    let mut seen = Seen { events: 0, wrong: 0, skew: first[0].abs_diff(first[1]) };
    for events in threads.values_mut() {
        events.sort_unstable();
        seen.events += events.len();
        seen.wrong += events.windows(2).filter(|pair| pair[0].1 == pair[1].1).count();
    }
    seen
}

/// With the gate every run alternates from the first event on.
#[test]
fn with_the_gate() {
    let Some(_lock) = lock() else { return };
    for number in 1..=RUNS {
        let outcome = run(&[]);
        let seen = check(&outcome);
        let closed = outcome.probe("enter", "enter")["hits_closed"].as_u64().unwrap();
        note(&format!(
            "gate    run {number:2}: {:7} events, {closed:6} enters before the opening, {:3} out of order, first events {:6} ns apart",
            seen.events, seen.wrong, seen.skew
        ));
        assert!(seen.events > 1000 && closed > 0, "the reader did not read across the opening");
        assert_eq!(seen.wrong, 0);
    }
}

/// Without it most runs do not, so the check can fail.
#[test]
fn without_the_gate() {
    let Some(_lock) = lock() else { return };
    let mut found = 0;
    for number in 1..=RUNS {
        let outcome = run(&["--no-gate"]);
        let seen = check(&outcome);
        note(&format!(
            "no gate run {number:2}: {:7} events, {:3} out of order, first events {:6} ns apart",
            seen.events, seen.wrong, seen.skew
        ));
        found += usize::from(seen.wrong > 0);
    }
    assert!(found > RUNS / 2, "the skew was found in {found} of {RUNS} runs only");
}
