//! A run, from the manifest to the report:
//!
//! ```text
//! declare -> compile -> grants -> prepare -> load -> (COMMAND, stopped) -> attach -> hold -> OPEN -> ... -> CLOSE -> drain -> finish -> report -> detach
//! ```
//!
//! Whatever fails before the opening drops everything that was made: nothing was recorded, nothing is left, and COMMAND never ran.
//! Whatever ends the run afterwards takes the one path from the close to the detaching.
//!
//! | room | what |
//! |---|---|
//! | here | the whole way |
//! | `hold` | attached, and waiting for what opens the gate |
//! | `live` | from the opening to what ends the run: requests, signals, plugins that come and leave |
//! | `pauses` | what holds for a plugin that comes back into a run that is paused |
//! | `joining`, `watch` | plugins on their way into a run; files of plugins that are built anew |
//! | `plugins` | their pumps, and how one leaves |
//! | `held` | COMMAND |
//! | `control`, `summary` | what is said of a run while it goes on, and in the report |

mod control;
mod held;
mod hold;
mod joining;
mod live;
mod pauses;
mod plugins;
mod summary;
mod watch;

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hold::Go;
use joining::Joining;
use live::Live;
use pauses::Pauses;
use plugins::{Parts, Plugin, Plugins};
use portcullis_ebpf::{
    Scope, processes,
    scope::{self, Children},
};
use rustix::{
    event::Timespec,
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    bundle::{self, Built},
    cage::{Layers, Sandbox},
    clock,
    command::{self, Stopped},
    contract::{Level, Opening},
    control::Server,
    grants,
    kernel::{Processes, RunningKernel, tai::Discipline},
    lock::Lock,
    manifest::{Format, Manifest, Open as When},
    names,
    output::Printer,
    ready,
    report::{self, Clocks, Report},
    scope::Limits,
    session::{self, Closed, Compiled, Config, Loaded},
    signals::{Signals, Stage, interrupted},
    symbols::{self, Started, Symbols},
    worker::{self, Output as _},
};

/// What to run.
#[derive(Debug)]
pub struct Plan {
    /// The bundle.
    pub manifest: Manifest,
    /// COMMAND and its arguments, or nothing.
    pub command: Vec<OsString>,
    /// Trace every process, not only COMMAND and its children.
    pub system_wide: bool,
    /// Whose processes are traced.
    pub limits: Limits,
    /// Put plugins whose files are built anew in the place of those that run.
    pub watch: bool,
    /// Ask at the terminal for what is needed and not granted.
    pub ask: bool,
    /// What was approved, if nothing else may run.
    pub lock: Option<Lock>,
}

/// What ended a run.
#[derive(Debug)]
pub enum Ending {
    /// A signal, by name.
    Signal(&'static str),
    /// `portcullis gate close`.
    Asked,
    /// `stop.after` or `--duration`.
    Time,
    /// COMMAND ended.
    Command,
    /// The process that is traced ended.
    Process(u32),
    /// A plugin asked for it.
    Plugin {
        /// Its name.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// A plugin without which the run is not to be has failed.
    Essential(String),
    /// Nobody reads the output any more, or it can't be written.
    Output(io::Error),
    /// No plugin is left.
    AllFailed,
}

/// A run whose gate is closed, whose plugins have finished, and whose programs are still attached.
pub struct Ended {
    /// The report.
    pub report: Report,
    /// Why it ended.
    pub ending: Ending,
    closed: Closed,
}

impl Ended {
    /// Detaches everything. What takes long is done behind the user's back, by a process of its own.
    pub fn leave(self) {
        self.closed.leave();
    }
}

/// A bundle that is loaded into the kernel, ready to be attached.
pub struct Ready<'k> {
    manifest: Manifest,
    loaded: Loaded<'k>,
    built: Vec<Built>,
    scope: Scope,
}

/// Takes a bundle up to the verifier.
pub fn load<'k>(plan: &Plan, kernel: &'k RunningKernel, printer: &Arc<Printer>) -> anyhow::Result<Ready<'k>> {
    let manifest = plan.manifest.clone();
    let follow = !plan.command.is_empty() && !plan.system_wide;
    let marked = follow || plan.limits.pid.is_some();
    let scope = if marked { Scope::Marked } else { Scope::System };
    if manifest.sandbox.layers == Layers::Required {
        // Whether the other kind of caged process can have all layers is found out before any plugin is given away, too.
        kernel.symbols().start()?;
    }
    let output = Arc::clone(printer) as Arc<dyn worker::Output>;
    let declared = bundle::declare(&manifest.plugins, &output, plan.lock.as_ref())?;
    let mut built = bundle::compile(declared, kernel, bundle::bits(manifest.start.gate), scope, plan.limits)?;
    if let Some(lock) = &plan.lock {
        lock.check(&built)?;
    }
    if let Err(grants::Refusals(refused)) = bundle::check_grants(&built) {
        let asked = plan.ask && consent(&refused)?;
        if !asked {
            return Err(grants::Refusals(refused).into());
        }
        for refused in &refused {
            for built in built.iter_mut().filter(|built| built.plugin.name == refused.plugin) {
                built.plugin.grants = refused.wanted();
            }
        }
    }
    bundle::prepare(&mut built)?;
    let children = if follow { Children::Follow } else { Children::Leave };
    let tracker = marked.then(|| scope::tracker(kernel, children)).transpose()?;
    let config = Config { gate: manifest.start.gate, scope, tracker };
    let loaded = Compiled::new(built.iter().map(session::Plugin::from).collect(), config)?.load(kernel)?;
    if let Some(pid) = kernel.symbols().pid() {
        loaded.processes().mark(pid, processes::OWN);
    }
    Ok(Ready { manifest, loaded, built, scope })
}

