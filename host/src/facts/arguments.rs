//! Command lines, which are in the memory of the processes themselves: to read one can take as long as its owner wants, as a page of
//! it may be of a file system that he serves (`access_remote_vm`, mm/memory.c). So a thread reads them, and is not waited for.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::Duration,
};

use super::Directory;

/// How much of a command line is read, bytes.
const MOST: u64 = 4096;

/// How long it may take: it is a copy of a page.
const PATIENCE: Duration = Duration::from_millis(50);

/// The thread, once it is needed.
#[derive(Debug, Default)]
pub(super) struct Arguments(Option<Reader>);

#[derive(Debug)]
struct Reader {
    orders: Sender<Directory>,
    answers: Receiver<Option<Vec<u8>>>,
    /// It still reads what nobody waits for any more.
    busy: bool,
}

impl Arguments {
    /// The command line of a process; `None` where its memory does not answer, and of all others until it does.
    pub(super) fn of(&mut self, directory: Directory) -> Option<Vec<u8>> {
        if self.0.is_none() {
            self.0 = Some(Reader::start()?);
        }
        let reader = self.0.as_mut()?;
        if reader.busy {
            reader.answers.try_recv().ok()?;
            reader.busy = false;
        }
        reader.orders.send(directory).ok()?;
        match reader.answers.recv_timeout(PATIENCE) {
            Ok(bytes) => bytes,
            Err(RecvTimeoutError::Timeout) => {
                reader.busy = true;
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl Reader {
    fn start() -> Option<Reader> {
        let ((orders, inbox), (outbox, answers)) = (channel::<Directory>(), channel());
        let read = move || {
            for directory in inbox {
                if outbox.send(directory.read("cmdline", MOST).ok()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("arguments".into()).spawn(read).ok()?;
        Some(Reader { orders, answers, busy: false })
    }
}
