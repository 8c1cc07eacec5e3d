//! Iterators: the kernel walks through what there is, and runs the program at each, while the host reads (kernel/bpf/bpf_iter.c).

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use rustix::io::Errno;

use super::{AttachError, Link};
use crate::kernel::sys::{self, SysError};

pub(super) fn attach(program: BorrowedFd<'_>) -> Result<Link, AttachError> {
    Ok(Link::quick(sys::link_create_iter(program)?))
}

/// One pass of an iterator.
///
/// The kernel goes through a million objects in one read(2), which no signal ends. So a thread reads: with a closed gate the program does
/// next to nothing at each of those that are left, so that the end comes soon, and who opens the gate waits no longer than it wants.
#[derive(Debug)]
pub struct Pass {
    state: State,
}

#[derive(Debug)]
enum State {
    Made(OwnedFd),
    Running { result: Receiver<sys::Result<()>>, stop: Arc<AtomicBool>, thread: JoinHandle<()> },
    Done,
}

impl Pass {
    /// Makes all that it takes. Nothing runs yet.
    pub fn new(link: &Link) -> Result<Pass, SysError> {
        let link = link.fds.first().ok_or(SysError { call: "bpf(BPF_ITER_CREATE)", errno: Errno::BADF })?;
        Ok(Pass { state: State::Made(sys::iter_create(link.as_fd())?) })
    }

    /// Begins.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&mut self) -> Result<(), SysError> {
        let State::Made(iterator) = std::mem::replace(&mut self.state, State::Done) else { return Ok(()) };
        let stop = Arc::new(AtomicBool::new(false));
        let (send, result) = channel();
        let stopped = Arc::clone(&stop);
        let work = move || {
            // Nobody may be there any more who wants to know.
            let _ = send.send(read(&iterator, &stopped));
        };
        let thread = thread::Builder::new().name("iterate".to_owned()).spawn(work);
        let thread =
            thread.map_err(|e| SysError { call: "clone(2)", errno: Errno::from_io_error(&e).unwrap_or(Errno::AGAIN) })?;
        self.state = State::Running { result, stop, thread };
        Ok(())
    }

    /// Waits for the end, and no longer than until then; what came to its end is done.
    ///
    /// # Errors
    /// The kernel did not go through all.
    pub fn wait(&mut self, until: Instant) -> Result<(), SysError> {
        let State::Running { result, .. } = &self.state else { return Ok(()) };
        match result.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(result) => self.join().and(result),
            Err(RecvTimeoutError::Disconnected) => self.join(),
        }
    }

    /// Has it end, and returns when no program runs for it any more. To be called when the gate is closed: what is left takes 100 ns
    /// each then.
    ///
    /// # Errors
    /// The kernel did not go through all.
    pub fn stop(&mut self) -> Result<(), SysError> {
        let State::Running { result, stop, .. } = &self.state else { return Ok(()) };
        stop.store(true, Ordering::Relaxed);
        let result = result.recv().unwrap_or(Ok(()));
        self.join().and(result)
    }

    /// The thread has said all it has to say.
    fn join(&mut self) -> Result<(), SysError> {
        if let State::Running { thread, .. } = std::mem::replace(&mut self.state, State::Done) {
            // It does not panic, and if it did it would be gone as well.
            let _ = thread.join();
        }
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Reads to the end. The program writes nothing there.
fn read(iterator: &OwnedFd, stop: &AtomicBool) -> sys::Result<()> {
    let fail = |errno| Err(SysError { call: "read(2) of an iterator", errno });
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match rustix::io::read(iterator, &mut buffer) {
            Ok(0) => return Ok(()),
            // After a million objects it gives up the CPU, and goes on where it was (MAX_ITER_OBJECTS, kernel/bpf/bpf_iter.c).
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return fail(errno),
        }
    }
    fail(Errno::CANCELED)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    fn started(path: &str) -> Pass {
        let mut pass = Pass { state: State::Made(File::open(path).unwrap().into()) };
        pass.start().unwrap();
        pass
    }

    /// A pass that is soon over is waited for, one that is not is left alone and ends when it is told to; what failed says so.
    #[test]
    fn passes() {
        let soon = || Instant::now() + Duration::from_secs(10);
        let mut short = started("/dev/null");
        short.wait(soon()).unwrap();
        assert!(matches!(short.state, State::Done));
        let mut endless = started("/dev/zero");
        endless.wait(Instant::now() + Duration::from_millis(10)).unwrap();
        assert!(matches!(endless.state, State::Running { .. }));
        assert_eq!(endless.stop().unwrap_err().errno, Errno::CANCELED);
        assert!(matches!(endless.state, State::Done));
        let failed = started("/").wait(soon()).unwrap_err();
        assert_eq!(failed.to_string(), "read(2) of an iterator: Is a directory (os error 21)");
        drop(started("/dev/zero"));
    }
}
