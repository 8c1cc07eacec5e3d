//! Worker processes: where plugins live.
//!
//! A plugin's component is compiled and run in a process of its own, started from the host's executable, that holds nothing but a
//! socket and memory to read events from. The two sides:
//!
//! | host | worker |
//! |---|---|
//! | [`process`] starts it, asks it for its program and tables, ends it | [`crate::cage`] locks it in |
//! | [`pump`] moves events to it and rows back, a thread a plugin; [`Answers`] is what it may ask for | [`serve`] answers calls |
//! | [`conversation`], [`check`]: what it may say | `guest`: the component |
//! | [`Cache`]: what it made of the component before | |
//!
//! Between them: [`protocol`] and [`memory`].

mod answer;
mod cache;
pub mod check;
pub mod conversation;
#[cfg(feature = "guest")]
mod guest;
mod link;
pub mod memory;
pub mod process;
pub mod protocol;
pub mod pump;
mod quota;
#[cfg(feature = "guest")]
pub mod serve;
mod talk;

use std::{fmt::Debug, io};

pub use answer::{Answers, Maps, NoMaps};
pub use cache::Cache;
pub use process::{Cause, Component, Options, Worker, WorkerError};
pub use pump::{Command, Drained, Event, Notice, Pump, Source};
pub use quota::Dropped;
#[cfg(feature = "guest")]
pub use serve::{main, run};

use crate::contract::{Level, Table, TableRows};

/// Where goes what plugins say. Called from the threads of several plugins at a time.
///
/// Rows fit their table ([`check::rows`]) and names follow the rules of `wit/`; texts are whatever the plugin wrote, control
/// characters included.
pub trait Output: Send + Sync + Debug {
    /// Shows rows of a table.
    fn rows(&self, plugin: &str, table: &Table, rows: &TableRows) -> io::Result<()>;
    /// Shows a line.
    fn line(&self, plugin: &str, text: &str) -> io::Result<()>;
    /// A message beside the output.
    fn log(&self, plugin: &str, level: Level, message: &str);
    /// A metric has this value now.
    fn metric(&self, plugin: &str, name: &str, value: f64);
}

/// Nobody listens: for workers of which nothing is to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Output for Silent {
    fn rows(&self, _: &str, _: &Table, _: &TableRows) -> io::Result<()> {
        Ok(())
    }

    fn line(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn log(&self, _: &str, _: Level, _: &str) {}

    fn metric(&self, _: &str, _: &str, _: f64) {}
}
