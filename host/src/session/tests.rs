#![allow(clippy::unwrap_used)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use portcullis_ebpf::{Hook, MapRef, output::Moment, processes};
use rustix::io::Errno;

use super::*;
use crate::kernel::{
    sys::{Call, fake},
    testing::{Assembler, alive, bare, compiled, counting, getppid, kernel_objects, lock, place, slow, sys_enter},
};

const RING: u32 = 1 << 20;

fn plugin(name: &str, programs: Vec<Program>) -> Plugin {
    Plugin { name: name.to_owned(), compiled: compiled(programs), ring: RING }
}

fn config(gate: bool) -> Config {
    Config { gate, scope: Scope::System, tracker: None }
}

fn session(plugins: Vec<Plugin>, gate: bool) -> Compiled {
    Compiled::new(plugins, config(gate)).unwrap()
}

fn hits(counts: &(Vec<ProbeCounts>, Vec<StreamCounts>)) -> (u64, u64) {
    (counts.0[0].hits, counts.0[0].hits_closed)
}

/// Until the thread that makes the calls has come to run.
fn wait_for_hits(open: &Open) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while hits(&open.counts(0)).0 < 3 && Instant::now() < deadline {
        sleep(Duration::from_millis(1));
    }
}

/// Nothing is recorded before the opening but `hits_closed`, every call is after it, and none after the close; the intervals stand
/// in the order of the events.
#[test]
fn gate_decides() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    {
        let session = session(vec![plugin("one", vec![counting(sys_enter(), Some(0))])], true);
        let mut attached = session.load(&kernel).unwrap().attach().unwrap();
        let mut ring = attached.take_ring(0).unwrap();
        assert!(attached.take_ring(0).is_none());
        getppid(100);
        assert!(ring.is_drained());
        let open = attached.open();
        assert_eq!(hits(&open.counts(0)), (0, 100));
        getppid(1000);
        assert_eq!(hits(&open.counts(0)), (1000, 100));
        let (attached, opened) = (open.attached(), open.interval().unwrap());
        assert_eq!(ring.read(10, |record| assert_eq!(record.len(), 16)), 10);
        let closed = open.close();
        getppid(10);
        let counts = closed.counts(0).unwrap();
        assert_eq!(hits(&counts), (1000, 110));
        assert_eq!((counts.1[0].attempted, counts.1[0].emitted), (1000, 1000));
        let mut times = Vec::new();
        let read = ring.read(usize::MAX, |record| times.push(u64::from_ne_bytes(record[8..16].try_into().unwrap())));
        assert_eq!(read, 990);
        assert!(ring.is_drained());
        let shut = closed.interval().unwrap();
        let order = [
            attached.earliest,
            attached.latest,
            opened.earliest,
            opened.latest,
            shut.earliest,
            shut.latest,
            closed.quiesced().unwrap(),
        ];
        assert!(order.is_sorted(), "{order:?}");
        assert!(opened.latest - opened.earliest < 1_000_000, "{opened:?}");
        assert!(times.iter().all(|time| (opened.earliest..shut.latest).contains(time)));
        assert_eq!(closed.misses().unwrap(), []);
        closed.detach();
    }
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// A span that has no exit is listed with thread and age, and counted.
#[test]
fn spans_in_flight() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    for gate in [true, false] {
        let session = session(vec![plugin("one", vec![counting(sys_enter(), gate.then_some(0))])], gate);
        let open = session.load(&kernel).unwrap().attach().unwrap().open();
        assert_eq!(open.interval().is_some(), gate);
        getppid(3);
        let closed = open.close();
        let in_flight = closed.in_flight(0).unwrap();
        assert_eq!(in_flight.len(), 1);
        assert_eq!(in_flight[0].tid, rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned());
        assert!((1..1_000_000_000).contains(&in_flight[0].age), "{in_flight:?}");
        assert_eq!(closed.counts(0).unwrap().0[0].in_flight, 1);
        assert_eq!(closed.interval().is_some(), gate);
        assert_eq!(closed.in_flight(7).unwrap(), []);
    }
}

