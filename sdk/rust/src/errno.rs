//! The names of error numbers, as tracing shows them: `-2` is `ENOENT`.

/// The name of the error that a system call returned as `-number`; `None` for what is no error number.
///
/// ```
/// assert_eq!(portcullis_sdk::errno::name(-2), Some("ENOENT"));
/// assert_eq!(portcullis_sdk::errno::name(3), None);
/// ```
pub fn name(result: i64) -> Option<&'static str> {
    let number = usize::try_from(result.checked_neg()?).ok()?;
    NAMES
        .get(number)
        .copied()
        .filter(|name| !name.is_empty())
        .or_else(|| RESTART.iter().find(|(n, _)| *n == number).map(|(_, name)| *name))
}

/// By number, from include/uapi/asm-generic/errno-base.h and errno.h, which x86-64 and arm64 share. Empty where there is none.
const NAMES: [&str; 134] = [
    "",
    "EPERM",
    "ENOENT",
    "ESRCH",
    "EINTR",
    "EIO",
    "ENXIO",
    "E2BIG",
    "ENOEXEC",
    "EBADF",
    "ECHILD",
    "EAGAIN",
    "ENOMEM",
    "EACCES",
    "EFAULT",
    "ENOTBLK",
    "EBUSY",
    "EEXIST",
    "EXDEV",
    "ENODEV",
    "ENOTDIR",
    "EISDIR",
    "EINVAL",
    "ENFILE",
    "EMFILE",
    "ENOTTY",
    "ETXTBSY",
    "EFBIG",
    "ENOSPC",
    "ESPIPE",
    "EROFS",
    "EMLINK",
    "EPIPE",
    "EDOM",
    "ERANGE",
    "EDEADLK",
    "ENAMETOOLONG",
    "ENOLCK",
    "ENOSYS",
    "ENOTEMPTY",
    "ELOOP",
    "",
    "ENOMSG",
    "EIDRM",
    "ECHRNG",
    "EL2NSYNC",
    "EL3HLT",
    "EL3RST",
    "ELNRNG",
    "EUNATCH",
    "ENOCSI",
    "EL2HLT",
    "EBADE",
    "EBADR",
    "EXFULL",
    "ENOANO",
    "EBADRQC",
    "EBADSLT",
    "",
    "EBFONT",
    "ENOSTR",
    "ENODATA",
    "ETIME",
    "ENOSR",
    "ENONET",
    "ENOPKG",
    "EREMOTE",
    "ENOLINK",
    "EADV",
    "ESRMNT",
    "ECOMM",
    "EPROTO",
    "EMULTIHOP",
    "EDOTDOT",
    "EBADMSG",
    "EOVERFLOW",
    "ENOTUNIQ",
    "EBADFD",
    "EREMCHG",
    "ELIBACC",
    "ELIBBAD",
    "ELIBSCN",
    "ELIBMAX",
    "ELIBEXEC",
    "EILSEQ",
    "ERESTART",
    "ESTRPIPE",
    "EUSERS",
    "ENOTSOCK",
    "EDESTADDRREQ",
    "EMSGSIZE",
    "EPROTOTYPE",
    "ENOPROTOOPT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
    "EOPNOTSUPP",
    "EPFNOSUPPORT",
    "EAFNOSUPPORT",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "ECONNABORTED",
    "ECONNRESET",
    "ENOBUFS",
    "EISCONN",
    "ENOTCONN",
    "ESHUTDOWN",
    "ETOOMANYREFS",
    "ETIMEDOUT",
    "ECONNREFUSED",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EALREADY",
    "EINPROGRESS",
    "ESTALE",
    "EUCLEAN",
    "ENOTNAM",
    "ENAVAIL",
    "EISNAM",
    "EREMOTEIO",
    "EDQUOT",
    "ENOMEDIUM",
    "EMEDIUMTYPE",
    "ECANCELED",
    "ENOKEY",
    "EKEYEXPIRED",
    "EKEYREVOKED",
    "EKEYREJECTED",
    "EOWNERDEAD",
    "ENOTRECOVERABLE",
    "ERFKILL",
    "EHWPOISON",
];

/// What the kernel returns to itself, and only a tracer sees: a call that a signal interrupted and that will begin again
/// (include/linux/errno.h).
const RESTART: [(usize, &str); 4] =
    [(512, "ERESTARTSYS"), (513, "ERESTARTNOINTR"), (514, "ERESTARTNOHAND"), (516, "ERESTART_RESTARTBLOCK")];

#[cfg(test)]
mod tests {
    use super::name;

    /// Numbers at the ends and beside the gaps have the names of the kernel's headers.
    #[test]
    fn names() {
        for (result, expect) in [
            (-1, Some("EPERM")),
            (-11, Some("EAGAIN")),
            (-40, Some("ELOOP")),
            (-41, None),
            (-42, Some("ENOMSG")),
            (-58, None),
            (-59, Some("EBFONT")),
            (-110, Some("ETIMEDOUT")),
            (-133, Some("EHWPOISON")),
            (-134, None),
            (-512, Some("ERESTARTSYS")),
            (-516, Some("ERESTART_RESTARTBLOCK")),
            (0, None),
            (7, None),
            (i64::MIN, None),
        ] {
            assert_eq!(name(result), expect, "{result}");
        }
    }
}
