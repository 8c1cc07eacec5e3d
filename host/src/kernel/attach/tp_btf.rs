//! BTF-typed raw tracepoints, and functions of the kernel by their trampolines: what it is was named at the load.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{AttachError, Link};
use crate::kernel::sys;

/// Attaches to a raw tracepoint.
pub(super) fn attach(program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    Ok(Link::quick(sys::raw_tracepoint_open(program)?))
}

/// Attaches to a function.
pub(super) fn attach_function(program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let link = sys::raw_tracepoint_open(program).map_err(|error| match error.errno {
        // Not every function that BTF describes can be entered: ftrace knows which.
        Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP => AttachError::NoPlace { error },
        errno if errno.raw_os_error() == sys::NOT_SUPPORTED => AttachError::NoTarget("BPF trampolines".to_owned()),
        Errno::TOOBIG | Errno::BUSY => AttachError::Full { error },
        _ => error.into(),
    })?;
    Ok(Link::quick(link))
}
