//! Whose processes a run sees: the limits of the command line, each against processes on both sides of it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{fs, path::PathBuf, process::Stdio};

use portcullis_tests::{lock, note, trace, workload};

/// Traces what a shell does, and says how often the probe hit.
fn hits(limits: &[&str], program: &str, script: &str) -> u64 {
    let outcome = trace(&[limits, &[program, "--", "sh", "-c", script]].concat(), Stdio::null()).finish();
    outcome.good()["plugins"][0]["probes"][0]["hits"].as_u64().unwrap()
}

/// A control group of this test, where the unified hierarchy is mounted; gone when it is dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Group> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[2] == "cgroup2").then(|| PathBuf::from(fields[1]))
        })?;
        let group = root.join(format!("portcullis-test-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        Some(Group(group))
    }

    fn inner(&self) -> PathBuf {
        self.0.join("inner")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.inner());
        let _ = fs::remove_dir(&self.0);
    }
}

/// A user's processes and no others.
#[test]
fn users() {
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:syscalls:sys_enter_clock_nanosleep { @ = count() }";
    let script = "sleep 0.01; setpriv --reuid=65534 --regid=65534 --clear-groups sleep 0.01; sleep 0.01";
    assert_eq!(hits(&[], program, script), 3);
    assert_eq!(hits(&["--uid", "65534"], program, script), 1);
    assert_eq!(hits(&["--uid", "root"], program, script), 2);
}

/// What runs in a control group or below it, from when it is there.
#[test]
fn control_groups() {
    let Some(_lock) = lock() else { return };
    let Some(group) = Group::new() else {
        note("skipped: there is no cgroup2 file system that can be written to");
        return;
    };
    fs::create_dir(group.inner()).unwrap();
    let program = "tracepoint:syscalls:sys_enter_getppid /comm == \"workload\"/ { @ = count() }";
    let work = format!("{} getppid", workload().display());
    let join = |group: &PathBuf| format!("echo $$ > {}/cgroup.procs", group.display());
    let script = format!("{work} 3; {}; {work} 10; {}; {work} 100", join(&group.0), join(&group.inner()));
    let by = |name: &str| hits(&["--cgroup", name], program, &script);
    assert_eq!(by(group.0.to_str().unwrap()), 110);
    assert_eq!(by(&format!("portcullis-test-{}/inner", std::process::id())), 100);
    assert_eq!(by(&format!("portcullis-test-{}", std::process::id())), 110);
}

/// Names of nothing are errors, before anything is attached.
#[test]
fn no_such() {
    let Some(_lock) = lock() else { return };
    let check = |limits: &[&str], expect: &str| {
        let outcome = trace(&[limits, &["begin { }"]].concat(), Stdio::null()).finish();
        assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
    };
    check(&["--uid", "nobody-of-this-name"], "there is no user `nobody-of-this-name`");
    if Group::new().is_some() {
        check(&["--cgroup", "no-such.service"], "there is no control group `no-such.service`");
    }
}
