//! The symbolizer process, from the host's side: started when it is first needed, asked, replaced.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};

use super::{
    Options,
    protocol::{self, MAX_REQUEST, MAX_RESPONSE, Request, Response},
};
use crate::{
    cage::{self, Account, Outside, SYMBOLIZER_MEMORY, Usage},
    worker::protocol as frames,
};

/// How often it is started again, if it ends on its own or must be ended; one such start is regained every [`REGAIN`].
const RESTARTS: u32 = 5;
const REGAIN: Duration = Duration::from_secs(60);

/// What is parsed in it at a time, files.
const FILES: usize = 64;

/// After so many files it is replaced: it never undoes a mapping.
const LIFETIME: usize = 1024;

/// The reason where the socket is closed, perhaps with a request unread.
const ENDED: &str = "it ended";

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The symbolizer says so; it is well.
    Refused(String),
    /// It did not answer, or with what is no answer, and was ended.
    Lost(String),
    /// There is none, and no further will be started for now.
    Unavailable(String),
}

impl Failure {
    pub(super) fn into_text(self) -> String {
        match self {
            Failure::Refused(text) | Failure::Lost(text) | Failure::Unavailable(text) => text,
        }
    }
}

#[derive(Debug)]
pub(super) struct Helper {
    options: Options,
    running: Option<Running>,
    /// Starts that are left, as of a time.
    starts: u32,
    since: Instant,
    /// Of those that have ended: how the last was locked in, and the most memory that one took.
    ended: Option<Account>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    account: Account,
    socket: UnixStream,
    /// The files that are parsed in it, the one used last at the end.
    files: Vec<u64>,
    opened: usize,
}

/// The process; it is killed and waited for when this is dropped, and then what it had of its host's is given back.
#[derive(Debug)]
struct Process {
    child: Child,
    outside: Outside,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Helper {
    pub(super) fn new(options: Options) -> Helper {
        Helper { options, running: None, starts: RESTARTS + 1, since: Instant::now(), ended: None }
    }

    /// How the process that runs is locked in, or the last one was, and the memory that it takes; `None` if there was none. The peak is
    /// that of all there were.
    pub(super) fn account(&self) -> Option<Account> {
        let Some(running) = &self.running else { return self.ended.clone() };
        let before = self.ended.as_ref().and_then(|ended| ended.usage.peak);
        let usage = Usage::of(running.process.child.id());
        Some(Account { usage: Usage { peak: usage.peak.max(before), ..usage }, ..running.account.clone() })
    }

    /// Ends the process that runs.
    fn end(&mut self) {
        self.ended = self.account();
        self.running = None;
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.process.child.id())
    }

    /// The file is parsed in the process that runs. Marks it as used.
    pub(super) fn has(&mut self, file: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some(at) = running.files.iter().position(|&one| one == file) else { return false };
        running.files.remove(at);
        running.files.push(file);
        true
    }

    /// Opens a file, and closes another where there are many.
    pub(super) fn open(&mut self, file: u64, fd: BorrowedFd<'_>) -> Result<protocol::Links, Failure> {
        if self.running.as_ref().is_some_and(|running| running.opened == LIFETIME) {
            self.end();
            self.starts += 1;
        }
        self.start()?;
        while let Some(oldest) =
            self.running.as_mut().filter(|running| running.files.len() >= FILES).map(|running| running.files.remove(0))
        {
            self.ask(&Request::Forget { file: oldest }, None)?;
        }
        let response = self.ask(&Request::Open { file }, Some(fd))?;
        if let Some(running) = &mut self.running {
            running.opened += 1;
            running.files.push(file);
        }
        match response {
            Response::Opened(links) => Ok(links),
            other => Err(self.lose(&format!("it answered {other:?}"))),
        }
    }

    /// Asks, and checks the answer's bounds. The process is started by [`Helper::start`] before.
    pub(super) fn ask(&mut self, request: &Request, fd: Option<BorrowedFd<'_>>) -> Result<Response, Failure> {
        let Some(running) = &mut self.running else { return Err(Failure::Lost("it is gone".into())) };
        let until = Instant::now() + self.options.timeout;
        let outcome = running.exchange(request, fd, until).and_then(|response| {
            protocol::check(request, &response).map_err(str::to_owned)?;
            Ok(response)
        });
        match outcome {
            Ok(Response::Error(message)) => Err(Failure::Refused(message)),
            Ok(response) => Ok(response),
            Err(reason) => Err(self.lose(&reason)),
        }
    }

