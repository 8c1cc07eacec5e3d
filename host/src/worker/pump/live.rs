//! A worker that has not failed, and the time that its calls have.

use std::time::{Duration, Instant};

use crate::worker::{
    process::{Cause, Process},
    protocol::{CallKind, Response, ToWorker},
    talk::{Said, Talk},
};

/// A worker that has not failed.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) talk: Talk,
    pub(super) process: Process,
    /// When the call that runs has to return.
    due: Option<Instant>,
    /// How long that was put off since the call's requests were answered.
    excused: Duration,
}

impl Live {
    /// No call runs.
    pub(super) fn new(talk: Talk, process: Process) -> Live {
        Live { talk, process, due: None, excused: Duration::ZERO }
    }

    /// When the call that runs has to return.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes a call; its time begins when those before it have returned.
    pub(super) fn call(&mut self, call: &ToWorker) -> Result<(), Cause> {
        if self.due.is_none() {
            self.due = Some(Instant::now() + self.talk.limit());
        }
        self.talk.send(call)
    }

    /// [`Talk::hear`]. The time that an output kept the host from listening is none of the call's.
    pub(super) fn hear(&mut self) -> Result<Option<Said>, Cause> {
        let outcome = self.talk.hear();
        if let Some(due) = &mut self.due {
            *due += std::mem::take(&mut self.talk.waited);
        }
        outcome
    }

    /// Answers a request that was heard at `start`. The time that took is none of the call's, within reason.
    pub(super) fn answer(&mut self, response: Response, start: Instant) -> Result<(), Cause> {
        let sent = self.talk.send(&ToWorker::Answer(response));
        // A plugin that asks for ever is stopped.
        let most = Duration::from_nanos(self.talk.limits().host_calls);
        let took = start.elapsed().min(most.saturating_sub(self.excused));
        self.excused += took;
        if let Some(due) = &mut self.due {
            *due += took;
        }
        sent
    }

    /// The call that ran is over, and the time of the next begins, if there is one.
    pub(super) fn returned(&mut self) {
        let limit = self.talk.limit();
        self.due = self.talk.conversation.running().map(|_| Instant::now() + limit);
        self.excused = Duration::ZERO;
    }

    /// Takes back the batches that wait. The call that runs may end; it has the time of a call, and no more.
    pub(super) fn discard(&mut self, now: Instant) -> Result<(), Cause> {
        let limit = self.talk.limit();
        self.due = self.due.map(|due| due.min(now + limit));
        self.talk.send(&ToWorker::Discard)
    }

    /// It took too long with what it was called for.
    pub(super) fn stalled(&self) -> Cause {
        let call = self.talk.conversation.running().unwrap_or(CallKind::Handle);
        Cause::Stalled { call, limit: self.talk.limit() }
    }
}
