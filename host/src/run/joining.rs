//! Plugins on their way into a run that goes on: their components are compiled, their probes loaded and attached, on a thread beside the run, one
//! bundle after another. What comes out is opened by the run itself.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context as _;
use portcullis_ebpf::{Scope, processes};
use rustix::event::{EventfdFlags, eventfd};

use super::plugins::{Parts, Plugin};
use crate::{
    bundle,
    control::Asked,
    kernel::{Processes, RunningKernel},
    lock::Lock,
    manifest,
    names::Symbols,
    output::Printer,
    scope::Limits,
    session::{self, Admission, Attached, Compiled, Open},
    worker::{Output, pump::Notices},
};

/// What all need that join.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) kernel: Arc<RunningKernel>,
    pub(super) printer: Arc<Printer>,
    pub(super) processes: Arc<Processes>,
    pub(super) symbols: Arc<dyn Symbols>,
    pub(super) notices: Notices,
    pub(super) scope: Scope,
    pub(super) limits: Limits,
    /// What was approved, if nothing else may join.
    pub(super) lock: Option<Lock>,
}

/// What is to be done with plugins once they are attached.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) plugins: Vec<manifest::Plugin>,
    pub(super) purpose: Purpose,
    /// Who waits for an answer.
    pub(super) asked: Option<Asked>,
}

/// Why plugins come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be there as well.
    Join,
    /// To be there instead of the one that has this plugin's name.
    Replace,
    /// To be there again: it has failed.
    Restart,
}

/// Plugins whose probes are attached, and not opened.
pub(super) struct Joined {
    pub(super) attached: Attached,
    pub(super) plugins: Vec<Plugin>,
}

/// The jobs, and the thread that does the first.
pub(super) struct Joining {
    context: Context,
    waiting: VecDeque<Job>,
    /// The job that is being done.
    current: Option<Job>,
    sender: mpsc::Sender<anyhow::Result<Joined>>,
    results: mpsc::Receiver<anyhow::Result<Joined>>,
    wake: Arc<OwnedFd>,
}

impl Joining {
    pub(super) fn new(context: Context) -> anyhow::Result<Joining> {
        let (sender, results) = mpsc::channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Joining { context, waiting: VecDeque::new(), current: None, sender, results, wake })
    }

    /// Takes on a job.
    pub(super) fn submit(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Begins the next job, if none is being done, and takes the outcome of the one that was. The numbers of plugins that join are known when
    /// their job begins, as there is but one at a time.
    pub(super) fn advance(&mut self, open: &Open) -> Option<(Job, anyhow::Result<Joined>)> {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        if let Ok(result) = self.results.try_recv()
            && let Some(job) = self.current.take()
        {
            return Some((job, result));
        }
        if self.current.is_none()
            && let Some(job) = self.waiting.pop_front()
        {
            if let Err(error) = self.begin(&job, open) {
                return Some((job, Err(error)));
            }
            self.current = Some(job);
        }
        None
    }

    fn begin(&self, job: &Job, open: &Open) -> anyhow::Result<()> {
        let admission = open.admit(job.plugins.len())?;
        let (context, plugins, first) = (self.context.clone(), job.plugins.clone(), open.next());
        let (sender, wake) = (self.sender.clone(), Arc::clone(&self.wake));
        let work = move || {
            // A run that has ended has no use for it; what was made is dropped with it.
            if sender.send(bring(&context, &plugins, admission, first)).is_ok() {
                let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
            }
        };
        thread::Builder::new().name("join".to_owned()).spawn(work).context("can't start a thread")?;
        Ok(())
    }
}

impl AsFd for Joining {
    /// Readable when a job is done.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The whole way up to the attaching.
fn bring(context: &Context, plugins: &[manifest::Plugin], admission: Admission, first: usize) -> anyhow::Result<Joined> {
    let output: Arc<dyn Output> = Arc::clone(&context.printer) as _;
    let declared = bundle::declare(plugins, &output, context.lock.as_ref())?;
    let bits: Vec<u8> = admission.bits().collect();
    let mut built = bundle::compile(declared, &*context.kernel, bits.into_iter().map(Some), context.scope, context.limits)?;
    if let Some(lock) = &context.lock {
        lock.admit(&built)?;
    }
    bundle::check_grants(&built)?;
    bundle::prepare(&mut built)?;
    let session = built.iter().map(session::Plugin::from).collect();
    let mut loaded = Compiled::joining(session, context.scope, admission).load(&context.kernel)?;
    let mut all = Vec::with_capacity(built.len());
    for (place, one) in built.into_iter().enumerate() {
        context.processes.mark(one.worker.pid(), processes::OWN);
        let maps = loaded.maps(place).context("can't pass maps on to the threads that read them")?;
        let parts = Parts { ring: loaded.take_ring(place), maps, symbols: Arc::clone(&context.symbols) };
        all.push(Plugin::new(one, first + place, parts, context.notices.clone())?);
    }
    Ok(Joined { attached: loaded.attach()?, plugins: all })
}
