//! Moves a plugin's events from its ring to its worker, and what it says to its outputs: one thread a plugin.
//!
//! The thread fills a slot from the ring and hands it over when it is full, or when the worker has nothing else to do: batches are
//! small when little happens and large when much does. A slot comes back with the return of its call; while none is free the ring
//! is left alone, and what it can't hold the kernel counts. So a plugin that is slow, stalls or dies loses its own events only.
//!
//! Every record that was read is counted once more: as delivered when the call that handled it has returned well, or as undelivered
//! where it was given up. Neither number is computed from the other.

mod calls;
mod handle;
mod intake;
mod live;
mod notices;
mod stacks;
mod timer;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use calls::Handed;
pub use handle::Pump;
use intake::Intake;
pub use intake::Source;
use live::Live;
pub use notices::{Drained, Event, Inbox, Notice, Notices, notices};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use stacks::StackWatch;
use timer::Timer;

use super::{answer::Answers, process::Cause, protocol::ToWorker};
use crate::{
    cage::Usage,
    clock,
    contract::{Closing, Level, Opening},
};

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

/// What the thread of a pump has.
struct State {
    name: String,
    plugin: usize,
    notices: Notices,
    commands: mpsc::Receiver<Command>,
    wake: Arc<OwnedFd>,
    intake: Intake,
    live: Option<Live>,
    answers: Answers,
    stacks: StackWatch,
    handed: VecDeque<Handed>,
    timers: Vec<Timer>,
    phase: Phase,
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
        // While no slot is free a look at the ring is of no use.
        let looks = self.live.is_none() || self.intake.has_room();
        if self.reads() && looks {
            until = until.min(self.intake.look());
        }
        if self.phase == Phase::Running && self.live.is_some() {
            until = self.timers.iter().filter(|timer| !timer.queued).fold(until, |until, timer| until.min(timer.next));
        }
        if let Some(look) = self.stacks.look.filter(|_| self.phase == Phase::Running) {
            until = until.min(look);
        }
        if let Some(due) = self.live.as_ref().and_then(Live::due) {
            until = until.min(due);
        }
        if let Phase::Draining { deadline, given_up: false } = self.phase {
            until = until.min(deadline);
        }
        let left = until.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };

        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        if let Some(early) = self.intake.early() {
            fds.push(PollFd::from_borrowed_fd(early, if looks { PollFlags::IN } else { PollFlags::empty() }));
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
        let asked = self.intake.early().is_some() && !fds[1].revents().is_empty();
        let heard = fds.get(worker).map_or(PollFlags::empty(), PollFd::revents);
        drop(fds);
        if commanded {
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
        if asked {
            self.intake.asked(now);
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
                    self.intake.look_at(now);
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
                    self.intake.look_again(now);
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

    fn note_processes(&mut self) {
        if self.phase == Phase::Running {
            self.stacks.note_processes(&mut *self.answers.maps, &mut self.answers.names);
        }
    }

    /// Reads the ring, if it is time, and hands over what is due.
    fn move_events(&mut self) {
        if self.reads() && self.intake.begin_look() {
            let given_up = matches!(self.phase, Phase::Draining { given_up: true, .. });
            if self.live.is_none() || given_up { self.intake.give_up_ring() } else { self.fill_slots() }
        }
        // A worker that has nothing to do gets what there is.
        let idle = !self.handed.iter().any(|handed| matches!(handed, Handed::Batch { .. }));
        if idle && self.intake.rows() > 0 {
            self.hand_over();
        }
    }

    fn fill_slots(&mut self) {
        while self.intake.fill(&mut self.answers.names) {
            self.hand_over();
            if self.intake.is_empty() || self.live.is_none() {
                return;
            }
        }
    }

    fn hand_over(&mut self) {
        let Some((slot, batch)) = self.intake.take() else { return };
        let rows = batch.total();
        if let Some(live) = &self.live
            && let Some(warning) = self.stacks.warning(&self.answers.names)
        {
            live.talk.log(Level::Warn, &warning);
        }
        self.call(&ToWorker::Batch(batch), Handed::Batch { slot, rows });
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
            if over || live.due().is_some_and(|due| due <= now) {
                let stalled = live.stalled();
                self.fail(stalled);
            }
        }
        if let Phase::Draining { deadline, given_up: false } = self.phase
            && deadline <= now
        {
            self.phase = Phase::Draining { deadline, given_up: true };
            self.intake.look_again(now);
            self.intake.give_up_filling();
            if let Some(live) = &mut self.live
                && let Err(cause) = live.discard(now)
            {
                self.fail(cause);
            }
        }
    }

    fn check_drained(&mut self) {
        // A tick that was due before is over as well.
        if matches!(self.phase, Phase::Draining { .. })
            && self.intake.is_empty()
            && self.intake.rows() == 0
            && self.handed.is_empty()
        {
            self.phase = Phase::Drained;
            self.tell(Event::Drained(self.intake.counts(clock::now())));
        }
    }
}
