//! What goes wrong goes wrong in one clear way: the plugin and the cause are named, the rest goes on or nothing has happened.
//!
//! Cases are data in `faults/*.cases`: a manifest, and behind a line of dashes the exit code and all of standard error.
//! `UPDATE_EXPECT=1` writes what comes out now.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    Bundle, Outcome, adhoc, assert_no_programs, component, foreign, lock, manifest, portcullis,
    watch::{Watched, assert_gone, descriptors, is_alive, signal, state, until},
    workload,
};
use rustix::process::Signal;

const LINE: &str = "----\n";
const PART: &str = "====\n";

/// How often the workload calls getppid(2), where that is counted: some 300 ms, in which a plugin fails early.
const CALLS: u64 = 300_000;

/// Files of several kinds that are no plugins.
fn with_files(bundle: Bundle) -> Bundle {
    let core = foreign::wat(r#"(module (func (export "configure")))"#);
    let other = foreign::other_world();
    bundle
        .file("text.wasm", b"This is no plugin.\n")
        .file("empty.wasm", b"")
        .file("core.wasm", &core)
        .file("cut.wasm", &other[..other.len() / 2])
        .file("other-world.wasm", &other)
        .file("newer-world.wasm", &foreign::newer_world())
}

/// The directory in which `cargo xtask plugins` puts components.
fn plugins() -> String {
    let faulty = component("plugins", "faulty");
    faulty.parent().unwrap().to_str().unwrap().to_owned()
}

/// Runs each case of a file and holds what comes out against what is there.
fn check_file(name: &str, command: &[&str], check: impl Fn(&Outcome, &str)) {
    let Some(_lock) = lock() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults").join(name);
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut now = Vec::new();
    let mut wrong = Vec::new();
    for case in fs::read_to_string(&path).unwrap().split(PART) {
        let (input, expected) = case.split_once(LINE).unwrap();
        let outcome = run(input, command);
        // The report in words has times; it is tested elsewhere.
        let messages = outcome.1.stderr.split("\nThe run ended: ").next().unwrap();
        let messages = messages.replace(&outcome.0, "$DIR").replace(&plugins(), "$PLUGINS");
        let found = format!("exit {}\n{}\n", outcome.1.code.unwrap(), messages.trim_end());
        if !update && found != expected {
            wrong.push(format!("{input}{LINE}{found}"));
        }
        check(&outcome.1, input);
        now.push(format!("{input}{LINE}{found}"));
    }
    assert!(wrong.is_empty(), "not as in {name}:\n{}", wrong.join(PART));
    if update {
        fs::write(path, now.join(PART)).unwrap();
    }
    assert_no_programs();
}

/// One case, and the directory in which it ran. Its first lines may be a comment and `run ARGUMENTS`; the rest is the manifest.
fn run(input: &str, command: &[&str]) -> (String, Outcome) {
    let (words, manifest): (Vec<&str>, Vec<&str>) =
        input.lines().partition(|line| line.starts_with("run ") || line.starts_with('#'));
    // Comments stay lines, so that places in the manifest are those of the case.
    let text = manifest.join("\n").replace("$PLUGINS", &plugins());
    let bundle = with_files(Bundle::new(&format!("{text}\n")));
    let directory = bundle.directory.path().to_str().unwrap().to_owned();
    let arguments = words.iter().find_map(|line| line.strip_prefix("run "));
    let arguments = arguments.map(|line| line.replace("$PLUGINS", &plugins()));
    let arguments: Vec<&str> = match &arguments {
        Some(line) => line.split(' ').collect(),
        None => [&["--"], command].concat(),
    };
    let outcome = if let ["TARGET", target, rest @ ..] = arguments.as_slice() {
        let mut command = Command::new(portcullis());
        command.current_dir(&directory).arg("run").arg(target).args(rest);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), report: None }
    } else {
        let mut command = bundle.command("run", &["--format", "json"]);
        let report = bundle.directory.path().join("report.json");
        if !arguments.contains(&"--report") {
            command.arg("--report").arg(&report);
        }
        Watched::spawn(command.current_dir(&directory).args(&arguments), report).finish()
    };
    let ran = bundle.directory.path().join("RAN");
    assert!(!ran.exists(), "COMMAND ran:\n{input}");
    (directory, outcome)
}

