//! Plugins in real worker processes, with rings that tests write to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, dead_code)]

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portcullis::{
    cage::Sandbox,
    columns,
    contract::{Cells, Closing, Interval, Level, Limits, Opening, Table, TableRows},
    doors::Opened,
    worker::{
        Answers, Command, Drained, Event, Options, Output, Pump, Source, Worker, WorkerError,
        pump::{self, Inbox},
    },
};
use portcullis_ebpf::{Field, Naming, PluginMap, Slot, Stream};

use crate::guest::Guest;

/// What a plugin said.
#[derive(Debug, Default)]
pub struct Said {
    pub rows: Mutex<Vec<(u64, u64, String)>>,
    pub lines: Mutex<Vec<String>>,
    pub logs: Mutex<u64>,
}

/// More lines than any plugin says that is looked at.
pub const MAX_LINES: usize = 200;

impl Output for Said {
    fn rows(&self, plugin: &str, table: &Table, rows: &TableRows) -> io::Result<()> {
        assert_eq!((plugin, table.name.as_str()), ("test", "t"));
        let (Cells::U64(n), Cells::Text(index)) = (&rows.columns[0].cells, &rows.columns[1].cells) else { panic!("{rows:?}") };
        let texts = index.iter().map(|&at| rows.strings[at as usize].clone());
        let all = rows.time.iter().zip(n).zip(texts).map(|((&time, &n), text)| (time, n, text));
        self.rows.lock().unwrap().extend(all);
        Ok(())
    }

    fn line(&self, _: &str, text: &str) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap();
        if lines.len() < MAX_LINES {
            lines.push(text.into());
        }
        Ok(())
    }

    fn log(&self, _: &str, _: Level, _: &str) {
        *self.logs.lock().unwrap() += 1;
    }

    fn metric(&self, _: &str, _: &str, _: f64) {}
}

pub fn limits() -> Limits {
    // The host that is killed has a plugin that may loop for long.
    let call = if std::env::var_os("PORTCULLIS_TEST_PID_FILE").is_some() { 60_000_000_000 } else { 300_000_000 };
    Limits { memory: 16 << 20, call, ..Limits::default() }
}

pub fn spawn(wasm: Vec<u8>, said: &Arc<Said>) -> Worker {
    spawn_within(wasm, limits(), said)
}

/// A worker with these limits.
pub fn spawn_within(wasm: Vec<u8>, limits: Limits, said: &Arc<Said>) -> Worker {
    let options = Options {
        name: "test".into(),
        limits,
        output: said.clone(),
        executable: Some(env!("CARGO_BIN_EXE_portcullis").into()),
        cache: None,
        sandbox: Sandbox::default(),
        doors: Opened::default(),
    };
    Worker::spawn(wasm, options).unwrap()
}

pub fn streams() -> Vec<Stream> {
    let int = Field {
        name: "n".into(),
        ctype: "u64".into(),
        slot: Slot::Int { offset: 24, size: 8, signed: false },
        naming: Naming::Plain,
    };
    let text = Field {
        name: "s".into(),
        ctype: "char[16]".into(),
        slot: Slot::Text { offset: 32, capacity: 16 },
        naming: Naming::Plain,
    };
    vec![Stream { name: "events".into(), fields: vec![int, text], size: 48 }]
}

pub fn record(n: u64) -> Vec<u8> {
    let mut record = vec![0; 48];
    record[..8].copy_from_slice(&(1000 + n).to_ne_bytes());
    record[24..32].copy_from_slice(&n.to_ne_bytes());
    let text = format!("text {}", n % 7);
    record[32..32 + text.len()].copy_from_slice(text.as_bytes());
    record
}

pub fn text(n: u64) -> String {
    format!("text {}", n % 7)
}

/// A ring that tests write to.
#[derive(Clone)]
pub struct Fake {
    pub records: Arc<Mutex<VecDeque<Vec<u8>>>>,
    pub wake: Arc<OwnedFd>,
}

impl Fake {
    pub fn new() -> Fake {
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        Fake { records: Arc::default(), wake: Arc::new(wake) }
    }

    pub fn emit(&self, records: impl Iterator<Item = Vec<u8>>) {
        self.records.lock().unwrap().extend(records);
    }
}

impl Source for Fake {
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize {
        let mut records = self.records.lock().unwrap();
        let count = max.min(records.len());
        records.drain(..count).for_each(|record| f(&record));
        count
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wake.as_fd())
    }
}

/// A plugin whose gate is open.
pub struct Run {
    pub pump: Pump,
    pub ring: Fake,
    pub inbox: Inbox,
    pub said: Arc<Said>,
}

impl Run {
    pub fn new(guest: &Guest) -> Run {
        Run::with(guest, &streams(), &[], Answers::none())
    }

    pub fn with(guest: &Guest, streams: &[Stream], maps: &[PluginMap], answers: Answers) -> Run {
        let said = Arc::new(Said::default());
        let mut worker = spawn(guest.component(), &said);
        worker.configure("{}").unwrap();
        worker.prepare(&columns::schema(streams, maps)).unwrap();
        Run::take(worker, said, streams, maps, answers)
    }

    /// Opens the gate of a worker that has been prepared.
    pub fn take(worker: Worker, said: Arc<Said>, streams: &[Stream], maps: &[PluginMap], answers: Answers) -> Run {
        let (sender, inbox) = pump::notices().unwrap();
        let ring = Fake::new();
        let pump = Pump::start(worker, 0, (streams, maps), Box::new(ring.clone()), answers, sender).unwrap();
        let gate = Some(Interval { earliest: 1, latest: 2 });
        pump.send(Command::Start(Opening {
            gate,
            realtime_offset: 0,
            kernel: "6.18".into(),
            cpus: 2,
            handed_over: Some(vec![1]),
        }));
        Run { pump, ring, inbox, said }
    }

    pub fn event(&self) -> Event {
        self.inbox.recv().unwrap().event
    }

    pub fn started(self) -> Run {
        assert!(matches!(self.event(), Event::Started));
        self
    }

    pub fn failed(&self) -> WorkerError {
        loop {
            match self.event() {
                Event::Failed(error) => return error,
                // It may have said more than it may before that.
                Event::Dropped(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn drain(&self, within: Duration) -> Drained {
        self.pump.send(Command::Drain { deadline: Instant::now() + within });
        match self.event() {
            Event::Drained(drained) => drained,
            other => panic!("{other:?}"),
        }
    }

    pub fn finish(&self) {
        self.pump.send(Command::Finish(Closing::default()));
        let Event::Used(usage) = self.event() else { panic!("it is not said what memory its worker took") };
        assert!(usage.resident.is_some() && usage.peak.is_some(), "{usage:?}");
        assert!(matches!(self.event(), Event::Finished));
        assert!(!alive(self.pump.pid()));
    }
}

pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

pub fn counts(drained: Drained) -> (u64, u64, u64) {
    (drained.read, drained.delivered, drained.undelivered)
}
