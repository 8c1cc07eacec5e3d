//! COMMAND, from its release to its end.

use std::{ffi::OsString, time::Duration};

use rustix::event::{PollFd, PollFlags, poll};

use super::timespec;
use crate::{
    command::{Running, Stopped},
    output::Printer,
    report,
};

/// How long COMMAND has to end after it was asked to.
const ENDS: Duration = Duration::from_secs(1);

/// COMMAND, if there is one.
pub(super) struct Held {
    argv: Vec<String>,
    pub(super) running: Option<Running>,
    /// How it ended.
    status: Option<String>,
}

impl Held {
    /// Lets it run.
    pub(super) fn release(stopped: Option<Stopped>, argv: &[OsString], printer: &Printer) -> Held {
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
    pub(super) fn ended(&mut self) -> bool {
        if let Some(running) = &mut self.running
            && let Ok(Some(status)) = running.try_wait()
        {
            self.status = Some(status.to_string());
            self.running = None;
        }
        !self.argv.is_empty() && self.running.is_none()
    }

    /// Asks it to end, if it has not, and says how it went.
    pub(super) fn end(mut self) -> Option<report::Command> {
        if self.argv.is_empty() {
            return None;
        }
        if !self.ended()
            && let Some(running) = &self.running
        {
            // It ended in between, else; `ended` sees it.
            let _ = running.terminate();
            let _ = poll(&mut [PollFd::new(running, PollFlags::IN)], Some(&timespec(ENDS)));
            self.ended();
        }
        Some(report::Command { argv: self.argv, status: self.status })
    }
}