/// One plugin closes and leaves while the other goes on; closing it again changes nothing.
#[test]
fn one_plugin_closes() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    for gate in [true, false] {
        let bit = |bit| gate.then_some(bit);
        let plugins =
            vec![plugin("one", vec![counting(sys_enter(), bit(0))]), plugin("two", vec![counting(sys_enter(), bit(1))])];
        let mut open = session(plugins, gate).load(&kernel).unwrap().attach().unwrap().open();
        getppid(10);
        let interval = open.close_plugin(0);
        assert_eq!(interval.is_some(), gate);
        assert_eq!(open.close_plugin(0), interval);
        assert_eq!(open.close_plugin(9), None);
        open.parts.join_detaching();
        getppid(5);
        let closed = open.close();
        assert_eq!(hits(&closed.counts(0).unwrap()), (10, 0));
        assert_eq!(hits(&closed.counts(1).unwrap()), (15, 0));
        assert_eq!(closed.plugin_interval(0), interval);
        assert_eq!(closed.plugin_interval(1), closed.interval());
        closed.detach();
    }
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// A pause keeps hits out, cuts spans off, and stays attached; what was begun before it never pairs after it. One store each, and each of them
/// for those that are meant.
#[test]
fn pause_and_resume() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let plugins = vec![plugin("one", vec![counting(sys_enter(), Some(0))]), plugin("two", vec![counting(sys_enter(), Some(1))])];
    let mut open = session(plugins, true).load(&kernel).unwrap().attach().unwrap().open();
    getppid(10);
    let paused = open.pause(&[0, 7]).unwrap().unwrap();
    assert_eq!(open.pause(&[0]).unwrap(), None);
    assert_eq!((open.is_open(0), open.was_open(0), open.is_open(1)), (false, true, true));
    getppid(20);
    assert_eq!((hits(&open.counts(0)), hits(&open.counts(1))), ((10, 20), (30, 0)));
    // The test's program keeps the span of its last call, which nothing ends.
    assert_eq!(open.counts(0).0[0].in_flight, 1);
    let resumed = open.open(&[0, 1]).unwrap().unwrap();
    assert_eq!(open.open(&[0]).unwrap(), None);
    getppid(3);
    let closed = open.close();
    let account = closed.account(0).unwrap().unwrap();
    assert_eq!(hits(&closed.counts(0).unwrap()), (13, 20));
    let windows: Vec<_> = account.windows.iter().map(|window| (window.open, window.close)).collect();
    assert_eq!(windows, [(closed.opened().unwrap(), Some(paused)), (resumed, closed.interval())]);
    assert!(account.windows[0].quiesced.unwrap() < resumed.earliest);
    assert_eq!(account.before, [0]);
    assert_eq!(account.in_flight.len(), 2);
    assert_eq!(closed.account(1).unwrap().unwrap().windows.len(), 1);
}

/// Plugins can be opened one by one, and what was closed before the first opening is told apart from what was later.
#[test]
fn opened_one_by_one() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let plugins = vec![plugin("one", vec![counting(sys_enter(), Some(0))]), plugin("two", vec![counting(sys_enter(), Some(1))])];
    let mut open = session(plugins, true).load(&kernel).unwrap().attach().unwrap().open_some(&[0]);
    getppid(5);
    assert!(open.open(&[0, 1]).unwrap().is_some());
    getppid(5);
    open.pause(&[1]).unwrap();
    getppid(100);
    let closed = open.close();
    assert_eq!((hits(&closed.counts(0).unwrap()), hits(&closed.counts(1).unwrap())), ((110, 0), (5, 105)));
    assert_eq!(closed.account(1).unwrap().unwrap().before, [5]);
}

