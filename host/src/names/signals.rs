//! The names of signals.

use std::fmt::{self, Write as _};

/// By number from 1, as x86-64 and arm64 have them: include/uapi/asm-generic/signal.h, arch/x86/include/uapi/asm/signal.h.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The first and the last real-time signal that programs may use; those below are the C library's own.
const REAL_TIME: (u64, u64) = (34, 64);

/// The name of a signal, `SIGRTMIN+n` for those that have none; a number that is no signal as it is.
pub(super) fn write(number: u64, out: &mut String) -> fmt::Result {
    let name = number.checked_sub(1).and_then(|position| NAMES.get(usize::try_from(position).ok()?));
    match name {
        Some(name) => out.write_str(name),
        None if number == REAL_TIME.0 => out.write_str("SIGRTMIN"),
        None if (REAL_TIME.0..=REAL_TIME.1).contains(&number) => write!(out, "SIGRTMIN+{}", number - REAL_TIME.0),
        None => write!(out, "{}", number.cast_signed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    /// Names agree with the C library's numbers; those without a name are numbers.
    #[test]
    fn signals() {
        let check = |number: i64, expect: &str| {
            let mut out = String::new();
            super::write(number as u64, &mut out).unwrap();
            assert_eq!(out, expect);
        };
        for (number, name) in [
            (libc::SIGHUP, "SIGHUP"),
            (libc::SIGSEGV, "SIGSEGV"),
            (libc::SIGCHLD, "SIGCHLD"),
            (libc::SIGXFSZ, "SIGXFSZ"),
            (libc::SIGSYS, "SIGSYS"),
        ] {
            check(number.into(), name);
        }
        check(0, "0");
        check(32, "32");
        check(34, "SIGRTMIN");
        check(64, "SIGRTMIN+30");
        check(65, "65");
        check(-1, "-1");
    }
}
