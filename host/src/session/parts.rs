//! Everything of a session that is in the kernel, whatever its state.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aya::maps::MapData;
use portcullis_ebpf::{Compiled, Hook, MapRef, Program, output::Moment, processes::OWN};

use super::{Config, Error, Plugin};
use crate::{
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::{
        Counters, Gate, Grace, LoadError, MapError, PluginMaps, Processes, Ring, RunningKernel, SysError,
        attach::{self, AttachError, Link, Pass},
        elements, map, processes,
        program::{self, LoadedProgram},
        spans::Spans,
    },
};

/// How long what follows the opening, the release of a command among it, waits for iterators that have much to go through.
const PASSES: Duration = Duration::from_secs(1);

/// What a session owns. Fields are dropped in this order: links before what their programs use, the tracker's last.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) plugins: Vec<PluginParts>,
    pub(super) tracker: Option<Installed>,
    pub(super) gate: Gate,
    /// The programs are compiled for the gate.
    pub(super) gated: bool,
    pub(super) grace: Arc<Grace>,
    pub(super) processes: Arc<Processes>,
}

/// What one plugin owns.
#[derive(Debug)]
pub(super) struct PluginParts {
    pub(super) name: String,
    pub(super) compiled: Compiled,
    pub(super) programs: Vec<Installed>,
    pub(super) counters: Option<Counters>,
    pub(super) ring: Option<Ring>,
    pub(super) spans: BTreeMap<usize, Spans>,
    /// The maps that its probes name, scratch space, and names of places.
    pub(super) maps: BTreeMap<MapRef, MapData>,
    /// It was closed before the others.
    pub(super) closing: Option<Closing>,
}

/// A plugin that was closed alone.
#[derive(Debug)]
pub(super) struct Closing {
    /// When its bit was closed; `None` without a gate.
    pub(super) interval: Option<Interval>,
    /// Waits for the programs in flight and detaches.
    pub(super) detaching: Option<JoinHandle<()>>,
}

/// A program, loaded and perhaps attached.
#[derive(Debug)]
pub(super) struct Installed {
    /// Before the program: dropped first.
    pub(super) link: Option<Link>,
    /// Of an iterator, what begins with the opening.
    pub(super) pass: Option<Pass>,
    pub(super) loaded: LoadedProgram,
    pub(super) program: Program,
    /// How often it should have run, and the kernel did not let the host run it.
    pub(super) skipped: u64,
}

impl Installed {
    fn new(loaded: LoadedProgram, program: Program) -> Installed {
        Installed { link: None, pass: None, loaded, program, skipped: 0 }
    }

    pub(super) fn attach(&mut self, kernel: &RunningKernel) -> Result<(), AttachError> {
        let link = attach::attach(&self.program.hook, self.loaded.as_fd(), kernel)?;
        self.pass = matches!(self.program.hook, Hook::Iter { .. }).then(|| Pass::new(&link)).transpose()?;
        self.link = Some(link);
        Ok(())
    }
}

impl Parts {
    /// Makes every map and loads every program.
    pub(super) fn load(plugins: Vec<Plugin>, config: Config, kernel: &RunningKernel) -> Result<Parts, Error> {
        if !processes::initial_namespace() {
            return Err(Error::PidNamespace);
        }
        let processes = Arc::new(Processes::create()?);
        processes.mark(std::process::id(), OWN);
        let mut parts = Parts {
            plugins: Vec::with_capacity(plugins.len()),
            tracker: None,
            gate: Gate::create()?,
            gated: config.gate,
            grace: Arc::new(Grace::create()?),
            processes,
        };
        if let Some(program) = config.tracker {
            let loaded = parts.load_program(&program, None, kernel);
            let loaded = loaded.map_err(|source| Error::tracker(&program, source))?;
            parts.tracker = Some(Installed::new(loaded, program));
        }
        for plugin in plugins {
            let name = plugin.name.clone();
            let mut made = PluginParts::new(plugin).map_err(|source| Error::PluginMap { plugin: name, source })?;
            for program in std::mem::take(&mut made.compiled.programs) {
                let loaded = parts.load_program(&program, Some(&made), kernel);
                let loaded = loaded.map_err(|source| Error::load(&made.name, &made.compiled, &program, source))?;
                made.programs.push(Installed::new(loaded, program));
            }
            parts.plugins.push(made);
        }
        Ok(parts)
    }

    fn load_program(
        &self,
        program: &Program,
        plugin: Option<&PluginParts>,
        kernel: &RunningKernel,
    ) -> Result<LoadedProgram, LoadError> {
        program::load(program, kernel, |map| match map {
            MapRef::Gate => Some(self.gate.fd()),
            MapRef::Processes => Some(self.processes.fd()),
            _ => plugin?.fd(map),
        })
    }

