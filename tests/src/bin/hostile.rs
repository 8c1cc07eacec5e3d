//! A worker that was taken over: native code in a worker's place, in the same cage, that tries what it can.
//!
//! It is started as a worker is, and the name of its plugin says what it does, perhaps with a number after a colon. What it tries of
//! the kernel it tells as its last message, a line a trial: a name and the error's number, 0 where there was none. What it does to its
//! host it just does. `tests/tests/takeover/` is the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "hostile/doors.rs"]
mod doors;
#[path = "hostile/kernel.rs"]
mod kernel;
#[path = "hostile/socket.rs"]
mod socket;

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use portcullis::{
    cage::{self, Held, Missing, Uncaged},
    worker::protocol::{self, FromWorker, ToWorker},
};

/// The host, from here.
struct Host {
    socket: UnixStream,
    missing: Vec<Missing>,
}

impl Host {
    /// Says what an honest worker says first.
    fn caged(&mut self) {
        let missing = std::mem::take(&mut self.missing);
        self.say(&FromWorker::Caged(missing));
    }

    fn say(&mut self, message: &FromWorker) {
        let mut frame = Vec::new();
        protocol::encode(message, usize::MAX, &mut frame).unwrap();
        self.send(&frame);
    }

    /// Sends anything. A host that has hung up is the end.
    fn send(&mut self, bytes: &[u8]) {
        if self.socket.write_all(bytes).is_err() {
            std::process::exit(0);
        }
    }

    fn hear(&mut self) -> ToWorker {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.socket.read_exact(&mut body).unwrap();
        protocol::decode(&body).unwrap()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, _, name, memory, user, doors @ ..] = arguments.as_slice() else { panic!("{arguments:?}") };
    let (attack, number) = name.split_once(':').unwrap_or((name, "0"));
    let held = match cage::worker(memory.parse().unwrap(), user.parse().unwrap(), !doors.is_empty()) {
        Ok(held) => held,
        // As an honest worker.
        Err(Uncaged { error, socket }) => {
            let socket = socket.expect("it came that far").into();
            socket::tell(Host { socket, missing: Vec::new() }, error.to_string())
        }
    };
    let Held { socket, memory: _columns, missing, doors: _open } = held;
    let host = Host { socket: socket.into(), missing };
    let number = number.parse().unwrap();
    match kernel::tried(attack, number).or_else(|| doors::tried(attack, number)) {
        Some(tried) => socket::tell(host, tried.0),
        None => socket::attack(host, attack),
    }
}
