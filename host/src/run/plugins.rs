//! The plugins of a run and their pumps: what they tell, and what became of each.
//!
//! A plugin that leaves before the others goes the way that all go at the end: its gate closes, it takes what is in its ring, it makes its last
//! call, it is entered in the report. One that a new version replaces hands over instead, and the new one starts with what it gave.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_ebpf::{Compiled, DataClass, output::Missing};

use super::{Ending, summary};
use crate::{
    bundle::Built,
    cage::{self, Layers},
    clock,
    contract::{Closing, Interval, Opening},
    facts::Facts,
    kernel::{PluginMaps, Ring, SysError},
    manifest::{self, Manifest},
    names::{Names, Symbols},
    output::Printer,
    report::{self, State},
    session::{Account, Closed, Open},
    worker::{
        Answers, Command, Drained, Dropped, Event, Pump, Source,
        pump::{self, Inbox, Notice, Notices},
    },
};

/// All plugins of a run, by number: that of the session.
pub(super) struct Plugins {
    /// The bundle's name.
    pub(super) bundle: String,
    /// The run has a gate.
    pub(super) gated: bool,
    /// What the bundle requires of the cages of all, of those that join as well.
    pub(super) layers: Layers,
    pub(super) all: Vec<Plugin>,
    inbox: Inbox,
    pub(super) printer: Arc<Printer>,
    /// How long a plugin that leaves has for what was recorded.
    drain: Duration,
    /// What `start` gets, but for what is each plugin's own.
    opening: Opening,
    /// What ends the run, told before it was asked for.
    ending: Option<Ending>,
    /// Plugins that have failed and are started again, and when.
    restarts: Vec<(Instant, manifest::Plugin)>,
    /// How many of them are on their way back.
    returning: usize,
}

/// One of them.
pub(super) struct Plugin {
    /// What the manifest says of it.
    pub(super) spec: manifest::Plugin,
    pub(super) compiled: Compiled,
    pump: Pump,
    pub(super) state: State,
    pub(super) drained: Option<Drained>,
    /// What was not shown of what it said.
    pub(super) dropped: Dropped,
    /// How its worker is locked in, and what it took.
    pub(super) worker: cage::Account,
    /// `start` was called.
    started: bool,
    /// What it waits for before it starts, or got.
    inherits: Inherits,
    /// The gate is closed for it, for good, and it is on its way out.
    pub(super) leaving: Option<Leaving>,
    /// The last call was made.
    said_farewell: bool,
    finished: bool,
    /// Its last values, if another has its name now.
    pub(super) metrics: Option<Vec<(String, f64)>>,
    /// Why it left before the others, and when it took over from another.
    pub(super) left: Option<report::Left>,
    pub(super) took_over: Option<Interval>,
    /// What the report says of it, if it is gone.
    pub(super) entry: Option<report::Plugin>,
}

/// What a plugin takes over from the version before it.
enum Inherits {
    /// That is not known yet.
    Awaited,
    /// This, or nothing.
    Known(Option<Vec<u8>>),
}

/// How a plugin leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// By `finish`.
    Finish,
    /// By `hand-over` to the plugin of this number.
    HandOver(usize),
}

/// The session, while it is open and when it is closed.
pub(super) trait Session {
    fn account(&self, plugin: usize) -> Result<Option<Account>, SysError>;
    /// Closes a plugin for good.
    fn close(&mut self, plugin: usize);
    /// Lets go of what it had in the kernel.
    fn forget(&mut self, plugin: usize);
    /// When nothing of a closed plugin ran any more, where its windows do not say it.
    fn quiesced(&self) -> u64;
}

impl Session for Open {
    fn account(&self, plugin: usize) -> Result<Option<Account>, SysError> {
        Open::account(self, plugin)
    }

    fn close(&mut self, plugin: usize) {
        self.close_plugin(plugin);
    }

    fn forget(&mut self, plugin: usize) {
        Open::forget(self, plugin);
    }

    fn quiesced(&self) -> u64 {
        clock::now()
    }
}

impl Session for Closed {
    fn account(&self, plugin: usize) -> Result<Option<Account>, SysError> {
        Closed::account(self, plugin)
    }

    /// It is closed.
    fn close(&mut self, _: usize) {}

    /// All are let go of at once.
    fn forget(&mut self, _: usize) {}

    fn quiesced(&self) -> u64 {
        Closed::quiesced(self).unwrap_or_default()
    }
}

