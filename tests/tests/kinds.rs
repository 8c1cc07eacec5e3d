//! Every kind of attach point that this kernel has, and how often it hits.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command};

use portcullis::kernel::Mechanism;
use portcullis_ebpf::{Kernel as _, Limit, Options, attach, spec::Cgroup};
use portcullis_tests::{
    kernel::{self, Told, Traced, Workloads, probe},
    lock, workload,
};

/// What one probe counts over a workload that runs before the opening, and over another after it.
fn trace(attach: &str, body: &str, before: &[&str], open: &[&str]) -> Traced {
    let traced =
        kernel::trace(&[probe("probe", attach, None, body)], &kernel::options(), Workloads { before: &[before], open: &[open] });
    assert_eq!(traced.report.check(), [], "{attach}");
    traced
}

/// An attach point in the workload.
fn within(kind: &str, rest: &str) -> String {
    format!("{kind}:{}:{rest}", workload().to_str().unwrap())
}

/// Each call of a function of a program is one hit, wherever the probe is written to be; its return has what it returned.
#[test]
fn functions_of_programs() {
    let Some(_lock) = lock() else { return };
    let check = |attach: &str, body: &str| {
        let traced = trace(attach, body, &["calls", "7"], &["calls", "1000"]);
        assert_eq!((traced.probes[0].hits, traced.probes[0].hits_closed), (1000, 7), "{attach}");
        traced.rows
    };
    let rows = check(&within("uprobe", "workload_double"), "emit calls { n: arg0, name: func }");
    assert_eq!(rows[999], ("calls".to_owned(), vec!["n=999".to_owned(), "name=\"workload_double\"".to_owned()]));
    check(&within("uprobe", "workload_dou*"), "emit calls { pid }");
    let found = kernel::running().user_functions(workload().to_str().unwrap(), "workload_double").unwrap();
    assert_eq!(found.len(), 1);
    check(&within("uprobe", &format!("{:#x}", found[0].offset)), "emit calls { pid }");
    let rows = check(&within("uretprobe", "workload_double"), "emit calls { ret: retval }");
    let expect: Vec<_> = (0..1000).map(|n| ("calls".to_owned(), vec![format!("ret={}", 2 * n)])).collect();
    assert_eq!(rows, expect);
}

/// Every call pairs with its return.
#[test]
fn spans_over_functions_of_programs() {
    let Some(_lock) = lock() else { return };
    let attach = within("span:uprobe", "workload_double");
    let traced = trace(&attach, "emit calls { ok: duration > 0, ret: retval }", &["calls", "7"], &["calls", "1000"]);
    let probe = &traced.probes[0];
    // A session leaves out the returns of calls that nobody wanted to see.
    let (unpaired, closed) = if kernel::running().features().uprobe_session { (None, 0) } else { (Some(0), 7) };
    assert_eq!((probe.entered, probe.matched, probe.hits, probe.unpaired), (1000, 1000, 1000, unpaired));
    assert_eq!((probe.entry_hits_closed, probe.hits_closed), (7, closed));
    assert_eq!(traced.rows[999], ("calls".to_owned(), vec!["ok=1".to_owned(), "ret=1998".to_owned()]));
}

/// A probe of a program's own hits at each place where it stands. While it is attached the program is told so.
#[test]
#[cfg(target_arch = "x86_64")]
fn probes_of_programs() {
    let Some(_lock) = lock() else { return };
    for rest in ["workload:marker", "marker", "work*:mark*"] {
        let traced = trace(&within("usdt", rest), "emit markers { n: arg0 }", &["markers", "6"], &["markers", "500"]);
        assert_eq!(traced.rows[499].1, ["n=499"]);
        assert_eq!((traced.probes[0].hits, traced.probes[0].hits_closed), (500, 6), "{rest}");
    }
}

