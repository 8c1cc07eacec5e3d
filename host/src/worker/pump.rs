//! Moves a plugin's events from its ring to its worker, and what it says to its outputs: one thread a plugin.
//!
//! The thread fills a slot from the ring and hands it over when it is full, or when the worker has nothing else to do: batches are
//! small when little happens and large when much does. A slot comes back with the return of its call; while none is free the ring
//! is left alone, and what it can't hold the kernel counts. So a plugin that is slow, stalls or dies loses its own events only.
//!
//! Every record that was read is counted once more: as delivered when the call that handled it has returned well, or as undelivered
//! where it was given up. Neither number is computed from the other.

mod notices;
mod timer;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use notices::{Drained, Event, Inbox, Notice, Notices, notices};
use portcullis_ebpf::{PluginMap, Stream};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll},
    io::Errno,
};
use timer::Timer;

use super::{
    answer::Answers,
    memory::Memory,
    process::{Cause, Process, Worker, WorkerError},
    protocol::{CallKind, Request, Returned, ToWorker},
    talk::{Said, Talk},
};
use crate::{
    cage::Usage,
    clock,
    columns::{self, SLOTS, Transposer},
    contract::{Closing, Level, Opening},
};

/// How often a ring is looked at. Programs wake its reader only past a watermark, since waking costs the traced thread 16 µs.
const LOOK: Duration = Duration::from_millis(10);

/// How often maps with stacks as keys are looked at, so that processes are noted while they live.
const LOOK_AT_STACKS: Duration = Duration::from_millis(50);

/// Records that are given up between two looks at commands.
const GIVE_UP: usize = 65_536;

/// Where events come from: a ring.
pub trait Source: Send {
    /// Calls `f` with each record there is, up to `max`, and frees them; returns how many there were. Fewer than `max` says that
    /// nothing is left.
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize;

