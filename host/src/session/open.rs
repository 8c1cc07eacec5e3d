//! The state in which the session records.

use std::{sync::Arc, thread};

use super::{
    Closed, Error,
    parts::{Closing, Parts, PluginParts},
};
use crate::{
    clock,
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::attach,
};

/// Open: every probe of every plugin records.
#[derive(Debug)]
pub struct Open {
    pub(super) parts: Parts,
    opened: Option<Interval>,
    attached: Interval,
    failure: Option<Error>,
}

impl Open {
    pub(super) fn new(mut parts: Parts, attached: Interval) -> Open {
        let opened = parts.gated.then(|| {
            for bit in bits(&parts) {
                // Closed since it was made, so nothing of an earlier generation runs.
                parts.gate.renew(bit);
            }
            parts.gate.open(mask(&parts))
        });
        let failure = parts.begin().err();
        Open { parts, opened, attached, failure }
    }

    /// What should have begun with the opening and did not, once. A run without that would not be whole: it had better end here.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// When the gate opened; `None` without a gate.
    pub fn interval(&self) -> Option<Interval> {
        self.opened
    }

    /// Before the first and after the last program of a plugin was attached.
    pub fn attached(&self) -> Interval {
        self.attached
    }

    /// What a plugin's programs have counted so far, without spans in flight; empty for a plugin that does not exist.
    pub fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.parts.plugins.get(plugin).map(PluginParts::counts).unwrap_or_default()
    }

    /// Closes one plugin, whose worker failed, say: one store, and its programs are detached behind the caller's back after a
    /// grace period. The others go on. Returns when its bit was closed, the same each time; `None` without a gate, where
    /// detaching is all there is, and for a plugin that does not exist.
    pub fn close_plugin(&mut self, plugin: usize) -> Option<Interval> {
        let gated = self.parts.gated;
        let part = self.parts.plugins.get_mut(plugin)?;
        if let Some(closing) = &part.closing {
            return closing.interval;
        }
        part.end();
        // There are no more plugins than bits.
        let interval = gated.then(|| self.parts.gate.close(1 << plugin));
        part.stop();
        let links = part.take_links();
        let grace = Arc::clone(&self.parts.grace);
        let detach = move || {
            if gated {
                // What the wait is for is told by the session's own, later one; here it only lets programs end before they go.
                let _ = grace.wait();
            }
            attach::detach(links);
        };
        // Without a thread the links are dropped with the closure, here and now.
        let detaching = thread::Builder::new().name("close plugin".to_owned()).spawn(detach).ok();
        part.closing = Some(Closing { interval, detaching });
        interval
    }

    /// Closes all plugins by one store, and waits until no program runs that saw the gate open. Without a gate: detaches them, and
    /// waits until no program runs. What was recorded stays.
    pub fn close(mut self) -> Closed {
        for plugin in self.parts.plugins.iter_mut().filter(|plugin| plugin.closing.is_none()) {
            plugin.end();
        }
        let closed = if self.parts.gated {
            Some(self.parts.gate.close(u64::MAX))
        } else {
            self.parts.join_closing();
            attach::detach(self.parts.take_links());
            None
        };
        self.parts.plugins.iter_mut().for_each(PluginParts::stop);
        let quiesced = self.parts.grace.wait();
        let end = closed.map_or_else(clock::now, |interval| interval.latest);
        Closed::new(self.parts, self.attached, self.opened, closed, quiesced, end)
    }
}

/// The bits of all plugins; there are no more plugins than bits.
fn bits(parts: &Parts) -> impl Iterator<Item = u8> {
    (0..).take(parts.plugins.len())
}

fn mask(parts: &Parts) -> u64 {
    bits(parts).fold(0, |mask, bit| mask | 1 << bit)
}
