//! Raw tracepoints, by name.

use std::{ffi::CString, os::fd::BorrowedFd};

use rustix::io::Errno;

use super::{AttachError, Link};
use crate::kernel::sys::{self, SysError};

pub(super) fn attach(name: &str, program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let none = || AttachError::NoTarget(format!("raw tracepoint `{name}`"));
    let text = CString::new(name).map_err(|_| none())?;
    match sys::raw_tracepoint_open(Some(&text), program) {
        Ok(fd) => Ok(Link { _fd: fd, slow: false }),
        Err(SysError { errno: Errno::NOENT, .. }) => Err(none()),
        Err(error) => Err(error.into()),
    }
}
