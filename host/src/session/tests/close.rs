//! The close under load: runs in flight count, then nothing changes any more, and detaching frees all there was.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::{hits, plugin, session, wait_for_hits};
use crate::kernel::{
    RunningKernel,
    testing::{alive, counting, getppid, lock, slow, sys_enter},
};

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