/// A probe reads the variables of the program that it is in, wherever that was loaded.
#[test]
fn variables_of_programs() {
    let Some(_lock) = lock() else { return };
    let body = "emit s { n: arg0, before: *uaddr(\"WORKLOAD_CALLS\"), near: reg(\"ip\") - uaddr(\"workload_double\") <= 4 }";
    let traced = trace(&within("uprobe", "workload_double"), body, &["calls", "2"], &["calls", "100"]);
    assert_eq!(traced.rows[99].1, ["n=99", "before=99", "near=1"]);
    let body = "emit s { after: *uaddr(\"WORKLOAD_CALLS\"), n: entry.arg0 }";
    let traced = trace(&within("span:uprobe", "workload_double"), body, &["calls", "2"], &["calls", "100"]);
    assert_eq!(traced.rows[99].1, ["after=100", "n=99"]);
    #[cfg(target_arch = "x86_64")]
    {
        let body = "emit s { listens: *(uint16 *)uaddr(\"workload_marker_semaphore\") > 0 }";
        let traced = trace(&within("usdt", "marker"), body, &["markers", "1"], &["markers", "2"]);
        assert_eq!(traced.rows[1].1, ["listens=1"]);
    }
}

/// Time that passes in the workload alone: other processes are not in scope.
#[test]
fn profile() {
    let Some(_lock) = lock() else { return };
    let traced = trace("profile:hz:200", "emit samples { pid }", &["spins", "50"], &["spins", "500"]);
    let probe = &traced.probes[0];
    // The machine may have others to run, too, and one that is emulated takes longer for the end.
    assert!((20..=200).contains(&probe.hits), "{probe:?}");
    assert_eq!(probe.hits_closed, 0, "time was counted before the opening");
}

/// Time that passes, whatever runs.
#[test]
fn interval() {
    let Some(_lock) = lock() else { return };
    let traced = trace("interval:ms:20", "emit ticks { nsecs }", &["idle", "1", "1"], &["idle", "1", "1"]);
    let probe = &traced.probes[0];
    // What is emulated takes longer for the second and for the close.
    assert!((40..=75).contains(&probe.hits) && probe.hits_closed == 0, "{probe:?}");
}

/// The host's own moments come once each, before and after everything else.
#[test]
fn begin_and_end() {
    let Some(_lock) = lock() else { return };
    let specs = [
        probe("begin", "begin", None, "emit rows { what: \"begin\" }"),
        probe("call", "tracepoint:syscalls:sys_enter_getppid", None, "emit rows { what: \"call\" }"),
        probe("end", "end", None, "emit rows { what: \"end\" }"),
    ];
    let calls: &[&str] = &["getppid", "2"];
    let traced = kernel::trace(&specs, &kernel::options(), Workloads { before: &[calls], open: &[calls] });
    assert_eq!(traced.report.check(), []);
    let counts: Vec<_> = traced.probes.iter().map(|p| (p.hits, p.hits_closed)).collect();
    assert_eq!(counts, [(1, 0), (2, 2), (1, 0)]);
    let rows: Vec<_> = traced.rows.iter().map(|(_, fields)| fields[0].as_str()).collect();
    assert_eq!(rows, ["what=\"begin\"", "what=\"call\"", "what=\"call\"", "what=\"end\""]);
}

/// A span between two tracepoints that a value joins: here its begin and its end are in different processes.
#[test]
fn spans_with_keys() {
    let Some(_lock) = lock() else { return };
    let attach = "span:tracepoint:sched:sched_process_fork..sched:sched_process_exit key args.child_pid .. args.pid";
    let traced = trace(attach, "emit lives { ok: duration > 0 }", &["forks", "5"], &["forks", "40"]);
    let probe = &traced.probes[0];
    // The workload itself ends, too, and what else ends on this machine: whose an end is, is asked where it began.
    assert_eq!((probe.entered, probe.matched), (40, 40), "{probe:?}");
    assert!(probe.unpaired >= Some(1), "{probe:?}");
}

/// That a program waits is an event of its own.
#[test]
fn software() {
    let Some(_lock) = lock() else { return };
    let traced = trace("software:context-switches:1", "emit waits { pid }", &["waits", "50"], &["waits", "200"]);
    let probe = &traced.probes[0];
    // The process gives up its CPU for the last time when its end is known already, perhaps between the close and the stop of the event.
    assert!((200..300).contains(&probe.hits) && probe.hits_closed <= 1, "{probe:?}");
}

