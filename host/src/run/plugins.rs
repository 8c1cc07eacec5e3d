//! The plugins of a run and their pumps: what they tell, and what became of each.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use portcullis_ebpf::{Compiled, output::Missing};

use super::Ending;
use crate::{
    bundle::Built,
    contract::{Closing, Opening, ProbeCounts, StreamCounts},
    kernel::{PluginMaps, Ring},
    names::{Names, Symbols},
    output::Printer,
    report::State,
    session::Closed,
    worker::{
        Answers, Command, Drained, Event, Pump, Source,
        pump::{self, Inbox, Notice},
    },
};

/// All plugins of a run, by position.
pub(super) struct Plugins {
    pub(super) all: Vec<Plugin>,
    inbox: Inbox,
    pub(super) printer: Arc<Printer>,
}

/// One of them.
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) compiled: Compiled,
    pump: Pump,
    pub(super) state: State,
    pub(super) drained: Option<Drained>,
    finished: bool,
}

impl Plugins {
    /// Starts a pump for each plugin. They wait for [`Plugins::begin`].
    pub(super) fn start(
        built: Vec<Built>,
        rings: Vec<Option<Ring>>,
        maps: Vec<PluginMaps>,
        symbols: &Arc<dyn Symbols>,
        printer: Arc<Printer>,
    ) -> anyhow::Result<Plugins> {
        let (notices, inbox) = pump::notices()?;
        let mut all = Vec::with_capacity(built.len());
        for (number, ((Built { plugin, worker, compiled }, ring), maps)) in built.into_iter().zip(rings).zip(maps).enumerate() {
            let source: Box<dyn Source> = match ring {
                Some(ring) => Box::new(ring),
                None => Box::new(Nothing),
            };
            let answers = Answers { maps: Box::new(maps), names: Names::new(Arc::clone(symbols)) };
            let schema = (compiled.streams.as_slice(), compiled.plugin_maps.as_slice());
            let pump = Pump::start(worker, number, schema, source, answers, notices.clone())?;
            all.push(Plugin { name: plugin.name, compiled, pump, state: State::Ok, drained: None, finished: false });
        }
        Ok(Plugins { all, inbox, printer })
    }

    /// The number of CPUs for which there are counters.
    pub(super) fn cpus(&self) -> u32 {
        self.all.first().map_or(1, |plugin| plugin.compiled.counters.cpus)
    }

    /// The gate is open.
    pub(super) fn begin(&mut self, opening: &Opening) {
        self.send(|_| Command::Start(opening.clone()));
    }

    fn send(&self, command: impl Fn(usize) -> Command) {
        for (number, plugin) in self.all.iter().enumerate() {
            plugin.pump.send(command(number));
        }
    }

    /// Takes what the pumps have told. `failed` is called with each plugin that has failed; the ending is one that they asked for.
    pub(super) fn listen(&mut self, mut failed: impl FnMut(usize)) -> Option<Ending> {
        let mut ending = None;
        while let Some(notice) = self.inbox.try_recv() {
            let number = notice.plugin;
            if matches!(notice.event, Event::Failed(_)) {
                failed(number);
            }
            ending = ending.or(self.take(notice));
        }
        if self.all.iter().all(|plugin| plugin.state != State::Ok) { Some(Ending::AllFailed) } else { ending }
    }

    fn take(&mut self, Notice { plugin: number, event }: Notice) -> Option<Ending> {
        let plugin = self.all.get_mut(number)?;
        match event {
            Event::StopRequested { reason } => return Some(Ending::Plugin { plugin: plugin.name.clone(), reason }),
            Event::OutputFailed(error) => return Some(Ending::Output(error)),
            Event::Failed(error) => {
                // At once, so that a long run does not hide it; the report says it again.
                self.printer.message(&format!("portcullis: error: {error}"));
                plugin.state = State::Failed(error.cause.to_string());
            }
            Event::Drained(drained) => plugin.drained = Some(drained),
            Event::Finished => plugin.finished = true,
            Event::Started | Event::HandedOver(_) => {}
        }
        None
    }

    /// Has every plugin take what is in its ring.
    pub(super) fn drain(&mut self, deadline: Instant) {
        self.send(|_| Command::Drain { deadline });
        self.listen_until(|plugin| plugin.drained.is_some() || plugin.finished);
    }

    /// Makes the last call of every plugin.
    pub(super) fn finish(&mut self, closed: &Closed) {
        self.send(|number| Command::Finish(self.closing(number, closed)));
        self.listen_until(|plugin| plugin.finished);
    }

    /// Each pump answers within the deadlines that it keeps for its worker.
    fn listen_until(&mut self, done: impl Fn(&Plugin) -> bool) {
        while !self.all.iter().all(&done) {
            match self.inbox.recv() {
                // What ends a run does not end it twice.
                Some(notice) => drop(self.take(notice)),
                None => return,
            }
        }
    }

    fn closing(&self, number: usize, closed: &Closed) -> Closing {
        let drained = self.all.get(number).and_then(|plugin| plugin.drained);
        let (probes, streams): (Vec<ProbeCounts>, Vec<StreamCounts>) = closed.counts(number).unwrap_or_default();
        Closing {
            gate: closed.interval(),
            quiesced: closed.quiesced().unwrap_or_default(),
            probes,
            streams,
            delivered: drained.map_or(0, |d| d.delivered),
            undelivered: drained.map_or(0, |d| d.undelivered),
        }
    }
}

impl AsFd for Plugins {
    /// Becomes readable when a pump has told something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

impl Plugin {
    /// Optional probes that this kernel does not have.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.compiled.missing
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
