//! What the fuzz targets check (`fuzz/checks/`), on messages and records that are nearly right: a few seconds of what the fuzzer does
//! for as long as one likes. `PORTCULLIS_FUZZ_SECONDS` says how long, and what the fuzzer's corpus has is gone through first.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "../../fuzz/checks/records.rs"]
mod records;
#[path = "../../fuzz/checks/worker.rs"]
mod worker;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use portcullis::{
    cage::{Layer, Missing},
    contract::{Cells, Column, Elements, Level, Probe, Program, TableRows, TableValues, Values},
    worker::protocol::{self, Fault, FaultKind, FromWorker, MAX_FROM_WORKER, Request, Returned},
};

/// splitmix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Changes a few bytes: to another, to one that means much, away, or to a piece of elsewhere.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len());
            match self.below(5) {
                _ if bytes.is_empty() => return,
                0 => bytes[at] = self.next() as u8,
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => bytes[at] ^= 1 << self.below(8),
                3 => drop(bytes.drain(at..(at + self.below(9)).min(bytes.len()))),
                _ => {
                    let from = self.below(bytes.len());
                    let piece = bytes[from..(from + self.below(17)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run(target: &str, check: fn(&[u8]), seeds: &[Vec<u8>]) {
    let corpus = corpus(target);
    corpus.iter().chain(seeds).for_each(|data| check(data));
    let seconds = std::env::var("PORTCULLIS_FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().expect("it is a number"));
    let seeds: Vec<&Vec<u8>> = seeds.iter().chain(&corpus).collect();
    let (mut random, mut count) = (Random(0), 0_u64);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let mut data = seeds[random.below(seeds.len())].clone();
        random.damage(&mut data);
        check(&data);
        count += 1;
    }
    eprintln!("{target}: {count} inputs");
    assert!(count > 100, "{count}");
}

/// Every message, and what follows it, each where it may be said.
fn messages() -> Vec<Vec<u8>> {
    let column = |values| Column { values, absent: Vec::new(), cut: Vec::new() };
    let keys = vec![
        column(Values::S64(vec![-1, 7])),
        column(Values::Text(vec![0, 1])),
        column(Values::Bytes { ends: vec![2, 5], data: vec![1, 2, 3, 4, 5] }),
        column(Values::Stack(vec![0, 0])),
        column(Values::Text(vec![2, 2])),
        column(Values::Text(vec![3, 4])),
    ];
    let strings: Vec<String> = ["a", "bc", "openat", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let elements = Elements { keys: keys.clone(), values: vec![column(Values::U64(vec![1, 2]))], strings: strings.clone() };
    let cells = |cells| TableValues { cells, absent: vec![2] };
    let columns = vec![
        cells(Cells::U64(vec![1, u64::MAX])),
        cells(Cells::S64(vec![1, -1])),
        cells(Cells::F64(vec![0.5, f64::NAN])),
        cells(Cells::Bool(vec![true, false])),
        cells(Cells::Text(vec![0, 1])),
    ];
    let rows = TableRows { time: vec![1, 2], columns, strings: vec!["x".into(), "\u{1b}[2J".into()] };
    let probe = Probe {
        name: "p".into(),
        attach: vec!["a:b:c".into()],
        when: Some("pid".into()),
        body: "emit s { pid }".into(),
        optional: true,
    };
    let program = Program { probes: vec![probe], timers: vec![1_000_000] };
    // The call that runs, by its place in `worker::CALLS`.
    let all = [
        (
            0,
            FromWorker::Return(Returned::Loaded {
                compiled: Some(protocol::Bytes(vec![7; 20])),
                interface: protocol::Interface::default(),
            }),
        ),
        (1, FromWorker::Return(Returned::Configured(Ok(program)))),
        (1, FromWorker::Return(Returned::Configured(Err("no".into())))),
        (2, FromWorker::Return(Returned::Prepared(Ok(worker::tables())))),
        (3, FromWorker::Return(Returned::Started(Ok(())))),
        (4, FromWorker::Return(Returned::Handled(Ok(())))),
        (4, FromWorker::Return(Returned::Discarded)),
        (5, FromWorker::Return(Returned::Ticked(Err("no".into())))),
        (6, FromWorker::Return(Returned::Finished(Ok(())))),
        (7, FromWorker::Return(Returned::HandedOver(Some(protocol::Bytes(vec![1]))))),
        (4, FromWorker::Append { table: 0, rows }),
        (4, FromWorker::Append { table: 1, rows: TableRows { time: vec![9], columns: Vec::new(), strings: Vec::new() } }),
        (1, FromWorker::Print { line: "line".into() }),
        (4, FromWorker::Metric { name: "m".into(), value: 1.5 }),
        (4, FromWorker::Log { level: Level::Warn, message: "message".into() }),
        (5, FromWorker::Stop { reason: "reason".into() }),
        (4, FromWorker::Ask(Request::Read { map: 0 })),
        (4, FromWorker::Ask(Request::Take { map: 1 })),
        (4, FromWorker::Ask(Request::Write { map: 0, elements })),
        (4, FromWorker::Ask(Request::Delete { map: 0, keys, strings })),
        (6, FromWorker::Ask(Request::Clear { map: 0 })),
        (4, FromWorker::Ask(Request::Resolve { stacks: vec![0, u64::MAX] })),
        (4, FromWorker::Ask(Request::Lookup { pids: vec![1, u32::MAX] })),
        (4, FromWorker::Fault(Fault { kind: FaultKind::Trap, message: "trap".into() })),
    ];
    let mut seeds: Vec<Vec<u8>> = all
        .into_iter()
        .map(|(call, message)| {
            let mut seed = vec![2 << 4 | call << 1];
            protocol::encode(&message, MAX_FROM_WORKER, &mut seed).unwrap();
            protocol::encode(&message, MAX_FROM_WORKER, &mut seed).unwrap();
            seed
        })
        .collect();
    let mut caged = vec![1 << 4 | 1];
    let missing = vec![Missing { layer: Layer::Landlock, reason: "none".into() }];
    protocol::encode(&FromWorker::Caged(missing), MAX_FROM_WORKER, &mut caged).unwrap();
    seeds.push(caged);
    seeds
}

/// Whatever a worker says, its host hears what can be or ends it.
#[test]
fn what_workers_say() {
    run("worker", worker::check, &messages());
}

/// Whatever stands in a ring, its batches can be read.
#[test]
fn what_rings_hold() {
    // Streams with fields of all kinds, and records of which most are long enough.
    let mut seeds = Vec::new();
    for kind in 0..12_u8 {
        let mut seed = vec![2, 3, kind, 1, kind + 1, 9, 0x80 | kind, 2, 1, 10, 5];
        for record in 0..20_u8 {
            let length = 40 * u16::from(record) + 24;
            seed.extend(length.to_le_bytes());
            let mut bytes = vec![record.wrapping_mul(kind); length.into()];
            // The stream, and what is absent and cut.
            bytes[8..12].copy_from_slice(&u32::from(record % 3).to_ne_bytes());
            bytes[12..20].fill(record % 2);
            seed.extend(bytes);
        }
        seeds.push(seed);
    }
    run("records", records::check, &seeds);
}
