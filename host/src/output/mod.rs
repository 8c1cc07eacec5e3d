//! What plugins show: rows, lines and logs to standard output and standard error, in the format of the run.
//!
//! With [`Format::Json`] standard output carries rows and nothing else, one JSON object a line; lines of text go to standard error.
//! With [`Format::Table`] rows and lines are for people. Text that the host did not write never reaches the terminal as it is
//! ([`clean`]).

pub mod clean;
mod error;
mod json;
mod stream;
mod table;
#[cfg(test)]
mod tests;
pub mod units;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub use error::describe;

use crate::{
    contract::{Level, Table, TableRows},
    manifest::Format,
    worker::Output,
};

/// Shows what all plugins of a run say. Its calls come from any thread; rows of one call stay together.
pub struct Printer {
    format: Format,
    /// Lines carry the name of their plugin.
    several: AtomicBool,
    /// Log messages below this are not shown.
    level: Level,
    /// Where the times of tables begin, CLOCK_MONOTONIC ns.
    origin: AtomicU64,
    out: Mutex<Out>,
    err: Mutex<Box<dyn Write + Send>>,
    metrics: Mutex<HashMap<String, BTreeMap<String, f64>>>,
}

/// Standard output and what has been said there.
struct Out {
    to: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    text: String,
    tables: table::Tables,
    /// The error after which nothing is written any more.
    ended: Option<io::ErrorKind>,
}

impl Printer {
    /// Prints to the process's standard output and standard error. `plugins` is how many plugins the run has.
    pub fn stdio(format: Format, plugins: usize, level: Level) -> io::Result<Printer> {
        Ok(Printer::new(format, plugins, level, Box::new(stream::stdout()?), Box::new(stream::stderr()?)))
    }

    /// Prints to `out` and `err`, neither of which needs a buffer.
    pub fn new(format: Format, plugins: usize, level: Level, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Printer {
        let out = Out { to: out, buffer: Vec::new(), text: String::new(), tables: table::Tables::default(), ended: None };
        Printer {
            format,
            several: AtomicBool::new(plugins > 1),
            level,
            origin: AtomicU64::new(0),
            out: Mutex::new(out),
            err: Mutex::new(err),
            metrics: Mutex::default(),
        }
    }

    /// The run began at `time`, CLOCK_MONOTONIC ns: tables show times from there on.
    pub fn opened(&self, time: u64) {
        self.origin.store(time, Ordering::Relaxed);
    }

    /// From now on lines carry the name of their plugin.
    pub fn name_plugins(&self) {
        self.several.store(true, Ordering::Relaxed);
    }

    /// The last values of a plugin's metrics, by name.
    pub fn metrics(&self, plugin: &str) -> Vec<(String, f64)> {
        lock(&self.metrics).get(plugin).into_iter().flatten().map(|(name, value)| (name.clone(), *value)).collect()
    }

    /// The same, and forgets them: another version of the plugin begins without.
    pub fn take_metrics(&self, plugin: &str) -> Vec<(String, f64)> {
        lock(&self.metrics).remove(plugin).into_iter().flatten().collect()
    }

    /// Shows a message of the host on standard error: the end of a run in words, an error. It may quote what others wrote.
    pub fn message(&self, text: &str) {
        let _ = lock(&self.err).write_all(format!("{}\n", clean::lines(text.trim_end())).as_bytes());
    }
}

impl Output for Printer {
    /// Shows rows of `table`. An error of the kind [`io::ErrorKind::BrokenPipe`] means that nobody reads any more; after the first
    /// error nothing is written and each call returns its kind.
    fn rows(&self, plugin: &str, table: &Table, rows: &TableRows) -> io::Result<()> {
        let mut out = lock(&self.out);
        let Out { buffer, text, tables, .. } = &mut *out;
        match self.format {
            Format::Json => {
                let mut buffer = std::mem::take(buffer);
                let written = json::rows(&mut buffer, plugin, table, rows, |piece| out.write(piece));
                let written = written.and_then(|()| out.write(&mut buffer));
                out.buffer = buffer;
                written
            }
            Format::Table => {
                tables.rows(text, plugin, table, rows, self.origin.load(Ordering::Relaxed));
                let mut bytes = std::mem::take(text).into_bytes();
                out.write(&mut bytes)
            }
        }
    }

    /// Shows text of a plugin, a line each for what stands between line ends. Errors are as of [`Printer::rows`].
    fn line(&self, plugin: &str, text: &str) -> io::Result<()> {
        let prefix = if self.several.load(Ordering::Relaxed) { format!("{plugin}: ") } else { String::new() };
        let text: String = clean::lines(text).lines().map(|line| format!("{prefix}{line}\n")).collect();
        match self.format {
            Format::Table => {
                let mut out = lock(&self.out);
                out.tables.interrupted();
                out.write(&mut text.into_bytes())
            }
            // Standard error is a side way of this format; that nobody reads it is no reason to end the run.
            Format::Json => {
                let _ = lock(&self.err).write_all(text.as_bytes());
                Ok(())
            }
        }
    }

    /// Shows a log message on standard error.
    fn log(&self, plugin: &str, level: Level, text: &str) {
        if level < self.level {
            return;
        }
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warning",
            Level::Error => "error",
        };
        let text: String = clean::lines(text).lines().map(|line| format!("{plugin}: {level}: {line}\n")).collect();
        // There is nowhere to tell that standard error is closed.
        let _ = lock(&self.err).write_all(text.as_bytes());
    }

    /// Keeps the value of a metric for the report. How many a plugin can have is checked where its worker is heard.
    fn metric(&self, plugin: &str, name: &str, value: f64) {
        let mut all = lock(&self.metrics);
        if let Some(kept) = all.get_mut(plugin).and_then(|metrics| metrics.get_mut(name)) {
            *kept = value;
        } else {
            all.entry(plugin.to_owned()).or_default().insert(name.to_owned(), value);
        }
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Out {
    /// Writes the bytes and empties the buffer, also on an error.
    fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let result = match self.ended {
            Some(kind) => Err(kind.into()),
            None => self.to.write_all(bytes).inspect_err(|error| self.ended = Some(error.kind())),
        };
        bytes.clear();
        result
    }
}

/// A thread that panicked while it printed left whole values behind: everything here is written piece by piece.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bit `row` of a bitmap in which bytes may be missing at the end.
fn is_absent(bitmap: &[u8], row: usize) -> bool {
    bitmap.get(row >> 3).is_some_and(|byte| byte >> (row & 7) & 1 == 1)
}
