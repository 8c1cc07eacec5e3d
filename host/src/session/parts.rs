//! Everything of a session that is in the kernel, whatever its state.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use portcullis_ebpf::{Hook, Program, gate::BITS, output::Moment, processes::OWN};

use super::{Config, Error, Plugin, member::Member};
use crate::{
    clock,
    contract::Interval,
    kernel::{
        Attaching, Departure, Gate, Grace, Processes, RunningKernel, SysError,
        attach::{self, AttachError, Link, Pass},
        processes,
        program::{self, LoadedProgram},
    },
};

/// How long what follows the opening, the release of a command among it, waits for iterators that have much to go through.
const PASSES: Duration = Duration::from_secs(1);

/// What all plugins of a session share, also those that join later.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) gate: Gate,
    /// The programs are compiled for the gate.
    pub(super) gated: bool,
    pub(super) grace: Grace,
    pub(super) processes: Arc<Processes>,
    bits: Mutex<Bits>,
}

/// Which bits of the gate can be had.
#[derive(Debug, Default)]
struct Bits {
    /// Those that have an owner, or had one that may still be running.
    taken: u64,
    /// Of them, those whose owner is detached. A program of it that began before may load the word yet.
    left: u64,
}

/// A bit of the gate. It has to outlive the links of the programs that ask for it: when this is dropped, it is given to others
/// after a grace period.
#[derive(Debug)]
pub(super) struct Bit {
    pub(super) number: u8,
    shared: Arc<Shared>,
}

impl Shared {
    pub(super) fn create(gated: bool) -> Result<Arc<Shared>, Error> {
        if !processes::initial_namespace() {
            return Err(Error::PidNamespace);
        }
        let processes = Arc::new(Processes::create()?);
        processes.mark(std::process::id(), OWN);
        let (gate, grace) = (Gate::create()?, Grace::create()?);
        Ok(Arc::new(Shared { gate, gated, grace, processes, bits: Mutex::default() }))
    }

    /// Takes bits that have no owner, the lowest first; bits that had one are taken when there are no others.
    ///
    /// # Errors
    /// If there are not so many.
    pub(super) fn take_bits(self: &Arc<Shared>, count: usize) -> Result<Vec<Bit>, Error> {
        let mut bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |bits: &Bits| (0..BITS as u8).filter(|bit| bits.taken >> bit & 1 == 0).take(count).collect::<Vec<u8>>();
        if free(&bits).len() < count && bits.left != 0 {
            self.grace.wait().map_err(Error::Grace)?;
            bits.taken &= !std::mem::take(&mut bits.left);
        }
        let free = free(&bits);
        if free.len() < count {
            return Err(Error::TooManyPlugins { there: (bits.taken.count_ones()) as usize, more: count });
        }
        bits.taken |= free.iter().fold(0, |mask, bit| mask | 1 << bit);
        Ok(free.into_iter().map(|number| Bit { number, shared: Arc::clone(self) }).collect())
    }
}

impl Bit {
    pub(super) fn mask(&self) -> u64 {
        1 << self.number
    }
}

impl Drop for Bit {
    fn drop(&mut self) {
        self.shared.bits.lock().unwrap_or_else(PoisonError::into_inner).left |= self.mask();
    }
}