/// Each store to a number of a process is one hit, in whichever thread, and what was written can be read.
#[test]
fn memory_of_a_process() {
    let Some(_lock) = lock() else { return };
    if !kernel::running().features().watchpoint {
        return;
    }
    let (mut workload, address) = Told::start(&["stores", "100"]);
    let check = |mode: &str, workload: &mut Told, times: usize| {
        let body = format!("emit stores {{ pid, n: *(uint64 *){address} }}");
        let attach = format!("watchpoint:{address}:8:{mode}");
        let traced = kernel::trace_running(&[probe("probe", &attach, None, &body)], &kernel::options(), workload, times);
        assert_eq!(traced.report.check(), [], "{mode}");
        assert_eq!((traced.probes[0].hits, traced.probes[0].hits_closed), (100 * times as u64, 100), "{mode}");
        let expect = ("stores".to_owned(), vec![format!("pid={}", workload.pid()), "n=99".to_owned()]);
        assert_eq!(traced.rows.last(), Some(&expect), "{mode}");
    };
    check("w", &mut workload, 2);
    check("rw", &mut workload, 1);
    // That another process has the same address makes no difference.
    let (mut other, _) = Told::start(&["stores", "1"]);
    check("w", &mut workload, 1);
    other.work();
}

/// A symbol of the kernel: time goes on.
#[test]
fn memory_of_the_kernel() {
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    if !kernel.features().watchpoint || !kernel.symbol("jiffies_64").is_ok_and(|found| found.is_some()) {
        return;
    }
    let specs = [probe("probe", "watchpoint:jiffies_64:8:w", None, "emit ticks { cpu }")];
    // A machine that is idle does not count the time either.
    let open: &[&str] = &["spins", "500"];
    let traced = kernel::trace(&specs, &Options::default(), Workloads { before: &[], open: &[open] });
    assert_eq!(traced.report.check(), []);
    // 100 to 1000 ticks a second; one that is emulated may lose some.
    assert!((10..2000).contains(&traced.probes[0].hits), "{:?}", traced.probes[0]);
}

/// Each thread and each open file of a process once, whether others are in scope or not; never the host's own.
#[test]
fn what_there_is() {
    let Some(_lock) = lock() else { return };
    if !kernel::running().features().iter {
        return;
    }
    let (mut workload, _) = Told::start(&["holds", "20", "5"]);
    let mut check = |options: Options, attach: &str, when: Option<&str>, body: &str| {
        let traced = kernel::trace_running(&[probe("probe", attach, when, body)], &options, &mut workload, 1);
        assert_eq!(traced.report.check(), [], "{attach}");
        assert_eq!(traced.probes[0].hits_closed, 0, "{attach}");
        let rows: Vec<String> = traced.rows.into_iter().map(|(_, fields)| fields.join(" ")).collect();
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "{attach}: some came twice");
        (traced.probes[0].hits, rows, workload.pid())
    };
    let (hits, rows, pid) = check(kernel::options(), "iter:task", None, "emit threads { pid, tid, comm, uid, ppid }");
    assert_eq!((hits, rows.len()), (6, 6));
    let (me, uid) = (std::process::id(), rustix::process::getuid().as_raw());
    assert!(rows.contains(&format!("pid={pid} tid={pid} comm=\"workload\" uid={uid} ppid={me}")), "{rows:?}");
    assert!(rows.iter().all(|row| row.starts_with(&format!("pid={pid} "))), "{rows:?}");
    let (_, rows, _) = check(Options::default(), "iter:task", None, "emit threads { pid, tid }");
    let of = |pid: u32| rows.iter().filter(|row| row.starts_with(&format!("pid={pid} "))).count();
    assert_eq!((of(pid), of(me)), (6, 0));
    assert!(rows.len() > 6);

    let zero = Some("str(args.file->f_path.dentry->d_name.name) == \"zero\"");
    let body = "emit files { pid, fd: args.fd, same: curtask == ctx->task }";
    for options in [kernel::options(), Options::default()] {
        let (_, rows, pid) = check(options, "iter:task_file", zero, body);
        let of_workload = rows.iter().filter(|row| row.starts_with(&format!("pid={pid} ")) && row.ends_with(" same=1"));
        assert_eq!(of_workload.count(), 20, "{rows:?}");
    }

    // The limits of a run are held against the task, and not against the host.
    let mut hits = |options: Options| check(options, "iter:task", None, "emit threads { tid }").0;
    let of_user = |uid| Options { limits: vec![Limit::User(uid)], ..kernel::options() };
    assert_eq!([hits(of_user(uid)), hits(of_user(uid + 1))], [6, 0]);
    for group in groups() {
        let of_group = |id| Options { limits: vec![Limit::Cgroup(Cgroup { id, ..group })], ..kernel::options() };
        assert_eq!([hits(of_group(group.id)), hits(of_group(group.id + 1_000_000))], [6, 0], "{group:?}");
    }
    let below = |group: &Cgroup| Options {
        limits: vec![Limit::Cgroup(Cgroup { level: group.level + 1, ..*group })],
        ..kernel::options()
    };
    assert!(groups().last().is_none_or(|own| hits(below(own)) == 0));
}