/// What is wrong before the opening refuses the run: nothing was recorded, no report, no rows, and COMMAND never ran.
#[test]
fn refused() {
    check_file("refused.cases", &["touch", "RAN"], |outcome, input| {
        assert!(outcome.report.is_none(), "{input}");
        assert_eq!(outcome.stdout, "", "{input}");
        assert_eq!(outcome.stderr.matches("portcullis: error: ").count(), 1, "{}", outcome.stderr);
    });
}

/// Plugins that want to see more than they are granted, by whatever name, or that ask for what can't be: nothing is loaded.
#[test]
fn hostile() {
    check_file("hostile.cases", &["touch", "RAN"], |outcome, input| {
        assert!(outcome.report.is_none(), "{input}");
        assert_eq!(outcome.stdout, "", "{input}");
        assert!(outcome.stderr.lines().all(|line| !line.contains(char::is_control)), "{:?}", outcome.stderr);
    });
}

/// A plugin that fails while the gate is open ends alone: its neighbour's counts are exact, the run goes on to its end, and report
/// and exit code name the failure.
#[test]
fn failed() {
    let workload = workload();
    let calls = CALLS.to_string();
    check_file("failed.cases", &[workload.to_str().unwrap(), "getppid", &calls], |outcome, input| {
        assert_neighbour(outcome, "good", CALLS);
        let bad = outcome.plugin("bad");
        let cause = outcome.stderr.lines().next().unwrap().strip_prefix("portcullis: error: plugin \"bad\": ").unwrap();
        assert_eq!(bad["state"], format!("failed: {cause}"), "{input}");
        assert_eq!(outcome.code, Some(4), "{input}");
        let report = outcome.report.as_ref().unwrap();
        assert_eq!(report["command"]["status"], "exited with 0", "{input}");
        assert!(outcome.stderr.contains(&format!("plugin bad: FAILED: {cause}\n")), "{}", outcome.stderr);
        // When `start` or `tick` fails there may have been no event yet.
        let undelivered = bad["undelivered"].as_u64().unwrap();
        if input.contains(r#"at = "finish""#) {
            assert_eq!((&bad["delivered"], undelivered), (&CALLS.into(), 0), "{input}");
        } else if input.contains(r#"at = "handle""#) {
            assert!(undelivered > 0 && bad["delivered"] == 0 && undelivered < CALLS, "{input}{bad}");
        }
        assert_eq!(outcome.stderr.contains("that it had not taken when it failed"), undelivered > 0, "{}", outcome.stderr);
    });
}

/// A healthy plugin saw every call, and was handed every event.
fn assert_neighbour(outcome: &Outcome, name: &str, calls: u64) {
    let plugin = outcome.plugin(name);
    assert_eq!(plugin["state"], "ok", "{}", outcome.stderr);
    assert_eq!(outcome.probe(name, "calls")["hits"], calls);
    assert_eq!(plugin["emitted"], calls);
    assert_eq!(plugin["delivered"], calls);
    assert_eq!(plugin["metrics"]["handled"], calls as f64);
}

/// A manifest's plugin that runs `faulty`.
fn faulty(name: &str, config: &str, limits: &str) -> String {
    let source = component("plugins", "faulty");
    format!(
        "[[plugin]]\nname = {name:?}\nsource = {:?}\nconfig = {{ {config} }}\ngrants = {{ probes = [\"*\"] }}\nlimits = {{ ring = \"64MiB\", {limits} }}\n",
        source.to_str().unwrap()
    )
}

/// Two plugins that would do well, and say so when the first events are there.
fn pair() -> Bundle {
    Bundle::new(&manifest(&[faulty("bad", "announce = true", "call = \"200ms\""), faulty("good", "announce = true", "")]))
}

