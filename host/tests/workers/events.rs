//! The ordinary way: events to the plugin, rows back, timers, and the end.

use std::time::{Duration, Instant};

use portcullis::worker::Event;

use crate::{
    guest::{ECHO, Guest, PRINT, RESULT},
    run::{Run, counts, record, text},
};

/// Events arrive as columns, rows come back as the plugin appended them, all of them and in order, and the worker is gone afterwards.
#[test]
fn events_arrive_and_rows_come_back() {
    let run = Run::new(&Guest {
        handle: ECHO.into(),
        finish: format!("{PRINT} (i32.store8 {RESULT} (i32.const 0)) {RESULT}"),
        ..Guest::default()
    })
    .started();
    for part in 0..10 {
        run.ring.emit((part * 5000..(part + 1) * 5000).map(record));
        std::thread::sleep(Duration::from_millis(5));
    }
    let drained = run.drain(Duration::from_secs(5));
    assert_eq!(counts(drained), (50_000, 50_000, 0));
    run.finish();
    let rows = run.said.rows.lock().unwrap();
    assert!(rows.iter().cloned().eq((0..50_000).map(|n| (1000 + n, n, text(n)))));
    assert_eq!(*run.said.lines.lock().unwrap(), ["the text"]);
}

/// A ring that asks for its reader is read before its time, and a malformed record is undelivered.
#[test]
fn malformed_records_are_counted() {
    let run = Run::new(&Guest { handle: ECHO.into(), ..Guest::default() }).started();
    run.ring.emit([record(1), vec![0; 10], record(2)].into_iter());
    rustix::io::write(&*run.ring.wake, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (3, 2, 1));
    run.finish();
}

/// Timers tick, those of one timer never pile up, and none ticks after the drain.
#[test]
fn timers_tick() {
    let run = Run::new(
        &Guest { tick: format!("{PRINT} (i32.store8 {RESULT} (i32.const 0)) {RESULT}"), ..Guest::default() }
            .with_timers(&[5_000_000]),
    )
    .started();
    std::thread::sleep(Duration::from_millis(200));
    run.drain(Duration::from_secs(5));
    let ticks = run.said.lines.lock().unwrap().len();
    assert!((10..=45).contains(&ticks), "{ticks}");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(run.said.lines.lock().unwrap().len(), ticks);
    run.finish();
}

/// A plugin may ask to end the run; the session is told once.
#[test]
fn stop_is_passed_on() {
    let stop = format!("(call $stop (i32.const 1040) (i32.const 8)) (i32.store8 {RESULT} (i32.const 0)) {RESULT}");
    let run = Run::new(&Guest { handle: stop, ..Guest::default() }).started();
    run.ring.emit([record(1)].into_iter());
    assert!(matches!(run.event(), Event::StopRequested { reason } if reason == "the text"));
    run.ring.emit([record(2)].into_iter());
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (2, 2, 0));
    run.finish();
}

/// A plugin that is slow keeps what it took; what it has not taken by the deadline is undelivered, to the last record.
#[test]
fn a_slow_plugin_loses_its_own_events() {
    // Some 20 ms a batch, and there are 25.
    let slow = format!(
        "(local $n i32) (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if $l (i32.lt_u (local.get $n) (i32.const 40000000)))) (i32.store8 {RESULT} (i32.const 0)) {RESULT}"
    );
    let run = Run::new(&Guest { handle: slow, ..Guest::default() }).started();
    run.ring.emit((0..100_000).map(record));
    let start = Instant::now();
    let drained = run.drain(Duration::from_millis(100));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(drained.read, 100_000);
    assert_eq!(drained.delivered + drained.undelivered, 100_000);
    assert!(drained.delivered > 0 && drained.undelivered > 0, "{drained:?}");
    run.finish();
}
