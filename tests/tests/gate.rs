//! A run that is told what to do: opened by hand or at a moment, paused, changed while it goes on, ended in a hurry.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use portcullis_tests::{
    Bundle, Outcome, Started, adhoc, assert_no_programs, component, lock, manifest, note, portcullis, workload,
};
use rustix::process::Signal;
use serde_json::Value;

/// Counts one system call of the workloads, and nothing else's.
const CALLS: (&str, &str, Option<&str>, &str) =
    ("calls", "tracepoint:syscalls:sys_enter_getppid", Some("comm == \"workload\""), "emit calls { tid }");

fn getppid(times: u32) {
    assert!(Command::new(workload()).args(["getppid", &times.to_string()]).status().unwrap().success());
}

/// `portcullis gate` on a run: what it says, or that it fails with.
fn gate(run: &Started, arguments: &[&str]) -> Result<String, String> {
    let pid = run.pid().to_string();
    let output = Command::new(portcullis()).arg("gate").args(arguments).args(["--run", &pid]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// How a run goes, once it can be asked.
fn status(run: &Started) -> Option<Value> {
    let pid = run.pid().to_string();
    let output = Command::new(portcullis()).args(["status", "--json", "--run", &pid]).output().unwrap();
    assert!(output.status.success());
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    runs.as_array().unwrap().first().cloned()
}

/// Waits until the plugins of a run are in this state.
fn wait_for(run: &Started, state: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = status(run)
            && status["plugins"].as_array().unwrap().iter().all(|plugin| plugin["state"] == state)
        {
            return status;
        }
        assert!(Instant::now() < end, "the run did not come to be {state}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn end(run: Started) -> Outcome {
    run.signal(Signal::INT);
    run.finish()
}

fn manual(plugins: &[String]) -> Bundle {
    Bundle::new(&format!("{}\n[start]\nopen = \"manual\"\n", manifest(plugins)))
}

/// A gate that is opened by hand, for one plugin and then for all; paused, opened again, and closed: each plugin counts exactly what came while it
/// was open.
#[test]
fn by_hand() {
    let Some(_lock) = lock() else { return };
    let bundle = manual(&["a", "b"].map(|name| adhoc(name, "1MiB", &[CALLS])));
    let run = bundle.start(&[]);
    let attached = wait_for(&run, "attached");
    assert_eq!((&attached["name"], &attached["opened"]), (&"test".into(), &Value::Null));
    getppid(1000);
    assert!(gate(&run, &["pause"]).unwrap_err().contains("the gate has not been opened yet"));
    assert!(gate(&run, &["open", "--plugin", "c"]).unwrap_err().contains("this run has no plugin \"c\""));
    assert!(gate(&run, &["open", "--plugin", "a"]).unwrap().starts_with("opened within "));
    getppid(10);
    assert!(gate(&run, &["resume"]).is_err(), "what was never open can't be resumed");
    assert!(gate(&run, &["open"]).unwrap().ends_with(": b\n"));
    getppid(100);
    assert!(gate(&run, &["pause", "--plugin", "b"]).unwrap().ends_with(": b\n"));
    getppid(1);
    assert!(gate(&run, &["pause"]).unwrap().ends_with(": a\n"));
    getppid(10_000);
    run.signal(Signal::USR1);
    wait_for(&run, "open");
    getppid(7);
    run.signal(Signal::USR2);
    wait_for(&run, "paused");
    getppid(500);
    assert_eq!(gate(&run, &["close"]).unwrap(), "the run ends\n");
    let outcome = run.finish();
    outcome.good();
    let counts = |name| {
        let probe = outcome.probe(name, "calls");
        ["completed", "filtered"].map(|key| probe[key].as_u64().unwrap())[0]
    };
    assert_eq!((counts("a"), counts("b")), (118, 107));
    assert_eq!(outcome.probe("a", "calls")["hits_before"].as_u64().unwrap() / 1000, 1);
    let windows = |name| outcome.plugin(name)["windows"].as_array().unwrap().len();
    assert_eq!((windows("a"), windows("b")), (2, 2));
    assert_eq!(outcome.rows().len(), 225);
    assert!(outcome.stderr.contains("`portcullis gate close` asked for it"), "{}", outcome.stderr);
    assert_no_programs();
}

/// A run that is asked how it goes tells what its rate limit has kept from bodies so far.
#[test]
fn status_has_what_was_shed() {
    let Some(_lock) = lock() else { return };
    let plugin = adhoc("a", "1MiB", &[CALLS]).replace("limits = { ", "limits = { rate = 1, burst = 10, ");
    let bundle = manual(&[plugin]);
    let run = bundle.start(&[]);
    wait_for(&run, "attached");
    gate(&run, &["open"]).unwrap();
    getppid(100);
    let plugin = wait_for(&run, "open")["plugins"][0].clone();
    let [hits, shed, emitted] = ["hits", "shed", "emitted"].map(|key| plugin[key].as_u64().unwrap());
    // The rate lets one in a second.
    assert!(shed > 0 && emitted >= 10 && emitted + shed == 100 && hits >= 100, "{plugin}");
    assert_eq!(end(run).probe("a", "calls")["shed"], shed);
}

/// COMMAND stands still until the gate is opened by hand, however long that takes; a run that is ended before recorded nothing, and COMMAND never
/// ran.
#[test]
fn held_command() {
    let Some(_lock) = lock() else { return };
    let bundle = manual(&[adhoc("a", "1MiB", &[CALLS])]);
    let run = bundle.start(&["--", workload().to_str().unwrap(), "getppid", "50"]);
    wait_for(&run, "attached");
    std::thread::sleep(Duration::from_millis(100));
    gate(&run, &["open"]).unwrap();
    let outcome = run.finish();
    outcome.good();
    assert_eq!(outcome.probe("a", "calls")["completed"], 50);

    let mark = bundle.directory.path().join("ran");
    for how in ["signal", "close"] {
        let run = bundle.start(&["--", "touch", mark.to_str().unwrap()]);
        wait_for(&run, "attached");
        match how {
            "signal" => run.signal(Signal::TERM),
            _ => drop(gate(&run, &["close"]).unwrap()),
        }
        let outcome = run.finish();
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains("nothing was recorded"), "{}", outcome.stderr);
        assert!(!mark.exists());
    }
    assert_no_programs();
}

/// A gate that opens at a moment does so at that moment, and the report says how well; one that can't be met is refused.
#[test]
fn at_a_moment() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[adhoc("a", "1MiB", &[CALLS])]));
    let moment = portcullis::manifest::Moment(portcullis::clock::realtime() + 2_000_000_000);
    let outcome = bundle.run(&["--open", &moment.to_string(), "--duration", "100ms"]);
    let report = outcome.good();
    let opened = report["gate"]["open"][0].as_u64().unwrap();
    let offset = report["clocks"]["monotonic_to_realtime"]["offset"].as_i64().unwrap();
    let error = report["clocks"]["monotonic_to_realtime"]["error"].as_u64().unwrap();
    let late = opened.saturating_add_signed(offset).saturating_add(error).checked_sub(moment.0).expect("it opened too early");
    let at = &report["gate"]["at"];
    note(&format!("opened {late} ns after the moment, to within {error} ns; {at}"));
    assert_eq!(at["moment"], moment.to_string());
    assert!(late < 50_000_000, "{late} ns late");
    assert!(report["clocks"]["realtime"]["max_error"].is_u64());

    let outcome = bundle.run(&["--open", "2020-01-01T00:00:00Z"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("the gate is to open at 2020-01-01T00:00:00Z, which has passed"), "{}", outcome.stderr);
    let soon = portcullis::manifest::Moment(portcullis::clock::realtime() + 1_000_000).to_string();
    let outcome = bundle.run(&["--open", &soon]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("nothing was r"), "{}", outcome.stderr);
    assert_no_programs();
}