/// The control group of this process and those above it, from the root on; none where the unified hierarchy is not mounted.
fn groups() -> Vec<Cgroup> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (mounts, own) = (read("/proc/self/mounts"), read("/proc/self/cgroup"));
    let root = mounts.lines().find_map(|line| line.split(' ').nth(1).filter(|_| line.split(' ').nth(2) == Some("cgroup2")));
    let (Some(root), Some(own)) = (root, own.lines().find_map(|line| line.strip_prefix("0::/"))) else { return Vec::new() };
    let mut path = PathBuf::from(root);
    let below = own.split('/').filter(|name| !name.is_empty());
    let paths = std::iter::once(path.clone()).chain(below.map(|name| {
        path.push(name);
        path.clone()
    }));
    let group = |(level, path): (u32, PathBuf)| Some(Cgroup { id: fs::metadata(path).ok()?.ino(), level });
    (0..).zip(paths).map_while(group).collect()
}

/// Functions of the kernel, by each way that it has.
#[test]
fn functions_of_the_kernel() {
    let Some(_lock) = lock() else { return };
    let features = kernel::running().features();
    let kinds =
        [("kprobe", features.kprobe), ("kretprobe", features.kprobe), ("fentry", features.fentry), ("fexit", features.fentry)];
    for (kind, _) in kinds.into_iter().filter(|(_, there)| *there) {
        let traced = trace(&format!("{kind}:noop_fsync"), "emit syncs { pid }", &["syncs", "7"], &["syncs", "100"]);
        assert_eq!((traced.probes[0].hits, traced.probes[0].hits_closed), (100, 7), "{kind}");
    }
    for (kind, _) in [("kprobe", features.kprobe), ("kfunc", features.fentry)].into_iter().filter(|(_, there)| *there) {
        let body = "emit syncs { ret: retval, ok: duration > 0 }";
        let traced = trace(&format!("span:{kind}:noop_fsync"), body, &["syncs", "7"], &["syncs", "100"]);
        let probe = &traced.probes[0];
        let unpaired = (kind == "kfunc" || !features.kprobe_session).then_some(0);
        assert_eq!((probe.entered, probe.matched, probe.hits, probe.unpaired), (100, 100, 100, unpaired), "{kind}");
        assert_eq!(traced.rows[0].1, ["ret=0", "ok=1"]);
    }
}

