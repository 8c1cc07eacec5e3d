//! Places in programs and libraries through perf events.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, BorrowedFd},
};

use rustix::io::Errno;

use super::{AttachError, Link, kprobe, pmu};
use crate::kernel::sys;

/// A place in a file.
pub(super) struct Place<'a> {
    pub(super) path: &'a str,
    pub(super) offset: u64,
    pub(super) returns: bool,
    pub(super) semaphore: u64,
    pub(super) pid: Option<u32>,
}

pub(super) fn attach(place: &Place<'_>, program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let missing = || AttachError::NoTarget("uprobes (CONFIG_UPROBES and CONFIG_UPROBE_EVENTS)".to_owned());
    let pmu = pmu::find("uprobe").map_err(AttachError::Source)?.ok_or_else(missing)?;
    let path = CString::new(place.path).map_err(|_| AttachError::NoTarget(format!("file `{}`", place.path)))?;
    let config = pmu.returns(place.returns) | pmu.semaphore(place.semaphore)?;
    let event = sys::perf_event_open_uprobe(pmu.kind, config, &path, place.offset, place.pid);
    let event = event.map_err(|error| match error.errno {
        Errno::INVAL | Errno::OPNOTSUPP | Errno::IO | Errno::NOEXEC => AttachError::NoPlace { error },
        _ => error.into(),
    })?;
    kprobe::set(event.as_fd(), program)?;
    Ok(Link::slow(event))
}