/// The supervisor is told when the gate is open, by a descriptor and by the socket of sd_notify(3).
#[test]
fn readiness() {
    let Some(_lock) = lock() else { return };
    let bundle =
        Bundle::new(&format!("{}\n[start]\nopen = {{ after = \"300ms\" }}\n", manifest(&[adhoc("a", "1MiB", &[CALLS])])));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A shell passes the descriptor on by its number.
    let fifo = directory.path().join("ready");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let script = format!(
        "exec {} run {}/bundle.toml --ready-fd 7 --format json 7>{}",
        portcullis().display(),
        bundle.directory.path().display(),
        fifo.display()
    );
    let mut child = Command::new("sh").args(["-c", &script]).env("NOTIFY_SOCKET", &path).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let mut line = String::new();
    fs::File::open(&fifo).unwrap().read_to_string(&mut line).unwrap();
    assert_eq!(line, "\n");
    assert!(start.elapsed() >= Duration::from_millis(300), "told before the gate was open");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let mut told = String::new();
    let mut buffer = [0; 256];
    while !told.contains("STOPPING=1") {
        let length = socket.recv(&mut buffer).unwrap();
        told.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert!(told.starts_with("STATUS=Attached; the gate is closed.\nREADY=1\n"), "{told}");
}

/// Plugins of another bundle join a run by one store, and one leaves it; the counts of each are those of its own time, and the others notice nothing.
#[test]
fn joining_and_leaving() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[adhoc("a", "1MiB", &[CALLS])]));
    let more = Bundle::new(&manifest(&["b", "c"].map(|name| adhoc(name, "1MiB", &[CALLS]))));
    let more = more.directory.path().join("bundle.toml");
    let run = bundle.start(&[]);
    wait_for(&run, "open");
    getppid(100);
    assert!(gate(&run, &["join", more.to_str().unwrap()]).unwrap().ends_with(": b, c\n"));
    getppid(20);
    assert!(gate(&run, &["join", more.to_str().unwrap()]).unwrap_err().contains("this run has a plugin \"b\" already"));
    assert!(gate(&run, &["close", "--plugin", "b"]).unwrap().starts_with("closed within "));
    getppid(3);
    // It is gone once it has finished, and can come again.
    let end_of = Instant::now() + Duration::from_secs(10);
    while status(&run).unwrap()["plugins"].as_array().unwrap().len() > 2 {
        assert!(Instant::now() < end_of);
        std::thread::sleep(Duration::from_millis(10));
    }
    let outcome = end(run);
    outcome.good();
    let completed = |name| outcome.probe(name, "calls")["completed"].as_u64().unwrap();
    assert_eq!((completed("a"), completed("b"), completed("c")), (123, 20, 23));
    assert_eq!(outcome.plugin("b")["left"]["why"], "asked");
    assert_eq!(outcome.plugin("b")["windows"][0]["open"], outcome.plugin("c")["windows"][0]["open"], "one store opened both");
    assert_no_programs();
}

