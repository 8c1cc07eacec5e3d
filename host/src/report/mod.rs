//! The report of a run: when the gate opened and closed, what every probe counted, where every event went.
//!
//! It is made of counts that are each kept by their own counter, so that the equations of guarantee G6 can fail
//! ([`Report::check`]); a failure is a bug of Portcullis, and is said to be one. A report is written as JSON ([`Report::to_json`],
//! [`write()`]) and shown in words ([`Report::to_text`]).

mod equations;
mod json;
#[cfg(test)]
mod tests;
mod text;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use equations::Violation;

pub use crate::session::Window;
use portcullis_ebpf::Rate;

use crate::{
    cage::Account,
    clock::Realtime,
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::tai::Discipline,
    manifest::Moment,
    output::clean,
    worker::Dropped,
};

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The gate.
    pub gate: Gate,
    /// When the first and the last probe were attached, CLOCK_MONOTONIC ns: without a gate, the times between which probes would
    /// have begun one after another. `None` if nothing was attached.
    pub attach: Option<Attach>,
    /// What was known of the clocks at the opening.
    pub clocks: Option<Clocks>,
    /// How the command of `-- COMMAND` ended.
    pub command: Option<Command>,
    /// The processes that read files of traced programs, if any were started.
    pub symbolizers: Vec<Account>,
    /// The plugins, in the bundle's order, and then those that joined.
    pub plugins: Vec<Plugin>,
}

/// The clocks of a report: how its times, of CLOCK_MONOTONIC, lie to those of other machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// What leads to CLOCK_REALTIME.
    pub realtime: Realtime,
    /// What the kernel says of how well that clock is kept; `None` if it does not say it.
    pub discipline: Option<Discipline>,
}

/// The gate opened at a moment that was said before (`start.open = { at }`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appointment {
    /// The moment.
    pub moment: Moment,
    /// The host had real-time priority for it.
    pub real_time: bool,
    /// How long after it the store was done at the latest, by this machine's clock, ns.
    pub late: u64,
}

impl Appointment {
    /// With how late the opening was.
    pub(crate) fn kept(self, open: Interval, clocks: &Clocks) -> Appointment {
        let opened = open.latest.saturating_add_signed(clocks.realtime.offset);
        Appointment { late: opened.saturating_sub(self.moment.0), ..self }
    }
}

/// When the gate opened and closed, CLOCK_MONOTONIC ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// The run has a gate; else `open` and `close` are `None`.
    pub enabled: bool,
    /// The store that opened it lies between these.
    pub open: Option<Interval>,
    /// The store that closed it lies between these.
    pub close: Option<Interval>,
    /// After this nothing of the run changed in the kernel.
    pub quiesced: u64,
    /// The moment for which the opening was arranged.
    pub appointment: Option<Appointment>,
}

/// The skew that the gate removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The first link was made, CLOCK_MONOTONIC ns.
    pub first: u64,
    /// The last link was made.
    pub last: u64,
}

/// The command that ran under the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// How it ended, in words; `None` if it still runs.
    pub status: Option<String>,
}

/// One plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// How it went.
    pub state: State,
    /// When its bit of the gate was open.
    pub windows: Vec<Window>,
    /// When its first and its last probe was attached.
    pub attach: Option<Attach>,
    /// Why it left before the others; `None` if it did not.
    pub left: Option<Left>,
    /// It took the place of another version: from before the store that opened it to after the one that closed the other.
    pub took_over: Option<Interval>,
    /// When the last of its events was handed over, CLOCK_MONOTONIC ns; `None` if some never were.
    pub drained: Option<u64>,
    /// Events handed over, counted by the host.
    pub delivered: u64,
    /// Events written and not handed over.
    pub undelivered: u64,
    /// What it said and was not shown, since it was over its limits.
    pub dropped: Dropped,
    /// How often each of its probes was allowed to run its body; what was over is `shed`.
    pub rate: Option<Rate>,
    /// How its worker was locked in, and what memory it took.
    pub worker: Account,
    /// What of that was open by a grant, each in words without a subject.
    pub doors: Vec<String>,
    /// Its probes, in the order in which it declared them.
    pub probes: Vec<Probe>,
    /// Its streams, by number.
    pub streams: Vec<Stream>,
    /// Hits that the kernel itself did not run the programs for: `recursion_misses` of its programs and `nmissed` of its links.
    pub kernel_misses: u64,
    /// Optional probes that this kernel does not have.
    pub missing: Vec<Missing>,
    /// Spans that had begun and not ended when the gate closed.
    pub in_flight: Vec<InFlight>,
    /// Last values by name.
    pub metrics: Vec<(String, f64)>,
}

