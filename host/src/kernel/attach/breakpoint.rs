//! Memory that is touched: a perf event on each CPU, which takes one of its debug registers.
//!
//! Also for the memory of one process: an event of a thread would not see the threads that come later. The program tells whose process
//! runs; another that touches the same address of its own takes a trap for nothing.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{AttachError, Link, kprobe, perf_event};
use crate::kernel::sys::{self, SysError};

pub(super) fn attach(address: u64, length: u8, access: u32, program: BorrowedFd<'_>, cpus: u32) -> Result<Link, AttachError> {
    let open = |cpu| sys::perf_event_open_breakpoint(address, length, access, cpu);
    let refused = |error: SysError| match error.errno {
        Errno::NOSPC => AttachError::NoRegister { error },
        Errno::INVAL => AttachError::NoPlace { error },
        Errno::NOENT | Errno::OPNOTSUPP => AttachError::NoTarget("debug registers for tools".to_owned()),
        _ => error.into(),
    };
    let fds = perf_event::on_cpus(cpus, cpus, open, refused, |event| kprobe::set(event, program))?;
    Ok(Link { fds, slow: false, timed: false })
}
