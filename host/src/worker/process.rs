//! A worker process, from the host's side: started, asked, ended.
//!
//! [`Worker::spawn`] returns at once, so that the components of a bundle compile side by side. Everything before the opening of the
//! gate is a blocking call with a deadline; from then on the worker belongs to its [`super::pump`].

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Cache, Output, check,
    conversation::Violation,
    memory::Memory,
    protocol::{Bytes, CallKind, Fault, FaultKind, FrameError, Interface, Returned, ToWorker},
    talk::Talk,
};
use crate::{
    cage::{self, Account, Lacking, Outside, Sandbox, Usage},
    contract::{Limits, Program, Schema, Table},
    digest::Digest,
    doors::{Opened, pass},
};

/// How long compiling and instantiating may take. The largest plugins known, Python's, take 5 s on a slow machine.
pub const LOADING: Duration = Duration::from_secs(60);

/// The word of a worker's command line that says that it is sent open doors.
pub const DOORS: &str = "doors";

/// How much longer than the call's limit the host waits for an answer: the worker is the first to say that a call took too long.
pub const SLACK: Duration = Duration::from_secs(2);

/// Why a plugin is at its end.
#[derive(Debug, thiserror::Error)]
#[error("plugin \"{plugin}\": {cause}")]
pub struct WorkerError {
    /// The plugin's name.
    pub plugin: String,
    /// What happened.
    pub cause: Cause,
}

/// What happened to a plugin or its worker.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// There is no worker.
    #[error("its worker process can't be started: {0}")]
    Spawn(io::Error),
    /// Its cage lacks layers, and was to be whole.
    #[error("it was not given to its worker: {0}")]
    Uncaged(Lacking),
    /// The component failed, as its worker says.
    #[error("{}", .0.message)]
    Fault(Fault),
    /// The plugin returned an error.
    #[error("`{}` returned an error: {message}", .call.as_str())]
    Returned {
        /// From which call.
        call: CallKind,
        /// The error.
        message: String,
    },
    /// The plugin returned a program or tables that break the rules of `wit/`.
    #[error("`{}` returned what can't be used: {reason}", .call.as_str())]
    Unusable {
        /// From which call.
        call: CallKind,
        /// What is wrong.
        reason: String,
    },
    /// The worker did not answer.
    #[error("its worker did not answer `{}` within {limit:?} and was killed", .call.as_str())]
    Stalled {
        /// The call.
        call: CallKind,
        /// The time that it had, with [`SLACK`].
        limit: Duration,
    },
    /// The worker process ended by itself.
    #[error("its worker process ended unexpectedly ({})", status_text(.0))]
    Ended(Option<ExitStatus>),
    /// The worker said what it can't say.
    #[error("its worker broke the protocol and was killed: {0}")]
    Protocol(#[from] Violation),
    /// The worker sent what is no message.
    #[error("its worker broke the protocol and was killed: {0}")]
    Frame(#[from] FrameError),
    /// The host could not wait, or not show what the plugin said.
    #[error("{0}")]
    Host(io::Error),
}

impl Cause {
    /// The kind of fault, if the worker reported one.
    pub fn fault(&self) -> Option<FaultKind> {
        if let Cause::Fault(fault) = self { Some(fault.kind) } else { None }
    }
}

fn status_text(status: &Option<ExitStatus>) -> String {
    match status {
        Some(status) => match status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => status.to_string(),
        },
        None => "it hung up".into(),
    }
}

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plugin's name, for errors and outputs.
    pub name: String,
    /// Its limits.
    pub limits: Limits,
    /// Where what it says goes.
    pub output: Arc<dyn Output>,
    /// The executable whose `worker` subcommand is [`super::main`]; `None` is the host's own. Tests are other executables.
    pub executable: Option<PathBuf>,
    /// Where what it makes of the component is kept.
    pub cache: Option<Cache>,
    /// How it is to be locked in. Layers that its doors leave out are none that it lacks.
    pub sandbox: Sandbox,
    /// The doors that are open to it.
    pub doors: Opened,
}

/// What is known of a component without running it.
#[derive(Clone, Debug, Default)]
pub struct Component {
    /// Of the file that the worker was given.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What it imports and exports, as its worker says.
    pub interface: Interface,
}

