//! Open doors on their way from the host to its worker: one message, the first on their socket, with the directories' descriptors.
//!
//! The worker reads it before it locks itself in, since what it locks depends on it. It is the host's own word, of the manifest; nothing
//! that a plugin wrote is in it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize};

use super::{MAX_DIRECTORIES, OpenDirectory, Opened, Peers};
use crate::worker::protocol;

/// The longest message: what is granted at the most has a third of it.
const MAX: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Message {
    environment: Vec<(String, String)>,
    network: Vec<Peers>,
    directories: Vec<Described>,
}

/// A directory, whose descriptor comes beside.
#[derive(Serialize, Deserialize)]
struct Described {
    name: String,
    write: bool,
    own_mount: bool,
}

/// Sends them.
pub fn send(doors: &Opened, socket: impl AsFd) -> io::Result<()> {
    let describe = |directory: &OpenDirectory| {
        let OpenDirectory { name, write, own_mount, .. } = directory;
        Described { name: name.clone(), write: *write, own_mount: *own_mount }
    };
    let Opened { environment, network, directories } = doors;
    let message = Message {
        environment: environment.clone(),
        network: network.clone(),
        directories: directories.iter().map(describe).collect(),
    };
    let mut frame = Vec::new();
    protocol::encode(&message, MAX, &mut frame).map_err(io::Error::other)?;
    let descriptors: Vec<BorrowedFd<'_>> = directories.iter().map(|directory| directory.fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DIRECTORIES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there are too many directories"));
    }
    let mut rest = &frame[..];
    while !rest.is_empty() {
        // The descriptors go with the first byte.
        match rustix::net::sendmsg(&socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => {
                rest = &rest[count..];
                control.clear();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Receives them.
pub fn receive(socket: impl AsFd) -> io::Result<Opened> {
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the host has not said which doors are open");
    let mut received = Vec::new();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let body = loop {
        let length = protocol::frame_length(&received, MAX).map_err(io::Error::other)?;
        let needed = 4 + length.unwrap_or(0);
        if let Some(length) = length
            && let Some(body) = received.get(4..4 + length)
        {
            break body;
        }
        // No byte of what comes after it: that is for another reader.
        let start = received.len();
        received.resize(needed, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DIRECTORIES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut received[start..])];
        let count = match rustix::net::recvmsg(&socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes > 0 => message.bytes,
            Ok(_) => return Err(cut()),
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        received.truncate(start + count);
    };
    let Message { environment, network, directories } = protocol::decode(body).map_err(io::Error::other)?;
    if directories.len() != descriptors.len() {
        return Err(cut());
    }
    let directories = directories.into_iter().zip(descriptors).map(|(described, fd)| {
        let Described { name, write, own_mount } = described;
        OpenDirectory { fd: Arc::new(fd), name, write, own_mount }
    });
    Ok(Opened { environment, network, directories: directories.collect() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs::File, io::Read as _, os::unix::net::UnixStream, thread};

    use super::*;

    /// What is sent arrives, the most that can be granted too, and nothing behind it is taken.
    #[test]
    fn sent_and_received() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let fd = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
        let directory = |at: usize| OpenDirectory {
            fd: fd.clone(),
            name: format!("/{}{at}", "d".repeat(4000)),
            write: at.is_multiple_of(2),
            own_mount: at.is_multiple_of(3),
        };
        let sent = Opened {
            environment: vec![("A".into(), "x".repeat(60_000))],
            network: vec!["127.0.0.1:80".parse().unwrap(), "[fd00::/8]:1".parse().unwrap()],
            directories: (0..MAX_DIRECTORIES).map(directory).collect(),
        };
        let expect = sent.clone();
        let sender = thread::spawn(move || {
            send(&sent, &theirs).unwrap();
            rustix::net::send(&theirs, b"more", SendFlags::empty()).unwrap();
        });
        let received = receive(&ours).unwrap();
        sender.join().unwrap();
        let words = |doors: &Opened| {
            let directories = doors.directories.iter().map(|d| (d.name.clone(), d.write, d.own_mount));
            (doors.environment.clone(), doors.network.clone(), directories.collect::<Vec<_>>())
        };
        assert_eq!(words(&received), words(&expect));
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "more");
    }

    /// A host that hangs up has said nothing.
    #[test]
    fn hung_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(receive(&ours).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