/// A bundle that can't be loaded, or has more plugins than there are bits, does not join, and the run goes on.
#[test]
fn refused_at_the_door() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[adhoc("a", "1MiB", &[CALLS])]));
    let run = bundle.start(&[]);
    wait_for(&run, "open");
    let plugin = |name: &str, attach| adhoc(name, "64KiB", &[("p", attach, None, "return")]);
    let all: Vec<String> = (0..64).map(|n| plugin(&format!("p{n}"), "tracepoint:syscalls:sys_enter_getppid")).collect();
    let nowhere = plugin("n", "tracepoint:syscalls:sys_enter_nothing");
    let refused = |plugins: &[String]| {
        let bundle = Bundle::new(&manifest(plugins));
        gate(&run, &["join", bundle.directory.path().join("bundle.toml").to_str().unwrap()]).unwrap_err()
    };
    let error = refused(&all);
    assert!(error.contains("64 plugins beside 1 in one run: 64 at most"), "{error}");
    let error = refused(&[nowhere]);
    assert!(error.contains("sys_enter_nothing"), "{error}");
    getppid(5);
    let outcome = end(run);
    outcome.good();
    assert_eq!(outcome.probe("a", "calls")["completed"], 5);
    assert_no_programs();
}

/// A new version takes over under load, by hand and since its file was built anew: no call is missed, what is seen by both lies in the published
/// overlap, and a file that is no plugin changes nothing.
#[test]
fn replacing() {
    let Some(_lock) = lock() else { return };
    const CALLS_MADE: u64 = 400_000;
    let numbered = ("calls", "tracepoint:syscalls:sys_enter_getppid", None, "emit calls { tid }");
    let plugin = adhoc("a", "64MiB", &[numbered]);
    let directory = tempfile::tempdir().unwrap();
    let (own, new) = (directory.path().join("a.wasm"), directory.path().join("new.wasm"));
    let source = component("plugins", "adhoc");
    fs::copy(&source, &own).unwrap();
    fs::copy(&source, &new).unwrap();
    let bundle = Bundle::new(&manifest(&[plugin.replace(source.to_str().unwrap(), own.to_str().unwrap())]));
    let calls = CALLS_MADE.to_string();
    let run = bundle.start(&["--watch", "--", workload().to_str().unwrap(), "getppid-slowly", &calls]);
    wait_for(&run, "open");
    assert!(gate(&run, &["replace", "a", new.to_str().unwrap()]).unwrap().starts_with("replaced, old and new both open for "));
    // What is no component does not take over.
    fs::write(&own, b"nonsense").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(gate(&run, &["replace", "a", own.to_str().unwrap()]).unwrap_err().contains("a.wasm"));
    // The watched file belongs to the version that runs no more: its own path is now another one.
    let outcome = run.finish();
    let report = outcome.good();
    let plugins = report["plugins"].as_array().unwrap();
    assert_eq!(plugins.len(), 2, "{report:#}");
    let completed: Vec<u64> = plugins.iter().map(|plugin| plugin["probes"][0]["completed"].as_u64().unwrap()).collect();
    let overlap = &plugins[0]["left"]["overlap"];
    assert_eq!(overlap, &plugins[1]["took_over"]);
    let width = overlap[1].as_u64().unwrap() - overlap[0].as_u64().unwrap();
    note(&format!("{completed:?} of {CALLS_MADE}, both open for {width} ns"));
    assert!(completed.iter().all(|count| *count > 0), "{completed:?}");
    let seen: u64 = completed.iter().sum();
    assert!(seen >= CALLS_MADE, "{} calls were missed", CALLS_MADE - seen);
    assert!(seen - CALLS_MADE <= 1 + width / 100, "{seen} seen in {width} ns");
    assert_eq!(outcome.rows().len() as u64, seen);
    assert_no_programs();
}