/// A worker process and its plugin, before the opening of the gate.
#[derive(Debug)]
pub struct Worker {
    pub(super) name: String,
    // The thread that loads ends when the process does, so the process goes first.
    pub(super) process: Process,
    phase: Phase,
    component: Component,
    /// Where its batches are written.
    pub(super) memory: Memory,
    pub(super) schema: Schema,
    pub(super) timers: Vec<u64>,
}

/// A worker process that has said nothing yet.
struct Begun {
    // It goes first, as above.
    process: Process,
    memory: Memory,
    talk: Talk,
}

impl Begun {
    fn new(mut options: Options) -> io::Result<Begun> {
        let memory = Memory::new()?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut outside = Outside::new(cage::worker_memory(options.limits.memory), options.sandbox.user)?;
        outside.connect_to(&options.doors.network);
        let mut command = Command::new(options.executable.as_deref().unwrap_or(Path::new("/proc/self/exe")));
        command
            // For those who look at the list of processes.
            .arg0("portcullis")
            .args(["worker", &options.name, &options.limits.memory.to_string(), &outside.argument()])
            .args((!options.doors.is_shut()).then_some(DOORS))
            .env_clear()
            .current_dir("/")
            // Standard input and output are what std::process passes on without a race between threads that spawn.
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(memory.fd().try_clone_to_owned()?))
            .stderr(Stdio::null());
        let child = cage::spawn::spawn(command, &mut outside)?;
        let process = Process { child, outside };
        // The host keeps none of it.
        let doors = std::mem::take(&mut options.doors);
        if !doors.is_shut() {
            pass::send(&doors, &ours)?;
        }
        Ok(Begun { process, memory, talk: Talk::new(ours, options)? })
    }
}

#[derive(Debug)]
enum Phase {
    /// A thread talks to it until the component is loaded.
    Loading(JoinHandle<Result<(Talk, Component), Cause>>),
    Loaded(Box<Talk>),
    /// It failed, and the error was given out.
    Failed,
}

/// The process; it is killed and waited for when this is dropped, and then what it had of its host's is given back.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    outside: Outside,
}

impl Process {
    /// Kills it, if it still runs, and waits for its end.
    pub(super) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it takes of memory now.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// How it ended by itself: it has hung up, so that is a matter of a moment. `None` if it did not.
    fn ended(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
        None
    }

