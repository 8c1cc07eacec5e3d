//! `portcullis trace`: programs in bpftrace's notation, from the command line to what is printed.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use portcullis_tests::{Outcome, assert_no_programs, lock, portcullis, trace, workload};

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
    let readers = || Command::new(workload()).args(["reads-until-told", "1000", "1"]).stdin(Stdio::piped()).spawn().unwrap();
    let [mut traced, mut other] = [readers(), readers()];
    let pid = traced.id().to_string();
    let mut started = trace(&["-p", &pid, program], Stdio::null());
    let mut stdout = BufReader::new(started.child.stdout.take().unwrap());
    let mut shown = String::new();
    stdout.read_line(&mut shown).unwrap();
    drop(traced.stdin.take());
    stdout.read_to_string(&mut shown).unwrap();
    let outcome = started.finish();
    outcome.good();
    assert!(shown.lines().count() > 1000);
    assert!(shown.lines().all(|line| line == pid));
    assert!(outcome.stderr.contains(&format!("process {pid} ended")), "{}", outcome.stderr);
    traced.wait().unwrap();
    drop(other.stdin.take());
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

/// What getppid(2) is counted into: 1 to 100, each once.
const COUNTED: &str = "tracepoint:syscalls:sys_enter_getppid {
    @n++; @hist = hist(@n); @lhist = lhist(@n, 0, 100, 50); @stats = stats(@n); @by[comm, @n % 3] = sum(@n);
}";

/// Maps at the end, as text: sorted, the largest last, histograms drawn.
#[test]
fn maps_as_text() {
    let Some(_lock) = lock() else { return };
    let outcome = over(&[COUNTED], &["getppid", "100"]);
    outcome.good();
    let bar = |width: usize| format!("|{:<52}|", "@".repeat(width));
    let rows =
        [("[1]", 1, 1), ("[2, 4)", 2, 2), ("[4, 8)", 4, 5), ("[8, 16)", 8, 11), ("[16, 32)", 16, 22), ("[32, 64)", 32, 44)];
    let rows = rows.into_iter().chain([("[64, 128)", 37, 52)]);
    let hist: String = rows.map(|(label, count, width)| format!("{label:<16}{count:>8} {}\n", bar(width))).collect();
    let rows = [("[0, 50)", 49, 49), ("[50, 100)", 50, 50), ("[100, ...)", 1, 1)];
    let lhist: String =
        rows.into_iter().map(|(label, count, width)| format!("{label:<16}{count:>8} {}\n", bar(width * 52 / 50))).collect();
    for expect in [
        "@n: 100\n".to_owned(),
        format!("@hist: \n{hist}\n"),
        format!("@lhist: \n{lhist}\n"),
        "@stats: count 100, average 50, total 5050\n".to_owned(),
        "@by[workload, 2]: 1650\n@by[workload, 0]: 1683\n@by[workload, 1]: 1717\n\n".to_owned(),
    ] {
        assert!(outcome.stdout.contains(&expect), "{expect}\nis not in\n{}", outcome.stdout);
    }
    let top = over(&[COUNTED, "--top", "1"], &["getppid", "100"]);
    assert!(top.stdout.contains("\n@by[workload, 1]: 1717\n\n"), "{}", top.stdout);
    assert_eq!(top.stdout.matches("@by[").count(), 1, "{}", top.stdout);
}

