//! Programs that the host runs itself, at the opening and at the close.

use portcullis_ebpf::{Hook, output::Moment};
use rustix::io::Errno;

use super::{counted, hits, plugin, session};
use crate::{
    kernel::{
        RunningKernel,
        sys::{Call, fake},
        testing::{bare, lock},
    },
    session::Misses,
};

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
