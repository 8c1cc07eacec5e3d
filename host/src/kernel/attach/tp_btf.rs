//! BTF-typed raw tracepoints: the tracepoint was named at the load.

use std::os::fd::BorrowedFd;

use super::{AttachError, Link};
use crate::kernel::sys;

pub(super) fn attach(program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    Ok(Link { _fd: sys::raw_tracepoint_open(program)?, slow: false })
}
