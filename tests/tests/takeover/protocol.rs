//! What it says to its host before events flow: no messages, messages out of order, too many of them, none at all.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use portcullis_tests::watch::is_alive;

use super::{BROKE, Counted, hostile, hostile_to};

/// What the host says of a worker that does this while it loads, or while it configures.
fn ends(attack: &str) -> String {
    let mut worker = hostile(attack);
    let pid = worker.pid();
    let outcome = worker.loaded().map(drop).and_then(|()| worker.configure("{}")).map(drop);
    assert!(!is_alive(pid), "{attack}");
    outcome.unwrap_err().cause.to_string()
}

#[track_caller]
fn check(attack: &str, expect: &str) {
    assert_eq!(ends(attack), expect, "{attack}");
}

/// Bytes that are no message, a message that is too long, and the end in the midst of everything.
#[test]
fn no_messages() {
    let garbage = ends("load-garbage");
    assert!(garbage.starts_with(&format!("{BROKE}a message that can't be read (")), "{garbage}");
    check("load-long", &format!("{BROKE}a message of 4294967295 bytes, where 8388608 are allowed"));
    check("load-exit", "its worker process ended unexpectedly (exit status: 0)");
    let aborted = ends("load-abort");
    // The first process of a pid namespace can't send itself SIGABRT; the instruction after that ends it.
    let ended = |signal| format!("its worker process ended unexpectedly (killed by signal {signal})");
    assert!([4, 6, 11].map(ended).contains(&aborted), "{aborted}");
}

/// Messages out of their order.
#[test]
fn out_of_order() {
    check("uncaged", &format!("{BROKE}it spoke before it was locked in"));
    check("load-caged", &format!("{BROKE}it was locked in once more"));
    check("load-finish", &format!("{BROKE}`finish` returned while `load` was running"));
    check("configure-ask", &format!("{BROKE}it asked for something while `configure` was running"));
    // Two returns of one call: the second comes before the next call or after it.
    let twice = ends("load-twice");
    let expect = ["`load` returned, and was not called", "`load` returned while `configure` was running"];
    assert!(expect.iter().any(|what| twice == format!("{BROKE}{what}")), "{twice}");
}

/// A flood of lines or messages, half a message, and a worker that does not read what it is sent: each ends when the call's time is
/// over, and costs the host nothing that stays.
#[test]
fn floods_and_silence() {
    let stalled = "its worker did not answer `configure` within 2.3s and was killed";
    for attack in ["configure-flood", "configure-logs"] {
        let output = Arc::new(Counted::default());
        let mut worker = hostile_to(attack, output.clone());
        worker.loaded().unwrap();
        let start = Instant::now();
        assert_eq!(worker.configure("{}").unwrap_err().cause.to_string(), stalled);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(output.said.load(Ordering::Relaxed) > 100);
    }
    check("configure-half", stalled);
    let mut worker = hostile("configure-deaf");
    worker.loaded().unwrap();
    // Far more than the socket holds.
    assert_eq!(worker.configure(&" ".repeat(16 << 20)).unwrap_err().cause.to_string(), stalled);
}

/// A frame as long as can be of texts without a byte is what takes most memory to read: it ends in an error, and the memory is given
/// back.
#[test]
fn eight_million_texts() {
    check("configure-texts", &format!("{BROKE}rows for table 0, and there are 0"));
}
