//! Sessions that can't be had leave nothing behind, and say what was wrong.

use portcullis_ebpf::{Hook, Scope};
use rustix::io::Errno;

use super::{config, plugin, session};
use crate::{
    kernel::{
        RunningKernel,
        sys::{Call, fake},
        testing::{Assembler, counting, kernel_objects, lock, sys_enter},
    },
    session::{Compiled, Config, Error},
};

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
