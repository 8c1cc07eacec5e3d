//! What a session has of one plugin.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    thread::{self, JoinHandle},
};

use aya::maps::MapData;
use portcullis_ebpf::{Compiled, Hook, MapRef, Program, output::Moment};

use super::{
    Error, Plugin,
    account::{Account, InFlight, Window},
    error::point,
    parts::{Bit, Installed, Shared},
};
use crate::{
    clock,
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::{
        Counters, MapError, PluginMaps, Ring, RunningKernel, SysError,
        attach::{self, AttachError, Link},
        elements, map,
        program::{self, LoadedProgram},
        spans::Spans,
    },
};

/// A plugin, and all that it owns. Fields are dropped in this order: programs before what they use, the bit last.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) compiled: Compiled,
    pub(super) programs: Vec<Installed>,
    counters: Option<Counters>,
    pub(super) ring: Option<Ring>,
    spans: BTreeMap<usize, Spans>,
    /// The maps that its probes name, scratch space, names of places, and what its rate limit counts on.
    maps: BTreeMap<MapRef, MapData>,
    attached: Interval,
    pub(super) windows: Vec<Window>,
    /// It is closed for good.
    pub(super) ended: bool,
    /// What the probes had counted behind the closed gate when it closed for the first time.
    before: Option<Vec<u64>>,
    in_flight: Vec<InFlight>,
    /// Why spans in flight could not be read.
    unread: Option<SysError>,
    /// Detaches what is slow to detach.
    detaching: Option<JoinHandle<()>>,
    pub(super) bit: Bit,
}

impl Member {
    /// Makes its maps and loads its programs.
    pub(super) fn load(plugin: Plugin, bit: Bit, shared: &Shared, kernel: &RunningKernel) -> Result<Member, Error> {
        let name = plugin.name.clone();
        let mut made = Member::new(plugin, bit).map_err(|source| Error::PluginMap { plugin: name, source })?;
        for program in std::mem::take(&mut made.compiled.programs) {
            let loaded = made.load_program(&program, shared, kernel);
            let loaded = loaded.map_err(|source| Error::load(&made.name, &made.compiled, &program, source))?;
            made.programs.push(Installed::new(loaded, program));
        }
        Ok(made)
    }

    fn new(plugin: Plugin, bit: Bit) -> Result<Member, MapError> {
        let Plugin { name, compiled, ring: size } = plugin;
        let (mut counters, mut ring, mut spans, mut maps) = (None, None, BTreeMap::new(), BTreeMap::new());
        for spec in &compiled.maps {
            match spec.map {
                MapRef::Counters => counters = Some(Counters::create(compiled.counters, spec.value_size)?),
                MapRef::Ring => ring = Some(Ring::create(size)?),
                MapRef::Span(probe) => {
                    spans.insert(probe, Spans::create(spec)?);
                }
                MapRef::Plugin(_) | MapRef::Scratch | MapRef::Names | MapRef::Rates => {
                    maps.insert(spec.map, map::create(spec, 0)?);
                }
                // The session's, not the plugin's.
                MapRef::Gate | MapRef::Processes => {}
            }
        }
        Ok(Member {
            name,
            compiled,
            programs: Vec::new(),
            counters,
            ring,
            spans,
            maps,
            attached: Interval { earliest: 0, latest: 0 },
            windows: Vec::new(),
            ended: false,
            before: None,
            in_flight: Vec::new(),
            unread: None,
            detaching: None,
            bit,
        })
    }

    fn load_program(
        &self,
        program: &Program,
        shared: &Shared,
        kernel: &RunningKernel,
    ) -> Result<LoadedProgram, program::LoadError> {
        program::load(program, kernel, |map| shared.fd(map).or_else(|| self.fd(map)))
    }