/// What a pump needs beside its worker.
pub(super) struct Parts {
    pub(super) ring: Option<Ring>,
    pub(super) maps: PluginMaps,
    pub(super) symbols: Arc<dyn Symbols>,
}

impl Plugin {
    /// Starts a pump for a plugin that will have this number. It waits for [`Plugins::start`].
    pub(super) fn new(built: Built, number: usize, parts: Parts, notices: Notices) -> anyhow::Result<Plugin> {
        let Built { plugin: spec, mut worker, compiled, granted, .. } = built;
        let account = worker.account()?;
        let source: Box<dyn Source> = match parts.ring {
            Some(ring) => Box::new(ring),
            None => Box::new(Nothing),
        };
        let facts = if spec.grants.may_read(DataClass::Process) { Facts::within(granted) } else { Facts::denied() };
        let answers = Answers { maps: Box::new(parts.maps), names: Names::new(parts.symbols), facts };
        let schema = (compiled.streams.as_slice(), compiled.plugin_maps.as_slice());
        let pump = Pump::start(worker, number, schema, source, answers, notices)?;
        Ok(Plugin {
            spec,
            compiled,
            pump,
            state: State::Ok,
            drained: None,
            dropped: Dropped::default(),
            worker: account,
            started: false,
            inherits: Inherits::Known(None),
            leaving: None,
            said_farewell: false,
            finished: false,
            metrics: None,
            left: None,
            took_over: None,
            entry: None,
        })
    }

    /// Optional probes that this kernel does not have.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.compiled.missing
    }

    /// It takes part in the run.
    fn is_here(&self) -> bool {
        self.leaving.is_none() && self.entry.is_none()
    }
}

impl Plugins {
    /// None yet, and where their pumps put what they tell.
    pub(super) fn new(bundle: &Manifest, opening: Opening, printer: Arc<Printer>) -> anyhow::Result<(Plugins, Notices)> {
        let (notices, inbox) = pump::notices()?;
        let plugins = Plugins {
            bundle: bundle.name.clone(),
            gated: bundle.start.gate,
            layers: bundle.sandbox.layers,
            all: Vec::new(),
            inbox,
            printer,
            drain: bundle.stop.drain,
            opening,
            ending: None,
            restarts: Vec::new(),
            returning: 0,
        };
        Ok((plugins, notices))
    }

    /// One more. Its number is how many there were before.
    pub(super) fn add(&mut self, plugin: Plugin) {
        self.all.push(plugin);
        if self.all.len() > 1 {
            self.printer.name_plugins();
        }
    }

