//! `portcullis trace`: programs in bpftrace's notation, from the command line to what is printed.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use portcullis_tests::{Outcome, assert_no_programs, lock, trace, workload};

/// Runs `trace` to its end over a workload.
fn over(arguments: &[&str], work: &[&str]) -> Outcome {
    let workload = workload();
    let command = [&["--", workload.to_str().unwrap()], work].concat();
    trace(&[arguments, &command].concat(), Stdio::null()).finish()
}

/// The program's output to the byte: each `printf` once for each hit, and nothing else.
#[test]
fn printf_prints() {
    let Some(_lock) = lock() else { return };
    let program =
        r#"tracepoint:syscalls:sys_enter_getppid /comm == "workload"/ { printf("%s %05d|%-4s|%x%%\n", comm, 42, "a", 255) }"#;
    let outcome = over(&[program], &["getppid", "1000"]);
    let report = outcome.good();
    assert_eq!(outcome.stdout, "workload 00042|a   |ff%\n".repeat(1000));
    assert_eq!(report["plugins"][0]["delivered"], 1000);
    assert!(outcome.stderr.ends_with("Nothing was lost: 1,000 events recorded, and as many delivered.\n"), "{}", outcome.stderr);
}

/// What is printed and what is emitted stand in the order in which they happened, across clauses.
#[test]
fn order_is_kept() {
    let Some(_lock) = lock() else { return };
    let program = r#"
        tracepoint:syscalls:sys_enter_getppid { printf("enter\n"); emit s { n: 1 }; time("%%\n") }
        tracepoint:syscalls:sys_exit_getppid { printf("exit\n") }"#;
    let outcome = over(&[program, "-f", "json"], &["getppid", "500"]);
    outcome.good();
    let rows = outcome.rows();
    let shown = |row: &serde_json::Value| {
        let text = row["text"].as_str().map(str::to_owned);
        format!("{}: {}", row["table"].as_str().unwrap(), text.unwrap_or_else(|| row["n"].to_string()))
    };
    let shown: Vec<String> = rows.iter().map(shown).collect();
    assert_eq!(shown, ["printf: enter\n", "s: 1", "time: %\n", "printf: exit\n"].repeat(500));
    assert!(rows.is_sorted_by_key(|row| row["time"].as_u64().unwrap()));
}

/// `exit()` ends the run, and with it the command's tracing; nothing that came after it is shown.
#[test]
fn exit_ends() {
    let Some(_lock) = lock() else { return };
    let program = r#"tracepoint:syscalls:sys_enter_read { printf("read\n"); exit(); printf("never\n") }"#;
    let outcome = over(&[program], &["readers", "600", "2"]);
    outcome.good();
    assert_eq!(outcome.stdout, "read\n");
    assert!(outcome.stderr.contains("plugin \"adhoc\" asked for it: exit()"), "{}", outcome.stderr);
    assert_no_programs();
}

/// `-p` traces one process, and ends with it; `-c` is a command in one word.
#[test]
fn processes() {
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:syscalls:sys_enter_read { printf(\"%d\\n\", pid) }";
    let [mut traced, mut other] = [(), ()].map(|()| Command::new(workload()).args(["readers", "2", "1"]).spawn().unwrap());
    let pid = traced.id().to_string();
    let outcome = trace(&["-p", &pid, program], Stdio::null()).finish();
    outcome.good();
    assert!(outcome.stdout.lines().count() > 1000);
    assert!(outcome.stdout.lines().all(|line| line == pid));
    assert!(outcome.stderr.contains(&format!("process {pid} ended")), "{}", outcome.stderr);
    traced.wait().unwrap();
    other.wait().unwrap();
    let gone = trace(&["-p", &pid, program], Stdio::null()).finish();
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), ""));
    assert_eq!(gone.stderr, format!("portcullis: error: there is no process {pid}\n"));

    let command = format!("'{}' getppid 3", workload().display());
    let program = "tracepoint:syscalls:sys_enter_getppid { printf(\"%s\\n\", comm) }";
    let outcome = trace(&["-c", &command, program], Stdio::null()).finish();
    outcome.good();
    assert_eq!(outcome.stdout, "workload\n".repeat(3));
}

/// A program from a file, with parameters and `#!`, and from standard input.
#[test]
fn files() {
    let Some(_lock) = lock() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("getppid.pc");
    let text = "#!/usr/bin/env -S portcullis trace\n// Says a word.\n\
        tracepoint:syscalls:sys_enter_getppid /$1 == 7/ { printf(\"%s %d\\n\", str($2), $#) }\n";
    fs::write(&file, text).unwrap();
    let outcome = over(&[file.to_str().unwrap(), "7", "wo\"rd"], &["getppid", "2"]);
    outcome.good();
    assert_eq!(outcome.stdout, "wo\"rd 2\n".repeat(2));

    let workload = workload();
    let mut started = trace(&["-", "7", "x", "--", workload.to_str().unwrap(), "getppid", "1"], Stdio::piped());
    started.child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let outcome = started.finish();
    outcome.good();
    assert_eq!(outcome.stdout, "x 2\n");
}

/// An error of the compiler has its place in what was typed; nothing ran.
#[test]
fn errors_have_their_place() {
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:syscalls:sys_enter_openat {\n  printf(\"%s %d\\n\", comm, args.flag);\n}";
    let outcome = over(&[program], &["getppid", "1"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    let expect = "\
portcullis: error: no argument `flag` at tracepoint:syscalls:sys_enter_openat
 --> the program, line 2, column 32
  |
2 |   printf(\"%s %d\\n\", comm, args.flag);
  |                                ^^^^
  = help: did you mean `flags`?
";
    assert_eq!(outcome.stderr, expect);
}

/// What is printed is clean of control sequences, and a line that has no end yet is shown at the end.
#[test]
fn lines_are_clean() {
    let Some(_lock) = lock() else { return };
    let program = r#"tracepoint:syscalls:sys_enter_getppid { printf("\e[31m%s ", comm) }"#;
    let outcome = over(&[program, "--duration", "60s"], &["getppid", "2"]);
    outcome.good();
    assert!(!outcome.stdout.contains('\x1b'), "{:?}", outcome.stdout);
    assert_eq!(outcome.stdout.matches("workload").count(), 2, "{:?}", outcome.stdout);
    assert!(outcome.stdout.ends_with('\n'), "{:?}", outcome.stdout);
}
