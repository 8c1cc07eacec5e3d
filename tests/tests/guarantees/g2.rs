//! G2: one store opens every probe of every plugin, and one closes them. A hit that is in flight at a store may be seen by some plugins
//! and not by others, one a CPU and hook at most; one run of a program sees the gate once.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::sleep,
    time::Duration,
};

use portcullis_ebpf::{Broken, Options, ProbeSpec};
use portcullis_tests::{
    gate::{Experiment, Load, holds, seen, slow},
    kernel::{self, probe},
    lock, note,
};

use crate::numbered::{Calls, calls, system_calls};

const ROUNDS: usize = 200;
const PLUGINS: usize = 6;

/// The threads of which plugins have seen calls that differ by more than one at either end, or have not seen one in between.
fn violations(plugins: &[BTreeMap<u64, Calls>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for tid in plugins.iter().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>() {
        let seen: Vec<Calls> = plugins.iter().filter_map(|plugin| plugin.get(tid)).copied().collect();
        let gaps = seen.iter().any(|calls| calls.count != calls.high - calls.low + 1);
        let spread = |end: fn(&Calls) -> i64| seen.iter().map(end).max() > seen.iter().map(end).min().map(|least| least + 1);
        // The one in flight at a store may be all that some have seen.
        let unseen = seen.len() < plugins.len() && seen.iter().any(|calls| calls.count > 2);
        if gaps || spread(|calls| calls.low) || spread(|calls| calls.high) || unseen {
            wrong.push(format!("thread {tid}: {:?}", plugins.iter().map(|plugin| plugin.get(tid)).collect::<Vec<_>>()));
        }
    }
    wrong
}

/// One opening and one close under load; also how many calls were seen, and how many by some plugins only.
fn round(experiment: &Experiment<'_>, load: &Load) -> (Vec<String>, i64, i64) {
    let traced = experiment.attach(&load.pids());
    let traced = traced.open();
    sleep(Duration::from_millis(1));
    let mut traced = traced.close();
    let plugins: Vec<BTreeMap<u64, Calls>> = (0..experiment.plugins()).map(|plugin| calls(&mut traced, plugin)).collect();
    traced.detach();
    let totals = plugins.iter().map(|plugin| plugin.values().map(|calls| calls.count).sum::<i64>());
    let (most, least) = (totals.clone().max().unwrap(), totals.min().unwrap());
    (violations(&plugins), most, most - least)
}

/// Plugins on one hook, load on every CPU: of each thread all see the same calls, but for one at either end.
#[test]
fn one_store_opens_and_closes_all() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let experiment = Experiment::new(&kernel, &vec![system_calls(); PLUGINS], &kernel::options());
    let (mut wrong, mut calls, mut torn) = (Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let (violations, seen, differ) = round(&experiment, &load);
        wrong.extend(violations);
        calls += seen;
        torn += i64::from(differ > 0);
    }
    assert!(calls > ROUNDS as i64, "{calls} calls: the load did not run");
    let looked_at = format_args!("{PLUGINS} plugins, {calls} calls, {torn} rounds in which a store met a call");
    holds("calls that some plugins saw and others did not", ROUNDS, &wrong, looked_at);
}

/// Attached one after the other without a gate, the plugins begin one after the other.
#[test]
fn they_differ_without_a_gate() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let options = Options { gate: None, ..kernel::options() };
    let experiment = Experiment::new(&kernel, &vec![system_calls(); PLUGINS], &options);
    seen("calls that some plugins saw and others did not, without a gate", 50, || round(&experiment, &load).0);
}

/// Two probes on one hook are one program: a long one, and one that comes after it in each run.
fn pair(slow: &ProbeSpec) -> Vec<ProbeSpec> {
    let quick = "let @quick = percpuhash(64); @quick[tid] = count()";
    vec![slow.clone(), probe("quick", &slow.attach[0], None, quick)]
}

/// One close in the middle of a run: which of its halves acted otherwise than it counted, or otherwise than the other.
fn torn(experiment: &Experiment<'_>, load: &Load) -> (Vec<String>, u64) {
    let traced = experiment.attach(&load.pids()).open();
    traced.wait_for_a_run();
    let mut traced = traced.close();
    let (probes, _) = traced.session.counts(0).unwrap();
    let quick = traced.numbers(0, "quick").values().sum::<i64>().cast_unsigned();
    traced.detach();
    let mut wrong: Vec<String> = probes
        .iter()
        .filter(|p| p.hits != p.completed)
        .map(|p| format!("{} hits and {} done: {p:?}", p.hits, p.completed))
        .collect();
    if probes[0].hits != probes[1].hits || quick != probes[1].hits {
        wrong.push(format!("{} hits, {} in the same runs, which did {quick} things", probes[0].hits, probes[1].hits));
    }
    (wrong, probes[0].hits)
}

/// A run that the close meets in its middle ends as it began: what it has counted as a hit it does.
#[test]
fn a_run_sees_the_gate_once() {
    const ROUNDS: usize = 100;
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let experiment = Experiment::new(&kernel, &[pair(&slow)], &kernel::options());
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (violations, hits) = torn(&experiment, &load);
        wrong.extend(violations);
        runs += hits;
    }
    holds("runs that saw the gate open and closed", ROUNDS, &wrong, format_args!("{runs} runs"));
}

/// Programs that load the word a second time count a hit and do nothing.
#[test]
fn it_sees_both_when_it_reads_twice() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let options = Options { broken: Some(Broken::ReadsGateTwice), ..kernel::options() };
    let experiment = Experiment::new(&kernel, &[pair(&slow)], &options);
    seen("runs that saw the gate open and closed, reading it twice", 100, || torn(&experiment, &load).0);
}
