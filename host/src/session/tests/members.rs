//! Plugins that leave a session, join it, and take each other's place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use portcullis_ebpf::Scope;

use super::{hits, plugin, session, wait_for_hits};
use crate::{
    kernel::{
        RunningKernel,
        testing::{counting, getppid, kernel_objects, lock, sys_enter},
    },
    session::{Compiled, Error, Open},
};

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