/// What a session owns. Fields are dropped in this order: links before what their programs use, the tracker's last.
#[derive(Debug)]
pub(super) struct Parts {
    /// By number; `None` for a plugin that has left.
    pub(super) members: Vec<Option<Member>>,
    pub(super) tracker: Option<Installed>,
    /// Without a gate, and with programs on raw tracepoints.
    pub(super) departure: Option<Departure>,
    /// [`Compiled::without_grace`](super::Compiled::without_grace).
    pub(super) without_grace: bool,
    pub(super) shared: Arc<Shared>,
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
    pub(super) fn new(loaded: LoadedProgram, program: Program) -> Installed {
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
    /// Makes every map and loads every program. Each plugin has its bit.
    pub(super) fn load(
        plugins: Vec<(Plugin, Bit)>,
        shared: Arc<Shared>,
        config: Config,
        kernel: &RunningKernel,
    ) -> Result<Parts, Error> {
        let mut parts =
            Parts { members: Vec::with_capacity(plugins.len()), tracker: None, departure: None, without_grace: false, shared };
        if let Some(program) = config.tracker {
            let loaded = program::load(&program, kernel, |map| parts.shared.fd(map));
            let loaded = loaded.map_err(|source| Error::tracker(&program, source))?;
            parts.tracker = Some(Installed::new(loaded, program));
        }
        for (plugin, bit) in plugins {
            parts.members.push(Some(Member::load(plugin, bit, &parts.shared, kernel)?));
        }
        Ok(parts)
    }

    /// The plugins that are there, with their numbers.
    pub(super) fn here(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter_map(|(number, member)| Some((number, member.as_ref()?)))
    }

    pub(super) fn member(&self, plugin: usize) -> Option<&Member> {
        self.members.get(plugin)?.as_ref()
    }

    pub(super) fn member_mut(&mut self, plugin: usize) -> Option<&mut Member> {
        self.members.get_mut(plugin)?.as_mut()
    }

    /// Those of `plugins` that are there and fit, to be changed.
    pub(super) fn select(&mut self, plugins: &[usize], fits: impl Fn(&Member) -> bool) -> Vec<&mut Member> {
        let members = self.members.iter_mut().enumerate().filter(|(number, _)| plugins.contains(number));
        members.filter_map(|(_, member)| member.as_mut().filter(|member| fits(member))).collect()
    }

    /// Attaches every program of every plugin; the times before the first and after the last.
    pub(super) fn attach(&mut self, kernel: &RunningKernel) -> Result<Interval, Error> {
        let _attaching = Attaching::begin();
        if let Some(own) = &mut self.tracker {
            own.attach(kernel).map_err(|source| Error::tracker(&own.program, source))?;
        }
        let mut all: Option<Interval> = None;
        for member in self.members.iter_mut().flatten() {
            let attached = member.attach(kernel)?;
            all = Some(Interval { earliest: all.map_or(attached.earliest, |all| all.earliest), latest: attached.latest });
        }
        let raw = |member: &Member| member.programs.iter().any(|p| matches!(p.program.hook, Hook::TpBtf { .. }));
        if !self.shared.gated && self.members.iter().flatten().any(raw) {
            self.departure = Departure::prepare(kernel);
        }
        let now = clock::now();
        Ok(all.unwrap_or(Interval { earliest: now, latest: now }))
    }

    /// What begins with the opening of these plugins, after it: first the programs for that moment run, then time and events are
    /// counted, and iterators go through what there is, on which this waits no longer than [`PASSES`].
    pub(super) fn begin(&mut self, plugins: &[usize]) -> Result<(), Error> {
        for member in self.select(plugins, |_| true) {
            member.each_program(|program| match program.program.hook {
                Hook::Host(Moment::Begin) => program.loaded.run().map_err(Into::into),
                _ => Ok(()),
            })?;
        }
        for member in self.select(plugins, |_| true) {
            member.each_program(|program| {
                program.link.as_ref().map_or(Ok(()), Link::start)?;
                program.pass.as_mut().map_or(Ok(()), Pass::start).map_err(Into::into)
            })?;
        }
        let until = Instant::now() + PASSES;
        for member in self.select(plugins, |_| true) {
            member.each_program(|program| program.pass.as_mut().map_or(Ok(()), |pass| pass.wait(until)).map_err(Into::into))?;
        }
        Ok(())
    }

    /// Waits for every program that was running.
    pub(super) fn wait(&self) -> Result<u64, SysError> {
        if self.without_grace { Ok(clock::now()) } else { self.shared.grace.wait() }
    }

    /// The links of the session's plugins, to be detached.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        self.members.iter_mut().flatten().flat_map(Member::take_links).collect()
    }

    /// Waits for the programs of plugins that were closed alone to be detached.
    pub(super) fn join_detaching(&mut self) {
        self.members.iter_mut().flatten().for_each(Member::join_detaching);
    }
}

impl Drop for Parts {
    /// All perf events would be closed one after another else, at up to 100 ms each.
    fn drop(&mut self) {
        attach::detach(self.take_links());
        self.join_detaching();
        attach::detach(self.tracker.iter_mut().filter_map(|own| own.link.take()).collect());
    }
}
