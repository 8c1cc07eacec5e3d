//! What goes wrong while events flow: in the plugin, and in its worker.

use std::{sync::Arc, time::Duration};

use crate::{
    cage::check_cage,
    guest::{self, ECHO, Guest, PRINT, RESULT},
    looping,
    run::{Run, alive, counts, record, spawn},
};

#[track_caller]
fn check_handle(body: &str, expect: &str) {
    let run =
        Run::new(&Guest { handle: body.into(), wasi: body.contains("$stderr") || body.contains("$block"), ..Guest::default() })
            .started();
    run.ring.emit((0..10).map(record));
    assert_eq!(run.failed().to_string(), expect);
    assert!(!alive(run.pump.pid()));
    // Its ring is still read, so that the numbers add up.
    run.ring.emit((0..1000).map(record));
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1010, 0, 1010));
    run.finish();
}

/// A trap ends the plugin with a sentence; what it wrote to its tables before is shown.
#[test]
fn handle_traps() {
    check_handle("(unreachable)", "plugin \"test\": `handle` trapped in `handle`: wasm `unreachable` instruction executed");
}

/// Of a panic, the place and the text are shown, which the plugin wrote to its standard error.
#[test]
fn handle_panics() {
    check_handle(guest::PANIC, "plugin \"test\": `handle` panicked at src/lib.rs:42:9: index out of bounds");
}

/// A plugin that sleeps ends at once, however short it sleeps: the clock of its deadline does not reach into host calls.
#[test]
fn handle_sleeps() {
    check_handle(
        &format!("{} (unreachable)", guest::sleep(60_000_000_000)),
        "plugin \"test\": `handle` blocked in a host call; a plugin must not sleep or wait",
    );
}

/// Waiting for nothing is not waiting: runtimes do that.
#[test]
fn zero_timeouts_are_no_waiting() {
    let handle = format!("{} (i32.store8 {RESULT} (i32.const 0)) {RESULT}", guest::sleep(0));
    let run = Run::new(&Guest { handle, wasi: true, ..Guest::default() }).started();
    run.ring.emit([record(1)].into_iter());
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1, 1, 0));
    check_cage(run.pump.pid());
    run.finish();
}

/// An error that the plugin returns ends it.
#[test]
fn handle_returns_an_error() {
    check_handle(&guest::fails(), "plugin \"test\": `handle` returned an error: the text");
}

/// An endless loop is interrupted.
#[test]
fn handle_loops() {
    check_handle(&looping(), "plugin \"test\": `handle` took longer than 300ms");
}

/// A loop that keeps talking to the host is interrupted as well.
#[test]
fn handle_loops_and_prints() {
    check_handle(&format!("(loop $again {PRINT} (br $again)) (unreachable)"), "plugin \"test\": `handle` took longer than 300ms");
}

/// A plugin that eats memory is stopped.
#[test]
fn handle_eats_memory() {
    check_handle(
        "(loop $again (drop (memory.grow (i32.const 16))) (br $again)) (unreachable)",
        "plugin \"test\": `handle` needed more than 16 MiB of memory",
    );
}

/// So is one that recurses without end.
#[test]
fn handle_recurses() {
    check_handle(
        "(call $handle (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5))",
        "plugin \"test\": `handle` trapped in `handle`: call stack exhausted",
    );
}

/// A worker that is killed in the middle of a batch: reported with its plugin's name, and nothing hangs.
#[test]
fn worker_killed() {
    let run = Run::new(&Guest { handle: looping(), ..Guest::default() }).started();
    run.ring.emit((0..10).map(record));
    std::thread::sleep(Duration::from_millis(50));
    signal(run.pump.pid(), rustix::process::Signal::KILL);
    assert_eq!(run.failed().to_string(), "plugin \"test\": its worker process ended unexpectedly (killed by signal 9)");
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (10, 0, 10));
    run.finish();
}

/// A worker that does not run any more is noticed by the host's own clock.
#[test]
fn worker_stopped() {
    let run = Run::new(&Guest { handle: ECHO.into(), ..Guest::default() }).started();
    signal(run.pump.pid(), rustix::process::Signal::STOP);
    run.ring.emit((0..10).map(record));
    assert_eq!(run.failed().to_string(), "plugin \"test\": its worker did not answer `handle` within 2.3s and was killed");
    assert!(!alive(run.pump.pid()));
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (10, 0, 10));
    run.finish();
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Dropping a pump or a worker in any state leaves no process behind.
#[test]
fn nothing_is_left_behind() {
    let run = Run::new(&Guest { handle: looping(), ..Guest::default() }).started();
    run.ring.emit((0..10).map(record));
    std::thread::sleep(Duration::from_millis(20));
    let pid = run.pump.pid();
    drop(run);
    assert!(!alive(pid));

    let worker = spawn(Guest::default().component(), &Arc::default());
    let pid = worker.pid();
    drop(worker);
    assert!(!alive(pid));
}
