//! Telling a supervisor that the gate is open: a line to a descriptor that it gave (`--ready-fd`, as s6 and others have it), and the message of
//! sd_notify(3) to the socket that it named.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use rustix::io::{FdFlags, fcntl_setfd};

/// Who is told.
#[derive(Debug, Default)]
pub struct Ready {
    fd: Option<OwnedFd>,
    notify: Option<(UnixDatagram, SocketAddr)>,
}

impl Ready {
    /// The descriptor `fd`, if one was given, and the socket that the environment names. Neither is passed on to other processes.
    ///
    /// # Errors
    /// If `fd` is none of this process's.
    pub fn new(fd: Option<RawFd>) -> io::Result<Ready> {
        Ok(Ready { fd: fd.map(own).transpose()?, notify: env::var_os("NOTIFY_SOCKET").and_then(|name| socket(&name)) })
    }

    /// The gate is open. That nobody listens is no reason to end a run.
    pub fn opened(&mut self) {
        if let Some(fd) = self.fd.take() {
            let _ = rustix::io::write(&fd, b"\n");
        }
        self.notify("READY=1\nSTATUS=The gate is open.\n");
    }

    /// The gate is not open, but can be opened.
    pub fn waiting(&self) {
        self.notify("STATUS=Attached; the gate is closed.\n");
    }

    /// The gate is open again.
    pub fn resumed(&self) {
        self.notify("STATUS=The gate is open.\n");
    }

    /// The gate is closed for a while.
    pub fn paused(&self) {
        self.notify("STATUS=The gate is paused.\n");
    }

    /// The run comes to its end.
    pub fn ending(&self) {
        self.notify("STOPPING=1\nSTATUS=The gate is closed.\n");
    }

    fn notify(&self, message: &str) {
        if let Some((socket, to)) = &self.notify {
            let _ = socket.send_to_addr(message.as_bytes(), to);
        }
    }
}

/// Takes over a descriptor that this process was started with.
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("--ready-fd {fd}: {why}"));
    if fd <= 2 {
        return Err(wrong("standard input, output and error are in use; take one from 3 on".into()));
    }
    // SAFETY: only asked whether it is one, by F_GETFD, which touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(wrong("this process was started with no such descriptor".into()));
    }
    // SAFETY: it is open, and by the option's meaning nobody else's in this process, which has opened nothing yet by that number: it was there
    // at the start.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// The socket of sd_notify(3): a path, or behind `@` a name in the abstract space. `None` for any other.
fn socket(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use super::*;

    /// The descriptor gets one line and its end, at the opening and once.
    #[test]
    fn descriptor() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut ready = Ready { fd: Some(writer.into()), notify: None };
        ready.waiting();
        ready.opened();
        ready.opened();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n");
    }

    /// The supervisor's socket gets the messages of sd_notify(3), by path or by abstract name.
    #[test]
    fn notify() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("portcullis-test-{}", std::process::id());
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()),
        ];
        for (name, listener) in sockets {
            let mut ready = Ready { fd: None, notify: socket(&name) };
            ready.opened();
            ready.ending();
            let mut buffer = [0; 128];
            for expect in ["READY=1\nSTATUS=The gate is open.\n", "STOPPING=1\nSTATUS=The gate is closed.\n"] {
                let length = listener.recv(&mut buffer).unwrap();
                assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expect);
            }
        }
        assert!(socket(OsStr::new("no-place")).is_none());
    }

    /// What is no descriptor is said to be none.
    #[test]
    fn wrong_descriptors() {
        let check = |fd, expect: &str| assert_eq!(own(fd).unwrap_err().to_string(), expect);
        check(1, "--ready-fd 1: standard input, output and error are in use; take one from 3 on");
        check(9999, "--ready-fd 9999: this process was started with no such descriptor");
    }
}
