//! G5: no silent truncation. Spans that are in flight at the close are counted, and listed with their age.

use std::ops::Range;

use portcullis::session::Open;
use portcullis_ebpf::{Broken, Options};
use portcullis_tests::{
    gate::{Blocked, Experiment, Load, Traced, holds, seen},
    kernel, lock,
};

use crate::spans::{THREADS, ways};

/// Closes while threads are in a call that they entered since the opening: which of them is not listed, once and with its age, and what
/// else is wrong with the list. Also how long the list was.
fn round(experiment: &Experiment<'_>, load: &Load, blocked: &mut Blocked) -> (Vec<String>, usize) {
    let traced = experiment.attach(&[blocked.pids(), load.pids()].concat()).open();
    let skipped = enter(&traced, load, blocked);
    let traced = traced.close();
    let (opened, closed) = (traced.session.opened().unwrap(), traced.session.interval().unwrap());
    let listed = traced.session.in_flight(0).unwrap();
    let (mut absent, mut wrong) = (Vec::new(), Vec::new());
    let threads = blocked.threads();
    for (tid, entered) in &threads {
        let ages: Vec<u64> = listed.iter().filter(|span| span.tid == *tid).map(|span| span.age).collect();
        let expected = closed.latest - entered.end..closed.latest - entered.start;
        if !matches!(ages.as_slice(), [age] if expected.contains(age)) {
            let violation = format!("thread {tid}, in a call for {} ns: listed with {ages:?}", span(&expected));
            // Of a thread whose entry was skipped nothing is known, or its call before, if the exit of that was skipped, too.
            let skipped = ages.iter().all(|age| *age >= expected.end) && ages.len() <= 1;
            if skipped { &mut absent } else { &mut wrong }.push(violation);
        }
    }
    if absent.len() as u64 > skipped {
        wrong.append(&mut absent);
    }
    let load = load.threads();
    let known = |tid| load.contains(&tid) || threads.iter().any(|(thread, _)| *thread == tid);
    wrong.extend(listed.iter().filter(|span| !known(span.tid)).map(|span| format!("of nobody: {span:?}")));
    let most = closed.latest - opened.earliest;
    wrong.extend(listed.iter().filter(|span| span.age > most).map(|span| format!("older than the opening: {span:?}")));
    let counted = traced.session.counts(0).unwrap().0[0].in_flight;
    if counted != listed.len() as u64 {
        wrong.push(format!("{counted} in flight, and {} are listed", listed.len()));
    }
    wrong.extend(traced.equations());
    traced.detach();
    (wrong, listed.len())
}

/// Has each thread enter a call anew, and says how many of these entries the kernel can have skipped: one that is preempted in a program
/// skips it for other threads meanwhile. Where it has skipped any they enter once more, while the load is in no program.
fn enter(traced: &Traced<'_, Open>, load: &Load, blocked: &mut Blocked) -> u64 {
    let mut skipped = || {
        let before = traced.misses(0);
        blocked.go_on();
        traced.misses(0) - before
    };
    if skipped() == 0 { 0 } else { load.stopped(skipped) }
}

fn span(range: &Range<u64>) -> String {
    format!("{} to {}", range.start, range.end)
}

/// By every way of attaching to spans, under load on every CPU.
#[test]
fn calls_in_flight_are_listed() {
    let Some(_lock) = lock() else { return };
    let mut blocked = Blocked::start(THREADS);
    for way in ways() {
        let load = Load::start(way.load);
        let experiment = way.experiment(&kernel::options());
        let (mut wrong, mut listed) = (Vec::new(), 0);
        for _ in 0..way.rounds {
            let (violations, length) = round(&experiment, &load, &mut blocked);
            wrong.extend(violations);
            listed += length;
        }
        let looked_at = format_args!("{} ({}): {listed} listed", way.name, experiment.mechanism());
        holds("calls in flight that are not told, or told wrongly", way.rounds, &wrong, looked_at);
    }
}

/// Entries that bear no generation can't be told from those of an earlier opening: nothing is listed.
#[test]
fn they_are_not_without_a_generation() {
    let Some(_lock) = lock() else { return };
    let mut blocked = Blocked::start(THREADS);
    for way in ways() {
        let load = Load::start(way.load);
        let experiment = way.experiment(&Options { broken: Some(Broken::NoGeneration), ..kernel::options() });
        let what = format!("calls in flight that are not told, without a generation, {}", way.name);
        seen(&what, 3, || round(&experiment, &load, &mut blocked).0);
    }
}