/// Asks for all that is refused; one no is enough.
fn consent(refused: &[grants::Refused]) -> anyhow::Result<bool> {
    for one in refused {
        let asked = grants::consent::ask(one, &mut io::stdin().lock(), &mut io::stderr());
        if !asked.context("can't ask at the terminal")? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl From<&Built> for session::Plugin {
    fn from(built: &Built) -> session::Plugin {
        session::Plugin { name: built.plugin.name.clone(), compiled: built.compiled.clone(), ring: built.plugin.limits.ring }
    }
}

impl Ready<'_> {
    /// The plugins.
    pub fn plugins(&self) -> &[Built] {
        &self.built
    }

    /// Attaches, opens, runs until something ends it, closes, drains and finishes.
    pub fn run(
        self,
        plan: &Plan,
        kernel: &Arc<RunningKernel>,
        printer: &Arc<Printer>,
        signals: &Signals,
        ready: &mut ready::Ready,
    ) -> anyhow::Result<Ended> {
        let Ready { manifest, mut loaded, built, scope } = self;
        let gated = manifest.start.gate;
        hold::check(manifest.start.open)?;
        let watched = plan.limits.pid.map(|pid| Ok::<_, anyhow::Error>((pid, watch_process(pid)?))).transpose()?;
        let watch = plan.watch.then(|| watch::Watch::new(built.iter().map(|built| built.plugin.source.as_path()))).transpose()?;
        let server = gated.then(|| listen(printer, manifest.start.open)).flatten();
        let output = if manifest.format == Format::Json { command::Output::ToStderr } else { command::Output::Inherit };
        let stopped = (!plan.command.is_empty()).then(|| command::start(&plan.command, output)).transpose()?;
        let processes = loaded.processes();
        mark(&processes, &built, stopped.as_ref(), plan.limits.pid);
        let symbols = symbols(&processes, manifest.sandbox);
        let cpus = built.first().map_or(1, |built| built.compiled.counters.cpus);
        let (mut plugins, notices) = Plugins::new(&manifest, opening(cpus), Arc::clone(printer))?;
        for (number, built) in built.into_iter().enumerate() {
            let maps = loaded.maps(number).context("can't pass maps on to the threads that read them")?;
            let parts = Parts { ring: loaded.take_ring(number), maps, symbols: Arc::clone(&symbols) as Arc<dyn names::Symbols> };
            plugins.add(Plugin::new(built, number, parts, notices.clone())?);
        }
        let attached = loaded.attach()?;
        if let Some(signal) = signals.received() {
            if gated {
                anyhow::bail!(interrupted(signal));
            }
            anyhow::bail!("interrupted by {signal} while probes were being attached");
        }
        let go = match gated {
            true => hold::wait(&attached, &manifest.start, &mut plugins, server.as_ref(), signals, ready)?,
            false => Go::default(),
        };
        let first = attached.attached().earliest;
        let mut open = match &go.plugins {
            Some(numbers) => attached.open_some(numbers),
            None => attached.open(),
        };
        if let Some(error) = open.take_failure() {
            return Err(error.into());
        }
        // From here on the run has a report, whatever happens.
        let (now, instant) = (clock::now(), Instant::now());
        let began = open.interval().map_or(instant, |gate| instant - Duration::from_nanos(now.saturating_sub(gate.latest)));
        printer.opened(open.interval().map_or(first, |gate| gate.earliest));
        let clocks = Clocks { realtime: clock::realtime_offset(), discipline: Discipline::read().ok() };
        plugins.set_realtime_offset(clocks.realtime.offset);
        let opened: Vec<usize> = plugins.numbers().into_iter().filter(|number| open.is_open(*number)).collect();
        for number in &opened {
            plugins.start(*number, open.interval());
        }
        ready.opened();
        let Go { asked, appointment, .. } = go;
        if let (Some(asked), Some(at)) = (asked, open.interval()) {
            asked.answer(Ok(crate::control::Answer::Opened { plugins: plugins.names(&opened), at }));
        }
        let command = held::Held::release(stopped, &plan.command, printer);
        let joining = gated.then(|| {
            let (kernel, printer) = (Arc::clone(kernel), Arc::clone(printer));
            Joining::new(joining::Context {
                kernel,
                printer,
                processes,
                symbols: Arc::clone(&symbols) as Arc<dyn names::Symbols>,
                notices,
                scope,
                limits: plan.limits,
                lock: plan.lock.clone(),
            })
        });
        let end = manifest.stop.after.and_then(|after| began.checked_add(after));
        let joining = joining.transpose()?;
        let postponed = Vec::new();
        let pauses = Pauses::default();
        let mut live = Live { open, plugins, command, watched, end, signals, ready, server, joining, watch, postponed, pauses };
        let ending = live.until_the_end();
        let Live { open, mut plugins, command, server, joining, postponed, .. } = live;

        signals.at(Stage::Closing);
        let mut closed = open.close();
        ready.ending();
        // Nobody is heard any more, and nobody joins.
        drop((server, joining, postponed));
        signals.at(Stage::Draining);
        plugins.drain(&mut closed, Instant::now() + manifest.stop.drain);
        signals.at(Stage::Finishing);
        plugins.finish(&mut closed);
        signals.at(Stage::Reporting);
        // One for the names that plugins ask for, and one for where probes attach.
        let symbolizers = [symbols.account(), kernel.symbols().account()].into_iter().flatten().collect();
        let appointment = appointment.zip(closed.opened()).map(|(appointment, open)| appointment.kept(open, &clocks));
        let report =
            summary::report(&closed, gated, &plugins, &summary::Opened { clocks, appointment, symbolizers }, command.end())?;
        Ok(Ended { report, ending, closed })
    }
}

/// The socket on which the run can be asked. A run goes on without it, unless nothing else could open its gate but a signal.
fn listen(printer: &Printer, open: When) -> Option<Server> {
    let error = match Server::start() {
        Ok(server) => return Some(server),
        Err(error) => error,
    };
    let level = if open == When::Manual { Level::Warn } else { Level::Debug };
    printer.log("portcullis", level, &format!("`portcullis gate` and `status` can't reach this run: {error}"));
    None
}

/// What `start` gets, but for what is known later.
fn opening(cpus: u32) -> Opening {
    Opening {
        gate: None,
        realtime_offset: 0,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpus,
        handed_over: None,
    }
}

/// A descriptor that turns readable when the process ends.
fn watch_process(pid: u32) -> anyhow::Result<OwnedFd> {
    let found = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let opened = found.map_or(Err(Errno::SRCH), |pid| pidfd_open(pid, PidfdFlags::empty()));
    opened.map_err(|error| match error {
        Errno::SRCH => anyhow::anyhow!("there is no process {pid}"),
        Errno::INVAL | Errno::NOENT => anyhow::anyhow!("{pid} is a thread; its process is the `Tgid` in /proc/{pid}/status"),
        error => anyhow::Error::new(error).context(format!("can't watch process {pid}")),
    })
}

/// The host sees neither itself nor its workers; of others it sees COMMAND or one process, where that is the scope.
fn mark(processes: &Processes, built: &[Built], stopped: Option<&Stopped>, pid: Option<u32>) {
    for one in built {
        processes.mark(one.worker.pid(), processes::OWN);
    }
    if let Some(stopped) = stopped {
        processes.mark(stopped.pid(), processes::IN_SCOPE);
    }
    if let Some(pid) = pid {
        processes.mark(pid, processes::IN_SCOPE);
    }
}

/// What tells plugins of functions. Its process starts when the first address is asked for, and is one of the host's own.
fn symbols(processes: &Arc<Processes>, sandbox: Sandbox) -> Arc<Symbols> {
    let processes = Arc::clone(processes);
    let started = Started(Arc::new(move |pid| processes.mark(pid, processes::OWN)));
    Arc::new(Symbols::new(&symbols::Options { started: Some(started), sandbox, ..symbols::Options::default() }))
}

fn timespec(duration: Duration) -> Timespec {
    // A duration that does not fit is for ever.
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

/// What is said of the end, for those who watch.
impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Signal(signal) => write!(f, "{signal}"),
            Ending::Asked => f.write_str("`portcullis gate close` asked for it"),
            Ending::Essential(plugin) => write!(f, "plugin \"{plugin}\", which is essential, failed"),
            Ending::Time => f.write_str("its time was over"),
            Ending::Command => f.write_str("the command ended"),
            Ending::Process(pid) => write!(f, "process {pid} ended"),
            Ending::Plugin { plugin, reason } => write!(f, "plugin \"{plugin}\" asked for it: {reason}"),
            Ending::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => f.write_str("nobody reads its output any more"),
            Ending::Output(error) => write!(f, "its output can't be written: {error}"),
            Ending::AllFailed => f.write_str("no plugin was left"),
        }
    }
}

/// Checks the report against the equations of G6 and writes it, if that is asked for.
pub fn write_report(report: &Report, path: Option<&std::path::Path>) -> anyhow::Result<Vec<report::Violation>> {
    let violations = report.check();
    if let Some(path) = path {
        report::write(report, path).context("the run is over")?;
    }
    Ok(violations)
}
