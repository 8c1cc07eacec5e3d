//! Time and events that the kernel or the processor counts: an event on each CPU, or on one, disabled until [`Link::start`].

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{AttachError, Link};
use crate::kernel::sys::{self, SysError};

/// What is counted, and how many of them are a hit.
pub(super) struct Event {
    pub(super) kind: u32,
    pub(super) config: u64,
    pub(super) period: u64,
    pub(super) frequency: bool,
    pub(super) every_cpu: bool,
}

pub(super) fn attach(event: &Event, program: BorrowedFd<'_>, cpus: u32) -> Result<Link, AttachError> {
    let open = |cpu| sys::perf_event_open_sampling(event.kind, event.config, event.period, event.frequency, cpu);
    let refused = |error: SysError| match error.errno {
        // No driver takes an event of this kind: this machine, often a virtual one, has no such counter.
        Errno::NOENT | Errno::OPNOTSUPP => {
            AttachError::NoTarget("counter of this event, as virtual machines often have none".to_owned())
        }
        _ => error.into(),
    };
    let most = if event.every_cpu { cpus } else { 1 };
    let fds = on_cpus(cpus, most, open, refused, |fd| sys::perf_event_set_bpf(fd, program))?;
    Ok(Link { fds, slow: false, timed: true })
}

/// Opens an event on each CPU that is online, up to `most` of them, and sets each up.
pub(super) fn on_cpus(
    cpus: u32,
    most: u32,
    open: impl Fn(u32) -> sys::Result<OwnedFd>,
    refused: impl Fn(SysError) -> AttachError,
    set: impl Fn(BorrowedFd<'_>) -> sys::Result<()>,
) -> Result<Vec<OwnedFd>, AttachError> {
    let mut events = Vec::new();
    for cpu in 0..cpus {
        let event = match open(cpu) {
            Ok(event) => event,
            // The CPU is possible and not online.
            Err(error) if error.errno == Errno::NODEV => continue,
            Err(error) => return Err(refused(error)),
        };
        set(event.as_fd())?;
        events.push(event);
        if events.len() >= most as usize {
            break;
        }
    }
    if events.is_empty() {
        return Err(AttachError::NoTarget("CPU that is online".to_owned()));
    }
    Ok(events)
}
