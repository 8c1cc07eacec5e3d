//! The names of errors. What plugins written in Rust have is the same table (`portcullis_sdk::errno`), on the other side of the
//! sandbox.

/// The name of an error's number, of either sign; `None` for what is none.
pub(super) fn name(number: i64) -> Option<&'static str> {
    let number = usize::try_from(number.unsigned_abs()).ok()?;
    let name = NAMES.get(number).copied().filter(|name| !name.is_empty());
    name.or_else(|| RESTART.iter().find(|(n, _)| *n == number).map(|(_, name)| *name))
}

/// By number, from include/uapi/asm-generic/errno-base.h and errno.h, which x86-64 and arm64 share. Empty where there is none.
#[rustfmt::skip]
const NAMES: [&str; 134] = [
    "", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF", "ECHILD", "EAGAIN", "ENOMEM", "EACCES",
    "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV", "ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENFILE", "EMFILE", "ENOTTY",
    "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM", "ERANGE", "EDEADLK", "ENAMETOOLONG", "ENOLCK",
    "ENOSYS", "ENOTEMPTY", "ELOOP", "", "ENOMSG", "EIDRM", "ECHRNG", "EL2NSYNC", "EL3HLT", "EL3RST", "ELNRNG", "EUNATCH",
    "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL", "ENOANO", "EBADRQC", "EBADSLT", "", "EBFONT", "ENOSTR", "ENODATA", "ETIME",
    "ENOSR", "ENONET", "ENOPKG", "EREMOTE", "ENOLINK", "EADV", "ESRMNT", "ECOMM", "EPROTO", "EMULTIHOP", "EDOTDOT", "EBADMSG",
    "EOVERFLOW", "ENOTUNIQ", "EBADFD", "EREMCHG", "ELIBACC", "ELIBBAD", "ELIBSCN", "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART",
    "ESTRPIPE", "EUSERS", "ENOTSOCK", "EDESTADDRREQ", "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT", "EOPNOTSUPP", "EPFNOSUPPORT", "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH",
    "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOBUFS", "EISCONN", "ENOTCONN", "ESHUTDOWN", "ETOOMANYREFS", "ETIMEDOUT",
    "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EALREADY", "EINPROGRESS", "ESTALE", "EUCLEAN", "ENOTNAM", "ENAVAIL", "EISNAM",
    "EREMOTEIO", "EDQUOT", "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED",
    "EOWNERDEAD", "ENOTRECOVERABLE", "ERFKILL", "EHWPOISON",
];

/// What the kernel returns to itself, and only a tracer sees (include/linux/errno.h).
const RESTART: [(usize, &str); 4] =
    [(512, "ERESTARTSYS"), (513, "ERESTARTNOINTR"), (514, "ERESTARTNOHAND"), (516, "ERESTART_RESTARTBLOCK")];

#[cfg(test)]
mod tests {
    use super::name;

    /// Names agree with the C library's numbers, on both sides of zero.
    #[test]
    fn names() {
        let check = |number: i64, expect: Option<&str>| assert_eq!((name(number), name(-number)), (expect, expect), "{number}");
        check(libc::EPERM.into(), Some("EPERM"));
        check(libc::EAGAIN.into(), Some("EAGAIN"));
        check(libc::ENOMSG.into(), Some("ENOMSG"));
        check(libc::ETIMEDOUT.into(), Some("ETIMEDOUT"));
        check(libc::EHWPOISON.into(), Some("EHWPOISON"));
        check(41, None);
        check(134, None);
        check(512, Some("ERESTARTSYS"));
        check(0, None);
        check(i64::MAX, None);
        assert_eq!(name(i64::MIN), None);
    }
}
