//! What ends a run in order: signals, a reader that leaves, a plugin that asks, and one that is too slow for its events.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    Bundle, Outcome, adhoc, assert_no_programs, lock, manifest,
    watch::{Watched, assert_gone, is_alive, signal, until},
    workload,
};
use rustix::process::Signal;

use super::{ENDLESS, faulty, flowing, pair};

/// Each of the signals that end a run ends it in order: gate closed, everything delivered, report whole, exit 0.
#[test]
fn first_signal() {
    let Some(_lock) = lock() else { return };
    for (number, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")] {
        let bundle = pair();
        let run = flowing(&bundle, ENDLESS);
        let workers = run.workers();
        run.signal(number);
        let outcome = run.finish();
        let report = outcome.good();
        assert!(outcome.stderr.contains(&format!("\nThe run ended: {name}.\n")), "{}", outcome.stderr);
        assert_eq!(report["command"]["status"], "was killed by signal 15 (SIGTERM)");
        for plugin in ["bad", "good"] {
            let plugin = outcome.plugin(plugin);
            assert!(plugin["emitted"].as_u64().unwrap() > 0);
            assert_eq!(plugin["emitted"], plugin["delivered"]);
            assert_eq!(plugin["metrics"]["handled"].as_f64(), plugin["delivered"].as_f64());
        }
        assert_gone(&workers);
    }
    assert_no_programs();
}

/// A second signal ends a host at once that is still busy with the first, and still nothing is left.
#[test]
fn second_signal() {
    let Some(_lock) = lock() else { return };
    let busy = faulty("bad", "announce = true, at = \"finish\", how = \"loop\"", "call = \"60s\"");
    let bundle = Bundle::new(&manifest(&[busy, faulty("good", "", "")]));
    let run = flowing(&bundle, ENDLESS);
    let (workers, commands) = (run.workers(), run.commands());
    run.signal(Signal::INT);
    // One right behind the first is the same one: timeout(1) sends two.
    thread::sleep(Duration::from_millis(100));
    run.signal(Signal::INT);
    thread::sleep(Duration::from_millis(600));
    assert!(is_alive(run.pid()), "{}", run.said());
    let start = Instant::now();
    run.signal(Signal::TERM);
    until("the end", || (!is_alive(run.pid())).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(2));
    commands.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(128 + 15));
    assert!(outcome.report.is_none());
    assert_gone(&workers);
    assert_no_programs();
}

/// A signal before the opening: nothing was recorded, and COMMAND never runs.
#[test]
fn early_signal() {
    let Some(_lock) = lock() else { return };
    let bundle = pair();
    let ran = bundle.directory.path().join("RAN");
    let run = Watched::start(&bundle, &["--", "touch", ran.to_str().unwrap()]);
    // Handlers are installed before there are workers.
    let workers = [run.worker("good")];
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.stderr, "portcullis: error: interrupted by SIGINT before the gate opened: nothing was recorded\n");
    assert!(outcome.report.is_none());
    assert!(!ran.exists());
    assert_gone(&workers);
    assert_no_programs();
}

/// A reader that leaves ends the run in the ordinary way.
#[test]
fn closed_output() {
    let Some(_lock) = lock() else { return };
    let calls = [("calls", "tracepoint:syscalls:sys_enter_getppid", None, "emit s { pid }")];
    for format in ["json", "table"] {
        let bundle = Bundle::new(&manifest(&[adhoc("rows", "8MiB", &calls)]));
        let report = bundle.directory.path().join("report.json");
        let (from, to) = rustix::pipe::pipe().unwrap();
        let mut command = bundle.command("run", &["--format", format, "--report", report.to_str().unwrap()]);
        command.args(["--".as_ref(), workload().as_os_str()]).args(["getppid", &ENDLESS.to_string()]).stdout(to);
        let mut head = Command::new("head").args(["-n", "1"]).stdin(from).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = command.spawn().unwrap();
        // This end of the pipe is in there.
        drop(command);
        let first = std::io::read_to_string(head.stdout.take().unwrap()).unwrap();
        head.wait().unwrap();
        assert_eq!(first.lines().count(), 1);
        let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        let status = child.wait().unwrap();
        let report = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        let outcome = Outcome { code: status.code(), stdout: first, stderr, report: Some(report) };
        outcome.good();
        outcome.assert_equations();
        assert!(outcome.stderr.contains("\nThe run ended: nobody reads its output any more.\n"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        assert_eq!(outcome.plugin("rows")["state"], "ok");
    }
    assert_no_programs();
}

/// A plugin may end the run, whenever it runs; that is no failure, and everything recorded is delivered.
#[test]
fn stop() {
    let Some(_lock) = lock() else { return };
    for (at, word) in [("start", "Start"), ("handle", "Handle"), ("tick", "Tick")] {
        let asks = faulty("asks", &format!("at = {at:?}, how = \"stop\""), "");
        let bundle = Bundle::new(&manifest(&[asks, faulty("good", "", "")]));
        let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &ENDLESS.to_string()]);
        let outcome = run.finish();
        outcome.good();
        let end = format!("\nThe run ended: plugin \"asks\" asked for it: {word} has seen enough.\n");
        assert!(outcome.stderr.contains(&end), "{}", outcome.stderr);
        for plugin in ["asks", "good"] {
            assert_eq!(outcome.plugin(plugin)["emitted"], outcome.plugin(plugin)["delivered"]);
        }
    }
    assert_no_programs();
}

/// A plugin that is slower than its events loses them by number: what it could not take within `stop.drain` is undelivered.
#[test]
fn slow_plugin() {
    const CALLS: u64 = 1_000_000;
    let Some(_lock) = lock() else { return };
    let plugins = [faulty("slow", "how = \"slow\"", ""), faulty("good", "", "")];
    let bundle = Bundle::new(&format!("{}[stop]\ndrain = \"1ms\"\n", manifest(&plugins)));
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &CALLS.to_string()]);
    let outcome = run.finish();
    outcome.good();
    for name in ["slow", "good"] {
        assert_eq!(outcome.probe(name, "calls")["hits"], CALLS);
        assert_eq!(outcome.plugin(name)["emitted"], CALLS);
        // What was handed over before the run was given up is handled, and no more.
        let plugin = outcome.plugin(name);
        assert_eq!(plugin["metrics"]["handled"].as_f64(), plugin["delivered"].as_f64());
    }
    let slow = outcome.plugin("slow");
    assert!(slow["undelivered"].as_u64().unwrap() > 0, "{slow}");
    assert_eq!(slow["drained"], serde_json::Value::Null);
    assert_no_programs();
}