/// By whatever mechanism, the counts are the same, and places that share a program keep their names.
#[test]
fn mechanisms() {
    let Some(_lock) = lock() else { return };
    let features = kernel::running().features();
    for mechanism in [Mechanism::Cheapest, Mechanism::Perf] {
        let kernel = kernel::running().with_mechanism(mechanism);
        let trace = |attach: &str, body: &str, workload: &[&str]| {
            let workloads = Workloads { before: &[workload], open: &[workload] };
            let traced =
                kernel::trace_on(&kernel, &[probe("probe", attach, None, body)], &kernel::options(), workloads, 16 << 20);
            assert_eq!(traced.report.check(), [], "{attach}, {mechanism:?}");
            let plain = traced.report.plugins[0].probes[0].mechanism.split('+').all(|m| !m.contains('.') && m != "tp_btf");
            assert!(mechanism == Mechanism::Cheapest || plain, "{attach}");
            traced
        };
        let hits = |attach: &str, workload: &[&str], expect: u64| {
            let traced = trace(attach, "@hits = count()", workload);
            assert_eq!((traced.probes[0].hits, traced.probes[0].hits_closed), (expect, expect), "{attach}, {mechanism:?}");
        };
        // A function within another, each with the other's name in no row.
        let nested = |kind: &str, [outer, inner]: [&str; 2], rest: &dyn Fn(&str) -> String, workload: &[&str]| {
            let attach = format!("{kind}:{}, {kind}:{}", rest(outer), rest(inner));
            let rows = trace(&attach, "emit calls { func, probe, cpu }", workload).rows;
            let names = |row: &[String]| (row[0].clone(), row[1].clone());
            let expect = |name: &str| (format!("func=\"{name}\""), format!("probe=\"{kind}:{}\"", rest(name)));
            let (first, second) = if kind.starts_with("span:") { (inner, outer) } else { (outer, inner) };
            assert_eq!(rows.len(), 20, "{attach}, {mechanism:?}");
            assert_eq!([names(&rows[18].1), names(&rows[19].1)], [expect(first), expect(second)], "{attach}, {mechanism:?}");
        };
        hits("tracepoint:syscalls:sys_enter_getppid", &["getppid", "100"], 100);
        hits("tracepoint:syscalls:sys_exit_getppid", &["getppid", "100"], 100);
        hits("tracepoint:sched:sched_process_fork", &["forks", "10"], 10);
        let path = workload();
        let file = |name: &str| format!("{}:{name}", path.display());
        for kind in ["uprobe", "span:uprobe"] {
            nested(kind, ["workload_triple", "workload_double"], &file, &["pairs", "10"]);
        }
        let span = trace("span:syscall:getppid", "emit calls { ok: duration > 0, ret: retval > 0 }", &["getppid", "100"]);
        assert_eq!((span.probes[0].entered, span.probes[0].matched, span.rows.len()), (100, 100, 100), "{mechanism:?}");
        assert_eq!(span.rows[99].1, ["ok=1", "ret=1"]);
        for kind in ["kprobe", "span:kprobe"].into_iter().filter(|_| features.kprobe && cfg!(target_arch = "x86_64")) {
            // What is between them is put into one function by some compilers.
            nested(kind, ["__x64_sys_fsync", "noop_fsync"], &str::to_owned, &["syncs", "10"]);
        }
    }
}

/// What ends is in scope to its end: a command and its threads, its children, each once.
#[test]
fn ends() {
    let Some(_lock) = lock() else { return };
    for attach in ["tracepoint:sched:sched_process_exit", "rawtracepoint:sched_process_exit"] {
        let leaders = |command: &[&str]| {
            let traced = trace(attach, "emit ends { leader: pid == tid, comm }", &["forks", "1"], command);
            let leaders = traced.rows.iter().filter(|(_, row)| row[0] == "leader=1").count();
            (traced.rows.len(), leaders)
        };
        assert_eq!(leaders(&["idle", "0", "3"]), (4, 1), "{attach}");
        assert_eq!(leaders(&["forks", "5"]), (6, 6), "{attach}");
    }
}

/// A number that is given out again does not put another process in scope.
#[test]
fn numbers_given_out_again() {
    let Some(_lock) = lock() else { return };
    let spec = probe("probe", "tracepoint:syscalls:sys_enter_getppid", None, "emit calls { pid }");
    let workloads = Workloads { before: &[], open: &[&["getppid", "3"]] };
    let traced = kernel::trace_around(&[spec], &kernel::options(), workloads, |before, pids| {
        if !before {
            let pid = pids[0].to_string();
            assert!(Command::new(workload()).args(["getppid-as", &pid, "2"]).status().unwrap().success());
        }
    });
    assert_eq!((traced.report.check(), traced.rows.len()), (vec![], 3), "{:?}", traced.rows);
}