/// Plugins join a session and leave it, as many as there are bits at a time and more in all; the next beyond is refused. A bit that had an
/// owner is given to another once nothing of the owner runs.
#[test]
fn joining_and_leaving() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let one = session(vec![plugin("one", vec![counting(sys_enter(), Some(0))])], true);
    let mut open = one.load(&kernel).unwrap().attach().unwrap().open();
    let join = |open: &mut Open, name: &str| {
        let admission = open.admit(1)?;
        let bit = admission.bits().next().unwrap();
        let joining = Compiled::joining(vec![plugin(name, vec![counting(sys_enter(), Some(bit))])], Scope::System, admission);
        let numbers = open.join(joining.load(&kernel)?.attach()?);
        open.open(&numbers).unwrap().unwrap();
        Ok::<_, Error>((numbers[0], bit))
    };
    let mut last = 0;
    for expect in 1..=63 {
        let (number, bit) = join(&mut open, "more").unwrap();
        assert_eq!((number, bit), (expect, expect as u8));
        last = number;
    }
    let error = join(&mut open, "65th").unwrap_err();
    assert_eq!(error.to_string(), "1 plugins beside 64 in one run: 64 at most, one for each bit of the gate");
    getppid(10);
    assert_eq!(hits(&open.counts(last)), (10, 0));
    for number in [3, 9] {
        assert!(open.close_plugin(number).is_some());
        open.forget(number);
    }
    assert_eq!(open.account(3).unwrap(), None);
    // They are detached on other threads.
    let deadline = Instant::now() + Duration::from_secs(10);
    let (number, bit) = loop {
        match join(&mut open, "again") {
            Ok(joined) => break joined,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(5));
    };
    assert!([3, 9].contains(&bit), "{bit}");
    assert_eq!(number, 64);
    getppid(7);
    let closed = open.close();
    assert_eq!((hits(&closed.counts(0).unwrap()).0, hits(&closed.counts(64).unwrap()).0), (17, 7));
    closed.detach();
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// A plugin takes the place of another under load: each call is seen by the old one, or by the new one, or, between the two stores, by both.
#[test]
fn replacing() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let mut both = 0;
    for _ in 0..20 {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, receive) = std::sync::mpsc::channel();
        let busy = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                send.send([0, 1, 2].map(|bit| counting(sys_enter(), Some(bit)))).unwrap();
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    getppid(1);
                    calls += 1;
                }
                calls
            }
        });
        let [all, old, new] = receive.recv().unwrap();
        let plugins = vec![plugin("all", vec![all]), plugin("old", vec![old])];
        let mut open = session(plugins, true).load(&kernel).unwrap().attach().unwrap().open();
        let joining = Compiled::joining(vec![plugin("new", vec![new])], Scope::System, open.admit(1).unwrap());
        let numbers = open.join(joining.load(&kernel).unwrap().attach().unwrap());
        assert_eq!(numbers, [2]);
        wait_for_hits(&open);
        let replaced = open.replace(1, 2).unwrap();
        let overlap = replaced.overlap.unwrap();
        assert!(overlap.latest - overlap.earliest < 100_000_000, "{overlap:?}");
        sleep(Duration::from_millis(2));
        // Before the close, over which a call may be seen by some plugins and not by others.
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        let closed = open.close();
        let [all, old, new] = [0, 1, 2].map(|number| hits(&closed.counts(number).unwrap()).0);
        assert!(old > 0 && new > 0, "{old} {new}");
        assert!(old + new >= all, "{old} and {new} of {all}: {} were missed", all - old - new);
        both += old + new - all;
    }
    // Between two stores next to each other there is room for one call of one thread, and an interruption.
    assert!(both < 2_000, "{both}");
}

/// Without a gate nothing can be opened, paused, joined or exchanged.
#[test]
fn nothing_by_a_store_without_a_gate() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let mut open =
        session(vec![plugin("one", vec![counting(sys_enter(), None)])], false).load(&kernel).unwrap().attach().unwrap().open();
    assert!(matches!(open.pause(&[0]), Err(Refusal::NoGate)));
    assert!(matches!(open.open(&[0]), Err(Refusal::NoGate)));
    assert!(matches!(open.replace(0, 0), Err(Refusal::NoGate)));
    assert!(matches!(open.admit(1), Err(Error::NoGate)));
}

/// Without a gate every call counts from the attaching to the close, and both intervals are absent.
#[test]
fn without_a_gate() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let attached =
        session(vec![plugin("one", vec![counting(sys_enter(), None)])], false).load(&kernel).unwrap().attach().unwrap();
    getppid(5);
    let open = attached.open();
    getppid(6);
    let closed = open.close();
    getppid(7);
    assert_eq!(hits(&closed.counts(0).unwrap()), (11, 0));
    assert_eq!((closed.interval(), closed.plugin_interval(0)), (None, None));
    assert!(closed.quiesced().is_ok());
}