/// Runs the plugin that counts calls, makes some, replaces it so many times, and makes some more: the exit code, and what each version has counted.
fn replaced(at: &str, how: &str, times: usize) -> (Option<i32>, Vec<Option<f64>>) {
    let source = component("plugins", "faulty");
    let source = source.to_str().unwrap();
    let plugin = format!(
        "[[plugin]]\nname = \"a\"\nsource = {source:?}\nconfig = {{ at = {at:?}, how = {how:?} }}\ngrants = {{ probes = [\"*\"] }}\n"
    );
    let bundle = Bundle::new(&manifest(&[plugin]));
    let run = bundle.start(&["--pid", &std::process::id().to_string()]);
    wait_for(&run, "open");
    let call = |times: u32| {
        for _ in 0..times {
            let _ = rustix::process::getppid();
        }
    };
    call(10);
    for _ in 0..times {
        gate(&run, &["replace", "a", source]).unwrap();
    }
    call(7);
    let until = Instant::now() + Duration::from_secs(10);
    while status(&run).unwrap()["plugins"].as_array().unwrap().len() > 1 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    let outcome = end(run);
    let report = outcome.report.as_ref().unwrap();
    let metrics = report["plugins"].as_array().unwrap().iter().map(|plugin| plugin["metrics"]["handled"].as_f64()).collect();
    (outcome.code, metrics)
}

/// What the old version hands over is what the new one starts with, also if that one is replaced before it has come to start; a version that fails
/// in that leaves nothing, and the new one begins all the same.
#[test]
fn handing_over() {
    let Some(_lock) = lock() else { return };
    assert_eq!(replaced("handover", "none", 1), (Some(0), vec![Some(10.0), Some(17.0)]));
    assert_eq!(replaced("handover", "panic", 1), (Some(4), vec![Some(10.0), Some(7.0)]));
    let (code, handled) = replaced("handle", "slow", 4);
    // Those in between may have had nothing to handle.
    assert_eq!((code, handled.last(), handled.len()), (Some(0), Some(&Some(17.0)), 5), "{handled:?}");
    assert_no_programs();
}

