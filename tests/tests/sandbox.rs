//! Cages as users see them: what the report says of them, what is refused for want of them, what they take, and what a host that was killed
//! leaves of them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use portcullis::cage::User;
use portcullis_tests::{
    Bundle, assert_no_programs, component, lock, manifest, note, portcullis,
    watch::{self, Watched, assert_gone},
    workload,
};
use rustix::process::Signal;
use serde_json::Value;

fn opens() -> String {
    let source = component("plugins", "opens");
    let grants = "grants = { probes = [\"*\"], read = [\"arguments\", \"user-memory\"] }";
    format!("[[plugin]]\nname = \"opens\"\nsource = {:?}\n{grants}\n", source.to_str().unwrap())
}

/// A plugin that says when its first events come.
fn announcing() -> String {
    let source = component("plugins", "faulty");
    let source = source.to_str().unwrap();
    format!("[[plugin]]\nname = \"flow\"\nsource = {source:?}\nconfig = {{ announce = true }}\ngrants = {{ probes = [\"*\"] }}\n")
}

/// A run of it whose events flow.
fn flowing(bundle: &Bundle) -> Watched {
    let run = Watched::start(bundle, &["--", workload().to_str().unwrap(), "getppid", "1000000000"]);
    run.wait_for("events flow\n");
    run
}

fn is_own(uid: &Value) -> bool {
    let uid = u32::try_from(uid.as_u64().unwrap()).unwrap();
    User { uid, gid: uid }.is_own()
}

/// Runs a bundle for a command that opens a file; without cgroups if that is asked for. The exit code, standard error, and the report.
fn run(bundle: &Bundle, arguments: &[&str], without_cgroups: bool) -> (Option<i32>, String, Option<Value>) {
    run_without(bundle, arguments, without_cgroups.then_some("/sys/fs/cgroup"))
}

/// The same without what is mounted there.
fn run_without(bundle: &Bundle, arguments: &[&str], mount: Option<&str>) -> (Option<i32>, String, Option<Value>) {
    let path = |name: &str| bundle.directory.path().join(name);
    let hide = mount.map_or(String::new(), |mount| format!("mount -t tmpfs none {mount} && "));
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &format!("{hide}exec \"$@\""), "sh"])
        .arg(portcullis())
        .arg("run")
        .arg(path("bundle.toml"));
    command.arg("--report").arg(path("report.json")).args(arguments);
    command.args(["--", "touch"]).arg(path("ran")).env("XDG_CACHE_HOME", path("cache"));
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    let report = fs::read(path("report.json")).ok().map(|text| serde_json::from_slice(&text).unwrap());
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), report)
}

/// A small plugin in Rust, compiled before, takes at most 15 MB resident, pages that it shares with its host included; and its worker is a
/// user of its own.
#[test]
fn a_small_plugin_is_small() {
    const MOST: u64 = 15_000_000;
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[opens()]));
    let peak = || {
        let (code, said, report) = run(&bundle, &[], false);
        assert_eq!(code, Some(0), "{said}");
        let worker = report.unwrap()["plugins"][0]["worker"].clone();
        assert!(is_own(&worker["uid"]), "{worker}");
        let number = |key: &str| worker[key].as_u64().unwrap();
        assert!(number("resident") > 1 << 20 && number("resident") <= number("peak"), "{worker}");
        assert!(said.contains(" at the most, as user "), "{said}");
        number("peak")
    };
    let (compiles, compiled) = (peak(), peak());
    note(&format!("a worker of `opens` takes {compiles} bytes when it compiles, and {compiled} when that was done before"));
    assert!(compiled <= MOST && compiled < compiles, "{compiled} {compiles}");
}

/// A layer that is missing is in the report; where it is required the run is refused before anything has happened, with the layer, the
/// reason and the way out; and the command line has the last word.
#[test]
fn required() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&format!("sandbox = \"required\"\n{}", manifest(&[opens()])));
    let ran = bundle.directory.path().join("ran");
    let (code, said, report) = run(&bundle, &[], true);
    assert_eq!((code, &report), (Some(1), &None), "{said}");
    assert!(said.contains("`sandbox` requires every layer, and this kernel, or this user, lacks\n  memory cgroup ("), "{said}");
    assert!(said.contains("systemd-run --scope -p Delegate=yes"), "{said}");
    assert!(!ran.exists());
    assert_no_programs();

    let (code, said, report) = run(&bundle, &["--sandbox", "available"], true);
    assert_eq!(code, Some(0), "{said}");
    let report = report.unwrap();
    let missing = &report["plugins"][0]["worker"]["missing"];
    assert!(missing.as_array().unwrap().iter().any(|missing| missing["layer"] == "memory cgroup"), "{missing}");
    assert_eq!(report["symbolizers"], Value::Array(Vec::new()));
    assert!(said.contains("\n  the cage of its worker lacks: ") && said.contains("memory cgroup ("), "{said}");
    assert!(ran.exists());

    // Without it being required nothing is said where nothing is missing.
    let (code, said, report) = run(&bundle, &["--sandbox", "available"], false);
    assert_eq!(code, Some(0), "{said}");
    let missing = report.unwrap()["plugins"][0]["worker"]["missing"].as_array().unwrap().len();
    assert_eq!(said.contains("lacks: "), missing > 0, "{said}");
    assert_no_programs();
}