    /// A descriptor that becomes readable when the ring should be read before its time.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// What the session asks of a pump.
#[derive(Debug)]
pub enum Command {
    /// The gate is open. Answered by [`Event::Started`], or [`Event::Failed`].
    Start(Opening),
    /// The gate is closed and the kernel has come to rest: deliver what is in the ring. Always answered by [`Event::Drained`].
    Drain {
        /// What the plugin has not taken by then is undelivered. A call that runs then may end.
        deadline: Instant,
    },
    /// The last call. Answered by [`Event::Finished`], with an [`Event::Failed`] before it if it fails.
    Finish(Closing),
    /// The other last call. Answered by [`Event::HandedOver`] and [`Event::Finished`].
    HandOver,
    /// End now. Answered by [`Event::Finished`].
    Abort,
}

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
        let early = early(&*source).map_err(host)?;
        let (commands, receiver) = mpsc::channel();
        let now = Instant::now();
        let mut state = State {
            name: name.clone(),
            plugin,
            notices,
            commands: receiver,
            wake: wake.clone(),
            early,
            source,
            live: Some(Live { talk, process, due: None, excused: Duration::ZERO }),
            look_at_stacks: answers.maps.have_stacks().then(Instant::now),
            answers,
            refused_stacks: false,
            memory,
            transposer,
            filling: None,
            free: (0..SLOTS).collect(),
            handed: VecDeque::new(),
            timers: timers.into_iter().map(|period| Timer::new(Duration::from_nanos(period), now)).collect(),
            phase: Phase::Waiting,
            look: now,
            empty: true,
            malformed: 0,
            read: 0,
            delivered: 0,
            undelivered: 0,
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

/// An epoll instance that turns readable once each time the source asks to be read. A ring's own descriptor stays readable while
/// anything is in it, which would make every record a batch.
fn early(source: &dyn Source) -> io::Result<Option<OwnedFd>> {
    let Some(fd) = source.fd() else { return Ok(None) };
    let early = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&early, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
    Ok(Some(early))
}

/// What has been handed over and not returned.
#[derive(Clone, Copy, Debug)]
enum Handed {
    Batch { slot: usize, rows: u64 },
    Tick { timer: usize },
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The gate is closed.
    Waiting,
    Running,
    Draining {
        deadline: Instant,
        /// The deadline has passed.
        given_up: bool,
    },
    /// Drained, and waiting for the last call or its return.
    Drained,
    Ended,
}

/// A worker that has not failed.
#[derive(Debug)]
struct Live {
    talk: Talk,
    process: Process,
    /// When the call that runs has to return.
    due: Option<Instant>,
    /// How long that was put off since the call's requests were answered.
    excused: Duration,
}

struct State {
    name: String,
    plugin: usize,
    notices: Notices,
    commands: mpsc::Receiver<Command>,
    wake: Arc<OwnedFd>,
    early: Option<OwnedFd>,
    source: Box<dyn Source>,
    live: Option<Live>,
    answers: Answers,
    /// When maps with stacks as keys are looked at next, if there are any.
    look_at_stacks: Option<Instant>,
    /// It was told that there are too many distinct stacks.
    refused_stacks: bool,
    memory: Memory,
    transposer: Transposer,
    /// The slot that is being filled.
    filling: Option<usize>,
    free: Vec<usize>,
    handed: VecDeque<Handed>,
    timers: Vec<Timer>,
    phase: Phase,
    /// When to look at the ring.
    look: Instant,
    /// The last look left nothing in the ring.
    empty: bool,
    /// Malformed records that have been counted as undelivered.
    malformed: u64,
    read: u64,
    delivered: u64,
    undelivered: u64,
    /// The memory of its worker.
    usage: Usage,
}

impl State {
    fn run(&mut self) {
        while self.phase != Phase::Ended {
            if let Err(error) = self.wait() {
                self.fail(Cause::Host(error));
            }
            self.obey();
            self.listen();
            self.move_events();
            self.tick();
            self.note_processes();
            self.check_deadlines();
            self.check_drained();
        }
        if let Some(live) = self.live.take() {
            self.usage.peak = live.process.usage().peak.or(self.usage.peak);
            self.tell_dropped(&live);
        }
        if self.usage != Usage::default() {
            self.tell(Event::Used(self.usage));
        }
        self.tell(Event::Finished);
    }

    /// Notes what memory the worker takes: when it has started, so that something is known of one that ends on its own, and at the close.
    fn look_at_memory(&mut self) {
        let Some(live) = &self.live else { return };
        let now = live.process.usage();
        self.usage = Usage { resident: now.resident.or(self.usage.resident), peak: now.peak.or(self.usage.peak) };
    }

    fn tell(&self, event: Event) {
        self.notices.send(Notice { plugin: self.plugin, event });
    }

    fn tell_dropped(&self, live: &Live) {
        let dropped = live.talk.dropped();
        if !dropped.is_empty() {
            self.tell(Event::Dropped(dropped));
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut until = now + Duration::from_secs(3600);
        if self.reads() && (self.live.is_none() || self.filling.is_some() || !self.free.is_empty()) {
            until = until.min(self.look);
        }
        if self.phase == Phase::Running && self.live.is_some() {
            until = self.timers.iter().filter(|timer| !timer.queued).fold(until, |until, timer| until.min(timer.next));
        }
        if let Some(look) = self.look_at_stacks.filter(|_| self.phase == Phase::Running) {
            until = until.min(look);
        }
        if let Some(due) = self.live.as_ref().and_then(|live| live.due) {
            until = until.min(due);
        }
        if let Phase::Draining { deadline, given_up: false } = self.phase {
            until = until.min(deadline);
        }
        let left = until.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };

        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        if let Some(early) = &self.early {
            // While no slot is free an early look is of no use.
            let useful = self.live.is_none() || self.filling.is_some() || !self.free.is_empty();
            fds.push(PollFd::new(early, if useful { PollFlags::IN } else { PollFlags::empty() }));
        }
        let worker = fds.len();
        if let Some(live) = &self.live {
            fds.push(PollFd::from_borrowed_fd(live.talk.link.as_fd(), live.talk.link.interest()));
        }
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let commanded = !fds[0].revents().is_empty();
        let asked = self.early.is_some() && !fds[1].revents().is_empty();
        let heard = fds.get(worker).map_or(PollFlags::empty(), PollFd::revents);
        drop(fds);
        if commanded {
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
        if asked && let Some(early) = &self.early {
            let mut events = Vec::<epoll::Event>::with_capacity(1);
            let _ = epoll::wait(early, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()));
            self.look = now;
        }
        if let Some(live) = &mut self.live {
            if heard.contains(PollFlags::OUT) {
                live.talk.link.flush();
            }
            if heard.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                live.talk.link.fill();
            }
        }
        Ok(())
    }

    /// The ring is to be read now.
    fn reads(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Draining { .. })
    }

