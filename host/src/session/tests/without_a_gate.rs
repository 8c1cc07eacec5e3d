//! Sessions without a gate.

use super::{hits, plugin, session};
use crate::{
    kernel::{
        RunningKernel,
        testing::{counting, getppid, kernel_objects, lock, sys_enter},
    },
    session::{Error, Refusal},
};

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