    /// What begins with the opening, after it: first the programs for that moment run, then time and events are counted, and iterators
    /// go through what there is, on which this waits no longer than [`PASSES`].
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        for plugin in &self.plugins {
            for program in plugin.programs.iter().filter(|p| p.program.hook == Hook::Host(Moment::Begin)) {
                program.loaded.run().map_err(|e| Error::attach(&plugin.name, &plugin.compiled, &program.program, e.into()))?;
            }
        }
        for plugin in &mut self.plugins {
            for program in &mut plugin.programs {
                let started = program.link.as_ref().map_or(Ok(()), Link::start);
                let started = started.and_then(|()| program.pass.as_mut().map_or(Ok(()), Pass::start));
                started.map_err(|e| Error::attach(&plugin.name, &plugin.compiled, &program.program, e.into()))?;
            }
        }
        let until = Instant::now() + PASSES;
        for plugin in &mut self.plugins {
            for program in &mut plugin.programs {
                let passed = program.pass.as_mut().map_or(Ok(()), |pass| pass.wait(until));
                passed.map_err(|e| Error::attach(&plugin.name, &plugin.compiled, &program.program, e.into()))?;
            }
        }
        Ok(())
    }

    /// The links of the session's plugins, to be detached.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        self.plugins.iter_mut().flat_map(PluginParts::take_links).collect()
    }

    /// Waits for the plugins that were closed alone.
    pub(super) fn join_closing(&mut self) {
        for closing in self.plugins.iter_mut().filter_map(|plugin| plugin.closing.as_mut()) {
            if let Some(thread) = closing.detaching.take() {
                // It cannot panic, and if it did, its links are gone as well.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Parts {
    /// All perf events would be closed one after another else, at up to 100 ms each.
    fn drop(&mut self) {
        attach::detach(self.take_links());
        self.join_closing();
        attach::detach(self.tracker.iter_mut().filter_map(|own| own.link.take()).collect());
    }
}

impl PluginParts {
    fn new(plugin: Plugin) -> Result<PluginParts, MapError> {
        let Plugin { name, compiled, ring: size } = plugin;
        let (mut counters, mut ring, mut spans, mut maps) = (None, None, BTreeMap::new(), BTreeMap::new());
        for spec in &compiled.maps {
            match spec.map {
                MapRef::Counters => counters = Some(Counters::create(compiled.counters, spec.value_size)?),
                MapRef::Ring => ring = Some(Ring::create(size)?),
                MapRef::Span(probe) => {
                    spans.insert(probe, Spans::create(spec)?);
                }
                MapRef::Plugin(_) | MapRef::Scratch | MapRef::Names => {
                    maps.insert(spec.map, map::create(spec, 0)?);
                }
                // The session's, not the plugin's.
                MapRef::Gate | MapRef::Processes => {}
            }
        }
        Ok(PluginParts { name, compiled, programs: Vec::new(), counters, ring, spans, maps, closing: None })
    }

    fn fd(&self, map: MapRef) -> Option<BorrowedFd<'_>> {
        match map {
            MapRef::Counters => self.counters.as_ref().map(Counters::fd),
            MapRef::Ring => self.ring.as_ref().map(|ring| ring.as_fd()),
            MapRef::Span(probe) => self.spans.get(&probe).map(Spans::fd),
            MapRef::Plugin(_) | MapRef::Scratch | MapRef::Names => self.maps.get(&map).map(|map| map.fd().as_fd()),
            MapRef::Gate | MapRef::Processes => None,
        }
    }

    /// What comes at the end, before the close: the programs for that moment run.
    pub(super) fn end(&mut self) {
        for program in self.programs.iter_mut().filter(|p| p.program.hook == Hook::Host(Moment::End)) {
            program.skipped += u64::from(program.loaded.run().is_err());
        }
    }

    /// Time and events need not be counted behind the close, and iterators are at their end.
    pub(super) fn stop(&mut self) {
        for program in &mut self.programs {
            // Where it goes on, its programs see that the gate is closed.
            let _ = program.link.as_ref().map(Link::stop);
            program.skipped += u64::from(program.pass.as_mut().is_some_and(|pass| pass.stop().is_err()));
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

    /// What its programs have counted so far, without spans in flight.
    pub(super) fn counts(&self) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        let Some(counters) = &self.counters else { return (Vec::new(), Vec::new()) };
        let probes = self.compiled.probes.iter().enumerate().map(|(i, probe)| counters.probe(i, probe));
        let streams = (0..self.compiled.streams.len()).map(|i| counters.stream(i));
        (probes.collect(), streams.collect())
    }

    /// How often the kernel skipped one of its programs, or refused to run it.
    pub(super) fn misses(&self) -> Result<Vec<(&Program, u64)>, SysError> {
        let misses = self.programs.iter().map(|p| Ok((&p.program, p.loaded.info()?.recursion_misses + p.skipped)));
        misses.collect()
    }
}
