//! Whose hits a plugin is granted: what its manifest says of that holds at every place where something of it runs.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::process::{Child, Command, Stdio};

use portcullis_tests::{Bundle, Outcome, adhoc, component, lock, manifest, workload};
use serde_json::Value;

const NOBODY: u64 = 65534;

/// A plugin that runs probes of (name, attach, body), and sees what is granted.
fn plugin(scope: &str, probes: &[(&str, &str, &str)]) -> String {
    let probes: Vec<_> = probes.iter().map(|(name, attach, body)| (*name, *attach, None, *body)).collect();
    let text = adhoc("p", "1MiB", &probes);
    let granted = text.replace("grants = { ", &format!("grants = {{ scope = {{ {scope} }}, "));
    assert_ne!(text, granted);
    manifest(&[granted])
}

/// Work of a fixed amount, before, by and after what runs as the user nobody.
fn work(all: u64, nobody: u64) -> String {
    let work = workload();
    let work = work.display();
    format!(
        "{work} getppid {all}; setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {work} getppid {nobody}; {work} getppid {all}"
    )
}

fn run(scope: &str, probes: &[(&str, &str, &str)], arguments: &[&str]) -> Outcome {
    let bundle = Bundle::new(&plugin(scope, probes));
    let outcome = bundle.run(arguments);
    outcome.good();
    outcome
}

fn hits(outcome: &Outcome, probe: &str) -> u64 {
    outcome.probe("p", probe)["hits"].as_u64().unwrap()
}

/// The values of a column of a table.
fn values(outcome: &Outcome, table: &str, column: &str) -> Vec<Value> {
    outcome.rows().iter().filter(|row| row["table"] == table).map(|row| row[column].clone()).collect()
}

/// A process that makes system calls, and whose children do, until it is dropped.
struct Busy(Child);

