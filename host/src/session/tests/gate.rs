//! What is recorded, and when: nothing but between the stores that open and close a plugin's bit.

use portcullis_ebpf::{MapRef, Scope, processes};

use super::{hits, plugin, session};
use crate::{
    kernel::{
        RunningKernel,
        testing::{Assembler, counting, getppid, kernel_objects, lock, sys_enter},
    },
    session::{Compiled, Config},
};

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
