//! `portcullis doctor`, as root and as nobody.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
    time::{Duration, Instant},
};

use portcullis_ebpf::Kernel as _;
use portcullis_tests::{assert_no_programs, kernel, lock, portcullis};
use serde_json::Value;

/// The findings as JSON, each with its five members, the exit code, and what is printed for people.
fn examine(mut command: impl FnMut() -> Command) -> (Vec<Value>, Option<i32>, String) {
    let start = Instant::now();
    let json = command().args(["doctor", "--json"]).output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let text = command().arg("doctor").output().unwrap();
    assert_eq!(json.status.code(), text.status.code());
    let findings: Vec<Value> = serde_json::from_slice(&json.stdout).unwrap();
    for finding in &findings {
        let mut members: Vec<&String> = finding.as_object().unwrap().keys().collect();
        members.sort_unstable();
        assert_eq!(members, ["detail", "group", "name", "ok", "way_out"], "{finding}");
        assert_eq!(finding["ok"].as_bool().unwrap(), finding["way_out"].is_null(), "{finding}");
    }
    (findings, json.status.code(), String::from_utf8(text.stdout).unwrap())
}

fn ok(findings: &[Value], name: &str) -> bool {
    let finding = findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name} in {findings:?}"));
    finding["ok"].as_bool().unwrap()
}

/// Root is told what this kernel has, and nothing is left of what was tried.
#[test]
fn root() {
    let Some(_lock) = lock() else { return };
    let (findings, code, text) = examine(|| Command::new(portcullis()));
    assert_eq!(code, Some(0), "{text}");
    let features = kernel::running().features();
    for (name, expect) in [
        ("version", true),
        ("types (BTF)", true),
        ("tracefs", true),
        ("CAP_BPF", true),
        ("ring buffer", true),
        ("hash table per CPU", true),
        ("tracepoint", true),
        ("rawtracepoint", true),
        ("span:syscall", true),
        ("kprobe", features.kprobe),
        ("kretprobe", features.kprobe),
        ("fentry", features.fentry),
        ("uprobe", features.uprobe),
        ("uretprobe", features.uprobe),
        ("profile", true),
        ("hardware", features.hardware),
        ("user of its own", true),
        ("pid namespace", true),
        ("mount namespace", true),
        ("network namespace", true),
        ("IPC namespace", true),
        ("UTS namespace", true),
        ("cgroup namespace", true),
        ("user namespace", true),
        ("seccomp", true),
        ("symbolizer, locked in", true),
    ] {
        assert_eq!(ok(&findings, name), expect, "{name}: {text}");
    }
    // Whatever a distribution has enabled.
    let _ = ok(&findings, "Landlock");
    // Wherever this runs.
    let _ = ok(&findings, "memory cgroup");
    assert!(text.starts_with("kernel\n  yes  version"), "{text}");
    assert_no_programs();
}

/// Whoever may do nothing is told so, of each thing why, and how to get it.
#[test]
fn nobody() {
    let Some(_lock) = lock() else { return };
    // The checkout may be where nobody else comes.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let executable = directory.path().join("portcullis");
    fs::copy(portcullis(), &executable).unwrap();
    let (findings, code, text) = examine(|| {
        let mut command = Command::new(&executable);
        command.uid(65534).gid(65534);
        command
    });
    assert_eq!(code, Some(1), "{text}");
    assert!(ok(&findings, "version") && ok(&findings, "types (BTF)"), "{text}");
    for name in ["CAP_BPF", "CAP_PERFMON", "ring buffer", "rawtracepoint", "profile"] {
        assert!(!ok(&findings, name), "{name}: {text}");
    }
    // A worker of nobody's is caged as far as nobody can.
    assert!(!ok(&findings, "user of its own") && !ok(&findings, "memory cgroup"), "{text}");
    assert!(!ok(&findings, "pid namespace") && ok(&findings, "seccomp"), "{text}");
    let way_out = format!(
        "setcap cap_bpf,cap_perfmon,cap_dac_read_search,cap_syslog,cap_sys_ptrace,cap_checkpoint_restore+ep {}",
        executable.display()
    );
    assert!(text.contains(&way_out), "{text}");
}