/// Without a gate the stop waits, when its programs are off the raw tracepoint and before the grace period, for threads on their way
/// into them: by an event of another tracepoint, which there is no need for where programs load the closed word.
#[test]
fn threads_on_their_way() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    for gate in [true, false] {
        let session = session(vec![plugin("one", vec![counting(sys_enter(), gate.then_some(0))])], gate);
        let attached = session.load(&kernel).unwrap().attach().unwrap();
        assert_eq!(attached.parts.departure.is_some(), !gate);
        let closed = attached.open().close();
        assert!(closed.parts.departure.is_none() && closed.quiesced().is_ok());
        drop(closed);
        assert_eq!(kernel_objects(), Vec::<String>::new());
    }
}

/// A plugin's program on a tracepoint of the perf kind works by the same gate.
#[test]
fn perf_tracepoint() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let hook = Hook::PerfTracepoint { category: "syscalls".to_owned(), name: "sys_enter_getppid".to_owned() };
    let attached = session(vec![plugin("one", vec![counting(hook, Some(0))])], true).load(&kernel).unwrap().attach().unwrap();
    getppid(3);
    let open = attached.open();
    getppid(4);
    let closed = open.close();
    getppid(5);
    assert_eq!(hits(&closed.counts(0).unwrap()), (4, 8));
    closed.detach();
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// When the last of many programs cannot attach, the error names plugin, probe, point and cause, the gate never opened, and
/// nothing is left.
#[test]
fn all_or_nothing() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let check = |hook: Hook, expect: &str| {
        let last = counting(hook, Some(1));
        let plugins = vec![plugin("first", vec![counting(sys_enter(), Some(0)); 20]), plugin("last", vec![last])];
        let error = session(plugins, true).load(&kernel).unwrap().attach().unwrap_err();
        assert_eq!(error.to_string(), expect);
        assert_eq!(kernel_objects(), Vec::<String>::new());
    };
    check(
        Hook::PerfTracepoint { category: "sched".to_owned(), name: "no_such_point".to_owned() },
        "plugin `last`, probe `calls`: cannot attach to tracepoint:sched:no_such_point: this kernel has no tracepoint \
         `sched:no_such_point`",
    );
}