/// A file that is built anew takes over from the version that runs.
#[test]
fn watching() {
    let Some(_lock) = lock() else { return };
    let plugin = adhoc("a", "1MiB", &[CALLS]);
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("a.wasm");
    let source = component("plugins", "adhoc");
    fs::copy(&source, &own).unwrap();
    let bundle = Bundle::new(&manifest(&[plugin.replace(source.to_str().unwrap(), own.to_str().unwrap())]));
    let run = bundle.start(&["--watch"]);
    wait_for(&run, "open");
    getppid(10);
    // Another component, as a build makes one: with a section that says nothing. It comes by a rename, as linkers do it.
    let mut bytes = fs::read(&source).unwrap();
    bytes.extend([0, 5, 4, b'n', b'o', b't', b'e']);
    let next = directory.path().join("next");
    fs::write(&next, bytes).unwrap();
    fs::rename(&next, &own).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let status = status(&run).unwrap();
        let plugins = status["plugins"].as_array().unwrap();
        if plugins.len() == 1 && plugins[0]["hits"] == 0 && plugins[0]["state"] == "open" {
            break;
        }
        assert!(Instant::now() < until, "{status}");
        std::thread::sleep(Duration::from_millis(20));
    }
    getppid(5);
    fs::write(&own, b"nonsense").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    getppid(7);
    let outcome = end(run);
    let report = outcome.good();
    let completed: Vec<&Value> =
        report["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["probes"][0]["completed"]).collect();
    assert_eq!(completed, [10, 12]);
    assert!(outcome.stderr.contains("the new version of \"a\" has taken over"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the version of a that runs goes on"), "{}", outcome.stderr);
}

/// Without a gate nothing of this can be asked.
#[test]
fn without_a_gate() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[adhoc("a", "1MiB", &[CALLS])]));
    let run = bundle.start(&["--no-gate"]);
    std::thread::sleep(Duration::from_millis(500));
    let error = gate(&run, &["pause"]).unwrap_err();
    assert!(error.contains("no run is named"), "{error}");
    end(run).good();
}

/// A plugin that is essential ends the run with its own end, in order.
#[test]
fn essential() {
    let Some(_lock) = lock() else { return };
    let essential = adhoc("a", "1MiB", &[CALLS]).replace("grants =", "essential = true\ngrants =");
    let bundle = Bundle::new(&manifest(&[essential, adhoc("b", "1MiB", &[CALLS])]));
    let run = bundle.start(&[]);
    wait_for(&run, "open");
    getppid(10);
    let worker = portcullis_tests::children(run.pid())
        .into_iter()
        .find(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("worker\0a\0")));
    let worker = rustix::process::Pid::from_raw(worker.unwrap() as i32).unwrap();
    rustix::process::kill_process(worker, Signal::KILL).unwrap();
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4));
    assert!(outcome.stderr.contains("The run ended: plugin \"a\", which is essential, failed."), "{}", outcome.stderr);
    assert_eq!((&outcome.probe("b", "calls")["completed"], &outcome.plugin("b")["state"]), (&10.into(), &"ok".into()));
    assert_no_programs();
}

/// A second signal ends a run whose plugin takes its time at once, and what was left undone is said.
#[test]
fn in_a_hurry() {
    let Some(_lock) = lock() else { return };
    let source = component("plugins", "faulty");
    let plugin = format!(
        "[[plugin]]\nname = \"slow\"\nsource = {:?}\nconfig = {{ at = \"handle\", how = \"loop\" }}\ngrants = {{ probes = [\"*\"] }}\nlimits = {{ call = \"10s\" }}\n",
        source.to_str().unwrap()
    );
    let bundle = Bundle::new(&format!("{}\n[stop]\ndrain = \"30s\"\n", manifest(&[plugin])));
    let run = bundle.start(&[]);
    wait_for(&run, "open");
    getppid(10);
    std::thread::sleep(Duration::from_millis(100));
    run.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(700));
    let start = Instant::now();
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!((outcome.code, outcome.report.is_some()), (Some(130), false));
    assert!(
        outcome.stderr.contains("ended at once by a second signal, SIGINT: what plugins had not taken yet is lost"),
        "{}",
        outcome.stderr
    );
    assert_no_programs();
}
