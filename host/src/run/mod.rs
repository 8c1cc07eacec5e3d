//! A run, from the manifest to the report:
//!
//! ```text
//! declare -> compile -> grants -> prepare -> load -> (COMMAND, stopped) -> attach -> OPEN -> ... -> CLOSE -> drain -> finish -> report -> detach
//! ```
//!
//! Whatever fails before the opening drops everything that was made: nothing was recorded, nothing is left, and COMMAND never ran.
//! Whatever ends the run afterwards takes the one path from the close to the detaching.

mod plugins;
mod summary;

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use plugins::Plugins;
use portcullis_ebpf::{
    Scope, processes,
    scope::{self, Children},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    bundle::{self, Built},
    clock,
    command::{self, Running, Stopped},
    contract::Opening,
    kernel::{Processes, RunningKernel},
    manifest::{Format, Manifest},
    names,
    output::Printer,
    report::{self, Report},
    scope::Limits,
    session::{self, Attached, Closed, Compiled, Config, Loaded, Open},
    symbols::{self, Started, Symbols},
    worker,
};

/// How long COMMAND has to end after it was asked to.
const COMMAND_ENDS: Duration = Duration::from_secs(1);

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
}

/// What ended a run.
#[derive(Debug)]
pub enum Ending {
    /// A signal, by name.
    Signal(&'static str),
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
}

/// Takes a bundle up to the verifier.
pub fn load<'k>(plan: &Plan, kernel: &'k RunningKernel, printer: &Arc<Printer>) -> anyhow::Result<Ready<'k>> {
    let manifest = plan.manifest.clone();
    let follow = !plan.command.is_empty() && !plan.system_wide;
    let marked = follow || plan.limits.pid.is_some();
    let scope = if marked { Scope::Marked } else { Scope::System };
    let declared = bundle::declare(&manifest, &(Arc::clone(printer) as Arc<dyn worker::Output>))?;
    let mut built = bundle::compile(declared, kernel, manifest.start.gate, scope, plan.limits)?;
    bundle::check_grants(&built)?;
    bundle::prepare(&mut built)?;
    let children = if follow { Children::Follow } else { Children::Leave };
    let tracker = marked.then(|| scope::tracker(kernel, children)).transpose()?;
    let config = Config { gate: manifest.start.gate, scope, tracker };
    let loaded = Compiled::new(built.iter().map(session_plugin).collect(), config)?.load(kernel)?;
    if let Some(pid) = kernel.symbols().pid() {
        loaded.processes().mark(pid, processes::OWN);
    }
    Ok(Ready { manifest, loaded, built })
}

fn session_plugin(built: &Built) -> session::Plugin {
    session::Plugin { name: built.plugin.name.clone(), compiled: built.compiled.clone(), ring: built.plugin.limits.ring }
}

impl Ready<'_> {
    /// The plugins.
    pub fn plugins(&self) -> &[Built] {
        &self.built
    }

    /// Attaches, opens, runs until something ends it, closes, drains and finishes. `interrupt` turns readable when a signal asks
    /// for the end, and `signal` says which.
    pub fn run(
        self,
        plan: &Plan,
        printer: &Arc<Printer>,
        interrupt: BorrowedFd<'_>,
        signal: impl Fn() -> Option<&'static str>,
    ) -> anyhow::Result<Ended> {
        let Ready { manifest, mut loaded, built } = self;
        let watched = plan.limits.pid.map(watch).transpose()?;
        let output = if manifest.format == Format::Json { command::Output::ToStderr } else { command::Output::Inherit };
        let stopped = (!plan.command.is_empty()).then(|| command::start(&plan.command, output)).transpose()?;
        let processes = loaded.processes();
        mark(&processes, &built, stopped.as_ref(), plan.limits.pid);
        let rings = (0..built.len()).map(|plugin| loaded.take_ring(plugin)).collect();
        let maps = (0..built.len()).map(|plugin| loaded.maps(plugin)).collect::<io::Result<_>>();
        let maps = maps.context("can't pass maps on to the threads that read them")?;
        let mut plugins = Plugins::start(built, rings, maps, &symbols(&processes), Arc::clone(printer))?;
        let attached = loaded.attach()?;
        if let Some(signal) = signal() {
            if manifest.start.gate {
                anyhow::bail!(interrupted(signal));
            }
            anyhow::bail!("interrupted by {signal} while probes were being attached");
        }
        let (mut open, began) = open(attached, printer, &mut plugins)?;
        // From here on the run has a report, whatever happens.
        let mut command = Held::release(stopped, &plan.command, printer);
        let end = manifest.stop.after.and_then(|after| began.checked_add(after));
        let watched = plan.limits.pid.zip(watched.as_ref());
        let ending = wait(&mut open, &mut plugins, &mut command, watched, end, interrupt, &signal);
        let closed = open.close();
        plugins.drain(Instant::now() + manifest.stop.drain);
        plugins.finish(&closed);
        let report = summary::report(&closed, manifest.start.gate, &plugins, command.end())?;
        Ok(Ended { report, ending, closed })
    }
}