/// The kernel refuses the nth attach: the error carries call and errno, and nothing is left.
#[test]
fn attach_refused() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let loaded = session(vec![plugin("one", vec![counting(sys_enter(), Some(0)); 3])], true).load(&kernel).unwrap();
    let mut left = 2;
    let _fake = fake::install(move |call| match call {
        Call::Bpf { cmd: aya_obj::generated::bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, .. } if left == 0 => Some(Err(Errno::MFILE)),
        Call::Bpf { cmd: aya_obj::generated::bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, .. } => {
            left -= 1;
            None
        }
        _ => None,
    });
    let error = loaded.attach().unwrap_err();
    assert_eq!(
        error.to_string(),
        "plugin `one`, probe `calls`: cannot attach to rawtracepoint:sys_enter: bpf(BPF_RAW_TRACEPOINT_OPEN): Too many open files \
         (os error 24); too many open files: raise the limit (ulimit -n), or use fewer probes"
    );
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// A program that the verifier refuses is told with its listing and the verifier's reason.
#[test]
fn refused_by_the_verifier() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    // r0 = *(u64 *)(r0 + 0): r0 was never set.
    let program = Assembler::default().op(0x79, 0, 0, 0, 0).finish("wrong", sys_enter());
    let error = session(vec![plugin("one", vec![program])], true).load(&kernel).unwrap_err().to_string();
    assert!(
        error.starts_with("plugin `one`, probe `calls`: the kernel refused the program `wrong` (bpf(BPF_PROG_LOAD): "),
        "{error}"
    );
    for part in ["a bug of Portcullis, not of the plugin", "listing of wrong", "R0 !read_ok"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// The session's own program fills the process table while the gate is closed; the host is marked from the start.
#[test]
fn tracker_works_with_the_gate_closed() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let own = std::process::id();
    // processes[7] = 2 at every system call.
    let mut tracker = Assembler::default();
    tracker.value(1, MapRef::Processes, 7).op(0xb7, 2, 0, 0, i32::from(processes::IN_SCOPE)).op(0x73, 1, 2, 0, 0);
    let tracker = Some(tracker.finish("tracker", sys_enter()));
    let config = Config { gate: true, scope: Scope::Marked, tracker };
    let plugins = vec![plugin("one", vec![counting(sys_enter(), Some(0))])];
    let loaded = Compiled::new(plugins, config).unwrap().load(&kernel).unwrap();
    let table = loaded.processes();
    assert_eq!((table.marks(own), table.marks(7)), (processes::OWN, 0));
    let attached = loaded.attach().unwrap();
    getppid(1);
    assert_eq!(table.marks(7), processes::IN_SCOPE);
    table.mark(own, processes::IN_SCOPE);
    table.unmark(own, processes::OWN);
    assert_eq!(table.marks(own), processes::IN_SCOPE);
    table.mark(u32::MAX, processes::OWN);
    assert_eq!(table.marks(u32::MAX), 0);
    drop(attached);
    drop(table);
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// Sessions that cannot be are refused before anything is made.
#[test]
fn impossible_sessions() {
    let plugins = (0..65).map(|i| plugin(&i.to_string(), Vec::new())).collect();
    assert_eq!(
        Compiled::new(plugins, config(true)).unwrap_err().to_string(),
        "65 plugins beside 0 in one run: 64 at most, one for each bit of the gate"
    );
    let marked = Config { gate: true, scope: Scope::Marked, tracker: None };
    assert!(matches!(Compiled::new(Vec::new(), marked).unwrap_err(), Error::NoTracker));
}

/// A program that is in flight over the close still counts, and is waited for: after the grace period nothing changes, and a
/// program that loads the closed word never counts. Before it something does, so the check can fail.
#[test]
fn in_flight_over_the_close() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let mut in_flight = 0;
    for round in 0.. {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, receive) = std::sync::mpsc::channel();
        let busy = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                send.send(slow(sys_enter())).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    getppid(1);
                }
            }
        });
        let session = session(vec![plugin("one", vec![receive.recv().unwrap()])], true);
        let open = session.load(&kernel).unwrap().attach().unwrap().open();
        wait_for_hits(&open);
        open.parts.shared.gate.close(1);
        let at_the_store = hits(&open.counts(0));
        let closed = open.close();
        let quiesced = hits(&closed.counts(0).unwrap());
        sleep(Duration::from_millis(2));
        assert_eq!(hits(&closed.counts(0).unwrap()), quiesced);
        in_flight += u32::from(at_the_store != quiesced);
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        if round >= 20 && in_flight >= 3 {
            break;
        }
        assert!(round < 300, "a program was in flight {in_flight} times");
    }
}

/// A busy thread over the close: the ring ends where the counts end, and only `hits_closed` goes on.
#[test]
fn ring_and_counts_agree() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (send, receive) = std::sync::mpsc::channel();
    let busy = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            send.send(counting(sys_enter(), Some(0))).unwrap();
            while !stop.load(Ordering::Relaxed) {
                getppid(1);
            }
        }
    });
    let session = session(vec![plugin("one", vec![receive.recv().unwrap()])], true);
    let mut attached = session.load(&kernel).unwrap().attach().unwrap();
    let mut ring = attached.take_ring(0).unwrap();
    let open = attached.open();
    wait_for_hits(&open);
    let closed = open.close();
    let before = closed.counts(0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while closed.counts(0).unwrap().0[0].hits_closed == before.0[0].hits_closed && Instant::now() < deadline {
        sleep(Duration::from_millis(1));
    }
    let after = closed.counts(0).unwrap();
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert_eq!((before.0[0].hits, &before.1), (after.0[0].hits, &after.1));
    assert!(after.0[0].hits_closed > before.0[0].hits_closed);
    assert!(!ring.is_drained());
    assert_eq!(ring.read(usize::MAX, |_| {}) as u64, after.1[0].emitted);
    assert_eq!(after.1[0].attempted, after.1[0].emitted + after.1[0].ring_full);
    assert!(ring.is_drained());
}

/// Detaching frees the programs: their numbers are gone from the kernel.
#[test]
fn programs_are_freed() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let plugins = vec![plugin("one", vec![counting(sys_enter(), Some(0)); 5])];
    let closed = session(plugins, true).load(&kernel).unwrap().attach().unwrap().open().close();
    let programs = closed.parts.here().flat_map(|(_, member)| &member.programs);
    let ids: Vec<u32> = programs.map(|program| program.loaded.info().unwrap().id).collect();
    assert_eq!(alive(&ids), ids);
    closed.detach();
    let deadline = Instant::now() + Duration::from_secs(5);
    // The kernel frees them after a grace period.
    while !alive(&ids).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    assert_eq!(alive(&ids), Vec::<u32>::new());
}

