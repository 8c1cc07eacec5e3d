//! The worker process: takes calls from its host, and ends with it.
//!
//! Three threads beside those that compile: the main thread runs the plugin, one reads the socket and ends the process when the
//! host hangs up, also while the plugin loops, and one watches the clock (in `guest`).

use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    guest::Guest,
    memory::View,
    process::DOORS,
    protocol::{
        self, Fault, FaultKind, FrameError, FromWorker, MAX_FROM_HOST, MAX_FROM_WORKER, Request, Response, Returned, ToWorker,
        cut_line,
    },
};
use crate::{
    cage::{self, Held, Missing, Uncaged},
    contract::Limits,
    doors::Opened,
};

/// What is said is sent when this much has gathered, or the call returns.
const GATHER: usize = 64 << 10;

/// What the last panic said.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// The whole life of a worker process. The host passes the socket as standard input, the shared memory as standard output, and as arguments
/// after the plugin's name how much memory the component may have, and which user the process becomes; behind them stands [`DOORS`] if some
/// door is open.
pub fn main() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
    }));
    if rustix::net::sockopt::socket_type(io::stdin()).is_err() {
        // A user tried it.
        let _ = writeln!(io::stderr(), "`portcullis worker` is for portcullis itself; see `portcullis --help`");
        exit(2);
    }
    let component = std::env::args().nth(3).and_then(|bytes| bytes.parse().ok()).unwrap_or(Limits::default().memory);
    let user = std::env::args().nth(4).and_then(|user| user.parse().ok()).unwrap_or(cage::NOBODY);
    let some_doors = std::env::args().nth(5).is_some_and(|word| word == DOORS);
    let held = match cage::worker(component, user, some_doors) {
        Ok(held) => held,
        Err(Uncaged { error, socket }) => {
            let socket = socket.map_or_else(|| rustix::io::dup(io::stdin()), Ok);
            if let Ok(socket) = socket {
                Speaker::new(socket.into()).fault(Fault { kind: FaultKind::Cage, message: error.to_string() });
            }
            exit(1);
        }
    };
    run(held)
}

/// The life of a worker that is locked in, as far as `held` says.
pub fn run(held: Held) -> ! {
    let socket = Arc::new(UnixStream::from(held.socket));
    Speaker { socket: socket.clone(), gathered: Vec::new(), answers: None }.caged(held.missing);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let internal = |error: io::Error| Fault { kind: FaultKind::Internal, message: format!("its worker failed: {error}") };
        let view = View::new(held.memory.as_fd()).map_err(internal)?;
        let (calls, answers, discard) = listen(socket.clone()).map_err(internal)?;
        let speaker = Speaker { socket: socket.clone(), gathered: Vec::new(), answers: Some(answers) };
        Err(serve(calls, &discard, view, speaker, held.doors))
    }));
    let fault = match outcome {
        Ok(Ok(never)) => never,
        Ok(Err(fault)) => fault,
        Err(_) => {
            let what = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
            Fault { kind: FaultKind::Internal, message: format!("its worker panicked, which is an error in portcullis: {what}") }
        }
    };
    Speaker { socket, gathered: Vec::new(), answers: None }.fault(fault);
    exit(1)
}

/// Ends the process now, whatever its threads do.
pub(super) fn exit(status: i32) -> ! {
    // SAFETY: _exit(2) only ends the process; nothing here has to be put in order first.
    unsafe { libc::_exit(status) }
}

/// Calls, answers, and whether batches are to be discarded.
type Heard = (mpsc::Receiver<ToWorker>, mpsc::Receiver<Response>, Arc<AtomicBool>);

/// Reads the socket on a thread of its own, which ends the process when the host hangs up.
fn listen(socket: Arc<UnixStream>) -> io::Result<Heard> {
    let (sender, receiver) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let discard = Arc::new(AtomicBool::new(false));
    let flag = discard.clone();
    std::thread::Builder::new().name("socket".into()).spawn(move || {
        // A panic in here must not leave a worker behind that hears nothing.
        let _ = std::panic::catch_unwind(|| {
            while let Ok(message) = read(&socket) {
                // Nobody takes a message where the plugin has failed. The main thread is about to say why, so this one must not end
                // the process before that.
                match message {
                    ToWorker::Discard => flag.store(true, Ordering::Relaxed),
                    ToWorker::Answer(response) => drop(answer.send(response)),
                    message => drop(sender.send(message)),
                }
            }
        });
        exit(0)
    })?;
    Ok((receiver, answers, discard))
}

fn read(mut socket: &UnixStream) -> io::Result<ToWorker> {
    let mut header = [0; 4];
    socket.read_exact(&mut header)?;
    let length = protocol::frame_length(&header, MAX_FROM_HOST).map_err(io::Error::other)?.unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    protocol::decode(&body).map_err(io::Error::other)
}

