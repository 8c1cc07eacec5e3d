//! Attaching: one file for each mechanism.

mod perf_tracepoint;
mod tp_btf;

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    thread,
};

use portcullis_ebpf::{Hook, Kernel, kernel::SourceError};
use rustix::io::Errno;

use super::sys::SysError;

/// How many threads detach what is slow to detach. More do not help: the kernel lets one through at a time for half of the work.
const DETACHING_THREADS: usize = 4;

/// An attached program. Dropping it detaches.
#[derive(Debug)]
pub struct Link {
    _fd: OwnedFd,
    /// Closing waits for a grace period of its own, 65 to 100 ms.
    slow: bool,
}

/// A program could not be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The kernel has no such attach point.
    #[error("this kernel has no {0}")]
    NoTarget(String),
    /// The kernel refused.
    #[error("{error}{way_out}")]
    Refused {
        /// The call and why.
        error: SysError,
        /// What may help.
        way_out: &'static str,
    },
    /// What the kernel says of the attach point could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl From<SysError> for AttachError {
    fn from(error: SysError) -> AttachError {
        let way_out = match error.errno {
            Errno::PERM => "; attaching needs root, or the capabilities CAP_BPF and CAP_PERFMON",
            Errno::ACCESS => "; the program reads past the end of the tracepoint's record: a bug of Portcullis, please report it",
            Errno::MFILE => "; too many open files: raise the limit (ulimit -n), or use fewer probes",
            // BPF_TRACE_MAX_PROGS, include/linux/trace_events.h.
            Errno::TOOBIG => "; a tracepoint takes 64 programs at most, and other tools count",
            _ => "",
        };
        AttachError::Refused { error, way_out }
    }
}

/// Attaches a program to its hook.
pub fn attach(hook: &Hook, program: BorrowedFd<'_>, kernel: &impl Kernel) -> Result<Link, AttachError> {
    match hook {
        Hook::TpBtf { .. } => tp_btf::attach(program),
        Hook::PerfTracepoint { category, name } => perf_tracepoint::attach(category, name, program, kernel),
    }
}

/// Detaches all, the slow ones on several threads, and returns when that is done.
pub fn detach(links: Vec<Link>) {
    let (slow, quick): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| link.slow);
    drop(quick);
    let share = slow.len().div_ceil(DETACHING_THREADS).max(1);
    let mut slow = slow.into_iter();
    thread::scope(|scope| {
        while slow.len() > 0 {
            let links: Vec<Link> = slow.by_ref().take(share).collect();
            // Without a thread the closure is dropped here, and its links with it: that detaches as well.
            let _ = thread::Builder::new().name("detach".to_owned()).spawn_scoped(scope, move || drop(links));
        }
    });
}