/// Starts a bundle on a workload, and waits until events have reached the plugin `bad`.
fn flowing(bundle: &Bundle, calls: u64) -> Watched {
    let run = Watched::start(bundle, &["--", workload().to_str().unwrap(), "getppid", &calls.to_string()]);
    run.wait_for("bad: events flow\n");
    run
}

/// More calls than any test waits for.
const ENDLESS: u64 = 1_000_000_000;

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

/// A plugin of which `restart` is said is there again after it has failed, with a fresh instance that starts at a store of its own; each
/// instance is in the report, its neighbour does not notice, and the exit code still tells.
#[test]
fn restarted() {
    let Some(_lock) = lock() else { return };
    let bad = faulty("bad", "announce = true", "call = \"200ms\"")
        .replace("[[plugin]]\n", "[[plugin]]\nrestart = { times = 2, backoff = \"20ms\" }\n");
    let bundle = Bundle::new(&manifest(&[bad, faulty("good", "announce = true", "")]));
    let run = flowing(&bundle, ENDLESS);
    let mut workers = run.workers();
    for left in ["1", "0"] {
        signal(run.worker("bad"), Signal::KILL);
        run.wait_for(&format!("portcullis: plugin \"bad\" was started again; {left} more times are allowed\n"));
        let flow = 1 + run.said().matches("was started again").count();
        until("its events", || (run.said().matches("bad: events flow\n").count() >= flow).then_some(()));
        workers.extend(run.workers());
    }
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    outcome.assert_equations();
    let report = outcome.report.as_ref().unwrap();
    let instances: Vec<_> = report["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["name"] == "bad").collect();
    let cause = "failed: its worker process ended unexpectedly (killed by signal 9)";
    assert_eq!(instances.iter().map(|plugin| plugin["state"].as_str().unwrap()).collect::<Vec<_>>(), [cause, cause, "ok"]);
    let window = |plugin: &serde_json::Value, edge: &str| plugin["windows"][0][edge][0].as_u64().unwrap();
    for pair in instances.windows(2) {
        assert!(window(pair[0], "close") < window(pair[1], "open"), "{}", outcome.stderr);
    }
    // The last began anew, and was handed all that it recorded.
    assert_eq!(instances[2]["metrics"]["handled"].as_f64(), instances[2]["delivered"].as_f64());
    assert_eq!(instances[2]["emitted"], instances[2]["delivered"]);
    let good = outcome.plugin("good");
    assert_eq!(good["state"], "ok");
    assert_eq!(good["emitted"], good["delivered"]);
    assert_eq!(outcome.probe("good", "calls")["hits"], good["emitted"]);
    assert_gone(&workers);
    assert_no_programs();
}

/// A plugin that fails while the run is paused is there again before it resumes: attached and paused like the others, and opened by the one
/// store that opens them.
#[test]
fn restarted_in_a_pause() {
    let Some(_lock) = lock() else { return };
    let bad =
        faulty("bad", "announce = true", "").replace("[[plugin]]\n", "[[plugin]]\nrestart = { times = 2, backoff = \"20ms\" }\n");
    let bundle = Bundle::new(&manifest(&[bad, faulty("good", "announce = true", "")]));
    let run = flowing(&bundle, ENDLESS);
    let ask = |arguments: &[&str]| {
        let output = Command::new(portcullis()).args(arguments).args(["--run", &run.pid().to_string()]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    ask(&["gate", "pause"]);
    signal(run.worker("bad"), Signal::KILL);
    run.wait_for("portcullis: plugin \"bad\" was started again; 1 more times are allowed\n");
    let status: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"])).unwrap();
    let here: Vec<_> = status[0]["plugins"].as_array().unwrap().iter().map(|one| (&one["name"], &one["state"])).collect();
    assert!(here.contains(&(&"bad".into(), &"paused".into())) && here.contains(&(&"good".into(), &"paused".into())), "{here:?}");
    assert!(ask(&["gate", "resume"]).starts_with("opened within "));
    until("its events", || (run.said().matches("bad: events flow\n").count() >= 2).then_some(()));
    // One that was paused alone comes back as it was, too, and not by what is said of the other.
    ask(&["gate", "pause", "--plugin", "bad"]);
    signal(run.worker("bad"), Signal::KILL);
    run.wait_for("portcullis: plugin \"bad\" was started again; 0 more times are allowed\n");
    ask(&["gate", "pause", "--plugin", "good"]);
    ask(&["gate", "resume", "--plugin", "good"]);
    ask(&["gate", "resume", "--plugin", "bad"]);
    until("its events", || (run.said().matches("bad: events flow\n").count() >= 3).then_some(()));
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let report = outcome.report.as_ref().unwrap();
    let instances: Vec<_> = report["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["name"] == "bad").collect();
    assert_eq!(instances.len(), 3);
    // The first pause ended for both by one store.
    let good = outcome.plugin("good");
    assert_eq!(instances[1]["windows"][0]["open"], good["windows"][1]["open"]);
    let closed = good["windows"][2]["close"][0].as_u64().unwrap();
    assert!(instances[2]["windows"].as_array().unwrap().len() == 1 && closed > 0, "{instances:?}");
    assert!(instances[2]["windows"][0]["open"][0].as_u64() > good["windows"][2]["open"][0].as_u64());
    assert_eq!(instances[2]["emitted"], instances[2]["delivered"]);
    assert_no_programs();
}

/// It is given up after so many times, and then all is as with a plugin that has failed; one that fails before it starts counts as well.
#[test]
fn given_up() {
    let Some(_lock) = lock() else { return };
    let again = |plugin: String, times: u32| {
        plugin.replace("[[plugin]]\n", &format!("[[plugin]]\nrestart = {{ times = {times}, backoff = \"5ms\" }}\n"))
    };
    let bad = again(faulty("bad", "how = \"panic\"", ""), 2);
    let bundle = Bundle::new(&manifest(&[bad, faulty("good", "", "")]));
    let calls = 4_000_000;
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &calls.to_string()]);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert_neighbour(&outcome, "good", calls);
    assert_eq!(outcome.stderr.matches("plugin bad: FAILED").count(), 3, "{}", outcome.stderr);

    // Nobody is left when the last try has failed, and that ends the run.
    let bundle = Bundle::new(&manifest(&[again(faulty("bad", "at = \"start\", how = \"panic\"", ""), 1)]));
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &ENDLESS.to_string()]);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\nThe run ended: no plugin was left.\n"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("plugin bad: FAILED").count(), 2, "{}", outcome.stderr);
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

/// A bundle whose compilation takes long, and a file that COMMAND would make.
fn slow_to_compile() -> (Bundle, PathBuf) {
    let slow = "[[plugin]]\nname = \"slow\"\nsource = \"large.wasm\"\n".to_owned();
    let bundle = Bundle::new(&manifest(&[slow, faulty("good", "", "")])).file("large.wasm", &foreign::large(500));
    let ran = bundle.directory.path().join("RAN");
    (bundle, ran)
}

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
        drop(run);
        assert_no_programs();
        let _ = fs::remove_file(&ran);
    }
    panic!("COMMAND was never met before its release");
}

