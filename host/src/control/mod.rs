//! What is said to a run that goes on: open, pause, replace, status.
//!
//! A run listens on a socket that its user alone can reach. A connection is one request and one answer, a line of JSON each. The run
//! answers when the thing is done, so that who asks knows what happened and when.

mod client;
mod place;
mod server;

use std::path::PathBuf;

pub use client::{ClientError, ask, runs};
pub use place::PlaceError;
use serde::{Deserialize, Serialize};
pub use server::{Asked, Server};

use crate::contract::Interval;

/// How long a request can be, in bytes.
const MAX_REQUEST: usize = 64 << 10;

/// What can be asked. A plugin is named as in the bundle; without a name all are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Open the gate for what is closed.
    Open {
        /// For this plugin alone.
        plugin: Option<String>,
    },
    /// Close it for good: the run ends, or the plugin leaves.
    Close {
        /// This plugin alone.
        plugin: Option<String>,
    },
    /// Close it; what is attached stays attached.
    Pause {
        /// For this plugin alone.
        plugin: Option<String>,
    },
    /// Open it again.
    Resume {
        /// For this plugin alone.
        plugin: Option<String>,
    },
    /// Add the plugins of a bundle, all by one store.
    Join {
        /// The manifest.
        bundle: PathBuf,
    },
    /// Put another version of a plugin in its place, without a gap.
    Replace {
        /// The plugin.
        plugin: String,
        /// The component.
        file: PathBuf,
    },
    /// Say how it goes.
    Status,
}

/// What is answered when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum Answer {
    /// The gate opened for these plugins.
    Opened {
        /// By name.
        plugins: Vec<String>,
        /// The store.
        at: Interval,
    },
    /// The gate closed for these plugins; they can be opened again.
    Paused {
        /// By name.
        plugins: Vec<String>,
        /// The store.
        at: Interval,
    },
    /// The run ends now; its report says the rest.
    Ending,
    /// The gate closed for this plugin, and it leaves.
    Leaving {
        /// Its name.
        plugin: String,
        /// The store; `None` if it was not open.
        at: Option<Interval>,
    },
    /// These plugins are attached and record.
    Joined {
        /// By name.
        plugins: Vec<String>,
        /// The store that opened them.
        at: Option<Interval>,
    },
    /// The new version of a plugin has taken over.
    Replaced {
        /// Its name.
        plugin: String,
        /// From before the store that opened the new version to after the one that closed the old; `None` if it was paused.
        overlap: Option<Interval>,
    },
    /// How it goes.
    Status(Status),
}

/// A run, as it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The bundle's name.
    pub name: String,
    /// The host's process.
    pub pid: u32,
    /// It has a gate.
    pub gate: bool,
    /// When the gate opened first, CLOCK_MONOTONIC ns.
    pub opened: Option<Interval>,
    /// For how long it has been open since, ns.
    pub since: Option<u64>,
    /// Those that are there.
    pub plugins: Vec<PluginStatus>,
}

/// A plugin, as it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// What its bit is.
    pub state: PluginState,
    /// Its probes.
    pub probes: u64,
    /// Hits of all its probes so far.
    pub hits: u64,
    /// Hits that the closed gate has kept out.
    pub hits_closed: u64,
    /// Hits that a rate limit has kept out of the body.
    pub shed: u64,
    /// Events that it has written.
    pub emitted: u64,
    /// Events for which its ring had no room.
    pub ring_full: u64,
}

/// What a plugin's bit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// It was never open.
    Attached,
    /// Open.
    Open,
    /// It was open, and can be opened again.
    Paused,
    /// Closed for good.
    Leaving,
}

impl PluginState {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginState::Attached => "attached",
            PluginState::Open => "open",
            PluginState::Paused => "paused",
            PluginState::Leaving => "leaving",
        }
    }
}

/// A line of an answer.
type Line = Result<Answer, String>;