    /// The number of a plugin that is here.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|plugin| plugin.spec.name == name && plugin.is_here())
    }

    /// It has the place of another, and waits for what that one hands over.
    pub(super) fn is_taking_over(&self, name: &str) -> bool {
        let plugin = self.named(name).and_then(|number| self.all.get(number));
        plugin.is_some_and(|plugin| matches!(plugin.inherits, Inherits::Awaited))
    }

    /// The numbers of those that are here.
    pub(super) fn numbers(&self) -> Vec<usize> {
        self.all.iter().enumerate().filter(|(_, plugin)| plugin.is_here()).map(|(number, _)| number).collect()
    }

    /// The names of some.
    pub(super) fn names(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().filter_map(|number| Some(self.all.get(*number)?.spec.name.clone())).collect()
    }

    /// Those that are not gone, with their numbers and names.
    pub(super) fn here(&self) -> impl Iterator<Item = (usize, &Plugin)> {
        self.all.iter().enumerate().filter(|(_, plugin)| plugin.entry.is_none())
    }

    /// The gate is open, since `gate`: those for which it is and that have not started do, once they know what they inherit.
    pub(super) fn start(&mut self, number: usize, gate: Option<Interval>) {
        let Some(plugin) = self.all.get_mut(number) else { return };
        if plugin.started {
            return;
        }
        let Inherits::Known(state) = &mut plugin.inherits else { return };
        let opening = Opening { gate, handed_over: state.take(), ..self.opening.clone() };
        plugin.pump.send(Command::Start(opening));
        plugin.started = true;
    }

    /// What was learnt of the clock at the opening.
    pub(super) fn set_realtime_offset(&mut self, offset: i64) {
        self.opening.realtime_offset = offset;
    }

    /// Has a plugin leave whose gate is closed for good.
    pub(super) fn leave(&mut self, number: usize, leaving: Leaving) {
        if let Leaving::HandOver(to) = leaving
            && let Some(heir) = self.all.get_mut(to)
        {
            heir.inherits = Inherits::Awaited;
        }
        let deadline = Instant::now() + self.drain;
        let Some(plugin) = self.all.get_mut(number).filter(|plugin| plugin.leaving.is_none()) else { return };
        plugin.leaving = Some(leaving);
        plugin.pump.send(Command::Drain { deadline });
    }

    /// Before the opening: the error of a plugin that has failed; or whether one has asked for the end of the run.
    pub(super) fn fail_early(&mut self) -> anyhow::Result<bool> {
        while let Some(Notice { event, plugin }) = self.inbox.try_recv() {
            match event {
                Event::Failed(error) => {
                    return Err(anyhow::anyhow!("{error}; the gate had not opened, and nothing was recorded"));
                }
                event => self.note(Notice { event, plugin }),
            }
        }
        Ok(self.ending.is_some())
    }

    /// Takes what the pumps have told. The ending is one that they asked for.
    pub(super) fn listen(&mut self, session: &mut impl Session) -> Option<Ending> {
        while let Some(notice) = self.inbox.try_recv() {
            self.take(notice, session);
        }
        let none_comes = self.restarts.is_empty() && self.returning == 0;
        if none_comes && self.all.iter().all(|plugin| plugin.leaving.is_some() && plugin.finished) {
            self.ending.get_or_insert(Ending::AllFailed);
        }
        self.ending.take()
    }

    /// Has a plugin that failed started again after its time, if it is to be.
    fn restart_later(&mut self, spec: &manifest::Plugin) -> bool {
        // Without a gate nothing joins.
        let Some((after, again)) = spec.again().filter(|_| self.gated) else { return false };
        self.restarts.push((Instant::now() + after, again));
        true
    }

    /// The plugins that are to be started again now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<manifest::Plugin> {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.restarts).into_iter().partition(|(at, _)| *at <= now);
        self.restarts = later;
        self.returning += due.len();
        due.into_iter().map(|(_, plugin)| plugin).collect()
    }

    /// How long until the next one is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.restarts.iter().map(|(at, _)| at.saturating_duration_since(Instant::now())).min()
    }

    /// A plugin that was due is back, or could not be started: then it is tried again, if that is left to it.
    pub(super) fn returned(&mut self, spec: &manifest::Plugin, failed: bool) {
        self.returning = self.returning.saturating_sub(1);
        if failed && !self.restart_later(spec) && spec.essential {
            self.ending.get_or_insert(Ending::Essential(spec.name.clone()));
        }
    }

    /// What can happen at any time.
    fn note(&mut self, Notice { plugin: number, event }: Notice) {
        let Some(plugin) = self.all.get_mut(number) else { return };
        match event {
            Event::StopRequested { reason } => {
                self.ending.get_or_insert(Ending::Plugin { plugin: plugin.spec.name.clone(), reason });
            }
            Event::OutputFailed(error) => {
                self.ending.get_or_insert(Ending::Output(error));
            }
            Event::Failed(error) => {
                // At once, so that a long run does not hide it; the report says it again.
                self.printer.message(&format!("portcullis: error: {error}"));
                plugin.state = State::Failed(error.cause.to_string());
                // One that was asked to leave does not come back.
                let spec = plugin.spec.clone();
                let stays = plugin.leaving.is_none();
                if !(stays && self.restart_later(&spec)) && spec.essential {
                    self.ending.get_or_insert(Ending::Essential(spec.name));
                }
            }
            Event::Drained(drained) => plugin.drained = Some(drained),
            Event::Dropped(dropped) => plugin.dropped = dropped,
            Event::Used(usage) => plugin.worker.usage = usage,
            Event::Finished => plugin.finished = true,
            Event::Started | Event::HandedOver(_) => {}
        }
    }

    fn take(&mut self, notice: Notice, session: &mut impl Session) {
        let number = notice.plugin;
        let (failed, drained, finished) = (
            matches!(notice.event, Event::Failed(_)),
            matches!(notice.event, Event::Drained(_)),
            matches!(notice.event, Event::Finished),
        );
        let mut state = None;
        let notice = match notice.event {
            Event::HandedOver(given) => {
                state = given;
                None
            }
            event => Some(Notice { plugin: number, event }),
        };
        let handed_over = notice.is_none();
        if let Some(notice) = notice {
            self.note(notice);
        }
        if failed {
            session.close(number);
            self.leave(number, Leaving::Finish);
        }
        let Some(leaving) = self.all.get(number).and_then(|plugin| plugin.leaving) else { return };
        if drained {
            self.farewell(number, leaving, session);
        }
        if let Leaving::HandOver(heir) = leaving
            && (handed_over || finished)
        {
            // Its name, under which metrics are kept, is the heir's from now on.
            if let Some(plugin) = self.all.get_mut(number) {
                let (name, printer) = (&plugin.spec.name, &self.printer);
                plugin.metrics.get_or_insert_with(|| printer.take_metrics(name));
            }
            self.inherit(heir, state, session);
        }
        if finished {
            self.enter(number, session);
        }
    }

    /// Makes the last call of a plugin.
    fn farewell(&mut self, number: usize, leaving: Leaving, session: &impl Session) {
        let closing = self.closing(number, session);
        let Some(plugin) = self.all.get_mut(number) else { return };
        if std::mem::replace(&mut plugin.said_farewell, true) {
            return;
        }
        plugin.pump.send(match leaving {
            _ if !plugin.started => Command::Abort,
            Leaving::Finish => Command::Finish(closing),
            Leaving::HandOver(_) => Command::HandOver,
        });
    }

    /// What a plugin starts with is known.
    fn inherit(&mut self, heir: usize, state: Option<Vec<u8>>, session: &impl Session) {
        let Some(plugin) = self.all.get_mut(heir).filter(|heir| matches!(heir.inherits, Inherits::Awaited)) else { return };
        plugin.inherits = Inherits::Known(state);
        let windows = session.account(heir).ok().flatten().map(|account| account.windows).unwrap_or_default();
        if let Some(first) = windows.first() {
            self.start(heir, Some(first.open));
        }
    }

    /// Enters a plugin that is gone in the report, and lets go of what it had.
    fn enter(&mut self, number: usize, session: &mut impl Session) {
        let account = session.account(number).ok().flatten();
        let Some(plugin) = self.all.get_mut(number) else { return };
        // What could not be read is read, or refused, at the end.
        if let Some(account) = account {
            plugin.entry = Some(summary::plugin(&account, plugin, &self.printer));
            session.forget(number);
        }
    }

    /// The run's gate is closed: has every plugin take what is in its ring and make its last call. Those that leave do so first, since others
    /// may wait for what they hand over.
    pub(super) fn drain(&mut self, closed: &mut Closed, deadline: Instant) {
        self.listen_until(closed, |plugin| plugin.leaving.is_none() || plugin.finished);
        for plugin in self.all.iter().filter(|plugin| !plugin.finished) {
            plugin.pump.send(Command::Drain { deadline });
        }
        self.listen_until(closed, |plugin| plugin.drained.is_some() || plugin.finished);
    }

    /// Makes the last call of every plugin.
    pub(super) fn finish(&mut self, closed: &mut Closed) {
        for number in 0..self.all.len() {
            if self.all.get(number).is_some_and(|plugin| !plugin.finished) {
                self.farewell(number, Leaving::Finish, closed);
            }
        }
        self.listen_until(closed, |plugin| plugin.finished);
    }

    /// Each pump answers within the deadlines that it keeps for its worker.
    fn listen_until(&mut self, closed: &mut Closed, done: impl Fn(&Plugin) -> bool) {
        while !self.all.iter().all(&done) {
            match self.inbox.recv() {
                // What ends a run does not end it twice.
                Some(notice) => self.take(notice, closed),
                None => return,
            }
        }
    }

    fn closing(&self, number: usize, session: &impl Session) -> Closing {
        let drained = self.all.get(number).and_then(|plugin| plugin.drained);
        let account = session.account(number).ok().flatten();
        let last = account.as_ref().and_then(|account| account.windows.last());
        Closing {
            gate: last.and_then(|window| window.close),
            quiesced: last.and_then(|window| window.quiesced).unwrap_or_else(|| session.quiesced()),
            delivered: drained.map_or(0, |d| d.delivered),
            undelivered: drained.map_or(0, |d| d.undelivered),
            probes: account.as_ref().map(|account| account.probes.clone()).unwrap_or_default(),
            streams: account.map(|account| account.streams).unwrap_or_default(),
        }
    }
}

impl AsFd for Plugins {
    /// Becomes readable when a pump has told something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

/// The ring of a plugin that emits nothing.
struct Nothing;

impl Source for Nothing {
    fn read(&mut self, _: usize, _: &mut dyn FnMut(&[u8])) -> usize {
        0
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Source for Ring {
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize {
        Ring::read(self, max, f)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}
