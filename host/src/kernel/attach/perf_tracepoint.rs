//! Tracepoints through perf events.

use std::os::fd::{AsFd as _, BorrowedFd};

use portcullis_ebpf::{
    Kernel,
    kernel::{SourceError, format},
};

use super::{AttachError, Link};
use crate::kernel::sys;

pub(super) fn attach(category: &str, name: &str, program: BorrowedFd<'_>, kernel: &impl Kernel) -> Result<Link, AttachError> {
    let text = kernel.tracepoint_format(category, name)?;
    let text = text.ok_or_else(|| AttachError::NoTarget(format!("tracepoint `{category}:{name}`")))?;
    let format = format::parse(&text)
        .map_err(|reason| SourceError { what: format!("the format of the tracepoint {category}:{name}"), reason })?;
    let event = sys::perf_event_open_tracepoint(format.id)?;
    sys::perf_event_set_bpf(event.as_fd(), program)?;
    sys::perf_event_enable(event.as_fd())?;
    Ok(Link::slow(event))
}