/// Answers calls until one fails.
fn serve(calls: mpsc::Receiver<ToWorker>, discard: &AtomicBool, view: View, speaker: Speaker, doors: Opened) -> Fault {
    // Set by the first call.
    let mut starting = Some((view, speaker, doors));
    let mut guest: Option<Guest> = None;
    for call in calls {
        let result = match (call, &mut guest) {
            (ToWorker::Load { wasm, compiled, limits }, none) => match starting.take() {
                Some((view, speaker, doors)) => {
                    let loaded = Guest::load(&wasm.0, compiled.map(|compiled| compiled.0), limits, view, speaker, doors);
                    loaded.map(|(loaded, compiled)| {
                        let interface = loaded.interface().clone();
                        *none = Some(loaded);
                        Returned::Loaded { compiled: compiled.map(protocol::Bytes), interface }
                    })
                }
                None => Err(out_of_order()),
            },
            (_, None) => Err(out_of_order()),
            (ToWorker::Configure { config }, Some(guest)) => guest.configure(&config).map(Returned::Configured),
            (ToWorker::Prepare { schema }, Some(guest)) => guest.prepare(&schema).map(Returned::Prepared),
            (ToWorker::Start(opening), Some(guest)) => guest.start(&opening).map(Returned::Started),
            (ToWorker::Batch(_), Some(_)) if discard.load(Ordering::Relaxed) => Ok(Returned::Discarded),
            (ToWorker::Batch(batch), Some(guest)) => guest.handle(&batch).map(Returned::Handled),
            (ToWorker::Tick { timer }, Some(guest)) => guest.tick(timer).map(Returned::Ticked),
            (ToWorker::Finish(closing), Some(guest)) => guest.finish(&closing).map(Returned::Finished),
            (ToWorker::HandOver, Some(guest)) => guest.hand_over().map(|state| Returned::HandedOver(state.map(protocol::Bytes))),
            (ToWorker::Discard | ToWorker::Answer(_), Some(_)) => Err(out_of_order()),
        };
        match (result, &mut guest) {
            (Ok(returned), Some(guest)) => {
                if let Err(fault) = guest.speaker().returned(returned) {
                    return fault;
                }
            }
            (Err(fault), Some(guest)) => {
                guest.speaker().flush();
                return fault;
            }
            (Err(fault), None) => return fault,
            (Ok(_), None) => return out_of_order(),
        }
    }
    // The reading thread ends the process before its channel ends.
    exit(0)
}

fn out_of_order() -> Fault {
    Fault { kind: FaultKind::Internal, message: "its worker was called out of order".into() }
}

/// The worker's voice: gathers what is said, sends it.
#[derive(Debug)]
pub(super) struct Speaker {
    socket: Arc<UnixStream>,
    gathered: Vec<u8>,
    /// Where answers come from.
    answers: Option<mpsc::Receiver<Response>>,
}

impl Speaker {
    fn new(socket: UnixStream) -> Speaker {
        Speaker { socket: Arc::new(socket), gathered: Vec::new(), answers: None }
    }

    /// Asks the host and waits for its answer. `Err` says that the request is too long. Returns how long that took.
    pub(super) fn ask(&mut self, request: Request) -> Result<(Response, Duration), FrameError> {
        let start = Instant::now();
        self.gather(&FromWorker::Ask(request))?;
        self.flush();
        match self.answers.as_ref().map(mpsc::Receiver::recv) {
            Some(Ok(response)) => Ok((response, start.elapsed())),
            // The reading thread ends the process before its channels end.
            _ => exit(0),
        }
    }

    /// Says something, later with the rest. Returns how long the host took to listen, if it had to.
    pub(super) fn say(&mut self, message: &FromWorker) -> Result<Duration, FrameError> {
        self.gather(message)?;
        Ok(if self.gathered.len() >= GATHER { self.flush() } else { Duration::ZERO })
    }

    fn gather(&mut self, message: &impl Serialize) -> Result<(), FrameError> {
        protocol::encode(message, MAX_FROM_WORKER, &mut self.gathered)
    }

    /// Sends what has gathered. A host that is gone ends the process.
    pub(super) fn flush(&mut self) -> Duration {
        let start = Instant::now();
        if (&*self.socket).write_all(&self.gathered).is_err() {
            exit(0);
        }
        self.gathered.clear();
        start.elapsed()
    }

    fn returned(&mut self, returned: Returned) -> Result<(), Fault> {
        let call = returned.call().as_str();
        self.gather(&FromWorker::Return(returned))
            .map_err(|error| Fault { kind: FaultKind::Memory, message: format!("`{call}` returned too much: {error}") })?;
        self.flush();
        Ok(())
    }

    fn caged(&mut self, missing: Vec<Missing>) {
        if self.gather(&FromWorker::Caged(missing)).is_ok() {
            self.flush();
        }
    }

    fn fault(&mut self, mut fault: Fault) {
        fault.message = cut_line(fault.message);
        if self.gather(&FromWorker::Fault(fault)).is_ok() {
            self.flush();
        }
    }
}
