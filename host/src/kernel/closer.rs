//! A process that closes what the kernel is slow to close.
//!
//! A perf event that a program is attached to takes 65 to 100 ms to close, one after the other, whoever does it (`event_mutex`,
//! kernel/trace/trace_events.c). The gate is closed then, and the report is out. So the host hands the descriptors to a small process of
//! its own that has nothing else, and returns the prompt; that process closes them and ends.
//!
//! The next run would wait for that mutex once for each perf event that it attaches. So a run attaches under a shared lock on its
//! executable, and the closer closes each descriptor under the exclusive one: an attaching run waits for one descriptor at most.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio, exit},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// The subcommand of the executable that [`main`] is.
pub const SUBCOMMAND: &str = "closer";
/// This process's executable, also when its file was replaced.
const EXECUTABLE: &str = "/proc/self/exe";
/// How many descriptors one message carries; 253 at most (`SCM_MAX_FD`, include/net/scm.h).
const MESSAGE: usize = 64;
/// Between two descriptors, so that one who waits for the lock gets it.
const PAUSE: Duration = Duration::from_millis(1);

/// While it is there, what ended runs have left to close waits.
#[derive(Debug)]
pub struct Attaching(#[expect(dead_code, reason = "held for its lock")] Option<File>);

impl Attaching {
    /// Waits for the descriptor that is being closed. Where there can be no lock, attaching may take longer.
    pub fn begin() -> Attaching {
        Attaching(lock(FlockOperation::LockShared).ok())
    }
}

fn lock(how: FlockOperation) -> io::Result<File> {
    let file = File::open(EXECUTABLE)?;
    flock(&file, how)?;
    Ok(file)
}

/// Hands descriptors to a process that closes them.
///
/// # Errors
/// If there can be no such process; then the descriptors are closed here, with the call.
pub fn hand_over(descriptors: &[OwnedFd]) -> io::Result<()> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // It outlives this process, which is about to end, and is no business of the terminal's: Ctrl-C does not reach it.
    Command::new(EXECUTABLE)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    for some in borrowed.chunks(MESSAGE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(some));
        while let Err(error) = sendmsg(&ours, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// The process: takes descriptors until nobody sends any more, and closes them one after the other.
pub fn main() -> ! {
    let mut descriptors = Vec::new();
    while let Ok(true) = receive(&mut descriptors) {}
    for descriptor in descriptors {
        // Without the lock it is closed as well.
        let lock = lock(FlockOperation::LockExclusive);
        drop(descriptor);
        drop(lock);
        std::thread::sleep(PAUSE);
    }
    exit(0)
}

/// Whether there may be more.
fn receive(descriptors: &mut Vec<OwnedFd>) -> rustix::io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message = match recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
        Err(Errno::INTR) => return Ok(true),
        message => message?,
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok(message.bytes > 0)
}
