//! The state in which nothing of the session changes any more, and everything can be read.

use super::{error::point, parts::Parts};
use crate::{
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::{SysError, attach},
};

/// A span that had begun and not ended when the session closed.
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

/// Closed: the counts are final. Programs are still attached, as that may be slow to undo: [`Closed::detach`] comes last.
#[derive(Debug)]
pub struct Closed {
    pub(super) parts: Parts,
    attached: Interval,
    opened: Option<Interval>,
    interval: Option<Interval>,
    quiesced: Result<u64, SysError>,
    /// What ages of spans are measured to.
    end: u64,
}

impl Closed {
    /// `interval` is that of the close, `end` its latest time or, without a gate, the time of the detaching.
    pub(super) fn new(
        parts: Parts,
        attached: Interval,
        opened: Option<Interval>,
        interval: Option<Interval>,
        quiesced: Result<u64, SysError>,
        end: u64,
    ) -> Closed {
        Closed { parts, attached, opened, interval, quiesced, end }
    }

    /// Before the first and after the last program of a plugin was attached.
    pub fn attached(&self) -> Interval {
        self.attached
    }

    /// When the gate opened; `None` without a gate.
    pub fn opened(&self) -> Option<Interval> {
        self.opened
    }

    /// When the gate closed; `None` without a gate.
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// When the gate closed for a plugin: earlier than for the others if it was closed alone.
    pub fn plugin_interval(&self, plugin: usize) -> Option<Interval> {
        match self.parts.plugins.get(plugin).and_then(|part| part.closing.as_ref()) {
            Some(closing) => closing.interval,
            None => self.interval,
        }
    }

    /// The end of the grace period, CLOCK_MONOTONIC ns: after it nothing of this session changes in the kernel. The error says
    /// that the kernel refused to wait; then programs may have been running still, and counts may lack their last steps.
    pub fn quiesced(&self) -> Result<u64, SysError> {
        self.quiesced
    }

    /// What a plugin's programs have counted, and the spans in flight; empty for a plugin that does not exist.
    pub fn counts(&self, plugin: usize) -> Result<(Vec<ProbeCounts>, Vec<StreamCounts>), SysError> {
        let Some(part) = self.parts.plugins.get(plugin) else { return Ok((Vec::new(), Vec::new())) };
        let (mut probes, streams) = part.counts();
        for span in self.in_flight(plugin)? {
            if let Some(counts) = probes.get_mut(span.probe) {
                counts.in_flight += 1;
            }
        }
        Ok((probes, streams))
    }

    /// The spans of a plugin that had begun since the opening and not ended at the close; by probe, the oldest first.
    pub fn in_flight(&self, plugin: usize) -> Result<Vec<InFlight>, SysError> {
        let (Some(part), Ok(bit)) = (self.parts.plugins.get(plugin), u8::try_from(plugin)) else { return Ok(Vec::new()) };
        let generation = self.parts.gated.then(|| self.parts.gate.generation(bit));
        let mut in_flight = Vec::new();
        for (probe, spans) in &part.spans {
            let open = spans.open()?.into_iter().filter(|span| generation.is_none_or(|now| span.generation == now));
            in_flight.extend(open.map(|span| InFlight { probe: *probe, tid: span.tid, age: self.end.saturating_sub(span.time) }));
        }
        Ok(in_flight)
    }

    /// The programs that the kernel skipped at least once, which the counters of no probe tell.
    pub fn misses(&self) -> Result<Vec<Misses>, SysError> {
        let mut all = Vec::new();
        for (plugin, part) in self.parts.plugins.iter().enumerate() {
            let missed = part.misses()?.into_iter().filter(|(_, count)| *count > 0);
            all.extend(missed.map(|(program, count)| Misses { plugin, point: point(&program.hook), count }));
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
