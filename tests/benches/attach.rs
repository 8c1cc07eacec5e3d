//! How long it takes from the start of the program to the open gate, and from Ctrl-C to the prompt, beside bpftrace in the same run:
//! `cargo bench -p portcullis-tests --bench attach`. Figures: docs/performance.md.
//!
//! bpftrace is what the environment variable BPFTRACE says, `bpftrace` if it is not set; without it, only our own program is measured.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use portcullis::clock;
use portcullis_ebpf::Kernel as _;
use portcullis_tests::{kernel, lock, portcullis};
use rustix::process::{Pid, Signal, kill_process};

/// How often each is measured; the median counts.
const ROUNDS: usize = 5;
/// bpftrace takes long where it detaches one by one; it is measured once.
const SLOW: usize = 50;

/// From the start to the opening, and from Ctrl-C to the end.
struct Times {
    start: Duration,
    stop: Duration,
}

/// So many attach points that both programs take.
struct Case {
    name: String,
    points: usize,
    /// The attach points as bpftrace has them, with commas.
    attach: String,
}

fn interrupt(child: &mut Child) -> Duration {
    // It runs for a while before, as a user's would.
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process has a number");
    kill_process(pid, Signal::INT).expect("it runs");
    child.wait().expect("it ends");
    begin.elapsed()
}

fn ours(case: &Case, directory: &Path) -> Times {
    let report = directory.join("report.json");
    let program = format!("{} {{ @ = count() }}", case.attach);
    let begin = clock::now();
    let mut child = Command::new(portcullis())
        .args(["trace", "--attach-points", "10000", &program, "--report"])
        .arg(&report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // The gate is open long before that.
    std::thread::sleep(Duration::from_millis(1000));
    let stop = interrupt(&mut child);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).expect("there is a report")).expect("it is JSON");
    let opened = report["gate"]["open"][0].as_u64().expect("the gate was opened");
    Times { start: Duration::from_nanos(opened - begin), stop }
}

/// `None` if there is no bpftrace, or none that takes the program.
fn bpftrace(case: &Case) -> Option<Times> {
    let command = std::env::var("BPFTRACE").unwrap_or_else(|_| "bpftrace".to_owned());
    let mut words = command.split_ascii_whitespace();
    let begin = Instant::now();
    let (reader, writer) = std::io::pipe().ok()?;
    let mut child = Command::new(words.next()?);
    let program = format!("{} {{ @ = count(); }}", case.attach);
    child.args(words).args(["-B", "line", "-e", &program]).env("BPFTRACE_MAX_PROBES", "10000");
    child.stdin(Stdio::null()).stdout(writer.try_clone().ok()?).stderr(writer);
    let mut spawned = child.spawn().ok()?;
    drop(child);
    let mut lines = BufReader::new(reader).lines();
    // It says so when all are attached (0.24 and later), or when it begins (before).
    if !lines.any(|line| line.is_ok_and(|line| line.contains("Attached") || line.contains("Attaching"))) {
        let _ = spawned.wait();
        return None;
    }
    let start = begin.elapsed();
    // A full pipe would hold it up.
    std::thread::spawn(move || lines.for_each(drop));
    Some(Times { start, stop: interrupt(&mut spawned) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// A program of a thousand functions, which cc(1) makes.
fn thousand(directory: &Path) -> Option<String> {
    let mut source = String::new();
    for n in 0..1000 {
        let _ = writeln!(source, "__attribute__((noinline)) int work_{n:03}(int x) {{ return x + {n}; }}");
    }
    source.push_str("int main(void) { return 0; }\n");
    let (file, program) = (directory.join("thousand.c"), directory.join("thousand"));
    fs::write(&file, source).ok()?;
    let made = Command::new("cc").args(["-O0", "-o"]).args([&program, &file]).status();
    made.is_ok_and(|status| status.success()).then(|| program.display().to_string())
}

fn cases(directory: &Path) -> Vec<Case> {
    let kernel = kernel::running();
    let tracepoints = kernel.tracepoints().expect("tracefs is there");
    let list = |points: Vec<String>| (points.len(), points.join(","));
    let calls = |count| tracepoints.iter().filter(|(c, n)| c == "syscalls" && n.starts_with("sys_enter_")).take(count);
    // Nothing that our own reading of the clock or of the ring could set off for ever.
    let others = |count| {
        tracepoints
            .iter()
            .filter(|(c, _)| {
                matches!(
                    c.as_str(),
                    "block"
                        | "ext4"
                        | "jbd2"
                        | "kmem"
                        | "net"
                        | "sched"
                        | "skb"
                        | "sock"
                        | "tcp"
                        | "writeback"
                        | "xdp"
                        | "sunrpc"
                        | "task"
                        | "workqueue"
                        | "cgroup"
                        | "filelock"
                        | "compaction"
                        | "oom"
                )
            })
            .take(count)
    };
    let mut cases = Vec::new();
    for count in [1, 10, 100, 300] {
        let (points, attach) = list(calls(count).map(|(c, n)| format!("tracepoint:{c}:{n}")).collect());
        cases.push(Case { name: "tracepoints of system calls".to_owned(), points, attach });
    }
    let (points, attach) = list(others(100).map(|(c, n)| format!("tracepoint:{c}:{n}")).collect());
    cases.push(Case { name: "other tracepoints".to_owned(), points, attach });
    if let Some(program) = thousand(directory) {
        cases.push(Case { name: "uprobes".to_owned(), points: 100, attach: format!("uprobe:{program}:work_1*") });
        cases.push(Case { name: "uprobes".to_owned(), points: 1000, attach: format!("uprobe:{program}:work_*") });
    }
    if kernel.features().kprobe {
        for pattern in ["vfs_read", "vfs_*", "tcp_*"] {
            let attach = format!("kprobe:{pattern}");
            let points = kernel
                .functions()
                .expect("functions are listed")
                .iter()
                .filter(|f| f.name.starts_with(pattern.trim_end_matches('*')));
            cases.push(Case { name: format!("kprobes {pattern}"), points: points.count(), attach });
        }
    }
    cases
}

fn main() {
    let Some(_lock) = lock() else { return };
    let directory = tempfile::tempdir().expect("there is room for a directory");
    println!("| What | start | stop | bpftrace: start | stop |");
    println!("|---|---|---|---|---|");
    for case in cases(directory.path()) {
        let own: Vec<Times> = (0..ROUNDS).map(|_| ours(&case, directory.path())).collect();
        let rounds = if case.points >= SLOW { 1 } else { ROUNDS };
        let theirs: Vec<Times> = (0..rounds).map_while(|_| bpftrace(&case)).collect();
        let of =
            |times: &[Times]| (median(times.iter().map(|t| t.start).collect()), median(times.iter().map(|t| t.stop).collect()));
        let (start, stop) = of(&own);
        let other = match theirs.is_empty() {
            true => "- | -".to_owned(),
            false => {
                let (start, stop) = of(&theirs);
                format!("{} | {}", millis(start), millis(stop))
            }
        };
        println!("| {} {} | {} | {} | {other} |", case.points, case.name, millis(start), millis(stop));
    }
}
