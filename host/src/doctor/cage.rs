//! What the host's own processes lock themselves in with ([`crate::cage`]).

use std::{io, path::Path};

use super::Finding;
use crate::{
    cage,
    symbols::{self, Symbols},
};

const GROUP: &str = "cage";

pub(super) fn findings() -> Vec<Finding> {
    vec![landlock(), seccomp(), symbolizer()]
}

fn landlock() -> Finding {
    let name = "Landlock";
    match cage::landlock_version() {
        Some(version) => Finding::yes(GROUP, name, format!("version {version}")),
        None => Finding::no(
            GROUP,
            name,
            "this kernel has it not, or not enabled: the symbolizer is kept from files by seccomp and its user id alone",
            "take Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK=y, and `landlock` in the boot parameter `lsm=`",
        ),
    }
}

/// Whether filters can return errors: SECCOMP_GET_ACTION_AVAIL, seccomp(2).
fn seccomp() -> Finding {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the call reads the one number.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    match result {
        0 => Finding::yes(GROUP, "seccomp", "filters"),
        _ => Finding::no(
            GROUP,
            "seccomp",
            io::Error::last_os_error().to_string(),
            "take a kernel built with CONFIG_SECCOMP_FILTER=y; without it the symbolizer does not start, and user functions have no names",
        ),
    }
}

/// The caged process, asked for a function of this program. Whether there is one does not matter.
fn symbolizer() -> Finding {
    let name = "symbolizer, locked in";
    let symbols = Symbols::new(&symbols::Options::default());
    match symbols.functions(Path::new("/proc/self/exe"), None, "main") {
        Ok(_) => Finding::yes(GROUP, name, "it runs and answers"),
        Err(error) => Finding::no(GROUP, name, error.to_string(), "see the lines above; without it user functions have no names"),
    }
}