    fn obey(&mut self) {
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => Command::Abort,
            };
            let now = Instant::now();
            match command {
                Command::Start(opening) => {
                    self.phase = Phase::Running;
                    self.look = now;
                    // Timers count from the opening, which was a moment ago, or longer where another version had to hand over.
                    let since = opening.gate.map_or(0, |gate| clock::now().saturating_sub(gate.latest));
                    for timer in &mut self.timers {
                        timer.begin(now, Duration::from_nanos(since));
                    }
                    self.call(&ToWorker::Start(opening), Handed::Other);
                }
                Command::Drain { deadline } => {
                    self.look_at_memory();
                    self.phase = Phase::Draining { deadline, given_up: false };
                    self.look = now;
                    self.empty = false;
                }
                Command::Finish(closing) => self.last_call(&ToWorker::Finish(closing)),
                Command::HandOver => self.last_call(&ToWorker::HandOver),
                Command::Abort => {
                    self.phase = Phase::Ended;
                    return;
                }
            }
        }
    }

    fn last_call(&mut self, call: &ToWorker) {
        if self.live.is_some() {
            self.call(call, Handed::Other);
        } else {
            self.phase = Phase::Ended;
        }
    }

    /// Makes a call, if there is a worker.
    fn call(&mut self, call: &ToWorker, handed: Handed) {
        let Some(live) = &mut self.live else { return };
        if live.due.is_none() {
            live.due = Some(Instant::now() + live.talk.limit());
        }
        self.handed.push_back(handed);
        if let Err(cause) = live.talk.send(call) {
            self.fail(cause);
        }
    }

    /// Goes through what the worker said.
    fn listen(&mut self) {
        while let Some(live) = &mut self.live {
            let outcome = live.talk.hear();
            if let Some(due) = &mut live.due {
                *due += std::mem::take(&mut live.talk.waited);
            }
            let (stop, output_error) = (live.talk.stop.take(), live.talk.output_error.take());
            if let Some(reason) = stop {
                self.tell(Event::StopRequested { reason });
            }
            if let Some(error) = output_error {
                self.tell(Event::OutputFailed(error));
            }
            match outcome {
                Ok(Some(Said::Returned(returned))) => self.returned(returned),
                Ok(Some(Said::Asked(request))) => {
                    self.answer(request);
                    // Whatever else there is to do comes before the next request.
                    return;
                }
                Ok(None) => return,
                Err(cause) => self.fail(cause),
            }
        }
    }

    /// Answers a request. The time that takes is none of the call's, within reason.
    fn answer(&mut self, request: Request) {
        let start = Instant::now();
        let response = self.answers.answer(request);
        let Some(live) = &mut self.live else { return };
        let sent = live.talk.send(&ToWorker::Answer(response));
        // A plugin that asks for ever is stopped.
        let most = Duration::from_nanos(live.talk.limits().host_calls);
        let took = start.elapsed().min(most.saturating_sub(live.excused));
        live.excused += took;
        if let Some(due) = &mut live.due {
            *due += took;
        }
        if let Err(cause) = sent {
            self.fail(cause);
        }
    }

    /// Notes the processes whose stacks are keys of maps, which are read later, perhaps when they are gone.
    fn note_processes(&mut self) {
        let now = Instant::now();
        let due = self.look_at_stacks.is_some_and(|look| look <= now);
        if due && self.phase == Phase::Running {
            self.answers.maps.note_processes(&mut self.answers.names);
            self.look_at_stacks = Some(now + LOOK_AT_STACKS);
        }
    }

    /// The call that ran is over.
    fn returned(&mut self, returned: Returned) {
        let Some(live) = &mut self.live else { return };
        let limit = live.talk.limit();
        live.due = live.talk.conversation.running().map(|_| Instant::now() + limit);
        live.excused = Duration::ZERO;
        let handed = self.handed.pop_front().unwrap_or(Handed::Other);
        let call = returned.call();
        let error = match &returned {
            Returned::Started(Err(message))
            | Returned::Handled(Err(message))
            | Returned::Ticked(Err(message))
            | Returned::Finished(Err(message)) => Some(message.clone()),
            _ => None,
        };
        match handed {
            Handed::Batch { slot, rows } => {
                if returned == Returned::Handled(Ok(())) {
                    self.delivered += rows;
                } else {
                    self.undelivered += rows;
                }
                self.free.push(slot);
                if !self.empty {
                    self.look = Instant::now();
                }
            }
            Handed::Tick { timer } => {
                if let Some(timer) = self.timers.get_mut(timer) {
                    timer.queued = false;
                }
            }
            Handed::Other => {}
        }
        if let Some(message) = error {
            self.fail(Cause::Returned { call, message });
            return;
        }
        match returned {
            Returned::Started(_) => {
                self.look_at_memory();
                self.tell(Event::Started);
            }
            Returned::Finished(_) => self.phase = Phase::Ended,
            Returned::HandedOver(state) => {
                self.tell(Event::HandedOver(state.map(|state| state.0)));
                self.phase = Phase::Ended;
            }
            _ => {}
        }
    }

    /// The plugin is at its end. What it had not handled is undelivered.
    fn fail(&mut self, cause: Cause) {
        self.look_at_memory();
        let Some(mut live) = self.live.take() else { return };
        let error = live.process.fail(&self.name, cause);
        self.tell_dropped(&live);
        drop(live);
        let batches = self.handed.drain(..).map(|handed| if let Handed::Batch { rows, .. } = handed { rows } else { 0 });
        self.undelivered += batches.sum::<u64>();
        self.give_up_filling();
        // What the kernel wrote so far is read at once, so that the ring does not fill up.
        self.look = Instant::now();
        self.tell(Event::Failed(error));
        if matches!(self.phase, Phase::Drained) {
            // It was at its last call.
            self.phase = Phase::Ended;
        }
    }

    fn give_up_filling(&mut self) {
        if let Some(slot) = self.filling.take() {
            self.undelivered += self.transposer.finish(slot as u32).total();
            self.free.push(slot);
        }
    }

    /// Reads the ring, if it is time, and hands over what is due.
    fn move_events(&mut self) {
        if self.reads() && Instant::now() >= self.look {
            self.look = Instant::now() + LOOK;
            let given_up = matches!(self.phase, Phase::Draining { given_up: true, .. });
            if self.live.is_none() || given_up { self.give_up_ring() } else { self.fill_slots() }
        }
        // A worker that has nothing to do gets what there is.
        let idle = !self.handed.iter().any(|handed| matches!(handed, Handed::Batch { .. }));
        if idle && self.transposer.rows() > 0 {
            self.hand_over();
        }
    }

    fn fill_slots(&mut self) {
        loop {
            let Some(slot) = self.filling.or_else(|| self.free.pop()) else {
                self.empty = false;
                return;
            };
            self.filling = Some(slot);
            let room = self.transposer.room();
            if room > 0 {
                let (memory, transposer, names) = (self.memory.slot(slot), &mut self.transposer, &mut self.answers.names);
                let mut count = 0;
                self.source.read(room, &mut |record| {
                    count += 1;
                    transposer.push(memory, record, names);
                });
                self.read += count as u64;
                // Those that are no rows are never delivered.
                self.undelivered += self.transposer.malformed() - self.malformed;
                self.malformed = self.transposer.malformed();
                self.empty = count < room;
            }
            if self.transposer.room() == 0 {
                self.hand_over();
            }
            if self.empty || self.live.is_none() {
                return;
            }
        }
    }

    fn hand_over(&mut self) {
        let Some(slot) = self.filling.take() else { return };
        let batch = self.transposer.finish(slot as u32);
        let rows = batch.total();
        self.warn_of_stacks();
        self.call(&ToWorker::Batch(batch), Handed::Batch { slot, rows });
    }

    /// Says once that stacks are told apart no more.
    fn warn_of_stacks(&mut self) {
        let stacks = &self.answers.names.stacks;
        if stacks.refused() > 0 && !std::mem::replace(&mut self.refused_stacks, true) {
            let most = crate::names::MAX_STACKS;
            let message =
                format!("there are more than {most} distinct stacks, or very deep ones: further ones are all the same, number 0");
            if let Some(live) = &self.live {
                live.talk.log(Level::Warn, &message);
            }
        }
    }

    /// Reads the ring and counts what is in it.
    fn give_up_ring(&mut self) {
        let mut count = 0;
        self.source.read(GIVE_UP, &mut |_| count += 1);
        self.read += count as u64;
        self.undelivered += count as u64;
        self.empty = count < GIVE_UP;
        if !self.empty {
            self.look = Instant::now();
        }
    }

    fn tick(&mut self) {
        if self.phase != Phase::Running || self.live.is_none() {
            return;
        }
        let now = Instant::now();
        for at in 0..self.timers.len() {
            if self.timers[at].fire(now) {
                self.call(&ToWorker::Tick { timer: at as u32 }, Handed::Tick { timer: at });
            }
        }
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        if let Some(live) = &self.live {
            let limit = live.talk.limit();
            // A plugin that has been given up may end the call that runs, and a tick that waits, and no more.
            let over = matches!(self.phase, Phase::Draining { deadline, given_up: true } if deadline + 2 * limit <= now);
            if over || live.due.is_some_and(|due| due <= now) {
                let call = live.talk.conversation.running().unwrap_or(CallKind::Handle);
                self.fail(Cause::Stalled { call, limit });
            }
        }
        if let Phase::Draining { deadline, given_up: false } = self.phase
            && deadline <= now
        {
            self.phase = Phase::Draining { deadline, given_up: true };
            self.look = now;
            self.empty = false;
            self.give_up_filling();
            if let Some(live) = &mut self.live {
                // The call that runs may end; it has the time of a call, and no more.
                let limit = live.talk.limit();
                live.due = live.due.map(|due| due.min(now + limit));
                if let Err(cause) = live.talk.send(&ToWorker::Discard) {
                    self.fail(cause);
                }
            }
        }
    }

    fn check_drained(&mut self) {
        // A tick that was due before is over as well.
        if matches!(self.phase, Phase::Draining { .. }) && self.empty && self.transposer.rows() == 0 && self.handed.is_empty() {
            self.phase = Phase::Drained;
            let at = clock::now();
            let (read, delivered, undelivered) = (self.read, self.delivered, self.undelivered);
            self.tell(Event::Drained(Drained { at, read, delivered, undelivered }));
        }
    }
}