/// Why a plugin left before the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It was asked to.
    Asked,
    /// A new version took its place.
    Replaced {
        /// From before the store that opened the new version to after the one that closed this: both may have seen a hit in between. `None` if it
        /// was paused.
        overlap: Option<Interval>,
    },
}

/// How a plugin went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// To the end.
    #[default]
    Ok,
    /// It was stopped, for this cause.
    Failed(String),
}

/// One probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Its attach points after expansion, `KIND:TARGET`.
    pub attach: Vec<String>,
    /// How it is attached: `tp_btf`, `raw_tp`, `perf_tracepoint`; several are joined by `+`.
    pub mechanism: String,
    /// Hits, entries of spans among them, before the gate opened for the plugin: what a tool without a gate would have recorded.
    pub before: u64,
    /// Its name and its counts.
    pub counts: ProbeCounts,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its counts.
    pub counts: StreamCounts,
}

/// An optional probe that this kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The probe's name.
    pub probe: String,
    /// Why.
    pub reason: String,
}

/// A span that had not ended when the gate closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The probe's name.
    pub probe: String,
    /// The thread inside it.
    pub tid: u32,
    /// How long it had been, ns.
    pub age: u64,
}

impl Plugin {
    /// Events written to its ring: the sum over its streams.
    pub fn emitted(&self) -> u64 {
        self.streams.iter().map(|stream| stream.counts.emitted).sum()
    }
}

impl Report {
    /// A plugin did not go to its end.
    pub fn any_failed(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.state != State::Ok)
    }
}

/// The report could not be written to the file that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("can't write the report to {}", path.display())]
pub struct WriteError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

/// Writes a report as JSON to `path`: the whole of it or nothing, by a new file beside it that takes its name. What is no ordinary
/// file (`/dev/stderr`, a pipe) is written to directly.
pub fn write(report: &Report, path: &Path) -> Result<(), WriteError> {
    let text = format!("{:#}\n", report.to_json());
    // It may be standard error, and a person may look at a file.
    replace(path, clean::json(&text).as_bytes()).map_err(|error| WriteError { path: path.into(), error })
}

/// Whether [`write()`] could write to `path`, found out before the run and not at its end. What is there stays as it is.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let check = || match Target::of(path)? {
        Target::Stream(path) => std::fs::OpenOptions::new().write(true).open(path).map(drop),
        Target::File { temporary, .. } => write_new(&temporary, b"").and_then(|()| std::fs::remove_file(&temporary)),
    };
    check().map_err(|error| WriteError { path: path.into(), error })
}

/// Where a report goes.
enum Target {
    /// What is no ordinary file.
    Stream(PathBuf),
    /// A file, and the one beside it that takes its name.
    File { path: PathBuf, temporary: PathBuf },
}

impl Target {
    fn of(path: &Path) -> io::Result<Target> {
        // A link is followed, so that what it names is replaced and not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.into());
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Ok(Target::Stream(path));
        }
        let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        Ok(Target::File { temporary: path.with_file_name(temporary), path })
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (path, temporary) = match Target::of(path)? {
        Target::Stream(path) => return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes),
        Target::File { path, temporary } => (path, temporary),
    };
    let written = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path));
    if written.is_err() {
        // It may not be there at all; the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