/// The kernel's own count of runs is that of the program, hit or not.
#[test]
fn run_count() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let hook = Hook::PerfTracepoint { category: "syscalls".to_owned(), name: "sys_enter_getppid".to_owned() };
    let open = session(vec![plugin("one", vec![counting(hook, Some(0))])], true).load(&kernel).unwrap().attach().unwrap().open();
    let stats = crate::kernel::sys::enable_stats().unwrap();
    getppid(100);
    let runs = open.parts.member(0).unwrap().programs[0].loaded.info().unwrap().run_count;
    drop(stats);
    assert!(runs >= 100, "{runs}");
    assert_eq!(hits(&open.counts(0)), (100, 0));
}

/// What one program alone counts, as (hits, hits with the gate closed), with the same work done before the opening, while it is open,
/// and after the close. A kernel that has no such attach point gives none.
fn counted(hook: &Hook, gate: bool, work: impl Fn()) -> Option<(u64, u64)> {
    let kernel = RunningKernel::open().unwrap();
    let program = bare(hook.clone(), gate.then_some(0));
    let attached = match session(vec![plugin("one", vec![program])], gate).load(&kernel).unwrap().attach() {
        Ok(attached) => attached,
        Err(Error::Attach { source: crate::kernel::attach::AttachError::NoTarget(_), .. }) => return None,
        Err(error) => unreachable!("{error}"),
    };
    if gate {
        work();
    }
    let mut open = attached.open();
    assert!(open.take_failure().is_none());
    work();
    let closed = open.close();
    work();
    assert_eq!(closed.misses().unwrap(), []);
    let counts = hits(&closed.counts(0).unwrap());
    closed.detach();
    assert_eq!(kernel_objects(), Vec::<String>::new());
    Some(counts)
}

/// The host runs programs directly after the opening and directly before the close, each once and with the gate open.
#[test]
fn begin_and_end() {
    let Some(_lock) = lock() else { return };
    for moment in [Moment::Begin, Moment::End] {
        for gate in [true, false] {
            assert_eq!(counted(&Hook::Host(moment), gate, || ()), Some((1, 0)));
        }
    }
}

/// A plugin that is closed alone has its end then, and not once more.
#[test]
fn end_of_one_plugin() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let plugins = vec![
        plugin("one", vec![bare(Hook::Host(Moment::End), Some(0))]),
        plugin("two", vec![bare(Hook::Host(Moment::End), Some(1))]),
    ];
    let mut open = session(plugins, true).load(&kernel).unwrap().attach().unwrap().open();
    open.close_plugin(0);
    assert_eq!((hits(&open.counts(0)), hits(&open.counts(1))), ((1, 0), (0, 0)));
    let closed = open.close();
    assert_eq!((hits(&closed.counts(0).unwrap()), hits(&closed.counts(1).unwrap())), ((1, 0), (1, 0)));
}

/// What can't begin with the opening is told.
#[test]
fn no_beginning() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let attached = session(vec![plugin("one", vec![bare(Hook::Host(Moment::Begin), Some(0))])], true).load(&kernel).unwrap();
    let attached = attached.attach().unwrap();
    let _fake = fake::install(move |call| match call {
        Call::Bpf { cmd: aya_obj::generated::bpf_cmd::BPF_PROG_TEST_RUN, .. } => Some(Err(Errno::NOMEM)),
        _ => None,
    });
    let mut open = attached.open();
    assert_eq!(
        open.take_failure().unwrap().to_string(),
        "plugin `one`, probe `calls`: cannot attach to begin: bpf(BPF_PROG_TEST_RUN): Cannot allocate memory (os error 12)"
    );
    assert!(open.take_failure().is_none());
}

/// An end that the kernel refuses to run is counted as missed.
#[test]
fn no_end() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let open = session(vec![plugin("one", vec![bare(Hook::Host(Moment::End), Some(0))])], true).load(&kernel).unwrap();
    let open = open.attach().unwrap().open();
    let _fake = fake::install(move |call| match call {
        Call::Bpf { cmd: aya_obj::generated::bpf_cmd::BPF_PROG_TEST_RUN, .. } => Some(Err(Errno::NOMEM)),
        _ => None,
    });
    assert_eq!(open.close().misses().unwrap(), [Misses { plugin: 0, point: "end".to_owned(), count: 1 }]);
}

