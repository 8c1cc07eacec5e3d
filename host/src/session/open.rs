//! The state in which plugins record, are paused, join and leave.

use std::{sync::Arc, thread};

use super::{Attached, Closed, Error, Window, member::Member, parts::Parts};
use crate::{
    clock,
    contract::Interval,
    kernel::{SysError, attach},
};

/// Open: the gate has opened for all plugins, or for some of them.
#[derive(Debug)]
pub struct Open {
    pub(super) parts: Parts,
    opened: Option<Interval>,
    attached: Interval,
    failure: Option<Error>,
}

/// A plugin has taken the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The number of the new one.
    pub by: usize,
    /// From before the store that opened the new one to after the store that closed the old one: in between both may have seen a
    /// hit, and none was seen by neither. `None` if the old one was paused; then the new one is closed as well.
    pub overlap: Option<Interval>,
}

/// Why nothing was opened, paused or exchanged.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is nothing that could be done by a store.
    #[error(
        "this run has no gate (`start.gate = false` or --no-gate): each probe records from when it was attached until it is detached"
    )]
    NoGate,
    /// The kernel did not wait for programs in flight.
    #[error("the kernel refused to wait for programs in flight, so what was paused can't be opened again: {0}")]
    Grace(SysError),
}

impl Open {
    /// Opens `plugins`, or all, by one store.
    pub(super) fn new(parts: Parts, attached: Interval, plugins: Option<&[usize]>) -> Open {
        let mut open = Open { parts, opened: None, attached, failure: None };
        let all: Vec<usize> = (0..open.parts.members.len()).collect();
        let plugins = plugins.filter(|_| open.parts.shared.gated).unwrap_or(&all);
        if open.parts.shared.gated {
            open.opened = open.store_open(plugins);
        }
        open.failure = open.parts.begin(plugins).err();
        open
    }

    /// What should have begun with the opening and did not, once. A run without that would not be whole: it had better end here.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// When the gate opened first; `None` without a gate.
    pub fn interval(&self) -> Option<Interval> {
        self.opened
    }

    /// Before the first and after the last program of the plugins was attached that were there at the opening.
    pub fn attached(&self) -> Interval {
        self.attached
    }

    /// A plugin's bit is open; without a gate, its programs are attached.
    pub fn is_open(&self, plugin: usize) -> bool {
        let gated = self.parts.shared.gated;
        self.parts.member(plugin).is_some_and(|member| if gated { member.is_open() } else { !member.ended })
    }

    /// A plugin's bit was open.
    pub fn was_open(&self, plugin: usize) -> bool {
        self.parts.member(plugin).is_some_and(|member| !member.windows.is_empty())
    }

    /// The number that the next plugin gets that joins.
    pub fn next(&self) -> usize {
        self.parts.members.len()
    }

    /// Opens, by one store, those of `plugins` that are closed: for the first time, or after a pause. `None` if none is.
    ///
    /// # Errors
    /// Without a gate there is nothing to open.
    pub fn open(&mut self, plugins: &[usize]) -> Result<Option<Interval>, Refusal> {
        if !self.parts.shared.gated {
            return Err(Refusal::NoGate);
        }
        let first = |number: &usize| self.parts.member(*number).is_some_and(|member| member.windows.is_empty());
        let first: Vec<usize> = plugins.iter().copied().filter(first).collect();
        let interval = self.store_open(plugins);
        if let Err(error) = self.parts.begin(&first) {
            self.failure.get_or_insert(error);
        }
        Ok(interval)
    }

    fn store_open(&mut self, plugins: &[usize]) -> Option<Interval> {
        let mask = self.before_open(plugins);
        let open = (mask != 0).then(|| self.parts.shared.gate.open(mask))?;
        self.after_open(mask, open);
        Some(open)
    }

