//! What it does to its host while events flow, and when its host is gone in the midst of them.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use portcullis::{
    columns,
    contract::{Column, Elements, Interval, Opening, Values},
    names::Names,
    worker::{
        Answers, Maps, Pump, Source,
        pump::{self, Event, Inbox},
    },
};
use portcullis_ebpf::{Field, MapKind, Naming, PluginMap, Slot, Stream, aggregate::Content};
use portcullis_tests::watch::{is_alive, until};

use super::{BROKE, hostile};

struct Ring(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Source for Ring {
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize {
        let mut records = self.0.lock().unwrap();
        let count = max.min(records.len());
        records.drain(..count).for_each(|record| f(&record));
        count
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// A map whose elements are a megabyte.
struct Large;

impl Maps for Large {
    fn read(&mut self, _: u32, _: &mut Names) -> Result<Elements, String> {
        let column = |values| Column { values, absent: Vec::new(), cut: Vec::new() };
        let numbers = || column(Values::U64(vec![u64::MAX; 60_000]));
        Ok(Elements { keys: vec![numbers()], values: vec![numbers()], strings: Vec::new() })
    }

    fn take(&mut self, map: u32, names: &mut Names) -> Result<Elements, String> {
        self.read(map, names)
    }

    fn write(&mut self, _: u32, _: &Elements, _: &Names) -> Result<(), String> {
        Ok(())
    }

    fn delete(&mut self, _: u32, _: &[Column], _: &[String], _: &Names) -> Result<(), String> {
        Ok(())
    }

    fn clear(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
}

/// A worker whose gate is open.
struct Run {
    pump: Pump,
    ring: Arc<Mutex<VecDeque<Vec<u8>>>>,
    inbox: Inbox,
}

fn run(attack: &str) -> Run {
    let int = |offset| Slot::Int { offset, size: 8, signed: false };
    let field = |name: &str, slot| Field { name: name.into(), ctype: String::new(), slot, naming: Naming::Plain };
    let streams = vec![Stream { name: "events".into(), fields: vec![field("n", int(24))], size: 32 }];
    let maps = vec![PluginMap {
        name: "large".into(),
        content: Content::Value,
        kind: MapKind::Hash,
        keys: vec![field("k", int(0))],
        bucket: None,
        value: field("", int(0)),
        key_size: 8,
        value_size: 8,
    }];
    let mut worker = hostile(attack);
    worker.configure("{}").unwrap();
    worker.prepare(&columns::schema(&streams, &maps)).unwrap();
    let (sender, inbox) = pump::notices().unwrap();
    let ring: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
    let answers = Answers { maps: Box::new(Large), ..Answers::none() };
    let pump = Pump::start(worker, 0, (&streams, &maps), Box::new(Ring(ring.clone())), answers, sender).unwrap();
    let gate = Some(Interval { earliest: 1, latest: 2 });
    let kernel = "6.18".into();
    pump.send(pump::Command::Start(Opening { gate, realtime_offset: 0, kernel, cpus: 2, handed_over: None }));
    Run { pump, ring, inbox }
}

impl Run {
    fn event(&self) -> Event {
        self.inbox.recv().unwrap().event
    }

    fn emit(&self, count: usize) {
        self.ring.lock().unwrap().extend((0..count).map(|_| vec![0; 32]));
    }

    /// Waits for its end: the error, and what of all events was read, delivered and undelivered.
    fn failed(self) -> (String, (u64, u64, u64)) {
        let error = loop {
            match self.event() {
                Event::Failed(error) => break error,
                Event::Started => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(!is_alive(self.pump.pid()));
        self.emit(1000);
        self.pump.send(pump::Command::Drain { deadline: Instant::now() + Duration::from_secs(5) });
        match self.event() {
            Event::Drained(drained) => (error.cause.to_string(), (drained.read, drained.delivered, drained.undelivered)),
            other => panic!("{other:?}"),
        }
    }
}

/// After ten events, with a thousand more afterwards that nobody takes.
#[track_caller]
fn check_flow(attack: &str, expect: &[&str], delivered: u64) {
    let run = run(attack);
    assert!(matches!(run.event(), Event::Started));
    run.emit(10);
    let (error, counts) = run.failed();
    assert!(expect.iter().any(|expect| error == format!("{BROKE}{expect}")), "{attack}: {error}");
    assert_eq!(counts, (1010, delivered, 1010 - delivered), "{attack}");
}

/// It claims more deliveries than there were: the one that there was counts, and the rest ends it.
#[test]
fn claims_deliveries() {
    check_flow("handle-claims", &["`handle` returned, and was not called"], 10);
    // Before there was any.
    let expect = format!("{BROKE}`handle` returned, and was not called");
    assert_eq!(run("start-claims").failed(), (expect, (1000, 0, 1000)));
}

/// It replies out of order, forges ids, and appends rows of a wrong shape.
#[test]
fn forges() {
    check_flow("handle-finish", &["`finish` returned while `handle` was running"], 0);
    check_flow("handle-table", &["rows for table 7, and there are 1"], 0);
    check_flow("handle-rows", &["table \"t\", column \"n\" has 1 cells, and there are 2 times"], 0);
    check_flow("handle-processes", &["a request for 257 processes, where 256 are allowed"], 0);
    check_flow("handle-map", &["a request for map 9, and there are 1"], 0);
}

/// It asks for facts about processes, of which its host was never told that it would: they are not granted, so there are none.
#[test]
fn asks_for_what_is_not_granted() {
    let run = run("handle-lookup");
    assert!(matches!(run.event(), Event::Started));
    run.emit(10);
    let (error, _) = run.failed();
    assert!(error.contains("Processes(Err(\"facts about processes are not granted"), "{error}");
}

/// It asks without reading the answers, a megabyte each: the host does not keep them for it.
#[test]
fn asks_and_does_not_read() {
    check_flow("handle-asks", &["it spoke while it was to wait for an answer"], 0);
    check_flow("handle-impatient", &["it spoke while it was to wait for an answer"], 0);
}

/// It takes a batch and is not heard of any more.
#[test]
fn keeps_a_batch() {
    for attack in ["handle-deaf", "handle-loop"] {
        let run = run(attack);
        assert!(matches!(run.event(), Event::Started));
        run.emit(10);
        let stalled = "its worker did not answer `handle` within 2.3s and was killed";
        assert_eq!(run.failed(), (stalled.to_owned(), (1010, 0, 1010)));
    }
}

/// Not a test: the host of [`outlives_its_host`], which is killed.
#[test]
fn host_to_be_killed() {
    let Ok(path) = std::env::var("PORTCULLIS_TEST_PID_FILE") else { return };
    let run = run("handle-loop");
    run.emit(10);
    thread::sleep(Duration::from_millis(100));
    fs::write(path, run.pump.pid().to_string()).unwrap();
    thread::sleep(Duration::from_secs(60));
}

/// It loops for ever and does not care for its socket: the kernel ends it with its host.
#[test]
fn outlives_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "flow::host_to_be_killed"])
        .env("PORTCULLIS_TEST_PID_FILE", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid: u32 = until("the worker", || fs::read_to_string(&path).ok()?.parse().ok());
    assert!(is_alive(pid) && Path::new(&format!("/proc/{pid}")).exists());
    host.kill().unwrap();
    host.wait().unwrap();
    until("the end of the worker", || (!is_alive(pid)).then_some(()));
}
