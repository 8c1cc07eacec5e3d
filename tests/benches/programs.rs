//! How long generated programs run, beside those that bpftrace makes of the same body, on the same events, in one run:
//! `cargo bench -p portcullis-tests --bench programs`. Figures: docs/performance.md.
//!
//! The kernel itself counts the time (BPF_ENABLE_STATS). bpftrace is what the environment variable BPFTRACE says, `bpftrace` if it is
//! not set; without it, only our own programs are measured.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use portcullis_ebpf::{Options, ProbeSpec};
use portcullis_tests::{
    kernel::{self, Workloads},
    lock,
};

/// How often each is measured; the median of the ratios counts.
const ROUNDS: usize = 9;

/// A body in both languages, and what makes its events.
struct Case {
    name: &'static str,
    ours: &'static [(&'static str, &'static str, &'static str)],
    bpftrace: &'static str,
    workload: &'static [&'static str],
}

const CASES: [Case; 3] = [
    Case {
        name: "count by comm",
        ours: &[("tracepoint:raw_syscalls:sys_enter", "", "@[comm] = count()")],
        bpftrace: "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }",
        workload: &["getppid", "400000"],
    },
    Case {
        name: "hist of a latency",
        ours: &[
            ("tracepoint:raw_syscalls:sys_enter", "", "@start[tid] = nsecs"),
            ("tracepoint:raw_syscalls:sys_exit", "@start[tid] != 0", "@ns = hist(nsecs - @start[tid]); delete(@start[tid])"),
        ],
        bpftrace: "tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; } tracepoint:raw_syscalls:sys_exit \
                   /@start[tid] != 0/ { @ns = hist(nsecs - @start[tid]); delete(@start, tid); }",
        workload: &["getppid", "400000"],
    },
    // 257 is openat(2) of x86-64.
    Case {
        name: "emit of pid, comm and str",
        ours: &[("tracepoint:raw_syscalls:sys_enter", "args.id == 257", "emit opens { pid, comm, path: ustr(args.args[1]) }")],
        bpftrace: "config = { max_strlen = 64 } tracepoint:raw_syscalls:sys_enter /args.id == 257/ \
                   { printf(\"%d %s %s\\n\", pid, comm, str(uptr(args.args[1]))); }",
        workload: &["opens", "40000", "/etc/hostname"],
    },
];

/// The programs that are loaded.
fn programs() -> BTreeSet<u32> {
    loaded_programs().filter_map(|program| Some(program.ok()?.id())).collect()
}

/// How long these programs have run, and how often.
fn times(of: &BTreeSet<u32>) -> (Duration, u64) {
    let found = loaded_programs().filter_map(Result::ok).filter(|program| of.contains(&program.id()));
    found.fold((Duration::ZERO, 0), |(time, runs), program| (time + program.run_time(), runs + program.run_count()))
}

/// bpftrace, once it has attached. What it prints is thrown away by a thread.
fn bpftrace(text: &str) -> Option<Child> {
    let command = std::env::var("BPFTRACE").unwrap_or_else(|_| "bpftrace".to_owned());
    let mut words = command.split_ascii_whitespace();
    let mut child = Command::new(words.next()?);
    child.args(words).args(["-B", "line", "-e", text]);
    let (reader, writer) = std::io::pipe().ok()?;
    let spawned = child.stdin(Stdio::null()).stdout(writer.try_clone().ok()?).stderr(writer).spawn().ok()?;
    // It has the pipe's other end.
    drop(child);
    let mut out = BufReader::new(reader);
    let mut line = String::new();
    let start = Instant::now();
    while !line.contains("Attached") && !line.contains("Attaching") {
        line.clear();
        if out.read_line(&mut line).ok()? == 0 || start.elapsed() > Duration::from_secs(60) {
            return None;
        }
    }
    std::thread::spawn(move || {
        let mut bytes = [0; 1 << 16];
        while out.read(&mut bytes).is_ok_and(|read| read > 0) {}
    });
    // It says so before the last is attached.
    std::thread::sleep(Duration::from_secs(1));
    Some(spawned)
}

fn specs(case: &Case) -> Vec<ProbeSpec> {
    let spec = |(n, (attach, when, body)): (usize, &(&str, &str, &str))| {
        let when = (!when.is_empty()).then_some(*when);
        kernel::probe(&format!("probe{n}"), attach, when, body)
    };
    case.ours.iter().enumerate().map(spec).collect()
}

/// Nanoseconds of all runs over the workload: ours, and bpftrace's.
fn round(case: &Case) -> (f64, Option<f64>) {
    let before = programs();
    let other = bpftrace(case.bpftrace);
    let theirs: BTreeSet<u32> = programs().difference(&before).copied().collect();
    let mut after = (Duration::ZERO, 0);
    let (mut own, mut begun) = (BTreeSet::new(), (Duration::ZERO, 0));
    let measured = kernel::trace_around(
        &specs(case),
        &Options { gate: Some(0), ..Options::default() },
        Workloads { before: &[], open: &[case.workload] },
        |opened, _| {
            if opened {
                own = programs().difference(&before).filter(|id| !theirs.contains(id)).copied().collect();
                begun = times(&own);
                after = times(&theirs);
            } else {
                let (ours, others) = (times(&own), times(&theirs));
                begun = (ours.0 - begun.0, ours.1 - begun.1);
                after = (others.0 - after.0, others.1 - after.1);
            }
        },
    );
    drop(measured);
    if let Some(mut other) = other {
        let _ = Command::new("kill").args(["-INT", &other.id().to_string()]).status();
        let _ = other.wait();
    }
    let each = |(time, runs): (Duration, u64)| (runs > 0).then(|| time.as_nanos() as f64 / runs as f64);
    (each(begun).unwrap_or_default(), each(after))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let _lock = lock();
    let _stats = enable_stats(Stats::RunTime).expect("the kernel counts the time of programs");
    for case in &CASES {
        let rounds: Vec<(f64, Option<f64>)> = (0..ROUNDS).map(|_| round(case)).collect();
        let ours = median(rounds.iter().map(|(ours, _)| *ours).collect());
        let theirs: Vec<(f64, f64)> = rounds.iter().filter_map(|(ours, theirs)| Some((*ours, (*theirs)?))).collect();
        if theirs.is_empty() {
            println!("{}: {ours:.0} ns a run; bpftrace is not there", case.name);
            continue;
        }
        let ratio = median(theirs.iter().map(|(ours, theirs)| ours / theirs).collect());
        let theirs = median(theirs.iter().map(|(_, theirs)| *theirs).collect());
        println!("{}: {ours:.0} ns a run, bpftrace {theirs:.0} ns, ratio {ratio:.2}", case.name);
    }
}
