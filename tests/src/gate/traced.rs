//! Sessions that a test goes through step by step, with what their programs have counted and recorded.

use std::{collections::BTreeMap, time::Instant};

use portcullis::{
    contract::{ProbeCounts, StreamCounts},
    kernel::{PluginMaps, Ring},
    session::{Attached, Closed, Error, Loaded, Open},
};
use portcullis_ebpf::{Slot, record};

use super::{Experiment, PATIENCE, Recorded};
use crate::elements;

/// A session of an experiment in one of its states.
pub struct Traced<'e, S> {
    /// The session.
    pub session: S,
    pub(super) experiment: &'e Experiment<'e>,
    pub(super) rings: Vec<Option<Ring>>,
    pub(super) maps: Vec<PluginMaps>,
}

/// A state in which programs have counted.
pub trait Counts {
    /// What a plugin's programs have counted.
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>);

    /// How often the kernel skipped one of them, where the session tells.
    fn misses(&self, _plugin: usize) -> u64 {
        0
    }
}

impl Counts for Attached {
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.counts(plugin)
    }
}

impl Counts for Open {
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.counts(plugin)
    }

    fn misses(&self, plugin: usize) -> u64 {
        self.account(plugin).expect("counts can be read").map_or(0, |account| account.misses)
    }
}

impl Counts for Closed {
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.counts(plugin).expect("counts can be read")
    }

    fn misses(&self, plugin: usize) -> u64 {
        self.account(plugin).expect("counts can be read").map_or(0, |account| account.misses)
    }
}

/// A session that is gone.
#[derive(Debug)]
pub struct Nothing;

impl Counts for Nothing {
    fn counts(&self, _: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        (Vec::new(), Vec::new())
    }
}

impl<'e, S> Traced<'e, S> {
    fn step<T>(self, step: impl FnOnce(S) -> T) -> Traced<'e, T> {
        Traced { session: step(self.session), experiment: self.experiment, rings: self.rings, maps: self.maps }
    }

    /// The elements of a plugin's maps, as [`elements::read`] has them.
    pub fn elements(&mut self, plugin: usize) -> Vec<(String, Vec<String>)> {
        elements::read(&mut self.maps[plugin], &self.experiment.plugins[plugin], self.experiment.kernel.symbols())
    }

    /// The numbers of a map with one key, by key.
    pub fn numbers(&mut self, plugin: usize, map: &str) -> BTreeMap<u64, i64> {
        let rows = self.elements(plugin).into_iter().filter(|(name, _)| name == map);
        let number = |word: &str| word.parse::<i64>().unwrap_or_else(|_| panic!("`{word}` is no number"));
        rows.map(|(_, words)| (number(&words[1]).cast_unsigned(), number(&words[2]))).collect()
    }

    /// Reads what waits in a plugin's ring: the stream, the time of the record, and its fields, which are numbers.
    pub fn records(&mut self, plugin: usize, mut each: impl FnMut(&str, u64, &[u64])) -> usize {
        let streams = &self.experiment.plugins[plugin].streams;
        let Some(ring) = &mut self.rings[plugin] else { return 0 };
        let mut fields = Vec::new();
        ring.read(usize::MAX, |bytes| {
            let word = |at: u32, size: usize| {
                let mut wide = [0; 8];
                wide[..size].copy_from_slice(&bytes[at as usize..at as usize + size]);
                u64::from_le_bytes(wide)
            };
            let stream = &streams[word(record::STREAM, 4) as usize];
            fields.clear();
            fields.extend(stream.fields.iter().map(|field| match field.slot {
                Slot::Int { offset, size, .. } => word(offset, size.into()),
                _ => panic!("{} is no number", field.name),
            }));
            each(&stream.name, word(record::TIME, 8), &fields);
        })
    }
}

