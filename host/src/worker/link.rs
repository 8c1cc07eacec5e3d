//! The host's end of the socket to a worker: frames in, frames out, never blocking and never believing.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{RecvFlags, SendFlags},
};

use super::protocol::{self, FrameError, FromWorker, MAX_FROM_HOST, MAX_FROM_WORKER, ToWorker};

/// What is read from the socket at a time.
const CHUNK: usize = 64 << 10;

/// The socket, with what has not been read and what has not been sent yet.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    /// What was received: `received[read..]` is still to be looked at.
    received: Vec<u8>,
    read: usize,
    /// What is to be sent: `queued[sent..]` is not sent yet.
    queued: Vec<u8>,
    sent: usize,
    /// Bytes that were sent, of all that ever was queued.
    out: u64,
    /// How many have to be out for the last answer to be.
    answer: u64,
    closed: bool,
}

impl Link {
    pub(super) fn new(socket: UnixStream) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        Ok(Link { socket, received: Vec::new(), read: 0, queued: Vec::new(), sent: 0, out: 0, answer: 0, closed: false })
    }

    /// Queues a message and sends what goes at once.
    pub(super) fn send(&mut self, message: &ToWorker) -> Result<(), FrameError> {
        protocol::encode(message, MAX_FROM_HOST, &mut self.queued)?;
        if let ToWorker::Answer(_) = message {
            self.answer = self.out + (self.queued.len() - self.sent) as u64;
        }
        self.flush();
        Ok(())
    }

    /// The last answer is out. A worker that asks before that can't have read it.
    pub(super) fn answered(&self) -> bool {
        self.out >= self.answer
    }

    /// Sends what goes. A worker that is gone is noticed when reading, after its last words.
    pub(super) fn flush(&mut self) {
        while self.sent < self.queued.len() {
            match rustix::net::send(&self.socket, &self.queued[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.out += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            }
        }
        self.out += (self.queued.len() - self.sent) as u64;
        self.sent = 0;
        if self.queued.capacity() > CHUNK {
            // The component was in here.
            self.queued = Vec::new();
        } else {
            self.queued.clear();
        }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        if self.sent < self.queued.len() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// Receives what there is, up to a chunk.
    pub(super) fn fill(&mut self) {
        self.received.drain(..self.read);
        self.read = 0;
        let start = self.received.len();
        self.received.resize(start + CHUNK, 0);
        let outcome = rustix::net::recv(&self.socket, &mut self.received[start..], RecvFlags::empty());
        let count = match outcome {
            Ok((_, 0)) => {
                self.closed = true;
                0
            }
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.closed = true;
                0
            }
        };
        self.received.truncate(start + count);
    }

    /// The next message of those received.
    pub(super) fn next(&mut self) -> Result<Option<FromWorker>, FrameError> {
        let rest = &self.received[self.read..];
        let Some(length) = protocol::frame_length(rest, MAX_FROM_WORKER)? else { return Ok(None) };
        let Some(body) = rest.get(4..4 + length) else { return Ok(None) };
        let message = protocol::decode(body)?;
        self.read += 4 + length;
        Ok(Some(message))
    }

    /// More was received than [`Link::next`] has returned.
    pub(super) fn more(&self) -> bool {
        self.read < self.received.len()
    }

    /// The worker has hung up, and everything before that has been received.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// Waits until there is something to receive, sending meanwhile what could not be sent; false when the time is over.
    pub(super) fn wait(&mut self, until: Instant) -> io::Result<bool> {
        loop {
            let interest = self.interest();
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut fds = [PollFd::new(&self.socket, interest)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let happened = fds[0].revents();
            if happened.intersects(PollFlags::OUT) {
                self.flush();
            }
            if happened.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                return Ok(true);
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