    /// Ends it and names the plugin that it was.
    pub(super) fn fail(&mut self, plugin: &str, mut cause: Cause) -> WorkerError {
        if let Cause::Ended(status) = &mut cause {
            *status = self.ended();
        }
        self.end();
        WorkerError { plugin: plugin.to_owned(), cause }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    /// Starts a worker, which then compiles `wasm`. Only what starting takes is waited for.
    pub fn spawn(wasm: Vec<u8>, options: Options) -> Result<Worker, WorkerError> {
        let plugin = options.name.clone();
        Worker::try_spawn(wasm, options).map_err(|error| WorkerError { plugin, cause: Cause::Spawn(error) })
    }

    fn try_spawn(wasm: Vec<u8>, options: Options) -> io::Result<Worker> {
        let (name, limits, cache, sandbox) = (options.name.clone(), options.limits, options.cache.clone(), options.sandbox);
        let Begun { process, memory, mut talk } = Begun::new(options)?;
        let outside = process.outside.missing().to_vec();
        let loading = std::thread::Builder::new().name("loading".into()).spawn(move || {
            // While the worker locks itself in.
            let (digest, size) = (Digest::of(&wasm), wasm.len() as u64);
            let missing = talk.caged(LOADING)?;
            cage::join(missing, &outside);
            sandbox.check(missing).map_err(Cause::Uncaged)?;
            let compiled = cache.as_ref().and_then(|cache| cache.load(digest)).map(Bytes);
            let loaded = talk.ask(&ToWorker::Load { wasm: Bytes(wasm), compiled, limits }, LOADING)?;
            let Returned::Loaded { compiled, interface } = loaded else { return Err(wrong_return(&loaded, CallKind::Load)) };
            if let (Some(compiled), Some(cache)) = (compiled, cache) {
                cache.store(digest, &compiled.0);
            }
            Ok((talk, Component { digest, size, interface }))
        })?;
        Ok(Worker {
            name,
            process,
            phase: Phase::Loading(loading),
            component: Component::default(),
            memory,
            schema: Schema::default(),
            timers: Vec::new(),
        })
    }

    /// Starts a worker that gets no plugin, and ends it: how it was locked in on this kernel, by this user.
    pub fn try_cage(options: Options) -> Result<Account, WorkerError> {
        let plugin = options.name.clone();
        let begun = Begun::new(options).map_err(|error| WorkerError { plugin: plugin.clone(), cause: Cause::Spawn(error) })?;
        let Begun { mut process, mut talk, .. } = begun;
        match talk.caged(LOADING) {
            Ok(missing) => {
                cage::join(missing, process.outside.missing());
                Ok(process.outside.account(std::mem::take(missing)))
            }
            Err(cause) => Err(process.fail(&plugin, cause)),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the component is compiled and instantiated.
    pub fn loaded(&mut self) -> Result<&Component, WorkerError> {
        self.talk()?;
        Ok(&self.component)
    }

    /// Waits until the component is loaded; how the worker is locked in, as it said before it read the first byte of the component.
    pub fn account(&mut self) -> Result<Account, WorkerError> {
        let missing = self.talk()?.missing.clone().unwrap_or_default();
        Ok(self.process.outside.account(missing))
    }

    /// Calls `configure` with the configuration as JSON text and checks what it returns.
    pub fn configure(&mut self, config: &str) -> Result<Program, WorkerError> {
        let call = CallKind::Configure;
        let program = match self.ask(&ToWorker::Configure { config: config.to_owned() })? {
            Returned::Configured(program) => program.map_err(|message| self.failed(Cause::Returned { call, message }))?,
            other => return Err(self.failed(wrong_return(&other, call))),
        };
        let probes = self.talk()?.limits().probes;
        check::program(&program, probes).map_err(|reason| self.failed(Cause::Unusable { call, reason }))?;
        self.timers.clone_from(&program.timers);
        Ok(program)
    }

    /// Calls `prepare` with the streams and maps that the compiler made ([`crate::columns::schema`]) and checks what it returns.
    pub fn prepare(&mut self, schema: &Schema) -> Result<Vec<Table>, WorkerError> {
        let call = CallKind::Prepare;
        self.talk()?.conversation.prepared(schema.maps.clone());
        let tables = match self.ask(&ToWorker::Prepare { schema: schema.clone() })? {
            Returned::Prepared(tables) => tables.map_err(|message| self.failed(Cause::Returned { call, message }))?,
            other => return Err(self.failed(wrong_return(&other, call))),
        };
        check::tables(&tables).map_err(|reason| self.failed(Cause::Unusable { call, reason }))?;
        self.schema = schema.clone();
        self.talk()?.conversation.declared(tables.clone());
        Ok(tables)
    }

    fn ask(&mut self, call: &ToWorker) -> Result<Returned, WorkerError> {
        let talk = self.talk()?;
        let limit = talk.limit();
        let returned = talk.ask(call, limit);
        returned.map_err(|cause| self.failed(cause))
    }

    /// The talk, once the component is loaded.
    fn talk(&mut self) -> Result<&mut Talk, WorkerError> {
        if let Phase::Loading(_) = self.phase
            && let Phase::Loading(loading) = std::mem::replace(&mut self.phase, Phase::Failed)
        {
            let panicked = |_| Err(Cause::Host(io::Error::other("the thread that loads it panicked")));
            match loading.join().unwrap_or_else(panicked) {
                Ok((talk, component)) => {
                    self.phase = Phase::Loaded(Box::new(talk));
                    self.component = component;
                }
                Err(cause) => return Err(self.failed(cause)),
            }
        }
        match &mut self.phase {
            Phase::Loaded(talk) => Ok(talk),
            _ => Err(WorkerError { plugin: self.name.clone(), cause: Cause::Ended(None) }),
        }
    }

    /// The parts, for the pump.
    pub(super) fn into_parts(mut self) -> Result<(Talk, Process, Memory, Schema, Vec<u64>), WorkerError> {
        self.talk()?;
        match self.phase {
            Phase::Loaded(talk) => Ok((*talk, self.process, self.memory, self.schema, self.timers)),
            _ => Err(WorkerError { plugin: self.name, cause: Cause::Ended(None) }),
        }
    }

    fn failed(&mut self, cause: Cause) -> WorkerError {
        self.phase = Phase::Failed;
        self.process.fail(&self.name, cause)
    }
}

/// [`super::conversation`] lets no other return pass than that of the call that runs.
fn wrong_return(returned: &Returned, running: CallKind) -> Cause {
    Cause::Protocol(Violation::WrongReturn { returned: returned.call(), running })
}
