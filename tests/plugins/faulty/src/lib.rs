//! Goes wrong where and how its config says, and else counts the calls of getppid(2):
//!
//! ```toml
//! [plugin.config]
//! at = "handle"      # configure, prepare, start, handle, tick, finish, handover
//! how = "panic"      # none, panic, loop, error, memory, sleep, exit, stop, slow
//! announce = true    # print a line when the first events are there
//! tries = ["env"]    # what it tries of WASI first of all, and prints: see `tries`
//! ```
//!
//! It goes wrong each time that it comes to `at`. The number of events that it has handled is its metric `handled`; a version that takes over
//! goes on counting from there.

mod tries;

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use portcullis_sdk::{TimerNumber, prelude::*, print, set_metric, stop};
use serde::Deserialize;

/// How long one round of [`How::Slow`] takes.
const SLOW: Duration = Duration::from_millis(20);

/// The plugin's config.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    at: At,
    #[serde(default)]
    how: How,
    #[serde(default)]
    announce: bool,
    #[serde(default)]
    tries: Vec<String>,
}

/// A moment of the plugin's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum At {
    Configure,
    Prepare,
    Start,
    #[default]
    Handle,
    Tick,
    Finish,
    HandOver,
}

/// What happens there.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    /// All is well.
    #[default]
    None,
    Panic,
    /// It never returns.
    Loop,
    /// It returns an error.
    Error,
    /// It allocates more and more.
    Memory,
    /// It waits.
    Sleep,
    /// It ends its process, as it thinks.
    Exit,
    /// It asks the host to end the run, which is its right.
    Stop,
    /// It takes its time, within its limit.
    Slow,
}

/// A row of the stream.
#[derive(Row)]
struct Call {
    #[allow(dead_code)]
    pid: u32,
}

struct Faulty {
    config: Config,
    calls: Stream<Call>,
    handled: u64,
}

impl Config {
    /// Goes wrong, if `here` is where that is to be.
    fn pass(&self, here: At) -> Result<()> {
        if self.at == here { self.how.go_wrong(here) } else { Ok(()) }
    }
}

impl How {
    #[allow(clippy::panic)]
    fn go_wrong(self, here: At) -> Result<()> {
        match self {
            How::None => {}
            How::Panic => panic!("{here:?} goes wrong"),
            How::Loop => loop {
                black_box(here);
            },
            How::Error => return Err(Error::new(format!("{here:?} goes wrong"))),
            How::Memory => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            How::Sleep => thread::sleep(Duration::from_secs(3600)),
            How::Exit => std::process::exit(3),
            How::Stop => stop(format!("{here:?} has seen enough")),
            How::Slow => {
                let end = Instant::now() + SLOW;
                while Instant::now() < end {}
            }
        }
        Ok(())
    }
}

impl Plugin for Faulty {
    type Config = Config;

    fn configure(config: Config, program: &mut Program) -> Result<Self> {
        config.tries.iter().for_each(|words| print(tries::outcome(words)));
        config.pass(At::Configure)?;
        program.probe(Probe::new("calls").attach("tracepoint:syscalls:sys_enter_getppid").body("emit calls { pid };"));
        program.timer(Duration::from_millis(5));
        Ok(Faulty { config, calls: program.stream("calls"), handled: 0 })
    }

    fn prepare(&mut self, _: &Schema, _: &mut Tables) -> Result<()> {
        self.config.pass(At::Prepare)
    }

    fn start(&mut self, opening: &Opening) -> Result<()> {
        let before = opening.handed_over.as_deref().and_then(|state| state.try_into().ok());
        self.handled = before.map_or(0, u64::from_le_bytes);
        self.config.pass(At::Start)
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        self.config.pass(At::Handle)?;
        if self.config.announce && self.handled == 0 {
            print("events flow");
        }
        self.handled += batch.rows(&self.calls)?.count() as u64;
        set_metric("handled", self.handled as f64)
    }

    fn tick(&mut self, _: TimerNumber) -> Result<()> {
        self.config.pass(At::Tick)
    }

    fn finish(&mut self, _: &Closing) -> Result<()> {
        self.config.pass(At::Finish)
    }

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        // What goes wrong without a trap has no way to say so.
        let _ = self.config.pass(At::HandOver);
        Some(self.handled.to_le_bytes().to_vec())
    }
}

portcullis_sdk::plugin!(Faulty);
