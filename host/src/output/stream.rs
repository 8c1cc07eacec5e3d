//! Standard output and standard error without std's buffers, which end lines at their own time.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::event::{PollFd, PollFlags, poll};

/// A stream of the process. Whoever shares it may have made it non-blocking, which must not cost us a row: then a write waits.
pub(super) struct Stream(File);

pub(super) fn stdout() -> io::Result<Stream> {
    Stream::of(io::stdout().as_fd())
}

pub(super) fn stderr() -> io::Result<Stream> {
    Stream::of(io::stderr().as_fd())
}

impl Stream {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Stream> {
        Ok(Stream(fd.try_clone_to_owned()?.into()))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{io::Read, thread, time::Duration};

    use super::*;

    /// A full non-blocking pipe makes a write wait, not fail.
    #[test]
    fn a_nonblocking_stream_waits() {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut stream = Stream::of(write.as_fd()).unwrap();
        drop(write);
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            rustix::io::ioctl_fionbio(&read, false).unwrap();
            let mut all = Vec::new();
            File::from(read).read_to_end(&mut all).unwrap();
            all.len()
        });
        stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
        drop(stream);
        assert_eq!(reader.join().unwrap(), 1 << 20);
    }
}