    /// The bits of those of `plugins` that can be opened, made ready for it.
    fn before_open(&mut self, plugins: &[usize]) -> u64 {
        let shared = Arc::clone(&self.parts.shared);
        let (mut mask, mut first) = (0, 0);
        for member in self.parts.select(plugins, |member| member.can_open() && !member.is_open()) {
            // Closed since it was made, or since a grace period: nothing of an earlier generation runs.
            shared.gate.renew(member.bit.number);
            mask |= member.bit.mask();
            if member.windows.is_empty() {
                first |= member.bit.mask();
            }
        }
        shared.gate.begin(first);
        mask
    }

    fn after_open(&mut self, mask: u64, open: Interval) {
        for member in self.parts.members.iter_mut().flatten().filter(|member| member.bit.mask() & mask != 0) {
            member.windows.push(Window { open, close: None, quiesced: None });
        }
    }

    /// Closes, by one store, those of `plugins` that are open, and waits until no program runs that saw them open; they stay attached.
    /// Spans that are in flight are cut off: their exits will be unpaired. `None` if none was open.
    ///
    /// # Errors
    /// Without a gate nothing can pause; or the kernel refused to wait.
    pub fn pause(&mut self, plugins: &[usize]) -> Result<Option<Interval>, Refusal> {
        if !self.parts.shared.gated {
            return Err(Refusal::NoGate);
        }
        let Some(close) = self.store_close(plugins) else { return Ok(None) };
        for member in self.parts.select(plugins, |_| true) {
            member.stop_passes();
        }
        self.quiesce().map_err(Refusal::Grace)?;
        Ok(Some(close))
    }

    /// The one store of a close; none if none is open.
    fn store_close(&mut self, plugins: &[usize]) -> Option<Interval> {
        let mask = self.before_close(plugins);
        let close = (mask != 0).then(|| self.parts.shared.gate.close(mask))?;
        self.after_close(mask, close);
        Some(close)
    }

    /// The bits of those of `plugins` that are open.
    fn before_close(&mut self, plugins: &[usize]) -> u64 {
        let mut mask = 0;
        for member in self.parts.select(plugins, Member::is_open) {
            member.note_before();
            mask |= member.bit.mask();
        }
        mask
    }

    fn after_close(&mut self, mask: u64, close: Interval) {
        for member in self.parts.members.iter_mut().flatten().filter(|member| member.bit.mask() & mask != 0) {
            if let Some(window) = member.windows.last_mut() {
                window.close = Some(close);
            }
        }
    }

    /// A grace period for everything that was closed and has not had one, after which what is in flight is known.
    fn quiesce(&mut self) -> Result<u64, SysError> {
        let quiesced = self.parts.wait()?;
        let shared = Arc::clone(&self.parts.shared);
        for member in self.parts.members.iter_mut().flatten() {
            let Some(window) = member.windows.last_mut().filter(|window| window.quiesced.is_none()) else { continue };
            let Some(close) = window.close else { continue };
            window.quiesced = Some(quiesced);
            member.note_in_flight(Some(shared.gate.generation(member.bit.number)), close.latest);
        }
        Ok(quiesced)
    }

    /// Closes one plugin for good, whose worker failed, say, or that leaves: one store, a grace period, and its programs are detached
    /// behind the caller's back. The others go on. When its bit was closed, the same each time; `None` without a gate, where
    /// detaching is all there is, for a plugin that never was open, and for one that does not exist.
    pub fn close_plugin(&mut self, plugin: usize) -> Option<Interval> {
        if let Some(member) = self.parts.select(&[plugin], |member| !member.ended).pop() {
            member.end();
            let gated = self.parts.shared.gated;
            let _ = self.store_close(&[plugin]);
            let member = self.parts.member_mut(plugin)?;
            member.stop();
            member.ended = true;
            if gated {
                // What the kernel refuses here it refuses at the end, where it is told.
                let _ = self.quiesce();
                self.parts.member_mut(plugin)?.detach();
            } else {
                member.detach();
                member.join_detaching();
                let _ = self.parts.wait();
                self.parts.member_mut(plugin)?.note_in_flight(None, clock::now());
            }
        }
        self.parts.member(plugin)?.windows.last()?.close
    }

