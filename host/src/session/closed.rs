//! The state in which nothing of the session changes any more, and everything can be read.

use super::{
    account::{InFlight, Misses},
    parts::Parts,
};
use crate::{
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::{SysError, attach},
};

/// Closed: the counts are final. Programs are still attached, as that may be slow to undo: [`Closed::detach`] comes last.
#[derive(Debug)]
pub struct Closed {
    pub(super) parts: Parts,
    attached: Interval,
    opened: Option<Interval>,
    interval: Option<Interval>,
    quiesced: Result<u64, SysError>,
}

impl Closed {
    /// `interval` is that of the close.
    pub(super) fn new(
        parts: Parts,
        attached: Interval,
        opened: Option<Interval>,
        interval: Option<Interval>,
        quiesced: Result<u64, SysError>,
    ) -> Closed {
        Closed { parts, attached, opened, interval, quiesced }
    }

    /// Before the first and after the last program of the plugins was attached that were there at the opening.
    pub fn attached(&self) -> Interval {
        self.attached
    }

    /// When the gate opened first; `None` without a gate.
    pub fn opened(&self) -> Option<Interval> {
        self.opened
    }

    /// When the gate closed for the last time; `None` without a gate.
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// When the gate closed for a plugin: earlier than for the others if it was closed alone.
    pub fn plugin_interval(&self, plugin: usize) -> Option<Interval> {
        self.parts.member(plugin)?.windows.last()?.close
    }

    /// The end of the grace period, CLOCK_MONOTONIC ns: after it nothing of this session changes in the kernel. The error says
    /// that the kernel refused to wait; then programs may have been running still, and counts may lack their last steps.
    pub fn quiesced(&self) -> Result<u64, SysError> {
        self.quiesced
    }

    /// What a plugin's programs have counted, and the spans that closes have cut off; empty for a plugin that is not there.
    pub fn counts(&self, plugin: usize) -> Result<(Vec<ProbeCounts>, Vec<StreamCounts>), SysError> {
        let Some(member) = self.parts.member(plugin) else { return Ok((Vec::new(), Vec::new())) };
        member.in_flight()?;
        Ok(member.counts())
    }

    /// The spans of a plugin that closes have cut off; by close and by probe, the oldest first. Empty for a plugin that is not there.
    pub fn in_flight(&self, plugin: usize) -> Result<Vec<InFlight>, SysError> {
        self.parts.member(plugin).map_or(Ok(Vec::new()), |member| Ok(member.in_flight()?.to_vec()))
    }

    /// The programs that the kernel skipped at least once, which the counters of no probe tell.
    pub fn misses(&self) -> Result<Vec<Misses>, SysError> {
        let mut all = Vec::new();
        for (plugin, member) in self.parts.here() {
            let missed = member.misses()?.into_iter().filter(|(_, count)| *count > 0);
            all.extend(missed.map(|(point, count)| Misses { plugin, point, count }));
        }
        Ok(all)
    }

    /// Detaches and frees everything. A program on a perf tracepoint takes up to 100 ms, so the report should be out before.
    pub fn detach(mut self) {
        attach::detach(self.parts.take_links());
    }

    /// The same, but what takes long is left to a process that outlives this one: its programs do nothing any more.
    pub fn leave(mut self) {
        attach::leave(self.parts.take_links());
    }
}
