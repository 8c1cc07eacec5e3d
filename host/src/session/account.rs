//! What a session knows of one plugin when it is asked: what was counted, when its bit was open, what was cut off.

use crate::contract::{Interval, ProbeCounts, StreamCounts};

/// A time during which a plugin's bit was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The store that opened it.
    pub open: Interval,
    /// The store that closed it; `None` while it is open.
    pub close: Option<Interval>,
    /// The end of the grace period that followed, CLOCK_MONOTONIC ns.
    pub quiesced: Option<u64>,
}

/// A span that had begun and not ended when the gate closed, for a pause or for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The position of its probe in the plugin.
    pub probe: usize,
    /// The thread.
    pub tid: u32,
    /// How long it had been open at the close, in ns.
    pub age: u64,
}

/// A program that the kernel skipped, since it would have run within itself, or refused to run at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misses {
    /// The position of its plugin.
    pub plugin: usize,
    /// Where it was attached.
    pub point: String,
    /// How often.
    pub count: u64,
}

/// What happened to one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What its programs have counted, with spans in flight; by probe.
    pub probes: Vec<ProbeCounts>,
    /// The same by stream.
    pub streams: Vec<StreamCounts>,
    /// Of `hits_closed`, what came before the first opening; by probe, the entries of spans included. Read at the first close, before
    /// the store; the same as all while there was none.
    pub before: Vec<u64>,
    /// The spans that a close cut off; by close and by probe, the oldest first.
    pub in_flight: Vec<InFlight>,
    /// When its bit was open, in the order of time. Empty without a gate.
    pub windows: Vec<Window>,
    /// Before the first and after the last of its programs was attached.
    pub attached: Interval,
    /// How often the kernel skipped one of its programs.
    pub misses: u64,
}