#[inline(never)]
extern "C" fn traced(n: u64) -> u64 {
    std::hint::black_box(n)
}

/// Each call of a function of a program is a hit where it begins, and one where it returns.
#[test]
fn uprobes() {
    let Some(_lock) = lock() else { return };
    let (path, offset) = place(traced);
    for returns in [false, true] {
        let hook = Hook::Uprobe { path: path.clone(), offset, returns, semaphore: 0, pid: None };
        let work = || assert_eq!((0..20).map(|n| traced(n)).sum::<u64>(), 190);
        assert_eq!(counted(&hook, true, work), Some((20, 40)), "returns: {returns}");
        assert_eq!(counted(&hook, false, work), Some((20, 0)), "returns: {returns}");
    }
    // In one process alone, which is this one or another.
    let hook = |pid| Hook::Uprobe { path: path.clone(), offset, returns: false, semaphore: 0, pid: Some(pid) };
    let work = || assert_eq!(traced(1), 1);
    assert_eq!(counted(&hook(std::process::id()), true, work), Some((1, 2)));
    assert_eq!(counted(&hook(1), true, work), Some((0, 0)));
}

/// A counter of those who listen is up while a program is attached.
#[test]
fn semaphores() {
    #[unsafe(link_section = ".data")]
    static LISTENERS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let Some(_lock) = lock() else { return };
    let (path, offset) = place(traced);
    let (_, semaphore) = crate::kernel::testing::byte_in_file((&raw const LISTENERS) as u64);
    let hook = Hook::Uprobe { path, offset, returns: false, semaphore, pid: None };
    let listening = || LISTENERS.load(Ordering::SeqCst);
    let seen = std::cell::RefCell::new(Vec::new());
    let counts = counted(&hook, true, || {
        seen.borrow_mut().push(listening());
        traced(1);
    });
    assert_eq!((counts, listening()), (Some((1, 2)), 0));
    assert!(seen.take().iter().all(|count| *count > 0));
}

/// Functions of the kernel, where it has kprobes, and trampolines.
#[test]
fn kernel_functions() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let features = portcullis_ebpf::Kernel::features(&kernel);
    for returns in [false, true] {
        let kprobe = Hook::Kprobe { function: "__x64_sys_getppid".to_owned(), offset: 0, returns };
        let fentry = Hook::Fentry { module: None, function: "vfs_fsync_range".to_owned(), returns };
        for (hook, there) in [(kprobe, features.kprobe), (fentry, features.fentry)] {
            // The compiler does not ask for what is not there, which the kernel may refuse in any way.
            if there {
                let file = tempfile::tempfile().unwrap();
                let found = counted(&hook, true, || (0..10).for_each(|_| file.sync_all().map(|()| getppid(1)).unwrap()));
                // Other processes may call them, too.
                assert!(found.is_some_and(|(open, shut)| (10..1000).contains(&open) && (20..1000).contains(&shut)), "{found:?}");
            }
        }
    }
}

/// Time is counted from the opening on, on one CPU or on each.
#[test]
fn time() {
    let Some(_lock) = lock() else { return };
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    for (every_cpu, most) in [(false, 11), (true, 11 * cpus)] {
        let hook = Hook::PerfEvent { kind: 1, config: 0, period: 20_000_000, frequency: false, every_cpu };
        let (open, closed) = counted(&hook, true, || sleep(Duration::from_millis(200))).unwrap();
        assert!((5..=most).contains(&open) && closed == 0, "{open} {closed}");
    }
}

/// Each of the events that a program makes is a hit: here, that it waits.
#[test]
fn events() {
    let Some(_lock) = lock() else { return };
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES
    let hook = Hook::PerfEvent { kind: 1, config: 3, period: 1, frequency: false, every_cpu: true };
    let (open, closed) = counted(&hook, true, || (0..50).for_each(|_| sleep(Duration::from_millis(1)))).unwrap();
    assert!(open >= 50 && closed == 0, "{open} {closed}");
}