/// The kernel's part of a stack begins where the probe is, also if there is room for one frame alone, and whoever else listens.
#[test]
fn kernel_stacks() {
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    let features = kernel.features();
    let first = |specs: &[(&str, &str)], workload: &[&str]| {
        let specs: Vec<_> = specs.iter().map(|(name, attach)| probe(name, attach, None, "emit s { stack: kstack(1) }")).collect();
        let traced = kernel::trace(&specs, &kernel::options(), Workloads { before: &[], open: &[workload] });
        assert_eq!(traced.report.check(), [], "{specs:?}");
        let frames: Vec<u64> = traced.stacks.iter().map(|stack| *stack.first().unwrap_or(&0)).collect();
        let frames = kernel.symbols().kernel(&frames);
        frames.into_iter().map(|frame| frame[0].function.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let (raw, perf) = (("raw", "rawtracepoint:sched_process_exit"), ("perf", "tracepoint:sched:sched_process_exit"));
    assert_eq!(first(&[raw], &["getppid", "1"]), ["do_exit"]);
    assert_eq!(first(&[perf], &["getppid", "1"]), ["do_exit"]);
    assert_eq!(first(&[raw, perf], &["getppid", "1"]), ["do_exit"; 2]);
    // The name of the function is that kernel's affair.
    let calls = [("enter", "tracepoint:syscalls:sys_enter_getppid"), ("exit", "tracepoint:syscalls:sys_exit_getppid")];
    let of_the_kernel = |function: &str| {
        let ours = ["bpf_", "__bpf_", "__traceiter_"].iter().any(|start| function.starts_with(start));
        assert!(!ours && !function.is_empty(), "{function}");
    };
    first(&calls, &["getppid", "2"]).iter().for_each(|function| of_the_kernel(function));
    for (kind, there) in [("kprobe", features.kprobe), ("fentry", features.fentry)] {
        if there {
            assert_eq!(first(&[(kind, &format!("{kind}:noop_fsync"))], &["syncs", "1"]), ["noop_fsync"], "{kind}");
        }
    }
    if features.fentry {
        // Where its trampoline is jumped to and not called, as in Linux 7.2, the function has returned by then: its caller is first.
        let frames = first(&[("fexit", "fexit:noop_fsync")], &["syncs", "1"]);
        assert_eq!(frames.len(), 1);
        of_the_kernel(&frames[0]);
    }
}

/// Each time that a file is opened security modules are asked, and none of the workload's calls fails for it.
#[test]
fn security_hooks() {
    let Some(_lock) = lock() else { return };
    if !kernel::running().features().lsm {
        return;
    }
    let specs = [
        probe("open", "lsm:file_open", Some("str(args.file->f_path.dentry->d_name.name) == \"hostname\""), "emit opens { pid }"),
        probe("any", "lsm:file_*", Some("func == \"file_open\""), "@hits[func] = count()"),
    ];
    let (before, open) = (["opens", "7", "/etc/hostname"], ["opens", "100", "/etc/hostname"]);
    let traced = kernel::trace(&specs, &kernel::options(), Workloads { before: &[&before], open: &[&open] });
    assert_eq!(traced.report.check(), []);
    let [open, any] = traced.probes.as_slice() else { panic!("{:?}", traced.probes) };
    assert_eq!((traced.rows.len(), open.completed), (100, 100), "{open:?}");
    assert!(open.hits_closed >= 7, "{open:?}");
    // The program itself and its libraries are opened, too: each of those is a hit of both.
    assert_eq!((any.completed, any.hits > open.hits), (open.hits, true), "{any:?}");
}

/// Each kind lists what there is of it, or says what the machine lacks.
#[test]
fn lists() {
    let kernel = kernel::running();
    let check = |pattern: &str, expect: &str| {
        let found = attach::list(pattern, &kernel).unwrap_or_else(|e| panic!("{e}"));
        assert!(found.iter().any(|listed| listed.point == expect), "{pattern}: {found:?}");
    };
    check(&within("uprobe", "workload_d*"), &within("uprobe", "workload_double"));
    check(&within("uretprobe", "workload_d*"), &within("uretprobe", "workload_double"));
    check(&within("span:uprobe", "workload_d*"), &within("span:uprobe", "workload_double"));
    #[cfg(target_arch = "x86_64")]
    check(&within("usdt", "*"), &within("usdt", "workload:marker"));
    check("software:*", "software:page-faults");
    check("profile:*", "profile:hz:N");
    check("interval", "interval:s:N");
    check("begin", "begin");
    check("end", "end");
    assert!(attach::list("uprobe:/no/such/file:*", &kernel).is_err());
    let features = kernel.features();
    for (pattern, there) in [
        ("kprobe:noop_f*", features.kprobe),
        ("fentry:noop_f*", features.fentry),
        ("span:kfunc:noop_f*", features.fentry),
        ("hardware:*", features.hardware),
        ("watchpoint:*", features.watchpoint),
        ("iter:*", features.iter),
        ("lsm:file_*", features.lsm),
    ] {
        assert_eq!(attach::list(pattern, &kernel).is_ok_and(|found| !found.is_empty()), there, "{pattern}");
    }
}