impl<S: Counts> Traced<'_, S> {
    /// How often the kernel skipped a program of a plugin. One that can be preempted in a program does so with those that would
    /// run it meanwhile on the same CPU: `active` of struct bpf_prog is one number a CPU (`__bpf_trace_run`, kernel/trace/bpf_trace.c).
    pub fn misses(&self, plugin: usize) -> u64 {
        self.session.misses(plugin)
    }

    /// All that a plugin's programs have changed so far.
    pub fn recorded(&mut self, plugin: usize) -> Recorded {
        let (probes, streams) = self.session.counts(plugin);
        let mut facts = BTreeMap::new();
        let mut fact = |what: String, value: u64| drop(facts.insert(what, value.to_string()));
        for p in probes {
            // Not `hits_closed` and `entry_hits_closed`.
            let counters = [
                ("hits", p.hits),
                ("unpaired", p.unpaired.unwrap_or(0)),
                ("filtered", p.filtered),
                ("completed", p.completed),
                ("entry hits", p.entry_hits),
                ("entered", p.entered),
                ("matched", p.matched),
                ("in flight", p.in_flight),
                ("lost", p.lost),
                ("map full", p.map_full),
                ("read fault", p.read_fault),
                ("truncated", p.truncated),
            ];
            counters.into_iter().for_each(|(counter, value)| fact(format!("{counter} of `{}`", p.name), value));
        }
        for (number, s) in streams.iter().enumerate() {
            let counters = [("attempted", s.attempted), ("emitted", s.emitted), ("ring full", s.ring_full)];
            counters.into_iter().for_each(|(counter, value)| fact(format!("{counter} of stream {number}"), value));
        }
        fact("bytes in the ring".to_owned(), self.rings[plugin].as_ref().map_or(0, Ring::waiting));
        facts.retain(|_, value| value != "0");
        for (_, mut words) in self.elements(plugin) {
            let value = words.pop().unwrap_or_default();
            facts.insert(words.join(" "), value);
        }
        Recorded { plugin, facts }
    }
}

impl<'e> Traced<'e, Loaded<'_>> {
    /// Attaches; if that fails, why, and what is left to look at: rings and maps.
    pub fn attach(self) -> Result<Traced<'e, Attached>, (Error, Traced<'e, Nothing>)> {
        let Traced { session, experiment, rings, maps } = self;
        match session.attach() {
            Ok(session) => Ok(Traced { session, experiment, rings, maps }),
            Err(error) => Err((error, Traced { session: Nothing, experiment, rings, maps })),
        }
    }
}

impl<'e> Traced<'e, Attached> {
    /// Opens the gate.
    pub fn open(self) -> Traced<'e, Open> {
        self.step(Attached::open)
    }

    /// Opens it for some plugins.
    pub fn open_some(self, plugins: &[usize]) -> Traced<'e, Open> {
        self.step(|attached| attached.open_some(plugins))
    }
}

impl<'e> Traced<'e, Open> {
    /// Waits until a run of the first plugin's first probe begins, and returns at once: where a run is long, it is in flight then.
    pub fn wait_for_a_run(&self) {
        let hits = || self.session.counts(0).0[0].hits;
        let (before, end) = (hits(), Instant::now() + PATIENCE);
        while hits() == before {
            assert!(Instant::now() < end, "no hit within {PATIENCE:?}");
        }
    }

    /// Closes the gate.
    pub fn close(self) -> Traced<'e, Closed> {
        self.step(Open::close)
    }
}

impl Traced<'_, Closed> {
    /// Detaches.
    pub fn detach(self) {
        self.session.detach();
    }

    /// What the end of a run without losses has to say of every probe, or what is wrong with it.
    pub fn equations(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for plugin in 0..self.experiment.plugins() {
            let (probes, streams) = Counts::counts(&self.session, plugin);
            for p in probes {
                if p.hits != p.unpaired.unwrap_or(0) + p.filtered + p.shed + p.completed
                    || p.entry_hits != p.entered
                    || p.entered != p.matched + p.in_flight + p.lost
                {
                    wrong.push(format!("the counts do not add up: {p:?}"));
                }
            }
            if let Some(stream) = streams.iter().find(|s| s.attempted != s.emitted + s.ring_full) {
                wrong.push(format!("the counts do not add up: {stream:?}"));
            }
        }
        wrong
    }
}