    fn fd(&self, map: MapRef) -> Option<BorrowedFd<'_>> {
        match map {
            MapRef::Counters => self.counters.as_ref().map(Counters::fd),
            MapRef::Ring => self.ring.as_ref().map(|ring| ring.as_fd()),
            MapRef::Span(probe) => self.spans.get(&probe).map(Spans::fd),
            MapRef::Plugin(_) | MapRef::Scratch | MapRef::Names | MapRef::Rates => {
                self.maps.get(&map).map(|map| map.fd().as_fd())
            }
            MapRef::Gate | MapRef::Processes => None,
        }
    }

    /// Attaches all programs; the times before the first and after the last.
    pub(super) fn attach(&mut self, kernel: &RunningKernel) -> Result<Interval, Error> {
        let earliest = clock::now();
        self.each_program(|program| program.attach(kernel))?;
        self.attached = Interval { earliest, latest: clock::now() };
        Ok(self.attached)
    }

    /// Does something with each program, up to the first that fails.
    pub(super) fn each_program(&mut self, mut f: impl FnMut(&mut Installed) -> Result<(), AttachError>) -> Result<(), Error> {
        for program in &mut self.programs {
            if let Err(source) = f(program) {
                return Err(Error::attach(&self.name, &self.compiled, &program.program, source));
            }
        }
        Ok(())
    }

    /// Its bit is open.
    pub(super) fn is_open(&self) -> bool {
        self.windows.last().is_some_and(|window| window.close.is_none())
    }

    /// Its bit can be opened: it is closed, and what ran when it was open has ended.
    pub(super) fn can_open(&self) -> bool {
        !self.ended && self.windows.last().is_none_or(|window| window.quiesced.is_some())
    }

    /// At each of its hooks its programs run behind those that were attached before: tracepoints keep the order of attaching (`func_add`,
    /// kernel/tracepoint.c; `bpf_prog_array_copy`, kernel/bpf/core.c), and so do kprobes at one place (`add_new_kprobe`, kernel/kprobes.c). Uprobes
    /// and trampolines put the latest first (`consumer_add`, kernel/events/uprobes.c; `__bpf_trampoline_link_prog`, kernel/bpf/trampoline.c).
    /// Time and events are each plugin's own.
    pub(super) fn runs_behind_earlier(&self) -> bool {
        self.programs.iter().all(|program| {
            matches!(
                program.program.hook,
                Hook::TpBtf { .. }
                    | Hook::PerfTracepoint { .. }
                    | Hook::Kprobe { .. }
                    | Hook::PerfEvent { .. }
                    | Hook::Breakpoint { .. }
                    | Hook::Host(_)
            )
        })
    }

    /// What comes at the end, before the close: the programs for that moment run.
    pub(super) fn end(&mut self) {
        for program in self.programs.iter_mut().filter(|p| p.program.hook == Hook::Host(Moment::End)) {
            program.skipped += u64::from(program.loaded.run().is_err());
        }
    }

    /// Time and events need not be counted behind the close, and iterators are at their end.
    pub(super) fn stop(&mut self) {
        self.stop_passes();
        for program in &self.programs {
            // Where it goes on, its programs see that the gate is closed.
            let _ = program.link.as_ref().map(Link::stop);
        }
    }

    /// Iterators are at their end. To be called when its bit is closed.
    pub(super) fn stop_passes(&mut self) {
        for program in &mut self.programs {
            program.skipped += u64::from(program.pass.as_mut().is_some_and(|pass| pass.stop().is_err()));
        }
    }

    /// Before a close: what was counted behind the closed gate until now came before the opening, if this is the first close.
    pub(super) fn note_before(&mut self) {
        if self.before.is_none() && !self.windows.is_empty() {
            self.before = Some(self.closed_hits());
        }
    }

    fn closed_hits(&self) -> Vec<u64> {
        self.counts().0.iter().map(|probe| probe.hits_closed + probe.entry_hits_closed).collect()
    }

    /// After the grace period of a close at `end`: the spans that it cut off, those of the generation that it ended.
    pub(super) fn note_in_flight(&mut self, generation: Option<u64>, end: u64) {
        for (probe, spans) in &self.spans {
            match spans.open() {
                Ok(open) => {
                    let open = open.into_iter().filter(|span| generation.is_none_or(|now| span.generation == now));
                    let age = |time: u64| end.saturating_sub(time);
                    self.in_flight.extend(open.map(|span| InFlight { probe: *probe, tid: span.tid, age: age(span.time) }));
                }
                Err(error) => self.unread = Some(error),
            }
        }
    }

    /// Detaches behind the caller's back.
    pub(super) fn detach(&mut self) {
        let links = self.take_links();
        // Without a thread the links are dropped with the closure, here and now.
        self.detaching = thread::Builder::new().name("detach plugin".to_owned()).spawn(move || attach::detach(links)).ok();
    }

    pub(super) fn join_detaching(&mut self) {
        if let Some(thread) = self.detaching.take() {
            // It cannot panic, and if it did, its links are gone as well.
            let _ = thread.join();
        }
    }

    /// The maps that its probes name, for one who reads them on another thread, also when this is gone.
    pub(super) fn plugin_maps(&self) -> io::Result<PluginMaps> {
        let maps = self.compiled.plugin_maps.iter().enumerate().map(|(number, map)| {
            let which = MapRef::Plugin(number);
            let spec = self.compiled.maps.iter().find(|spec| spec.map == which);
            let (Some(data), Some(spec)) = (self.maps.get(&which), spec) else {
                return Err(io::Error::other(format!(
                    "the map `@{}` was not made: a bug of Portcullis, please report it",
                    map.name
                )));
            };
            elements::Open::new(map.clone(), data.fd().as_fd().try_clone_to_owned()?, spec.max_entries)
        });
        Ok(PluginMaps::new(maps.collect::<io::Result<_>>()?))
    }

    pub(super) fn take_links(&mut self) -> Vec<Link> {
        self.programs.iter_mut().filter_map(|program| program.link.take()).collect()
    }

    /// What its programs have counted so far, and the spans that closes have cut off.
    pub(super) fn counts(&self) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        let Some(counters) = &self.counters else { return (Vec::new(), Vec::new()) };
        let in_flight = |probe| self.in_flight.iter().filter(|span| span.probe == probe).count() as u64;
        let probes = self.compiled.probes.iter().enumerate();
        let probes = probes.map(|(i, probe)| ProbeCounts { in_flight: in_flight(i), ..counters.probe(i, probe) });
        let streams = (0..self.compiled.streams.len()).map(|i| counters.stream(i));
        (probes.collect(), streams.collect())
    }

    /// Everything about it.
    pub(super) fn account(&self) -> Result<Account, SysError> {
        let (probes, streams) = self.counts();
        let in_flight = self.in_flight()?.to_vec();
        let misses = self.misses()?.into_iter().map(|(_, count)| count).sum();
        let before = self.before.clone().unwrap_or_else(|| self.closed_hits());
        let (windows, attached) = (self.windows.clone(), self.attached);
        Ok(Account { probes, streams, before, in_flight, windows, attached, misses })
    }

    /// The spans that closes have cut off.
    pub(super) fn in_flight(&self) -> Result<&[InFlight], SysError> {
        self.unread.map_or(Ok(&self.in_flight), Err)
    }

    /// How often the kernel skipped one of its programs, or refused to run it: by attach point.
    pub(super) fn misses(&self) -> Result<Vec<(String, u64)>, SysError> {
        let misses = self.programs.iter().map(|p| Ok((point(&p.program.hook), p.loaded.info()?.recursion_misses + p.skipped)));
        misses.collect()
    }
}

impl Drop for Member {
    /// The bit is free for others when this is gone; no program may ask for it then.
    fn drop(&mut self) {
        attach::detach(self.take_links());
        self.join_detaching();
    }
}

impl Shared {
    /// A map of the session's, for programs.
    pub(super) fn fd(&self, map: MapRef) -> Option<BorrowedFd<'_>> {
        match map {
            MapRef::Gate => Some(self.gate.fd()),
            MapRef::Processes => Some(self.processes.fd()),
            _ => None,
        }
    }
}
