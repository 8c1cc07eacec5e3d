//! What pumps tell the session, and the way there.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, mpsc},
};

use rustix::event::EventfdFlags;

use crate::{
    cage::Usage,
    worker::{process::WorkerError, quota::Dropped},
};

/// What a pump tells the session.
#[derive(Debug)]
pub struct Notice {
    /// The number that [`Pump::start`](super::Pump::start) was given.
    pub plugin: usize,
    /// What happened.
    pub event: Event,
}

/// Where pumps put their notices.
#[derive(Clone, Debug)]
pub struct Notices {
    sender: mpsc::Sender<Notice>,
    wake: Arc<OwnedFd>,
}

/// Where the session finds them.
#[derive(Debug)]
pub struct Inbox {
    receiver: mpsc::Receiver<Notice>,
    wake: Arc<OwnedFd>,
}

/// A way for notices, from any number of pumps to one session.
pub fn notices() -> io::Result<(Notices, Inbox)> {
    let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = mpsc::channel();
    Ok((Notices { sender, wake: wake.clone() }, Inbox { receiver, wake }))
}

impl Notices {
    pub(super) fn send(&self, notice: Notice) {
        // A session that is gone needs no notices; the commands' end stops the pump.
        if self.sender.send(notice).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Inbox {
    /// The next notice, if there is one.
    pub fn try_recv(&self) -> Option<Notice> {
        // Emptied before the look, so that what comes after it wakes again.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        self.receiver.try_recv().ok()
    }

    /// Waits for the next notice; `None` when no pump is left.
    pub fn recv(&self) -> Option<Notice> {
        self.receiver.recv().ok()
    }
}

impl AsFd for Inbox {
    /// Readable when there may be a notice.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// What can happen to a plugin after the opening.
#[derive(Debug)]
pub enum Event {
    /// `start` has returned.
    Started,
    /// The plugin asks to end the run. Told once.
    StopRequested {
        /// Why.
        reason: String,
    },
    /// What the plugin says can't be shown any more; it is dropped from now on. Told once.
    OutputFailed(io::Error),
    /// The plugin is at its end; its worker is gone. What its ring holds is read and counted as undelivered. Told once.
    Failed(WorkerError),
    /// The ring is empty, and the plugin has what it could take.
    Drained(Drained),
    /// What `hand-over` returned.
    HandedOver(Option<Vec<u8>>),
    /// Some of what the plugin said was not shown, since it was over its limits. Told before the end.
    Dropped(Dropped),
    /// What memory its worker took: at the close of its gate, and the most until its end; of one that ended on its own, when it had
    /// started. Told before the end, if it was looked at.
    Used(Usage),
    /// The pump has ended, and its worker is gone: the last event of every pump.
    Finished,
}

/// The counts of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// When it was done, CLOCK_MONOTONIC ns.
    pub at: u64,
    /// Records read from the ring.
    pub read: u64,
    /// Those in calls of `handle` that returned well.
    pub delivered: u64,
    /// Those that were given up: the plugin had failed or was too slow, or the record was malformed.
    pub undelivered: u64,
}
