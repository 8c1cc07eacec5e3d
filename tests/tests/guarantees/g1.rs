//! G1: nothing is recorded before the gate opens: no event, no update of a map, no counter but `hits_closed`.

use std::{thread::sleep, time::Duration};

use portcullis::clock;
use portcullis_ebpf::{Options, ProbeSpec};
use portcullis_tests::{
    gate::{Experiment, Load, holds, seen},
    kernel::{self, probe},
    lock,
};

const ROUNDS: usize = 200;

/// Counters, records, elements with and without a key, and a span.
fn plugin() -> Vec<ProbeSpec> {
    let call = "let @calls = percpuhash(64); let @first = percpuhash(64); \
                @calls[tid] = count(); @first[tid] = min(nsecs); emit calls { n: args.offset }";
    vec![
        probe("call", "tracepoint:syscalls:sys_enter_lseek", None, call),
        probe("span", "span:syscall:lseek", Some("duration > 0"), "emit spans { duration }"),
    ]
}

#[derive(Default)]
struct Looked {
    violations: Vec<String>,
    records: usize,
    closed: u64,
}

/// What was recorded before the opening, or bears a time before it. Without a gate the opening is when it would have been.
fn round(experiment: &Experiment<'_>, load: &Load, looked: &mut Looked) {
    let mut traced = experiment.attach(&load.pids());
    sleep(Duration::from_millis(1));
    for plugin in 0..experiment.plugins() {
        looked.violations.extend(traced.recorded(plugin).all());
    }
    let before = clock::now();
    let mut traced = traced.open();
    sleep(Duration::from_millis(1));
    let opened = traced.session.interval().map_or(before, |opened| opened.earliest);
    for plugin in 0..experiment.plugins() {
        for (tid, first) in traced.numbers(plugin, "first") {
            let early = opened.cast_signed() - first;
            if early > 0 {
                looked.violations.push(format!("plugin {plugin}: @first[{tid}] is {early} ns before the opening"));
            }
        }
    }
    let mut traced = traced.close();
    for plugin in 0..experiment.plugins() {
        looked.closed += traced.session.counts(plugin).unwrap().0[0].hits_closed;
        looked.records += traced.records(plugin, |stream, time, _| {
            if time < opened {
                looked
                    .violations
                    .push(format!("plugin {plugin}: a record of `{stream}` {} ns before the opening", opened - time));
            }
        });
    }
    traced.detach();
}

/// Two plugins under load on every CPU: the programs run before the opening, and leave no trace.
#[test]
fn nothing_is_recorded_before_the_opening() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let experiment = Experiment::new(&kernel, &[plugin(), plugin()], &kernel::options());
    let mut looked = Looked::default();
    (0..ROUNDS).for_each(|_| round(&experiment, &load, &mut looked));
    let (records, closed) = (looked.records, looked.closed);
    assert!(records > ROUNDS && closed > ROUNDS as u64, "{records} records, {closed} hits before: the load did not run");
    holds(
        "recorded before the opening",
        ROUNDS,
        &looked.violations,
        format_args!("{records} records, {closed} hits of a closed gate"),
    );
}

/// Programs without a gate record from the moment at which each is attached.
#[test]
fn something_is_without_a_gate() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let options = Options { gate: None, ..kernel::options() };
    let experiment = Experiment::new(&kernel, &[plugin(), plugin()], &options);
    seen("recorded before the opening without a gate", 50, || {
        let mut looked = Looked::default();
        round(&experiment, &load, &mut looked);
        looked.violations
    });
}
