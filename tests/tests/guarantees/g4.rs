//! G4: no orphans. The exit of a call whose entry was not seen since the opening never reports; it is counted as unpaired, where the
//! kernel does not skip it. So is the return of a call that was never entered.

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use portcullis_ebpf::{Broken, Options};
use portcullis_tests::{
    gate::{Blocked, Experiment, Load, holds, seen},
    kernel::{self, Workloads, probe},
    lock,
};

use crate::spans::{THREADS, ways};

/// What was looked at.
#[derive(Default)]
struct Looked {
    violations: Vec<String>,
    spans: usize,
    unpaired: u64,
    /// How often the kernel skipped a program.
    misses: u64,
}

/// Threads that are in a call at the opening return from it and then make a whole one: what is reported beside that one, and spans that
/// began before the opening, whoever made them.
fn round(experiment: &Experiment<'_>, load: &Load, blocked: &mut Blocked, looked: &mut Looked) {
    let traced = experiment.attach(&[blocked.pids(), load.pids()].concat());
    // Into the call with the programs attached, so that those at its return will run.
    blocked.go_on();
    let traced = traced.open();
    let opened = traced.session.interval().unwrap().earliest;
    // The load's turn.
    sleep(Duration::from_millis(1));
    blocked.go_on();
    blocked.go_on();
    let mut traced = traced.close();
    let mut reported = BTreeMap::new();
    looked.spans += traced.records(0, |_, time, fields| {
        let (tid, began) = (fields[0] as u32, time.saturating_sub(fields[1]));
        *reported.entry(tid).or_insert(0) += 1;
        if began < opened {
            looked.violations.push(format!(
                "thread {tid}: a span of {} ns began {} ns before the opening",
                fields[1],
                opened - began
            ));
        }
    });
    let (probes, streams) = traced.session.counts(0).unwrap();
    let misses = traced.misses(0);
    looked.misses += misses;
    let counts = blocked.pids().into_iter().map(|tid| (tid, reported.get(&tid).copied().unwrap_or(0)));
    let (absent, more): (Vec<_>, Vec<_>) = counts.filter(|(_, count)| *count != 1).partition(|(_, count)| *count == 0);
    let silent = if streams[0].ring_full > 0 || absent.len() as u64 <= misses { Vec::new() } else { absent };
    for (tid, count) in silent.into_iter().chain(more) {
        looked.violations.push(format!("thread {tid}: {count} spans, and 1 was whole"));
    }
    if let Some(unpaired) = probes[0].unpaired {
        // Each process of the load may have been in a call, too; and what the kernel missed is an entry or an exit.
        let least = (blocked.pids().len() as u64).saturating_sub(misses);
        let most = (blocked.pids().len() + load.pids().len()) as u64 + misses;
        if !(least..=most).contains(&unpaired) {
            looked.violations.push(format!("{unpaired} unpaired, and there were {least} to {most}"));
        }
        looked.unpaired += unpaired;
    }
    looked.violations.extend(traced.equations());
    traced.detach();
}

/// By every way of attaching to spans, under load on every CPU.
#[test]
fn exits_without_entries_never_report() {
    let Some(_lock) = lock() else { return };
    let mut blocked = Blocked::start(THREADS);
    let mut of_the_load = 0;
    for way in ways() {
        let load = Load::start(way.load);
        let experiment = way.experiment(&kernel::options());
        let mut looked = Looked::default();
        (0..way.rounds).for_each(|_| round(&experiment, &load, &mut blocked, &mut looked));
        let (calls, spans, unpaired, misses) = (THREADS * way.rounds, looked.spans, looked.unpaired, looked.misses);
        of_the_load += spans.saturating_sub(calls);
        let looked_at = format_args!(
            "{} ({}): {calls} calls over an opening, {spans} spans, {unpaired} unpaired, {misses} missed",
            way.name,
            experiment.mechanism()
        );
        holds("orphans", way.rounds, &looked.violations, looked_at);
    }
    assert!(of_the_load > 0, "the load did not run");
}

/// Programs that take any exit report the orphans, with a nonsense of a duration; by every way.
#[test]
fn they_do_without_the_pairing_rule() {
    let Some(_lock) = lock() else { return };
    let mut blocked = Blocked::start(THREADS);
    for way in ways() {
        let load = Load::start(way.load);
        let experiment = way.experiment(&Options { broken: Some(Broken::NoPairing), ..kernel::options() });
        seen(&format!("orphans without the pairing rule, {}", way.name), 3, || {
            let mut looked = Looked::default();
            round(&experiment, &load, &mut blocked, &mut looked);
            looked.violations
        });
    }
}

/// A clone's return in the child, which never entered it.
fn clones(options: &Options) -> Vec<String> {
    let specs = [probe("clone", "span:syscall:clone", None, "emit clones { duration }")];
    let traced = kernel::trace(&specs, options, Workloads { before: &[], open: &[&["forks", "100"]] });
    let counts = &traced.probes[0];
    let elapsed = traced.closed.interval().unwrap().latest - traced.closed.opened().unwrap().earliest;
    let duration = |row: &[String]| row[0].strip_prefix("duration=").unwrap().parse::<u64>().unwrap();
    let long = traced.rows.iter().map(|(_, row)| duration(row)).filter(|duration| *duration > elapsed);
    let mut wrong: Vec<String> =
        long.map(|duration| format!("a clone of {duration} ns, and the gate was open for {elapsed}")).collect();
    // A kernel that is preempted in a program skips the hits of other threads meanwhile.
    let misses: u64 = traced.closed.misses().unwrap().iter().map(|misses| misses.count).sum();
    let counted = [counts.entered, counts.matched, counts.unpaired.unwrap_or(0), traced.rows.len() as u64];
    if counted.iter().any(|count| count.abs_diff(100) > misses) {
        wrong.push(format!("100 clones: {} rows, {misses} missed, {counts:?}", traced.rows.len()));
    }
    wrong
}

/// A clone returns twice, and reports once.
#[test]
fn a_child_reports_no_clone() {
    let Some(_lock) = lock() else { return };
    holds("clones of children", 1, &clones(&kernel::options()), format_args!("100 clones"));
}

/// Without the pairing rule it reports twice.
#[test]
fn it_does_without_the_pairing_rule() {
    let Some(_lock) = lock() else { return };
    let options = Options { broken: Some(Broken::NoPairing), ..kernel::options() };
    seen("clones of children without the pairing rule", 1, || clones(&options));
}