    fn lose(&mut self, reason: &str) -> Failure {
        self.end();
        Failure::Lost(format!("the process that parses it failed: {reason}"))
    }

    /// Sees to it that there is a process.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        // One that has ended since is replaced; that is no fault of the next request.
        if self.running.as_ref().is_some_and(Running::hung_up) {
            self.end();
        }
        if self.running.is_some() {
            return Ok(());
        }
        let regained = self.since.elapsed().as_secs() / REGAIN.as_secs();
        if regained > 0 {
            self.starts = self.starts.saturating_add(u32::try_from(regained).unwrap_or(u32::MAX)).min(RESTARTS);
            self.since = Instant::now();
        }
        self.starts = self.starts.checked_sub(1).ok_or_else(|| {
            Failure::Unavailable("the process that parses it failed too often; it is started again within a minute".into())
        })?;
        let cannot = |error: String| Failure::Unavailable(format!("the process that parses it can't be started: {error}"));
        let started = self.spawn().map_err(|error| cannot(error.to_string())).and_then(|mut running| {
            match running.receive(Instant::now() + self.options.starting).map_err(cannot)? {
                Response::Ready(missing) => {
                    let outside = running.process.outside.missing();
                    let missing = protocol::greeting(missing).ok_or_else(|| cannot("it said nonsense first".into()))?;
                    running.account.missing = missing.iter().chain(outside).cloned().collect();
                    let check = self.options.sandbox.check(&running.account.missing);
                    check.map_err(|lacking| Failure::Unavailable(format!("the symbolizer is not used: {lacking}")))?;
                    Ok(running)
                }
                Response::Error(message) => Err(cannot(message)),
                _ => Err(cannot("it said something else first".into())),
            }
        });
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                // Nor could the next.
                self.starts = 0;
                return Err(error);
            }
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        let executable = self.options.executable.as_deref().unwrap_or(Path::new("/proc/self/exe"));
        let mut outside = Outside::new(SYMBOLIZER_MEMORY, self.options.sandbox.user)?;
        let mut command = Command::new(executable);
        command
            .arg0("portcullis")
            .args(["symbolizer", &outside.argument()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = cage::spawn::spawn(command, &mut outside)?;
        let account = outside.account(Vec::new());
        let process = Process { child, outside };
        if let Some(started) = &self.options.started {
            started.0(process.child.id());
        }
        ours.set_nonblocking(true)?;
        Ok(Running { process, account, socket: ours, files: Vec::new(), opened: 0 })
    }
}

impl Running {
    fn hung_up(&self) -> bool {
        let mut byte = [0];
        let peeked = rustix::net::recv(&self.socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        // It says nothing unasked.
        peeked != Err(Errno::AGAIN)
    }

    fn exchange(&mut self, request: &Request, fd: Option<BorrowedFd<'_>>, until: Instant) -> Result<Response, String> {
        let mut frame = Vec::new();
        frames::encode(request, MAX_REQUEST, &mut frame).map_err(|error| error.to_string())?;
        let mut rest = &frame[..];
        let mut descriptors = fd.as_ref().map(std::slice::from_ref);
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(descriptors) = descriptors {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    // It goes with the first byte.
                    descriptors = None;
                    rest = &rest[count..];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, until)?,
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ENDED.into()),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.receive(until)
    }

    fn receive(&mut self, until: Instant) -> Result<Response, String> {
        const CHUNK: usize = 64 << 10;
        let mut received = Vec::new();
        loop {
            if let Some(length) = frames::frame_length(&received, MAX_RESPONSE).map_err(|error| error.to_string())?
                && let Some(body) = received.get(4..4 + length)
            {
                if received.len() != 4 + length {
                    return Err("it said more than it was asked".into());
                }
                return frames::decode(body).map_err(|error| error.to_string());
            }
            self.wait(PollFlags::IN, until)?;
            let start = received.len();
            received.resize(start + CHUNK, 0);
            let count = match rustix::net::recv(&self.socket, &mut received[start..], RecvFlags::empty()) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(ENDED.into()),
                Ok((_, count)) => count,
                Err(Errno::INTR | Errno::AGAIN) => 0,
                Err(error) => return Err(error.to_string()),
            };
            received.truncate(start + count);
        }
    }

    fn wait(&self, interest: PollFlags, until: Instant) -> Result<(), String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match rustix::event::poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), interest)], Some(&timeout)) {
                Ok(0) => return Err("it did not answer in time".into()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