/// Probes on raw tracepoints, each of which has a program and a link of its own: (name, attach point).
fn raw_tracepoints(count: usize) -> Vec<(String, String)> {
    let listed = Command::new(portcullis()).args(["probes", "rawtracepoint:*", "--json"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let points = listed.split('"').filter(|word| word.starts_with("rawtracepoint:")).map(str::to_owned);
    let points: Vec<_> = points.enumerate().map(|(i, point)| (format!("p{i}"), point)).take(count).collect();
    assert_eq!(points.len(), count, "this kernel has too few tracepoints");
    points
}

/// When the last of 300 probes does not compile, nothing has happened.
#[test]
fn last_of_300_does_not_compile() {
    let Some(_lock) = lock() else { return };
    let mut points = raw_tracepoints(299);
    points.push(("last".into(), "tracepoint:syscalls:sys_enter_nothing".into()));
    let outcome = refuse_300(&points, Command::new(portcullis()));
    let message = "\
portcullis: error: plugin \"many\": this kernel has no tracepoint `sys_enter_nothing` in `syscalls`
 --> probe \"last\", attach, line 1, column 21
";
    assert!(outcome.stderr.starts_with(message), "{}", outcome.stderr);
}

/// When the last of 300 probes can't be attached, nothing has happened either. This one can't since the host may open too few
/// files: all 300 programs are loaded, and for the last link no descriptor is left.
#[test]
fn last_of_300_does_not_attach() {
    let Some(_lock) = lock() else { return };
    let points = raw_tracepoints(300);
    // A link is a descriptor; so the place at which one limit fails says what the limit is at which the last one does.
    let mut files = 400;
    let outcome = loop {
        let outcome = refuse_300(&points, limited(files));
        let at = outcome.stderr.split("probe `p").nth(1).and_then(|rest| rest.split('`').next()?.parse::<u32>().ok());
        match at {
            Some(299) => break outcome,
            Some(probe) => files += 299 - probe,
            // Not even loaded.
            None => files += 100,
        }
    };
    let last = &points[299];
    let start = format!("portcullis: error: plugin `many`, probe `{}`: cannot attach to {}: ", last.0, last.1);
    assert!(outcome.stderr.starts_with(&start), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Too many open files"), "{}", outcome.stderr);
}

/// `portcullis`, with so many descriptors.
fn limited(files: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(portcullis());
    command
}

/// Runs all probes in one plugin, with a COMMAND that makes a file: it is refused, and nothing has happened.
fn refuse_300(points: &[(String, String)], mut command: Command) -> Outcome {
    let probes: Vec<_> = points.iter().map(|(name, attach)| (&**name, &**attach, None, "emit s { pid }")).collect();
    let bundle = Bundle::new(&manifest(&[adhoc("many", "4KiB", &probes)]));
    let directory = bundle.directory.path();
    let report = directory.join("report.json");
    command.current_dir(directory).args([
        "run",
        "bundle.toml",
        "--format",
        "json",
        "--report",
        "report.json",
        "--",
        "touch",
        "RAN",
    ]);
    let outcome = Watched::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()), report).finish();
    assert!(!directory.join("RAN").exists(), "COMMAND ran");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.report.is_none());
    assert_no_programs();
    outcome
}

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

