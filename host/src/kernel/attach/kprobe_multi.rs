//! Functions of the kernel by one link.

use std::{ffi::CString, os::fd::BorrowedFd};

use portcullis_ebpf::output::{Ends, KernelPlace};
use rustix::io::Errno;

use super::{AttachError, Link, together};
use crate::kernel::sys::{self, SysError};

pub(super) fn attach(places: &[KernelPlace], ends: Ends, program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    together(places, |places| {
        let no_function =
            |place: &KernelPlace| AttachError::NoTarget(format!("function `{}` that can be traced", place.function));
        let names = places.iter().map(|place| CString::new(place.function.as_str()).map_err(|_| no_function(place)));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let cookies: Vec<u64> = places.iter().map(|place| place.cookie).collect();
        sys::link_kprobe_multi(program, ends, &names, &cookies).map_err(|error| refused(error, places))
    })
}

fn refused(error: SysError, places: &[KernelPlace]) -> AttachError {
    match (error.errno, places) {
        // A name that ftrace does not know is ESRCH (ftrace_lookup_symbols(), kernel/trace/ftrace.c).
        (Errno::SRCH | Errno::NOENT, [one]) => AttachError::NoTarget(format!("function `{}` that can be traced", one.function)),
        (Errno::INVAL | Errno::OPNOTSUPP, [_]) => AttachError::NoPlace { error },
        _ => error.into(),
    }
}
