//! Calls into the worker, and what comes back: returns, requests, failures.

use std::time::Instant;

use super::{Event, Phase, State};
use crate::worker::{
    process::Cause,
    protocol::{Request, Returned, ToWorker},
    talk::Said,
};

/// What has been handed over and not returned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handed {
    Batch { slot: usize, rows: u64 },
    Tick { timer: usize },
    Other,
}

impl State {
    pub(super) fn last_call(&mut self, call: &ToWorker) {
        if self.live.is_some() {
            self.call(call, Handed::Other);
        } else {
            self.phase = Phase::Ended;
        }
    }

    /// Makes a call, if there is a worker.
    pub(super) fn call(&mut self, call: &ToWorker, handed: Handed) {
        let Some(live) = &mut self.live else { return };
        self.handed.push_back(handed);
        if let Err(cause) = live.call(call) {
            self.fail(cause);
        }
    }

    /// Goes through what the worker said.
    pub(super) fn listen(&mut self) {
        while let Some(live) = &mut self.live {
            let outcome = live.hear();
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

    fn answer(&mut self, request: Request) {
        let start = Instant::now();
        let response = self.answers.answer(request);
        let Some(live) = &mut self.live else { return };
        if let Err(cause) = live.answer(response, start) {
            self.fail(cause);
        }
    }

    /// The call that ran is over.
    fn returned(&mut self, returned: Returned) {
        let Some(live) = &mut self.live else { return };
        live.returned();
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
                self.intake.returned(slot, rows, returned == Returned::Handled(Ok(())));
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
    pub(super) fn fail(&mut self, cause: Cause) {
        self.look_at_memory();
        let Some(mut live) = self.live.take() else { return };
        let error = live.process.fail(&self.name, cause);
        self.tell_dropped(&live);
        drop(live);
        let batches = self.handed.drain(..).map(|handed| if let Handed::Batch { rows, .. } = handed { rows } else { 0 });
        self.intake.lost(batches.sum());
        self.intake.give_up_filling();
        // What the kernel wrote so far is read at once, so that the ring does not fill up.
        self.intake.look_at(Instant::now());
        self.tell(Event::Failed(error));
        if matches!(self.phase, Phase::Drained) {
            // It was at its last call.
            self.phase = Phase::Ended;
        }
    }
}