/// `--dry-run` loads, attaches nothing, and COMMAND never runs; a real run does attach, as seen by the same eyes.
#[test]
fn dry_run() {
    let Some(_lock) = lock() else { return };
    let points = raw_tracepoints(50);
    let probes: Vec<_> = points.iter().map(|(name, attach)| (&**name, &**attach, None, "emit s { pid }")).collect();
    for dry in [true, false] {
        // How a run looks from outside is seen in samples; loading may fall between two.
        let met = (0..10).any(|_| {
            let bundle = Bundle::new(&manifest(&[adhoc("many", "4KiB", &probes)]));
            let ran = bundle.directory.path().join("RAN");
            let script = format!("touch {}; sleep 0.2", ran.display());
            let arguments = ["--dry-run", "--", "sh", "-c", &script];
            let mut run = Watched::start(&bundle, if dry { &arguments } else { &arguments[1..] });
            let (mut loaded, mut attached) = (false, false);
            until("the end", || {
                for (_, what) in descriptors(run.pid()) {
                    loaded |= what == "anon_inode:bpf-prog";
                    attached |= ["bpf_link", "perf_event", "bpf-raw-tracepoint"].iter().any(|link| what.contains(link));
                }
                run.ended()
            });
            let outcome = run.finish();
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert_eq!((attached, ran.exists(), outcome.report.is_some()), (!dry, !dry, !dry));
            if dry {
                let words = "test: would run many for `sh`: 50 attach points, 50 programs, all accepted by this kernel. Nothing was attached.\n";
                assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", words));
            }
            loaded
        });
        assert!(met, "no run was met with its programs loaded");
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
