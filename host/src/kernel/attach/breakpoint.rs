//! Memory that is touched: a perf event on each CPU, which takes one of its debug registers.
//!
//! Also for the memory of one process: an event of a thread would not see the threads that come later. The program tells whose process
//! runs; another that touches the same address of its own takes a trap for nothing.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::io::Errno;

use super::{AttachError, Link, kprobe};
use crate::kernel::sys;

pub(super) fn attach(address: u64, length: u8, access: u32, program: BorrowedFd<'_>, cpus: u32) -> Result<Link, AttachError> {
    let mut events = Vec::new();
    for cpu in 0..cpus {
        let event = match sys::perf_event_open_breakpoint(address, length, access, cpu) {
            Ok(event) => event,
            // The CPU is possible and not online.
            Err(error) if error.errno == Errno::NODEV => continue,
            Err(error) => {
                return Err(match error.errno {
                    Errno::NOSPC => AttachError::NoRegister { error },
                    Errno::INVAL => AttachError::NoPlace { error },
                    Errno::NOENT | Errno::OPNOTSUPP => AttachError::NoTarget("debug registers for tools".to_owned()),
                    _ => error.into(),
                });
            }
        };
        kprobe::set(event.as_fd(), program)?;
        events.push(event);
    }
    if events.is_empty() {
        return Err(AttachError::NoTarget("CPU that is online".to_owned()));
    }
    Ok(Link { fds: events, slow: false, timed: false })
}