impl Busy {
    fn new() -> Busy {
        let script = "while :; do : < /dev/null; sleep 0.002; done";
        Busy(Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const GETPPID: &str = "tracepoint:syscalls:sys_enter_getppid";

/// A grant for one user narrows tracepoints and both ends of spans, and what limits the run narrows it further and widens nothing.
#[test]
fn users() {
    let Some(_lock) = lock() else { return };
    let probes =
        [("enter", GETPPID, "@ = count(); emit s { uid };"), ("span", "span:syscall:getppid", "emit t { uid, at: entry.uid };")];
    let script = work(100, 7);
    let seen = |limits: &[&str]| {
        let outcome = run("uid = \"65534\"", &probes, &[limits, &["--", "sh", "-c", &script]].concat());
        assert!(values(&outcome, "s", "uid").iter().all(|uid| *uid == NOBODY));
        assert_eq!(outcome.probe("p", "span")["entered"], hits(&outcome, "span"));
        (hits(&outcome, "enter"), hits(&outcome, "span"))
    };
    assert_eq!(seen(&[]), (7, 7));
    assert_eq!(seen(&["--uid", "65534"]), (7, 7));
    assert_eq!(seen(&["--uid", "root"]), (0, 0));
}

/// Where the run itself asks for nothing, time that passes and the exit of a span that a key joins see only what is granted.
#[test]
fn what_is_of_nobody() {
    let Some(_lock) = lock() else { return };
    // It begins as a task leaves the processor, and ends as it comes back, where another runs that leaves.
    let joined = "span:tracepoint:sched:sched_switch..sched:sched_switch key args.prev_pid, cpu .. args.next_pid, cpu";
    let identity = "{ pid, uid, comm, by: ustack(4) }";
    let probes = [
        ("joined", joined, format!("emit joined {identity};")),
        ("interval", "interval:us:200", format!("emit interval {identity};")),
        ("profile", "profile:us:200", format!("emit profile {identity};")),
    ];
    let probes: Vec<_> = probes.iter().map(|(name, attach, body)| (*name, *attach, body.as_str())).collect();
    let script = format!("{}; {}", work(20_000, 20_000), work(20_000, 20_000));
    let granted = run("uid = 65534", &probes, &["--system-wide", "--", "sh", "-c", &script]);
    let of_others = |outcome: &Outcome, table: &str| values(outcome, table, "uid").iter().filter(|uid| **uid != NOBODY).count();
    for table in ["joined", "interval", "profile"] {
        assert_eq!(of_others(&granted, table), 0, "{table}");
    }
    assert!(hits(&granted, "joined") > 0 && hits(&granted, "profile") > 0);
    // Without the grant the same probes see others.
    let bundle = Bundle::new(&plugin("uid = 65534", &probes).replace("scope = { uid = 65534 }, ", ""));
    let free = bundle.run(&["--system-wide", "--", "sh", "-c", &script]);
    free.good();
    for table in ["joined", "interval", "profile"] {
        assert!(of_others(&free, table) > 0, "{table}");
    }
}

/// A grant for one process is for its own threads: not for its children, in no kind of probe, also where an iterator goes.
#[test]
fn processes() {
    let Some(_lock) = lock() else { return };
    let busy = Busy::new();
    let probes = [
        ("opens", "tracepoint:syscalls:sys_enter_openat", "emit opens { pid };"),
        ("span", "span:syscall:openat", "emit span { pid };"),
        ("tasks", "iter:task", "emit tasks { pid };"),
        ("files", "iter:task_file", "emit files { pid };"),
    ];
    let outcome = run(&format!("pid = {}", busy.pid()), &probes, &["--duration", "500ms"]);
    for table in ["opens", "span", "tasks", "files"] {
        let pids = values(&outcome, table, "pid");
        assert!(!pids.is_empty(), "{table}");
        assert!(pids.iter().all(|pid| *pid == busy.pid()), "{table}: {pids:?}");
    }
    // COMMAND is another process: what the run is about and what is granted have nothing in common.
    let outcome = run(&format!("pid = {}", busy.pid()), &[("calls", GETPPID, "return")], &["--", "sh", "-c", &work(5, 5)]);
    assert_eq!(hits(&outcome, "calls"), 0);
}

/// Another process that gets the number of the one that is granted is not granted.
#[test]
fn a_number_given_out_again() {
    let Some(_lock) = lock() else { return };
    let busy = Busy::new();
    let pid = busy.pid();
    let bundle = Bundle::new(&plugin(&format!("pid = {pid}"), &[("calls", GETPPID, "emit s { pid };")]));
    // Both start a child: it ends the process that is granted, and then calls getppid(2) under its number.
    let script = format!("kill -9 {pid}; while test -e /proc/{pid}; do :; done; {} getppid-as {pid} 5", workload().display());
    let mut started = Command::new("sh");
    started.args(["-c", &format!("sleep 2; {script}")]);
    let run = bundle.start(&["--duration", "3s"]);
    let mut child = started.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    drop(busy);
    let status = child.wait().unwrap();
    let outcome = run.finish();
    outcome.good();
    assert!(status.success(), "the number {pid} was not free");
    assert_eq!(hits(&outcome, "calls"), 0);
}

/// A process, a user or a control group that is not there refuses the run, and the plugin is named.
#[test]
fn no_such() {
    let Some(_lock) = lock() else { return };
    for (scope, expect) in [
        ("pid = 4194303", "portcullis: error: plugin \"p\": its `grants.scope`: there is no process 4194303"),
        ("uid = \"nobody-of-this-name\"", "plugin \"p\": its `grants.scope`: there is no user `nobody-of-this-name`"),
    ] {
        let outcome = Bundle::new(&plugin(scope, &[("calls", GETPPID, "return")])).run(&["--", "true"]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
    }
}

/// A bundle of the plugin that looks processes up, with these grants.
fn lookups(others: &[u32], grants: &str) -> Bundle {
    let source = component("plugins", "processes");
    let plugin = format!(
        "[[plugin]]\nname = \"p\"\nsource = {:?}\nconfig = {{ others = {others:?} }}\ngrants = {{ probes = [\"*\"], {grants} }}\n",
        source.to_str().unwrap()
    );
    Bundle::new(&manifest(&[plugin]))
}

/// Facts about processes are there where they are granted: of those that were traced, and of any other.
#[test]
fn facts() {
    let Some(_lock) = lock() else { return };
    let busy = Busy::new();
    let outcome =
        lookups(&[busy.pid(), u32::MAX], "read = [\"process\"]").run(&["--", workload().to_str().unwrap(), "getppid", "5"]);
    outcome.good();
    let rows = outcome.rows();
    let row = |pid: u64| rows.iter().find(|row| row["pid"] == pid).unwrap_or_else(|| panic!("no {pid} in {rows:?}"));
    let other = row(busy.pid().into());
    assert_eq!((&other["comm"], &other["parent"], &other["uid"]), (&"sh".into(), &std::process::id().into(), &0.into()));
    assert!(other["arguments"].as_str().unwrap().starts_with("sh -c while :;"), "{other}");
    assert!(other["executable"].as_str().unwrap().starts_with('/'), "{other}");
    assert_eq!(row(u32::MAX.into())["comm"], Value::Null);
    assert_eq!(rows.len(), 3, "{rows:?}");
}

/// The scope that is granted holds for facts as for probes.
#[test]
fn facts_within_a_scope() {
    let Some(_lock) = lock() else { return };
    let (busy, other) = (Busy::new(), Busy::new());
    let grants = format!("read = [\"process\"], scope = {{ pid = {} }}", busy.pid());
    let outcome = lookups(&[busy.pid(), other.pid(), 1], &grants).run(&["--duration", "100ms"]);
    outcome.good();
    assert_eq!(values(&outcome, "processes", "comm"), [Value::from("sh"), Value::Null, Value::Null]);
}

/// Who asks for facts and is not granted them does not run, and is told what would grant them; and denied stays denied.
#[test]
fn facts_are_a_need() {
    let Some(_lock) = lock() else { return };
    for (grants, expect) in [
        (
            "",
            "it reads facts about processes: who they are, their programs and their command lines (it imports `portcullis:plugin/process@0.1.0`)",
        ),
        ("", "read = [\"process\"]"),
        (
            "read = [\"process\"], deny = { read = [\"process\"] }",
            "(it imports `portcullis:plugin/process@0.1.0`), which is denied",
        ),
    ] {
        let outcome = lookups(&[], grants).run(&["--", "true"]);
        assert_eq!(outcome.code, Some(3));
        assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
    }
}
