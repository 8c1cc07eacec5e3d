//! G10: without a gate there is no opening and no close; stopping is detaching and a grace period.

use std::{thread::sleep, time::Duration};

use portcullis_ebpf::Options;
use portcullis_tests::{
    gate::{Experiment, Load, holds, seen, slow},
    kernel::{self, probe},
    lock, note,
};

const ROUNDS: usize = 100;
/// Many times what a run takes.
const SHORT: Duration = Duration::from_millis(10);

/// Stops while a run is in flight; what is there that belongs to a gate, and what changes within a time. Also how many runs there were.
fn round(experiment: &Experiment<'_>, load: &Load, time: Duration) -> (Vec<String>, u64) {
    let traced = experiment.attach(&load.pids()).open();
    traced.wait_for_a_run();
    let mut traced = traced.close();
    let quiesced = traced.recorded(0);
    sleep(time);
    let mut violations = traced.recorded(0).changes(&quiesced);
    let (opened, closed) = (traced.session.opened(), traced.session.interval());
    violations.extend(
        opened.map(|opened| format!("opened: {opened:?}")).into_iter().chain(closed.map(|closed| format!("closed: {closed:?}"))),
    );
    let (probes, _) = traced.session.counts(0).unwrap();
    violations.extend(probes.iter().filter(|p| p.hits_closed > 0).map(|p| format!("hits of a closed gate: {p:?}")));
    violations.extend(traced.equations());
    traced.detach();
    (violations, probes[0].hits)
}

/// Without a gate, under load on every CPU: nothing speaks of one, and when the stop returns the counts are final.
#[test]
fn stops_without_a_gate() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let experiment = Experiment::new(&kernel, &[vec![slow]], &Options { gate: None, ..kernel::options() });
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (violations, hits) = round(&experiment, &load, SHORT);
        wrong.extend(violations);
        runs += hits;
    }
    holds("a gate, or changes after the stop", ROUNDS, &wrong, format_args!("{runs} runs"));
}

/// Many threads on each CPU, which a kernel with preemption may stop anywhere between the tracepoint and the program, and which come to
/// run again one after the other: those that were on their way have arrived when the stop returns.
#[test]
fn waits_for_threads_on_their_way() {
    const ROUNDS: usize = 10;
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start_many(&["numbers"], 12));
    let quick = probe("quick", "tracepoint:syscalls:sys_enter_lseek", None, "let @calls = percpuhash(64); @calls[tid] = count()");
    let experiment = Experiment::new(&kernel, &[vec![quick]], &Options { gate: None, ..kernel::options() });
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        // Long enough that each has had its turn.
        let (violations, hits) = round(&experiment, &load, Duration::from_millis(100));
        wrong.extend(violations);
        runs += hits;
    }
    holds("changes after the stop by threads that were on their way", ROUNDS, &wrong, format_args!("{runs} runs"));
}

/// Detaching alone does not wait for what runs.
#[test]
fn does_not_without_a_grace_period() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let experiment = Experiment::new(&kernel, &[vec![slow]], &Options { gate: None, ..kernel::options() }).without_grace();
    seen("changes after the stop without a grace period", 50, || round(&experiment, &load, SHORT).0);
}

/// The programs of a session with a gate are not those of one without: the check above sees it.
#[test]
fn a_gate_is_seen() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let experiment = Experiment::new(&kernel, &[vec![slow]], &kernel::options());
    seen("a gate where there should be none", 1, || round(&experiment, &load, SHORT).0);
}