/// What is said of a signal that comes before the opening.
pub fn interrupted(signal: &str) -> String {
    format!("interrupted by {signal} before the gate opened: nothing was recorded")
}

/// A descriptor that turns readable when the process ends.
fn watch(pid: u32) -> anyhow::Result<OwnedFd> {
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
fn symbols(processes: &Arc<Processes>) -> Arc<dyn names::Symbols> {
    let processes = Arc::clone(processes);
    let started = Started(Arc::new(move |pid| processes.mark(pid, processes::OWN)));
    Arc::new(Symbols::new(&symbols::Options { started: Some(started), ..symbols::Options::default() }))
}

/// Opens the gate and tells everybody. Returns when the run's time begins: at the end of the opening's interval.
fn open(attached: Attached, printer: &Printer, plugins: &mut Plugins) -> Result<(Open, Instant), session::Error> {
    let first = attached.attached().earliest;
    let mut open = attached.open();
    if let Some(error) = open.take_failure() {
        return Err(error);
    }
    let (now, instant) = (clock::now(), Instant::now());
    let began = open.interval().map_or(instant, |gate| instant - Duration::from_nanos(now.saturating_sub(gate.latest)));
    printer.opened(open.interval().map_or(first, |gate| gate.earliest));
    plugins.begin(&Opening {
        gate: open.interval(),
        realtime_offset: clock::realtime_offset(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpus: plugins.cpus(),
        handed_over: None,
    });
    Ok((open, began))
}

/// COMMAND, if there is one, from its release on.
struct Held {
    argv: Vec<String>,
    running: Option<Running>,
    /// How it ended.
    status: Option<String>,
}

impl Held {
    fn release(stopped: Option<Stopped>, argv: &[OsString], printer: &Printer) -> Held {
        let argv = argv.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        match stopped.map(Stopped::release) {
            None => Held { argv, running: None, status: None },
            Some(Ok(running)) => Held { argv, running: Some(running), status: None },
            Some(Err(error)) => {
                // Someone killed it. The gate is open, so this is a run that ended early.
                printer.message(&format!("portcullis: error: {error}"));
                Held { argv, running: None, status: Some(error.to_string()) }
            }
        }
    }

    /// It was there and is no more.
    fn ended(&mut self) -> bool {
        if let Some(running) = &mut self.running
            && let Ok(Some(status)) = running.try_wait()
        {
            self.status = Some(status.to_string());
            self.running = None;
        }
        !self.argv.is_empty() && self.running.is_none()
    }

    /// Asks it to end, if it has not, and says how it went.
    fn end(mut self) -> Option<report::Command> {
        if self.argv.is_empty() {
            return None;
        }
        if !self.ended()
            && let Some(running) = &self.running
        {
            // It ended in between, else; `ended` sees it.
            let _ = running.terminate();
            let _ = poll(&mut [PollFd::new(running, PollFlags::IN)], Some(&timespec(COMMAND_ENDS)));
            self.ended();
        }
        Some(report::Command { argv: self.argv, status: self.status })
    }
}

/// Waits for whatever ends the run. Plugins that fail on the way are closed, and the others go on.
fn wait(
    open: &mut Open,
    plugins: &mut Plugins,
    command: &mut Held,
    watched: Option<(u32, &OwnedFd)>,
    end: Option<Instant>,
    interrupt: BorrowedFd<'_>,
    signal: &impl Fn() -> Option<&'static str>,
) -> Ending {
    loop {
        if let Some(ending) = plugins.listen(|failed| {
            open.close_plugin(failed);
        }) {
            return ending;
        }
        if let Some(signal) = signal() {
            return Ending::Signal(signal);
        }
        if command.ended() {
            return Ending::Command;
        }
        if let Some((pid, process)) = watched
            && poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timespec(Duration::ZERO))) == Ok(1)
        {
            return Ending::Process(pid);
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ending::Time;
        }
        let mut fds =
            vec![PollFd::from_borrowed_fd(interrupt, PollFlags::IN), PollFd::from_borrowed_fd(plugins.as_fd(), PollFlags::IN)];
        fds.extend(watched.map(|(_, process)| PollFd::new(process, PollFlags::IN)));
        fds.extend(command.running.as_ref().map(|running| PollFd::new(running, PollFlags::IN)));
        match poll(&mut fds, left.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // It can't fail with good descriptors. If it does, the run ends in order.
            Err(error) => return Ending::Output(error.into()),
        }
    }
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
