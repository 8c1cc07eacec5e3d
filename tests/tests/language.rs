//! The probe language on the running kernel: cases are data in `language/*.cases`, a workload and a probe, and the rows that come
//! out behind a line of dashes. `UPDATE_EXPECT=1` writes what comes out now.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{fs, path::Path};

use portcullis_ebpf::ProbeSpec;
use portcullis_tests::{
    kernel::{self, Workloads},
    lock, matrix, specs,
};

const LINE: &str = "----\n";
const PART: &str = "====\n";

/// Lines `word rest`; what follows `body` is all of the body.
fn words(text: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match out.last_mut() {
            Some((word, body)) if word == "body" && !line.starts_with("probe ") => {
                body.push('\n');
                body.push_str(line);
            }
            _ => {
                let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
                out.push((word.to_owned(), rest.to_owned()));
            }
        }
    }
    out
}

fn check_file(name: &str) {
    let Some(_lock) = lock() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("language").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let mut now = Vec::new();
    for case in text.split(PART) {
        let (input, expected) = case.split_once(LINE).unwrap();
        let mut spec = ProbeSpec { name: "probe".into(), ..ProbeSpec::default() };
        let mut workload = String::new();
        for (word, rest) in words(input) {
            match word.as_str() {
                "workload" => workload = rest,
                "attach" => spec.attach.push(rest),
                "when" => spec.when = Some(rest),
                "body" => spec.body = rest,
                other => panic!("{other}"),
            }
        }
        let workload: Vec<&str> = workload.split(' ').collect();
        let traced = kernel::trace(&[spec], &kernel::options(), Workloads { before: &[], open: &[&workload] });
        let found: String = traced.rows.iter().map(|(stream, fields)| format!("{stream} {}\n", fields.join(" "))).collect();
        assert_eq!(traced.report.check(), [], "{input}");
        if std::env::var_os("UPDATE_EXPECT").is_none() {
            assert_eq!(found, expected, "{input}");
        }
        now.push(format!("{input}{LINE}{found}"));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, now.join(PART)).unwrap();
    }
}

#[test]
fn arithmetic() {
    check_file("arithmetic.cases");
}

#[test]
fn control() {
    check_file("control.cases");
}

#[test]
fn text() {
    check_file("text.cases");
}

#[test]
fn maps() {
    check_file("maps.cases");
}

#[test]
fn spans() {
    check_file("spans.cases");
}

/// A span keeps the call stacks of its entry, whole: at the exit the process stands where it did.
#[test]
fn stacks() {
    let Some(_lock) = lock() else { return };
    let body = "emit s { kernel: entry.kstack, user: entry.ustack, after: ustack }; @by[entry.kstack] = count();".to_owned();
    let spec = ProbeSpec { name: "probe".into(), attach: vec!["span:syscall:getppid".into()], body, ..ProbeSpec::default() };
    let traced = kernel::trace(&[spec], &kernel::options(), Workloads { before: &[], open: &[&["getppid", "3"]] });
    assert_eq!(traced.report.check(), []);
    assert_eq!(traced.rows.len(), 3);
    for (_, fields) in &traced.rows {
        let [kernel, user, after] = [0, 1, 2].map(|i| fields[i].split_once('=').unwrap().1);
        assert_eq!(user, after);
        assert!(!kernel.starts_with("(0 ") && kernel.ends_with(" of 0)"), "{kernel}");
        assert!(!user.starts_with("(0 ") && !user.ends_with(" of 0)"), "{user}");
    }
}

/// Every program that the compiler's own data tests make passes this kernel's verifier, with the gate and without, in both scopes.
#[test]
fn specs_load() {
    let Some(_lock) = lock() else { return };
    let column = matrix::check(&kernel::running(), &specs::directory());
    assert_eq!(column.refusals, []);
    assert!(column.programs > 50, "{column}");
}
