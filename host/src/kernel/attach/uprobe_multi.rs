//! Places in a program or library by one link.

use std::{ffi::CString, os::fd::BorrowedFd};

use portcullis_ebpf::output::{Ends, UserPlace};
use rustix::io::Errno;

use super::{AttachError, Link, together};
use crate::kernel::sys;

pub(super) fn attach(path: &str, places: &[UserPlace], ends: Ends, program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let name = CString::new(path).map_err(|_| AttachError::NoTarget(format!("file `{path}`")))?;
    together(places, |places| {
        sys::link_uprobe_multi(program, ends, &name, places).map_err(|error| match error.errno {
            Errno::INVAL | Errno::OPNOTSUPP | Errno::IO | Errno::NOEXEC if places.len() == 1 => AttachError::NoPlace { error },
            _ => error.into(),
        })
    })
}
