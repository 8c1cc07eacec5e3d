//! Probes in programs and libraries that nobody here wrote, with their arguments: the C and C++ libraries and Python of this machine.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    process::{Command, Stdio},
};

use portcullis_ebpf::{Kernel as _, kernel::UserProbe};
use portcullis_tests::{kernel, lock, note, trace};

/// Traces a program of the system with one clause, whose rows are the lines that are printed.
fn rows(program: &str, command: &[&str]) -> Vec<String> {
    let outcome = trace(&[&[program, "--"], command].concat(), Stdio::null()).finish();
    outcome.good();
    outcome.stdout.lines().map(str::to_owned).collect()
}

/// perl's calls of a function of the C library: each once, with its arguments and what it returns.
#[test]
fn functions_of_the_c_library() {
    let Some(_lock) = lock() else { return };
    let script = r#"for my $n (1..100) { rename("/no/such/$n", "/nowhere/$n") }"#;
    let perl = ["perl", "-e", script];
    let lines = rows(r#"uprobe:libc:rename /comm == "perl"/ { printf("%s %s\n", str(arg0), str(arg1)) }"#, &perl);
    let expect: Vec<String> = (1..=100).map(|n| format!("/no/such/{n} /nowhere/{n}")).collect();
    assert_eq!(lines, expect);
    let lines = rows(r#"uretprobe:libc:rename /comm == "perl"/ { printf("%d\n", (int32)retval) }"#, &perl);
    assert_eq!(lines, ["-1"; 100]);
    let span =
        r#"span:uprobe:libc:rename /comm == "perl"/ { printf("%s %d %d\n", str(entry.arg0), (int32)retval, duration > 0) }"#;
    let expect: Vec<String> = (1..=100).map(|n| format!("/no/such/{n} -1 1")).collect();
    assert_eq!(rows(span, &perl), expect);
}

/// Whether a file has a probe of its own; says so where it has not.
fn has(binary: &str, provider: &str, name: &str) -> bool {
    let found: Vec<UserProbe> = kernel::running().user_probes(binary, provider, name).unwrap_or_default();
    if found.is_empty() {
        note(&format!("skipped: there is no usdt:{binary}:{provider}:{name} on this machine"));
    }
    !found.is_empty()
}

/// Python's probe of audit events, which it passes only while its semaphore says that someone listens: each event once, with its name.
#[test]
fn probes_of_python() {
    let Some(_lock) = lock() else { return };
    const PYTHON: &str = "/usr/bin/python3";
    if !has(PYTHON, "python", "audit") {
        return;
    }
    let script = "import sys\nfor n in range(100): sys.audit('portcullis.test')";
    let program = format!(r#"usdt:{PYTHON}:python:audit /str(arg0) == "portcullis.test"/ {{ printf("%s\n", str(arg0)) }}"#);
    assert_eq!(rows(&program, &[PYTHON, "-S", "-c", script]), ["portcullis.test"; 100]);
}

/// The C++ library's probes of exceptions, in a program that throws a known number of them: each has its object and its type.
#[test]
fn probes_of_the_cpp_library() {
    let Some(_lock) = lock() else { return };
    if !has("libstdc++", "libstdcxx", "throw") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("throws.cpp"), directory.path().join("throws"));
    fs::write(&source, "int main() { for (int n = 0; n < 50; n++) try { throw n; } catch (int) {} }").unwrap();
    let made = Command::new("c++").arg("-o").args([&program, &source]).status().unwrap();
    assert!(made.success());
    let clauses = r#"usdt:libstdc++:libstdcxx:throw { printf("throw %d %d\n", arg0 != 0, arg1 != 0) }
        usdt:libstdc++:libstdcxx:catch { printf("catch %d %d\n", arg0 != 0, arg1 != 0) }"#;
    assert_eq!(rows(clauses, &[program.to_str().unwrap()]), ["throw 1 1", "catch 1 1"].repeat(50));
}
