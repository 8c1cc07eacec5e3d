//! A worker that is killed or stands still costs its own plugin, and refuses the run if the gate has not opened yet.

use portcullis_tests::{
    assert_no_programs, lock,
    watch::{Watched, assert_gone, signal},
};
use rustix::process::Signal;

use super::{ENDLESS, assert_neighbour, flowing, pair, slow_to_compile};

/// A worker that is killed while events flow is reported; its neighbour does not notice, and no process is left.
#[test]
fn worker_killed() {
    const CALLS: u64 = 1_000_000;
    let Some(_lock) = lock() else { return };
    let bundle = pair();
    let run = flowing(&bundle, CALLS);
    let workers = run.workers();
    assert_eq!(workers.len(), 2);
    signal(run.worker("bad"), Signal::KILL);
    let outcome = run.finish();
    let cause = "its worker process ended unexpectedly (killed by signal 9)";
    assert!(outcome.stderr.contains(&format!("portcullis: error: plugin \"bad\": {cause}\n")), "{}", outcome.stderr);
    assert_eq!(outcome.plugin("bad")["state"], format!("failed: {cause}"));
    assert_eq!(outcome.code, Some(4));
    assert_neighbour(&outcome, "good", CALLS);
    assert_gone(&workers);
    assert_no_programs();
}

/// A worker that stands still is given the time of a call and some more, and then killed.
#[test]
fn worker_stalled() {
    const CALLS: u64 = 4_000_000;
    let Some(_lock) = lock() else { return };
    let bundle = pair();
    let run = flowing(&bundle, CALLS);
    let workers = run.workers();
    signal(run.worker("bad"), Signal::STOP);
    let outcome = run.finish();
    // It stood still in one of its calls.
    let cause = |call: &str| {
        format!("portcullis: error: plugin \"bad\": its worker did not answer `{call}` within 2.2s and was killed\n")
    };
    assert!(["handle", "tick"].iter().any(|call| outcome.stderr.contains(&cause(call))), "{}", outcome.stderr);
    assert_eq!(outcome.code, Some(4));
    assert_eq!(outcome.probe("good", "calls")["hits"], CALLS);
    assert_gone(&workers);
    assert_no_programs();
}

/// All plugins gone is the end of the run.
#[test]
fn all_failed() {
    let Some(_lock) = lock() else { return };
    let bundle = pair();
    let run = flowing(&bundle, ENDLESS);
    run.workers().iter().for_each(|pid| signal(*pid, Signal::KILL));
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\nThe run ended: no plugin was left.\n"), "{}", outcome.stderr);
    assert_eq!(outcome.report.as_ref().unwrap()["command"]["status"], "was killed by signal 15 (SIGTERM)");
    assert_no_programs();
}

/// A worker that is killed while it compiles refuses the run.
#[test]
fn worker_killed_early() {
    let Some(_lock) = lock() else { return };
    let (bundle, ran) = slow_to_compile();
    let run = Watched::start(&bundle, &["--", "touch", ran.to_str().unwrap()]);
    signal(run.worker("slow"), Signal::KILL);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(1));
    let component = bundle.directory.path().join("large.wasm");
    let place = format!("portcullis: error: plugin \"slow\": can't load {}", component.display());
    assert_eq!(outcome.stderr, format!("{place}: its worker process ended unexpectedly (killed by signal 9)\n"));
    assert!(outcome.report.is_none());
    assert!(!ran.exists());
    assert_no_programs();
}
