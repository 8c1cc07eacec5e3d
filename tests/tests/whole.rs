//! Every kind of attach point that this kernel has through the whole of Portcullis, on each kernel: from the command line by the shipped
//! plugin to the counts of the report.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use portcullis_ebpf::{Kernel as _, Options};
use portcullis_tests::{
    kernel::{self, probe},
    lock, note, trace, workload,
};

/// How often the workload does each thing.
const COUNT: u64 = 100;

/// All at once, over one command: each is hit as often as the command does it.
#[test]
fn every_kind() {
    let Some(_lock) = lock() else { return };
    let file = workload();
    let file = file.to_str().unwrap();
    let features = kernel::running().features();
    let mut points = vec![
        "tracepoint:syscalls:sys_enter_getppid".to_owned(),
        "tracepoint:syscalls:sys_exit_getppid".to_owned(),
        "span:syscall:getppid".to_owned(),
        format!("uprobe:{file}:workload_double"),
        format!("uretprobe:{file}:workload_double"),
        format!("span:uprobe:{file}:workload_double"),
    ];
    if cfg!(target_arch = "x86_64") {
        points.push(format!("usdt:{file}:workload:marker"));
    }
    if features.kprobe {
        points.extend(["kprobe:noop_fsync", "kretprobe:noop_fsync", "span:kprobe:noop_fsync"].map(str::to_owned));
    }
    if features.fentry {
        points.extend(["fentry:noop_fsync", "fexit:noop_fsync", "span:kfunc:noop_fsync"].map(str::to_owned));
    }
    let once = [("begin", true), ("end", true), ("iter:task", features.iter)];
    let once: Vec<&str> = once.into_iter().filter(|(_, there)| *there).map(|(point, _)| point).collect();
    let mut program: String = points.iter().enumerate().map(|(n, point)| format!("{point} {{ @n[{n}] = count(); }} ")).collect();
    once.iter().for_each(|point| program.push_str(&format!("{point} {{ @once = count(); }} ")));
    // Events of which there may be some: a short command need not give up its CPU before its end.
    program.push_str("rawtracepoint:sched_switch { @switches = count(); } software:page-faults:1 { @faults = count(); } ");
    let begin = Instant::now();
    let outcome = trace(&[&program, "-f", "json", "--", file, "each", &COUNT.to_string()], Stdio::null()).finish();
    let time = begin.elapsed();
    let report = outcome.good();
    let probes = report["plugins"][0]["probes"].as_array().unwrap();
    let of = |point: &str| {
        let found = probes.iter().find(|probe| probe["attach"][0].as_str() == Some(point));
        found.unwrap_or_else(|| panic!("no probe at {point} in {report}"))
    };
    for point in &points {
        assert_eq!(of(point)["hits"], COUNT, "{point}");
        assert_eq!(of(point)["completed"], COUNT, "{point}");
    }
    for point in once {
        assert_eq!(of(point)["completed"], 1, "{point}");
    }
    for point in ["rawtracepoint:sched_switch", "software:page-faults:1"] {
        assert_eq!(of(point)["hits"], of(point)["completed"], "{point}");
    }
    note(&format!("{} attach points through the whole in {time:?}", probes.len()));
}

/// One, a hundred and a thousand functions of the kernel by wildcard, where one link serves them all: what they take to come and go.
#[test]
fn functions_by_wildcard() {
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    if !kernel.features().kprobe_multi {
        return;
    }
    let options = Options { max_targets: 10_000, ..Options::default() };
    for pattern in ["kprobe:vfs_rea?", "kprobe:vfs_*", "kprobe:tcp_*, kprobe:sock_*, kprobe:skb_*, kprobe:ip_*, kprobe:vfs_*"] {
        let begin = Instant::now();
        let compiled = kernel::compile(&kernel, &[probe("all", pattern, None, "@calls[func] = count()")], &options);
        let points = compiled.needs.attach.len();
        let open = kernel::session(&kernel, compiled, &options, 4096).load(&kernel).unwrap().attach().unwrap().open();
        let opened = begin.elapsed();
        let begin = Instant::now();
        open.close().detach();
        let closed = begin.elapsed();
        note(&format!("{points} kprobes: {opened:?} to the open gate, {closed:?} to close and detach"));
        assert!(opened + closed < Duration::from_secs(60), "{opened:?} + {closed:?}");
    }
}