/// A user that the manifest names is the one that workers and the symbolizer become, and root is never one.
#[test]
fn a_user_by_number() {
    let Some(_lock) = lock() else { return };
    let text = format!("sandbox = {{ uid = 4242, gid = 4243 }}\n{}", manifest(&[announcing()]));
    let bundle = Bundle::new(&text);
    let run = flowing(&bundle);
    let facts = watch::facts(&format!("/proc/{}", run.worker("flow"))).unwrap();
    assert_eq!((&*facts["Uid"], &*facts["Gid"]), ("4242 4242 4242 4242", "4243 4243 4243 4243"));
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert_eq!(outcome.plugin("flow")["worker"]["uid"], 4242);
    let root = Bundle::new(&text.replace("4242", "0"));
    let output = root.command("run", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("`sandbox.uid` is 0, that is root\n") && said.contains("line 1, column 19"), "{said}");
    assert_no_programs();
}

/// Where a process has a cgroup of ours.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (controllers, path) = (fields.nth(1)?, fields.next()?);
        let own = path.rsplit('/').next()?.starts_with("portcullis-");
        own.then(|| Path::new("/sys/fs/cgroup").join(controllers).join(path.trim_start_matches('/')))
    });
    paths.collect()
}

/// What a host that is killed leaves of cgroups the next one removes, and that of nobody who lives.
#[test]
fn left_by_the_dead() {
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&[announcing()]));
    let start = || {
        let run = flowing(&bundle);
        let worker = run.worker("flow");
        (run, worker, cgroups(worker))
    };
    let (mut dead, worker, left) = start();
    if left.is_empty() {
        note("skipped: there is no memory cgroup to be had");
        return;
    }
    let commands = dead.commands();
    dead.kill();
    assert_gone(&[worker]);
    commands.iter().for_each(|pid| watch::signal(*pid, Signal::KILL));
    assert!(left.iter().all(|directory| directory.exists()), "{left:?}");
    let (living, _, used) = start();
    assert!(left.iter().all(|directory| !directory.exists()), "{left:?}");
    assert!(used.iter().all(|directory| directory.exists()), "{used:?}");
    living.signal(Signal::INT);
    living.finish().good();
    assert!(used.iter().all(|directory| !directory.exists()), "{used:?}");
    assert_no_programs();
}

/// The filter of a network door is a layer of workers that have one: it is reported and required like any other, and what a host that is
/// killed leaves of it goes with the next one.
#[test]
fn a_network_door() {
    let Some(_lock) = lock() else { return };
    let door = |plugin: String| plugin.replace("grants = { ", "grants = { wasi = { network = [\"127.0.0.1:1\"] }, ");
    let bundle = Bundle::new(&manifest(&[door(opens())]));
    let lacks = |report: Option<Value>| {
        let missing = report.unwrap()["plugins"][0]["worker"]["missing"].clone();
        missing.as_array().unwrap().iter().any(|missing| missing["layer"] == "connection filter")
    };
    // Where version 2 is beside version 1, this is all that is missing without it.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let unified = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2");
    let unified = unified.map(|fields| fields[1]);
    let (code, said, report) = run_without(&bundle, &["--sandbox", "required"], unified);
    assert_eq!((code, &report), (Some(1), &None), "{said}");
    let alone = said.contains("lacks\n  connection filter (") && said.contains("CAP_NET_ADMIN");
    assert!(alone || said.contains("lacks\n  memory cgroup ("), "{said}");
    let (code, said, report) = run_without(&bundle, &[], unified);
    assert_eq!(code, Some(0), "{said}");
    assert!(lacks(report) && said.contains("connection filter ("), "{said}");
    assert_no_programs();

    let (code, said, report) = run(&bundle, &[], false);
    assert_eq!(code, Some(0), "{said}");
    if lacks(report) {
        note("skipped: connections can't be filtered here");
        return;
    }
    assert_no_programs();
    // Nobody who has no such door has anything to do with it.
    let shut = Bundle::new(&manifest(&[opens()]));
    let (code, said, report) = run(&shut, &[], true);
    assert!(code == Some(0) && !lacks(report), "{said}");

    let flow = Bundle::new(&manifest(&[door(announcing())]));
    let mut dead = flowing(&flow);
    let (worker, commands) = (dead.worker("flow"), dead.commands());
    dead.kill();
    assert_gone(&[worker]);
    commands.iter().for_each(|pid| watch::signal(*pid, Signal::KILL));
    let (code, said, _) = run(&shut, &[], false);
    assert_eq!(code, Some(0), "{said}");
    assert_no_programs();
}
