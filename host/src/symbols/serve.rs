//! The symbolizer process: takes requests from its host, and ends with it.
//!
//! One thread. An alarm ends a request that takes far too long, for the case that the host is no longer there to do so.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use super::{
    elf::File,
    protocol::{MAX_REQUEST, MAX_RESPONSE, Request, Response, cut},
};
use crate::{
    cage::{self, Uncaged},
    worker::protocol,
};

/// A request may take this long, seconds: longer than any host waits.
const ALARM: libc::c_uint = 60;

/// The whole life of a symbolizer process. The host passes the socket as standard input, and which user the process becomes as an
/// argument.
pub fn main() -> ! {
    // Panics are answers; nobody reads what they would print.
    std::panic::set_hook(Box::new(|_| {}));
    if rustix::net::sockopt::socket_type(io::stdin()).is_err() {
        // A user tried it.
        let _ = writeln!(io::stderr(), "`portcullis symbolizer` is for portcullis itself; see `portcullis --help`");
        exit(2);
    }
    let user = std::env::args().nth(2).and_then(|user| user.parse().ok()).unwrap_or(cage::NOBODY);
    let (socket, greeting) = match cage::symbolizer(user) {
        Ok((socket, missing)) => (socket, Response::Ready(missing)),
        Err(Uncaged { error, socket }) => match socket.map_or_else(|| rustix::io::dup(io::stdin()), Ok) {
            Ok(socket) => (socket, Response::Error(cut(error.to_string()))),
            Err(_) => exit(1),
        },
    };
    let caged = matches!(greeting, Response::Ready(_));
    let mut ears = Ears { socket, received: Vec::new(), descriptor: None };
    ears.answer(&greeting);
    if !caged {
        exit(1);
    }
    let mut files = HashMap::new();
    loop {
        let (request, descriptor) = ears.request();
        // SAFETY: SIGALRM ends the process, at once and as is wanted.
        unsafe { libc::alarm(ALARM) };
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer(&mut files, request, descriptor)));
        // SAFETY: as above.
        unsafe { libc::alarm(0) };
        ears.answer(&match answer {
            Ok(Ok(response)) => response,
            Ok(Err(message)) => Response::Error(cut(message)),
            Err(_) => Response::Error("it can't be parsed".into()),
        });
    }
}

fn answer(files: &mut HashMap<u64, File>, request: Request, descriptor: Option<OwnedFd>) -> Result<Response, String> {
    let unknown = || "no such file is open".to_owned();
    Ok(match request {
        Request::Open { file } => {
            let opened = File::open(descriptor.ok_or("no descriptor came with it")?)?;
            let links = opened.links();
            files.insert(file, opened);
            Response::Opened(links)
        }
        Request::OpenDebug { file } => {
            let descriptor = descriptor.ok_or("no descriptor came with it")?;
            Response::Debug(files.get_mut(&file).ok_or_else(unknown)?.set_debug(descriptor)?)
        }
        Request::Forget { file } => {
            files.remove(&file);
            Response::Forgotten
        }
        Request::Symbolize { file, offsets, lines } => {
            let file = files.get_mut(&file).ok_or_else(unknown)?;
            Response::Frames(offsets.into_iter().map(|offset| file.symbolize(offset, lines)).collect())
        }
        Request::Functions { file, pattern } => {
            Response::Functions(files.get_mut(&file).ok_or_else(unknown)?.functions(&pattern)?)
        }
        Request::Symbol { file, name, from } => Response::Symbol(files.get(&file).ok_or_else(unknown)?.place(&name, from)?),
        Request::Usdt { file, provider, name } => Response::Usdt(files.get(&file).ok_or_else(unknown)?.usdt(&provider, &name)?),
    })
}

/// Ends the process now.
fn exit(status: i32) -> ! {
    // SAFETY: _exit(2) only ends the process; nothing here has to be put in order first.
    unsafe { libc::_exit(status) }
}

/// The socket, with what was received and not used.
struct Ears {
    socket: OwnedFd,
    received: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Ears {
    /// The next request, and the descriptor that came with it. A host that is gone ends the process.
    fn request(&mut self) -> (Request, Option<OwnedFd>) {
        loop {
            let Ok(length) = protocol::frame_length(&self.received, MAX_REQUEST) else { exit(1) };
            if let Some(length) = length
                && let Some(body) = self.received.get(4..4 + length)
            {
                let Ok(request) = protocol::decode(body) else { exit(1) };
                self.received.drain(..4 + length);
                return (request, self.descriptor.take());
            }
            self.receive();
        }
    }

    fn receive(&mut self) {
        const CHUNK: usize = 64 << 10;
        let start = self.received.len();
        self.received.resize(start + CHUNK, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut self.received[start..])];
        let outcome = rustix::net::recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC);
        let count = match outcome {
            Ok(message) if message.bytes > 0 => message.bytes,
            Err(rustix::io::Errno::INTR) => 0,
            _ => exit(0),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptor = descriptors.last();
            }
        }
        self.received.truncate(start + count);
    }

    fn answer(&mut self, response: &Response) {
        let mut out = Vec::new();
        if protocol::encode(response, MAX_RESPONSE, &mut out).is_err() {
            let _ = protocol::encode(
                &Response::Error("there is too much to tell; a narrower pattern is needed".into()),
                MAX_RESPONSE,
                &mut out,
            );
        }
        let mut rest = &out[..];
        while !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => exit(0),
            }
        }
    }
}
