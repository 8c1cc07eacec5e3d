//! A pump as the session has it: started, commanded, dropped.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use portcullis_ebpf::{PluginMap, Stream};
use rustix::event::EventfdFlags;

use super::{Command, Notices, Phase, Source, State, intake::Intake, live::Live, stacks::StackWatch, timer::Timer};
use crate::{
    cage::Usage,
    columns::{self, Transposer},
    worker::{
        answer::Answers,
        process::{Cause, Worker, WorkerError},
    },
};

/// A running pump. Dropping it aborts it and waits for its end.
#[derive(Debug)]
pub struct Pump {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    pid: u32,
}

impl Pump {
    /// Takes over a worker that has been prepared with the schema of `streams` and `maps`. `plugin` numbers its notices; `answers` is
    /// what it may ask for.
    pub fn start(
        worker: Worker,
        plugin: usize,
        (streams, maps): (&[Stream], &[PluginMap]),
        source: Box<dyn Source>,
        answers: Answers,
        notices: Notices,
    ) -> Result<Pump, WorkerError> {
        let (name, pid) = (worker.name().to_owned(), worker.pid());
        let host = |error: io::Error| WorkerError { plugin: name.clone(), cause: Cause::Host(error) };
        let transposer = Transposer::new(streams).map_err(|error| host(io::Error::other(error)))?;
        let (talk, process, memory, schema, timers) = worker.into_parts()?;
        if schema != columns::schema(streams, maps) {
            return Err(host(io::Error::other("it was prepared with other streams or maps than those it would get")));
        }
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(wake.map_err(|error| host(error.into()))?);
        let (commands, receiver) = mpsc::channel();
        let now = Instant::now();
        let mut state = State {
            name: name.clone(),
            plugin,
            notices,
            commands: receiver,
            wake: wake.clone(),
            intake: Intake::new(source, memory, transposer, now).map_err(host)?,
            live: Some(Live::new(talk, process)),
            stacks: StackWatch::new(&*answers.maps),
            answers,
            handed: VecDeque::new(),
            timers: timers.into_iter().map(|period| Timer::new(Duration::from_nanos(period), now)).collect(),
            phase: Phase::Waiting,
            usage: Usage::default(),
        };
        let thread = std::thread::Builder::new().name(format!("pump {name}")).spawn(move || state.run()).map_err(host)?;
        Ok(Pump { commands, wake, thread: Some(thread), pid })
    }

    /// Sends a command. One to a pump that has ended is not answered.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }

    /// The worker's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.send(Command::Abort);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
