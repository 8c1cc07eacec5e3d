//! Link and conversation together: calls go out, what the plugin says goes to its outputs, returns come back.

use std::{
    io,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::{
    conversation::{Conversation, Heard, Violation},
    link::Link,
    process::{Cause, Options, SLACK},
    protocol::{CallKind, Request, Returned, ToWorker},
    quota::{Dropped, Quota},
};
use crate::{
    cage::Missing,
    contract::{Level, Limits},
    output::units,
};

/// An output that takes longer than this for one message is waiting for somebody.
const OUTPUT_WAITS: Duration = Duration::from_millis(10);

/// What a worker said that its host has to do something about.
#[derive(Debug)]
pub(super) enum Said {
    /// The call that ran is over.
    Returned(Returned),
    /// It waits for [`ToWorker::Answer`].
    Asked(Request),
}

/// The host's talk with one worker.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) link: Link,
    pub(super) conversation: Conversation,
    options: Options,
    /// What its cage lacks, once it is locked in.
    pub(super) missing: Option<Vec<Missing>>,
    /// What may still be shown of it.
    quota: Quota,
    /// The plugin asked to end the run, and nobody was told yet.
    pub(super) stop: Option<String>,
    stop_asked: bool,
    /// The output failed, and nobody was told yet.
    pub(super) output_error: Option<io::Error>,
    output_failed: bool,
    /// How long the worker could not be listened to, since an output kept its caller waiting.
    pub(super) waited: Duration,
}

impl Talk {
    pub(super) fn new(socket: UnixStream, options: Options) -> io::Result<Talk> {
        Ok(Talk {
            link: Link::new(socket)?,
            conversation: Conversation::default(),
            quota: Quota::new(&options.limits, Instant::now()),
            options,
            missing: None,
            stop: None,
            stop_asked: false,
            output_error: None,
            output_failed: false,
            waited: Duration::ZERO,
        })
    }

    /// How long the host waits for a call to return.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_nanos(self.options.limits.call).saturating_add(SLACK)
    }

    /// What the plugin may use.
    pub(super) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// What was dropped of what it said.
    pub(super) fn dropped(&self) -> Dropped {
        self.quota.dropped
    }

    /// Sends a message; if it is a call, its return will come.
    pub(super) fn send(&mut self, message: &ToWorker) -> Result<(), Cause> {
        self.link.send(message)?;
        if let Some(call) = message.call() {
            self.conversation.called(call);
        }
        Ok(())
    }

    /// Goes through what was received, up to the next return or request; `None` says that there is none yet.
    pub(super) fn hear(&mut self) -> Result<Option<Said>, Cause> {
        while let Some(message) = self.link.next()? {
            let start = Instant::now();
            match self.conversation.hear(message)? {
                Heard::Returned(returned) => return Ok(Some(Said::Returned(returned))),
                // It waits, so nothing can have come after it, and it has read the answer before. One that reads none would fill the
                // host's memory with them.
                Heard::Asked(_) if self.link.more() || !self.link.answered() => return Err(Violation::Impatient.into()),
                Heard::Asked(request) => return Ok(Some(Said::Asked(request))),
                Heard::Fault(fault) => return Err(Cause::Fault(fault)),
                Heard::Stop(reason) => {
                    if !std::mem::replace(&mut self.stop_asked, true) {
                        self.stop = Some(reason);
                    }
                }
                Heard::Caged(missing) => self.missing = Some(missing),
                heard => self.show(heard),
            }
            let took = start.elapsed();
            if took > OUTPUT_WAITS {
                self.waited += took;
            }
        }
        if self.link.closed() { Err(Cause::Ended(None)) } else { Ok(None) }
    }

    /// Leaves a message of the host's own about the plugin.
    pub(super) fn log(&self, level: Level, message: &str) {
        self.options.output.log(&self.options.name, level, message);
    }

    /// Shows what the plugin said, as far as its limits go. Nothing more is shown once showing has failed.
    fn show(&mut self, mut heard: Heard) {
        let (now, before) = (Instant::now(), self.quota.dropped);
        let may = match &mut heard {
            Heard::Rows(_, rows) => {
                self.quota.rows(rows, now);
                !rows.time.is_empty()
            }
            Heard::Line(line) => self.quota.line(line, now),
            Heard::Log(..) => self.quota.message(now),
            _ => true,
        };
        self.warn_of_dropped(before);
        if !may {
            return;
        }
        let (output, plugin) = (&self.options.output, &self.options.name);
        let shown = match heard {
            _ if self.output_failed => Ok(()),
            Heard::Rows(table, rows) => match self.conversation.tables().get(table) {
                Some(table) => output.rows(plugin, table, &rows),
                None => Ok(()),
            },
            Heard::Line(line) => output.line(plugin, &line),
            Heard::Metric(name, value) => {
                output.metric(plugin, &name, value);
                Ok(())
            }
            Heard::Log(level, message) => {
                output.log(plugin, level, &message);
                Ok(())
            }
            Heard::Caged(_) | Heard::Returned(_) | Heard::Asked(_) | Heard::Stop(_) | Heard::Fault(_) => Ok(()),
        };
        if let Err(error) = shown {
            self.output_failed = true;
            self.output_error = Some(error);
        }
    }

    /// Waits until the worker is locked in, and returns what its cage lacks.
    pub(super) fn caged(&mut self, limit: Duration) -> Result<&mut Vec<Missing>, Cause> {
        let until = Instant::now() + limit;
        while self.missing.is_none() {
            // No call was made, so nothing can return.
            self.hear()?;
            if self.missing.is_none() {
                if !self.link.wait(until).map_err(Cause::Host)? {
                    return Err(Cause::Stalled { call: CallKind::Load, limit });
                }
                self.link.fill();
            }
        }
        Ok(self.missing.get_or_insert_default())
    }

    /// Says of each limit once that something was dropped.
    fn warn_of_dropped(&self, before: Dropped) {
        let (now, limits) = (self.quota.dropped, self.limits());
        let first = |now: u64, before: u64| before == 0 && now > 0;
        let more = "what is more is dropped, and counted in the report";
        if first(now.rows + now.lines, before.rows + before.lines) {
            let (rows, bytes) = (units::count(limits.output_rows), units::bytes(limits.output_bytes));
            let message = format!(
                "it may show {rows} rows and lines and {bytes} a second; {more} (`limits.output-rows`, `limits.output-bytes`)"
            );
            self.log(Level::Warn, &message);
        }
        if first(now.messages, before.messages) {
            let messages = units::count(limits.log_messages);
            self.log(Level::Warn, &format!("it may log {messages} messages a second; {more} (`limits.log-messages`)"));
        }
    }

    /// Makes a call and waits for its return.
    pub(super) fn ask(&mut self, message: &ToWorker, limit: Duration) -> Result<Returned, Cause> {
        let call = message.call().unwrap_or(CallKind::Load);
        self.send(message)?;
        let until = Instant::now() + limit;
        self.waited = Duration::ZERO;
        loop {
            match self.hear()? {
                Some(Said::Returned(returned)) => return Ok(returned),
                // No call that is made here may ask.
                Some(Said::Asked(_)) => return Err(Violation::AskedEarly(call).into()),
                None => {}
            }
            if !self.link.wait(until + self.waited).map_err(Cause::Host)? {
                return Err(Cause::Stalled { call, limit });
            }
            self.link.fill();
        }
    }
}