    /// Lets go of a plugin that was closed alone: once its programs are detached, its bit can be had by others.
    pub fn forget(&mut self, plugin: usize) {
        if let Some(place) = self.parts.members.get_mut(plugin)
            && place.as_ref().is_some_and(|member| member.ended)
        {
            let member = place.take();
            // What is slow to detach is waited for elsewhere. Without a thread it is here, and now.
            let _ = thread::Builder::new().name("forget plugin".to_owned()).spawn(move || drop(member));
        }
    }

    /// Takes up plugins that were attached for this session, closed as they are; their numbers.
    pub fn join(&mut self, joining: Attached) -> Vec<usize> {
        let first = self.parts.members.len();
        let mut parts = joining.parts;
        self.parts.members.append(&mut parts.members);
        (first..self.parts.members.len()).collect()
    }

    /// Puts a plugin that has joined and not been opened in the place of another: the new one opens, and then the old one closes, for good.
    ///
    /// # Errors
    /// Without a gate there is no moment for it.
    pub fn replace(&mut self, old: usize, new: usize) -> Result<Replaced, Refusal> {
        if !self.parts.shared.gated {
            return Err(Refusal::NoGate);
        }
        let open = self.parts.member(old).is_some_and(Member::is_open);
        let mut overlap = None;
        if open {
            if let Some(member) = self.parts.member_mut(old) {
                member.end();
            }
            let (opens, closes) = (self.before_open(&[new]), self.before_close(&[old]));
            let ordered = self.parts.member(new).is_some_and(Member::runs_behind_earlier);
            let open = self.parts.shared.gate.open(opens);
            // A hit runs the old one's program and then the new one's: who finds the old one closed finds the new one open, since that was stored
            // before. Where the order is another, a hit that began before both stores is let through first.
            if !ordered {
                let _ = self.parts.wait();
            }
            let close = self.parts.shared.gate.close(closes);
            self.after_open(opens, open);
            self.after_close(closes, close);
            overlap = Some(Interval { earliest: open.earliest, latest: close.latest });
            if let Err(error) = self.parts.begin(&[new]) {
                self.failure.get_or_insert(error);
            }
        }
        if let Some(member) = self.parts.member_mut(old) {
            member.stop();
            member.ended = true;
        }
        // What the kernel refuses here it refuses at the end, where it is told.
        let _ = self.quiesce();
        if let Some(member) = self.parts.member_mut(old) {
            member.detach();
        }
        Ok(Replaced { by: new, overlap })
    }

    /// Closes all plugins by one store, and waits until no program runs that saw the gate open. Without a gate: detaches them, and
    /// waits until no program runs. What was recorded stays.
    pub fn close(mut self) -> Closed {
        let all: Vec<usize> = self.parts.here().filter(|(_, member)| !member.ended).map(|(number, _)| number).collect();
        for member in self.parts.select(&all, |_| true) {
            member.end();
        }
        let (closed, quiesced);
        if self.parts.shared.gated {
            // Those that are paused, or left before, are not open; if none is, the gate is closed already.
            let shut = self.store_close(&all).unwrap_or_else(|| self.parts.shared.gate.close(u64::MAX));
            closed = Some(shut);
            for member in self.parts.select(&all, |_| true) {
                member.stop();
            }
            quiesced = self.quiesce();
        } else {
            closed = None;
            self.parts.join_detaching();
            attach::detach(self.parts.take_links());
            if let Some(departure) = self.parts.departure.take_if(|_| !self.parts.without_grace) {
                departure.wait();
            }
            for member in self.parts.select(&all, |_| true) {
                member.stop();
            }
            quiesced = self.parts.wait();
            let end = clock::now();
            for member in self.parts.select(&all, |_| true) {
                member.note_in_flight(None, end);
            }
        }
        for member in self.parts.select(&all, |_| true) {
            member.ended = true;
        }
        Closed::new(self.parts, self.attached, self.opened, closed, quiesced)
    }
}
