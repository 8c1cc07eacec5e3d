//! Functions of the kernel through perf events.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, BorrowedFd},
};

use rustix::io::Errno;

use super::{AttachError, Link, pmu};
use crate::kernel::sys::{self, SysError};

pub(super) fn attach(function: &str, offset: u64, returns: bool, program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let missing = || AttachError::NoTarget("kprobes (CONFIG_KPROBES and CONFIG_KPROBE_EVENTS)".to_owned());
    let pmu = pmu::find("kprobe").map_err(AttachError::Source)?.ok_or_else(missing)?;
    let no_function = || AttachError::NoTarget(format!("function `{function}` that can be traced"));
    let name = CString::new(function).map_err(|_| no_function())?;
    let event = sys::perf_event_open_kprobe(pmu.kind, pmu.returns(returns), &name, offset);
    let event = event.map_err(|error| match error.errno {
        Errno::NOENT => no_function(),
        // Since Linux 6.6; before, the first one was taken.
        Errno::ADDRNOTAVAIL => AttachError::Ambiguous(function.to_owned()),
        Errno::INVAL | Errno::OPNOTSUPP | Errno::ILSEQ => AttachError::NoPlace { error },
        _ => error.into(),
    })?;
    set(event.as_fd(), program)?;
    Ok(Link::slow(event))
}

/// Gives an event its program, and lets it go.
pub(super) fn set(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), SysError> {
    sys::perf_event_set_bpf(event, program)?;
    sys::perf_event_enable(event)
}