/// The same as JSON: a row for each element or bucket.
#[test]
fn maps_as_json() {
    let Some(_lock) = lock() else { return };
    let outcome = over(&[COUNTED, "-f", "json"], &["getppid", "100"]);
    outcome.good();
    let table = |name: &str, columns: &[&str]| -> Vec<String> {
        let rows = outcome.rows().into_iter().filter(|row| row["table"] == name);
        rows.map(|row| columns.iter().map(|column| row[column].to_string()).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(table("n", &["value"]), ["100"]);
    let hist = ["1 2 1", "2 4 2", "4 8 4", "8 16 8", "16 32 16", "32 64 32", "64 128 37"];
    assert_eq!(table("hist", &["from", "to", "count"]), hist);
    assert_eq!(table("lhist", &["from", "to", "count"]), ["0 50 49", "50 100 50", "100 9223372036854775807 1"]);
    assert_eq!(table("stats", &["count", "average", "total"]), ["100 50 5050"]);
    assert_eq!(table("by", &["comm", "sum"]), ["\"workload\" 1650", "\"workload\" 1683", "\"workload\" 1717"]);
}

/// Statements on maps, done when nothing changes the maps any more: print, print of one element, zero, clear.
#[test]
fn statements_on_maps() {
    let Some(_lock) = lock() else { return };
    let program = r#"
        tracepoint:syscalls:sys_enter_getppid {
            @n++; @by[@n % 3] = count(); @h[@n % 2] = hist(1); @z[1] = 7; @taken[1] = sum(10); @d[1] = 1; @d[2] = 2;
        }
        tracepoint:syscalls:sys_enter_exit_group /comm == "workload"/ {
            delete(@d[1]);
            print(@by, 2, 10); print(@h[1]); zero(@z); print(@z); clear(@h); print(@taken); clear(@taken); printf("--\n");
        }"#;
    let outcome = over(&[program], &["getppid", "100"]);
    outcome.good();
    let (before, after) = outcome.stdout.split_once("--\n").unwrap();
    let bar = "@".repeat(52);
    assert_eq!(
        before,
        format!("@by[2]: 3\n@by[1]: 3\n\n@h[1]: \n[1]                   50 |{bar}|\n\n@z[1]: 0\n\n@taken[1]: 1000\n\n")
    );
    assert_eq!(after, "@n: 100\n@by[0]: 33\n@by[2]: 33\n@by[1]: 34\n\n@z[1]: 0\n\n@d[2]: 2\n\n");
}

/// `--interval` prints maps as they grow, and with `--clear` what is new: together it is everything.
#[test]
fn intervals() {
    const CALLS: u64 = 3_000_000;
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:syscalls:sys_enter_getppid { @ = count() }";
    let calls = CALLS.to_string();
    for clear in [None, Some("--clear")] {
        let arguments: Vec<&str> = [program, "-f", "json", "--interval", "100ms"].into_iter().chain(clear).collect();
        let outcome = over(&arguments, &["getppid", &calls]);
        outcome.good();
        let counts: Vec<u64> = outcome.rows().iter().map(|row| row["count"].as_u64().unwrap()).collect();
        assert!(counts.len() > 2, "{counts:?}");
        match clear {
            None => assert_eq!((counts.last(), counts.is_sorted()), (Some(&CALLS), true), "{counts:?}"),
            Some(_) => assert_eq!(counts.iter().sum::<u64>(), CALLS, "{counts:?}"),
        }
    }
}

/// Stacks are printed with a frame on each line, and can be keys.
#[test]
fn stacks() {
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:syscalls:sys_enter_getppid { @[kstack] = count(); print(kstack) }";
    let outcome = over(&[program, "-f", "json"], &["getppid", "3"]);
    outcome.good();
    let rows = outcome.rows();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[3]["count"], 3);
    for row in &rows[..3] {
        let frames: Vec<&str> = row["text"].as_str().unwrap().lines().filter(|line| !line.is_empty()).collect();
        assert!(frames.len() > 1 && frames.iter().all(|frame| frame.starts_with("    ")), "{row}");
        assert!(!frames[0].contains("bpf_"), "{row}");
    }
    assert!(rows[3]["kstack"].as_str().unwrap().matches(';').count() > 0, "{rows:?}");
}

/// `BEGIN` is first, `END` is last, and `interval` comes in between; after an `exit` only `END` prints.
#[test]
fn begin_and_end() {
    let Some(_lock) = lock() else { return };
    let program = r#"
        END { printf("end %d\n", @ticks); clear(@ticks); }
        interval:ms:100 { @ticks++; printf("tick\n"); if (@ticks == 3) { exit(2); printf("never\n"); } }
        BEGIN { printf("begin\n"); }"#;
    let outcome = trace(&[program], Stdio::null()).finish();
    outcome.good();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..4], ["begin", "tick", "tick", "tick"], "{}", outcome.stdout);
    // The interval goes on until the gate closes.
    let end = lines[4].strip_prefix("end ").and_then(|ticks| ticks.parse::<u64>().ok());
    assert!(lines.len() == 5 && end >= Some(3), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("asked for it: exit(2)"), "{}", outcome.stderr);
}

/// Every command of docs/trace.md passes the verifier of this kernel.
#[test]
fn documentation() {
    let Some(_lock) = lock() else { return };
    let text = include_str!("../../docs/trace.md");
    let commands = text.split("\n```sh\nportcullis trace ").skip(1).filter_map(|block| Some(block.split_once("\n```")?.0));
    let mut count = 0;
    for command in commands {
        let line = format!("\"$0\" trace --dry-run {command}");
        let output = Command::new("/bin/sh").arg("-c").arg(&line).arg(portcullis()).output().unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert!(count > 10, "{count}");
}
