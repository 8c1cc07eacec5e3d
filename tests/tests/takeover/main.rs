//! Workers that were taken over: native code in a worker's place, in the same cage (`tests/src/bin/hostile.rs`), tries what it can of the
//! kernel, of its neighbours and of its host. It hurts itself, and its host says what happened.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod doors;
mod flow;
mod kernel;
mod neighbours;
mod protocol;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis::{
    cage::Sandbox,
    contract::{Level, Limits, Table, TableRows},
    doors::Opened,
    worker::{self, Output, Worker},
};
use portcullis_tests::watch::is_alive;

/// How the host begins to say what such a worker did.
const BROKE: &str = "its worker broke the protocol and was killed: ";

/// Counts what is said.
#[derive(Debug, Default)]
struct Counted {
    said: AtomicU64,
}

impl Output for Counted {
    fn rows(&self, _: &str, _: &Table, _: &TableRows) -> io::Result<()> {
        panic!("no row of these fits its table");
    }

    fn line(&self, _: &str, _: &str) -> io::Result<()> {
        self.said.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn log(&self, _: &str, _: Level, _: &str) {
        self.said.fetch_add(1, Ordering::Relaxed);
    }

    fn metric(&self, _: &str, _: &str, _: f64) {}
}

/// A worker that will do this.
fn hostile_to(attack: &str, output: Arc<Counted>) -> Worker {
    hostile_with(attack, output, Opened::default())
}

/// The same with open doors.
fn hostile_with(attack: &str, output: Arc<Counted>, doors: Opened) -> Worker {
    let options = worker::Options {
        name: attack.into(),
        limits: Limits { memory: 16 << 20, call: 300_000_000, ..Limits::default() },
        output,
        executable: Some(env!("CARGO_BIN_EXE_hostile").into()),
        cache: None,
        sandbox: Sandbox::default(),
        doors,
    };
    Worker::spawn(b"a component".to_vec(), options).unwrap()
}

fn hostile(attack: &str) -> Worker {
    hostile_to(attack, Arc::default())
}

/// What came of what was tried: names and error numbers.
fn tried(attack: &str) -> Vec<(String, i32)> {
    tried_with(attack, Opened::default())
}

fn tried_with(attack: &str, doors: Opened) -> Vec<(String, i32)> {
    let mut worker = hostile_with(attack, Arc::default(), doors);
    let pid = worker.pid();
    let error = worker.loaded().unwrap_err();
    assert!(!is_alive(pid));
    let Some(_) = error.cause.fault() else { panic!("{error}") };
    let text = error.cause.to_string();
    let line = |line: &str| line.split_once(' ').map(|(name, error)| (name.to_owned(), error.parse().unwrap()));
    text.lines().map(|text| line(text).unwrap()).collect()
}

/// All of at least so many trials are refused with EPERM, but for these.
#[track_caller]
fn refused(attack: &str, at_least: usize, but: &[(&str, i32)]) {
    let tried = tried(attack);
    assert!(tried.len() >= at_least, "{tried:?}");
    for (name, error) in &tried {
        let expect = but.iter().find(|(other, _)| other == name).map_or(libc::EPERM, |(_, error)| *error);
        assert_eq!(*error, expect, "{name}");
    }
}
