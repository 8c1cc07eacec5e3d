//! G9: reopen. What is paused records nothing and stays attached; what was entered before a pause, or in it, never pairs after it. A new
//! version takes the place of another without a gap.

use std::{thread::sleep, time::Duration};

use portcullis::{contract::Interval, session::Open};
use portcullis_ebpf::{Broken, Options};
use portcullis_tests::{
    gate::{Blocked, Experiment, Load, Traced, holds, seen},
    kernel, lock,
};

use crate::{
    numbered::{calls, function, system_calls, watcher},
    spans::{THREADS, ways},
};

/// What was looked at.
#[derive(Default)]
struct Looked {
    violations: Vec<String>,
    spans: usize,
    cut: usize,
}

/// Threads are in a call that they entered since the opening when the gate is paused. Half of the times they return in the pause and enter it
/// again, else they stay. After the pause they return, make a whole call, and are in one at the close. What is reported that began before the
/// gate opened again, or ended in the pause; whether all that were cut off are listed; and whether the counts add up.
fn round(experiment: &Experiment<'_>, load: &Load, blocked: &mut Blocked, return_in_pause: bool, looked: &mut Looked) {
    let mut traced = experiment.attach(&[blocked.pids(), load.pids()].concat()).open();
    blocked.go_on();
    sleep(Duration::from_millis(1));
    let paused = traced.session.pause(&[0]).unwrap().unwrap();
    let quiesced = portcullis::clock::now();
    let before = traced.recorded(0);
    let in_flight = traced.session.counts(0).0[0].in_flight;
    if in_flight + traced.misses(0) < THREADS as u64 {
        looked.violations.push(format!("{in_flight} are in flight at the pause, and {THREADS} threads are in a call"));
    }
    looked.cut += in_flight as usize;
    if return_in_pause {
        blocked.go_on();
    }
    sleep(Duration::from_millis(1));
    looked.violations.extend(traced.recorded(0).changes(&before));
    let resumed = traced.session.open(&[0]).unwrap().unwrap();
    blocked.go_on();
    blocked.go_on();
    let mut traced = traced.close();
    let mut check = |time: u64, duration: u64| {
        let began = time.saturating_sub(duration);
        if time >= resumed.earliest && began < resumed.earliest {
            looked
                .violations
                .push(format!("a span of {duration} ns began {} ns before the gate opened again", resumed.earliest - began));
        }
        if (quiesced..resumed.earliest).contains(&time) {
            looked.violations.push(format!("a span ended {} ns after the pause", time - paused.latest));
        }
    };
    looked.spans += traced.records(0, |_, time, fields| check(time, fields[1]));
    looked.violations.extend(traced.equations());
    let windows = traced.session.account(0).unwrap().unwrap().windows.len();
    if windows != 2 {
        looked.violations.push(format!("{windows} windows"));
    }
    traced.detach();
}

/// By every way of attaching to spans, under load on every CPU.
#[test]
fn nothing_spans_a_pause() {
    let Some(_lock) = lock() else { return };
    let mut blocked = Blocked::start(THREADS);
    for way in ways() {
        let load = Load::start(way.load);
        let experiment = way.experiment(&kernel::options());
        let mut looked = Looked::default();
        (0..way.rounds).for_each(|number| round(&experiment, &load, &mut blocked, number % 2 == 1, &mut looked));
        let (spans, cut) = (looked.spans, looked.cut);
        let looked_at = format_args!("{} ({}): {cut} calls cut off, {spans} spans", way.name, experiment.mechanism());
        holds("spans over a pause", way.rounds, &looked.violations, looked_at);
    }
}

/// Entries that bear no generation pair after the pause, whatever was missed in between; by every way.
#[test]
fn something_does_without_a_generation() {
    let Some(_lock) = lock() else { return };
    let mut blocked = Blocked::start(THREADS);
    for way in ways() {
        let load = Load::start(way.load);
        let experiment = way.experiment(&Options { broken: Some(Broken::NoGeneration), ..kernel::options() });
        seen(&format!("spans over a pause without a generation, {}", way.name), 3, || {
            let mut looked = Looked::default();
            round(&experiment, &load, &mut blocked, false, &mut looked);
            looked.violations.retain(|violation| violation.contains("before the gate opened again"));
            looked.violations
        });
    }
}

/// One plugin takes the place of another under load: the calls of each thread that neither has seen between the first and the last of them, how
/// many both have seen, and how long both were open.
fn exchange(
    experiment: &Experiment<'_>,
    load: &Load,
    exchange: fn(&mut Open) -> Option<Interval>,
) -> (Vec<String>, i64, Option<Interval>) {
    let mut traced: Traced<'_, Open> = experiment.attach(&load.pids()).open_some(&[0]);
    sleep(Duration::from_millis(2));
    let overlap = exchange(&mut traced.session);
    sleep(Duration::from_millis(2));
    let mut traced = traced.close();
    let (old, new) = (calls(&mut traced, 0), calls(&mut traced, 1));
    traced.detach();
    let mut wrong = Vec::new();
    let mut both = 0;
    for (tid, old) in &old {
        // A thread that had no turn since is no witness.
        let Some(new) = new.get(tid) else { continue };
        if old.have_gaps() || new.have_gaps() {
            wrong.push(format!("thread {tid}: gaps in {old:?}, {new:?}"));
        }
        if new.low > old.high + 1 {
            wrong.push(format!("thread {tid}: {} calls were seen by neither: {old:?}, {new:?}", new.low - old.high - 1));
        }
        both += (old.high - new.low + 1).max(0);
    }
    (wrong, both, overlap)
}

/// At a tracepoint, where the two stores follow each other, and at a function of a program, where the kernel runs the new one's program first, so
/// that hits which began before both are waited for in between.
#[test]
fn nothing_is_missed_when_one_replaces_another() {
    const ROUNDS: usize = 100;
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    let places: [(_, &[&str]); 2] = [(system_calls(), &["numbers"]), (watcher(&function(), "arg0"), &["calls", "1000000000"])];
    for (specs, work) in places {
        let load = Load::start(work);
        let experiment = Experiment::new(&kernel, &[specs.clone(), specs], &kernel::options());
        let (mut wrong, mut both, mut widest) = (Vec::new(), 0, 0);
        for _ in 0..ROUNDS {
            let (violations, seen, overlap) = exchange(&experiment, &load, |open| open.replace(0, 1).unwrap().overlap);
            wrong.extend(violations);
            both += seen;
            widest = widest.max(overlap.map_or(0, |overlap| overlap.latest - overlap.earliest));
        }
        let looked_at = format_args!("{}: {both} calls seen by both, the widest overlap was {widest} ns", experiment.mechanism());
        holds("calls that neither version saw", ROUNDS, &wrong, looked_at);
    }
}

/// Closed first and then opened, they leave a gap.
#[test]
fn something_is_when_one_comes_after_the_other() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let experiment = Experiment::new(&kernel, &[system_calls(), system_calls()], &kernel::options());
    seen("calls that neither version saw, one closed before the other opened", 20, || {
        let after = |open: &mut Open| {
            open.pause(&[0]).unwrap();
            open.open(&[1]).unwrap()
        };
        exchange(&experiment, &load, after).0
    });
}
