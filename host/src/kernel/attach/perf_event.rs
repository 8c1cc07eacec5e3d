//! Time and events that the kernel or the processor counts: an event on each CPU, or on one, disabled until [`Link::start`].

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{AttachError, Link};
use crate::kernel::sys;

/// What is counted, and how many of them are a hit.
pub(super) struct Event {
    pub(super) kind: u32,
    pub(super) config: u64,
    pub(super) period: u64,
    pub(super) frequency: bool,
    pub(super) every_cpu: bool,
}

pub(super) fn attach(event: &Event, program: BorrowedFd<'_>, cpus: u32) -> Result<Link, AttachError> {
    let mut events: Vec<OwnedFd> = Vec::new();
    for cpu in 0..cpus {
        let fd = match sys::perf_event_open_sampling(event.kind, event.config, event.period, event.frequency, cpu) {
            Ok(fd) => fd,
            // The CPU is possible and not online.
            Err(error) if error.errno == Errno::NODEV => continue,
            // No driver takes an event of this kind: this machine, often a virtual one, has no such counter.
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::OPNOTSUPP) => {
                return Err(AttachError::NoTarget("counter of this event, as virtual machines often have none".to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        sys::perf_event_set_bpf(fd.as_fd(), program)?;
        events.push(fd);
        if !event.every_cpu {
            break;
        }
    }
    if events.is_empty() {
        return Err(AttachError::NoTarget("CPU that is online".to_owned()));
    }
    Ok(Link { fds: events, slow: false, timed: true })
}
