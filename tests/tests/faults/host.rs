//! A host that is killed takes everything with it, and leaves no half of a report.

use std::{fs, path::Path, thread, time::Duration};

use portcullis_tests::{
    Bundle, adhoc, assert_no_programs, lock, manifest,
    watch::{Watched, assert_gone, is_alive, signal, state, until},
};
use rustix::process::Signal;

use super::{ENDLESS, faulty, flowing, pair, raw_tracepoints, slow_to_compile};

/// A host that is killed takes everything with it: programs, workers, and a COMMAND that was not released.
fn check_killed(mut run: Watched, workers: &[u32], ran: &Path) {
    run.kill();
    assert_gone(workers);
    assert_no_programs();
    assert!(!run.report().exists());
    assert!(!ran.exists(), "COMMAND ran");
}

/// The host is killed while events flow. COMMAND, which runs by then, is its own.
#[test]
fn host_killed() {
    let Some(_lock) = lock() else { return };
    let bundle = pair();
    let run = flowing(&bundle, ENDLESS);
    let (workers, commands) = (run.workers(), run.commands());
    assert_eq!((workers.len(), commands.len()), (2, 1));
    check_killed(run, &workers, Path::new("/nonexistent"));
    assert!(is_alive(commands[0]));
    signal(commands[0], Signal::KILL);
    assert_gone(&commands);
}

/// The host is killed while a worker compiles, a guest loops in `configure`, and a guest loops with events in hand.
#[test]
fn host_killed_while_workers_are_busy() {
    let Some(_lock) = lock() else { return };
    let (bundle, ran) = slow_to_compile();
    let run = Watched::start(&bundle, &["--", "touch", ran.to_str().unwrap()]);
    let workers = [run.worker("slow"), run.worker("good")];
    thread::sleep(Duration::from_millis(100));
    assert!(is_alive(workers[0]), "compiling takes no time at all: {}", run.said());
    check_killed(run, &workers, &ran);

    let bundle = Bundle::new(&manifest(&[faulty("loops", "at = \"configure\", how = \"loop\"", "call = \"60s\"")]));
    let ran = bundle.directory.path().join("RAN");
    let run = Watched::start(&bundle, &["--", "touch", ran.to_str().unwrap()]);
    let workers = [run.worker("loops")];
    thread::sleep(Duration::from_millis(500));
    check_killed(run, &workers, &ran);

    let limits = "call = \"60s\"";
    let both = [faulty("loops", "how = \"loop\"", limits), faulty("bad", "announce = true", "")];
    let bundle = Bundle::new(&manifest(&both));
    let run = flowing(&bundle, ENDLESS);
    let workers = run.workers();
    let commands = run.commands();
    check_killed(run, &workers, &ran);
    commands.iter().for_each(|pid| signal(*pid, Signal::KILL));
}

/// The host is killed when COMMAND stands before its first instruction: it never runs.
#[test]
fn host_killed_with_a_stopped_command() {
    let Some(_lock) = lock() else { return };
    // Many points to attach make the time between the start of COMMAND and its release long enough to be met.
    let probes = raw_tracepoints(50);
    let probes: Vec<_> = probes.iter().map(|(name, attach)| (&**name, &**attach, None, "return")).collect();
    let bundle = Bundle::new(&manifest(&[adhoc("many", "4KiB", &probes)]));
    let ran = bundle.directory.path().join("RAN");
    for _ in 0..20 {
        let run = Watched::start(&bundle, &["--", "touch", ran.to_str().unwrap()]);
        let found = until("COMMAND or the end", || {
            if !is_alive(run.pid()) {
                return Some(None);
            }
            run.commands().first().copied().map(Some)
        });
        // Stopped, the host can't release it any more; then there is time to see where it stands.
        run.signal(Signal::STOP);
        until("a stopped host", || matches!(state(run.pid()), Some('T' | 'Z')).then_some(()));
        if let Some(command) = found
            && state(command) == Some('t')
        {
            let left = [run.workers(), vec![command]].concat();
            check_killed(run, &left, &ran);
            return;
        }
        // A run that came to its end has made its report.
        let report = run.report().clone();
        drop(run);
        assert_no_programs();
        for made in [&ran, &report] {
            let _ = fs::remove_file(made);
        }
    }
    panic!("COMMAND was never met before its release");
}

/// The report file is the old one or the new one, whenever the host is killed, and nothing lies beside it afterwards that is not
/// hidden.
#[test]
fn report_whole_or_absent() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[faulty("good", "", "")]));
    let path = bundle.directory.path().join("report.json");
    let (mut old, mut new) = (0, 0);
    for round in 0..12 {
        fs::write(&path, "{\"old\": true}").unwrap();
        let mut run = Watched::start(&bundle, &["--", "true"]);
        // Around the end of a run, as long as it takes here.
        until("the opening", || (!run.commands().is_empty() || !is_alive(run.pid())).then_some(()));
        thread::sleep(Duration::from_micros(round * 2500));
        run.kill();
        let text = fs::read_to_string(&path).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).expect("the report is whole");
        if report["old"] == true {
            old += 1;
        } else {
            new += 1;
        }
        assert!(report["old"] == true || report["gate"]["quiesced"].is_u64(), "{text}");
    }
    assert!(old > 0, "no kill came early enough: {new} new reports");
    assert_no_programs();
}
