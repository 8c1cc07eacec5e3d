//! What the cage costs a worker: how long it takes to be locked in, and what an event costs in there, both beside a worker that is locked in
//! by nothing: `cargo bench -p portcullis-tests --bench cage`. Figures: docs/performance.md.
//!
//! This executable is the other worker.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../host/tests/support/guest.rs"]
mod guest;

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use guest::{Guest, RESULT};
use portcullis::{
    cage::{Held, Layer, Sandbox},
    columns,
    contract::{Limits, Opening},
    doors::Opened,
    worker::{
        self, Answers, Command, Event, Pump, Silent, Source, Worker,
        pump::{self, Inbox},
    },
};
use portcullis_ebpf::{Field, Naming, Slot, Stream};
use portcullis_tests::{lock, portcullis};

/// How many workers of each kind are started.
const STARTS: usize = 51;

/// Between two starts: a process is put in a cgroup at once where another was shortly before, and else when all CPUs have come by (RCU).
const REST: Duration = Duration::from_millis(100);

/// How often events flow, and how many at a time.
const ROUNDS: usize = 15;
const EVENTS: usize = 10_000_000;

/// Bytes of a record.
const RECORD: usize = 32;

/// What is measured of a kind of worker.
#[derive(Default)]
struct Measured {
    /// From the order to start it to its end, with nothing done in between but to lock itself in and to say so, ms.
    starts: Vec<f64>,
    /// From the first event to the last, ns an event.
    events: Vec<f64>,
    /// What the worker had of CPUs for it, ns an event.
    cpu: Vec<f64>,
    /// What it waited for them, ns an event.
    delay: Vec<f64>,
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        let dup = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor can be had twice");
        let (socket, memory) = (dup(io::stdin().as_fd()), dup(io::stdout().as_fd()));
        worker::run(Held { socket, memory, missing: Vec::new(), doors: Opened::default() });
    }
    let Some(_lock) = lock() else { return };
    let kinds = [("caged", portcullis()), ("not caged", std::env::current_exe().expect("this is an executable"))];
    let mut measured = [Measured::default(), Measured::default()];
    let mut with_a_door = Vec::new();
    for _ in 0..STARTS {
        let start: [fn(&Path); 2] = [start_caged, start_bare];
        for (((_, executable), measured), start) in kinds.iter().zip(&mut measured).zip(start) {
            std::thread::sleep(REST);
            let begin = Instant::now();
            start(executable);
            measured.starts.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        std::thread::sleep(REST);
        let begin = Instant::now();
        start_with_a_door(&portcullis());
        with_a_door.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    println!("caged, with a network door: the same start takes {} ms", quartiles(&mut with_a_door));
    for _ in 0..ROUNDS {
        for ((_, executable), measured) in kinds.iter().zip(&mut measured) {
            let (time, Cpu { ran, waited }) = flow(executable);
            measured.events.push(time.as_secs_f64() * 1e9 / EVENTS as f64);
            measured.cpu.push(ran as f64 / EVENTS as f64);
            measured.delay.push(waited as f64 / EVENTS as f64);
        }
    }
    println!("median (quartiles) of {STARTS} starts, and of {ROUNDS} rounds of {EVENTS} events:");
    for ((name, _), mut one) in kinds.into_iter().zip(measured) {
        println!("{name}: it says that it is there, and is ended, after {} ms", quartiles(&mut one.starts));
        let [events, cpu, delay] = [&mut one.events, &mut one.cpu, &mut one.delay].map(|values| quartiles(values));
        println!("{name}: {events} ns an event; the worker ran {cpu} ns of it, and waited for a CPU for {delay} ns");
    }
}

/// As for a run: a user and a cgroup from the host, and the rest by the worker itself.
fn start_caged(executable: &Path) {
    Worker::try_cage(options(executable)).expect("a worker starts");
}

/// The same with leave to connect to one address, which takes programs on its cgroup, and may take a further one.
fn start_with_a_door(executable: &Path) {
    let doors = Opened { network: vec!["127.0.0.1:1".parse().expect("it is an address")], ..Opened::default() };
    let account = Worker::try_cage(worker::Options { doors, ..options(executable) }).expect("a worker starts");
    assert!(account.missing.iter().all(|missing| missing.layer != Layer::Connections), "{:?}", account.missing);
}

/// The same process with nothing of that.
fn start_bare(executable: &Path) {
    let (mut ours, theirs) = UnixStream::pair().expect("there are sockets");
    let memory = rustix::fs::memfd_create(c"columns", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory");
    let mut command = std::process::Command::new(executable);
    command.args(["worker", "bench"]).stdin(OwnedFd::from(theirs)).stdout(memory).stderr(Stdio::null());
    let mut worker = command.spawn().expect("a process starts");
    // The first that it says is that it is there.
    ours.read_exact(&mut [0; 4]).expect("it speaks");
    worker.kill().expect("it is there");
    worker.wait().expect("it is a child");
}

fn quartiles(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
    format!("{:.2} ({:.2} to {:.2})", at(2), at(1), at(3))
}

fn options(executable: &Path) -> worker::Options {
    worker::Options {
        name: "bench".into(),
        limits: Limits::default(),
        output: Arc::new(Silent),
        executable: Some(executable.into()),
        cache: None,
        sandbox: Sandbox::default(),
        doors: Opened::default(),
    }
}

/// Records, all alike, as many as are left.
struct Records(Arc<Mutex<usize>>);

impl Source for Records {
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize {
        let mut left = self.0.lock().unwrap();
        let count = max.min(*left);
        *left -= count;
        let record = [0; RECORD];
        (0..count).for_each(|_| f(&record));
        count
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Hands events over to a plugin that takes them and does nothing: how long that takes, and what its worker had of CPUs for it.
fn flow(executable: &Path) -> (Duration, Cpu) {
    let slot = Slot::Int { offset: 24, size: 8, signed: false };
    let field = Field { name: "n".into(), ctype: String::new(), slot, naming: Naming::Plain };
    let streams = vec![Stream { name: "events".into(), fields: vec![field], size: RECORD as u32 }];
    let guest = Guest { handle: format!("(i32.store8 {RESULT} (i32.const 0)) {RESULT}"), ..Guest::default() };
    let mut worker = Worker::spawn(guest.component(), options(executable)).unwrap();
    worker.configure("{}").unwrap();
    worker.prepare(&columns::schema(&streams, &[])).unwrap();
    let (sender, inbox) = pump::notices().unwrap();
    let left = Arc::new(Mutex::new(0));
    let answers = Answers::none();
    let pump = Pump::start(worker, 0, (&streams, &[]), Box::new(Records(left.clone())), answers, sender).unwrap();
    pump.send(Command::Start(Opening { gate: None, realtime_offset: 0, kernel: String::new(), cpus: 1, handed_over: None }));
    let Event::Started = next(&inbox) else { panic!("it did not start") };
    let (before, start) = (Cpu::of(pump.pid()), Instant::now());
    *left.lock().unwrap() = EVENTS;
    pump.send(Command::Drain { deadline: Instant::now() + Duration::from_secs(120) });
    let Event::Drained(drained) = next(&inbox) else { panic!("it was not drained") };
    let (took, after) = (start.elapsed(), Cpu::of(pump.pid()));
    assert_eq!((drained.delivered, drained.undelivered), (EVENTS as u64, 0));
    (took, Cpu { ran: after.ran - before.ran, waited: after.waited - before.waited })
}

fn next(inbox: &Inbox) -> Event {
    inbox.recv().expect("the pump runs").event
}

/// What all threads of a process had of CPUs, and how long they waited for one that others had, ns.
struct Cpu {
    ran: u64,
    waited: u64,
}

impl Cpu {
    fn of(pid: u32) -> Cpu {
        let mut cpu = Cpu { ran: 0, waited: 0 };
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            // Two times and a count (Documentation/scheduler/sched-stats.rst).
            let Ok(text) = fs::read_to_string(task.unwrap().path().join("schedstat")) else { continue };
            let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().unwrap());
            cpu.ran += numbers.next().unwrap();
            cpu.waited += numbers.next().unwrap();
        }
        cpu
    }
}
