//! A run of a tool: what it prints, as it comes, and its end.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    output::Output,
    tool::{Kind, Tool},
};
use crate::process::{command, output};

/// How long a tool may take for what is waited for: some take half a minute to detach three hundred probes.
const PATIENCE: Duration = Duration::from_secs(180);
/// So many ticks after it has attached, what a tool has begun with is in order, and it runs as it would for a user.
const SETTLED: usize = 3;

/// The clause, last in a program, by which a run shows that it records.
pub(super) const TICKS: &str = r#"interval:ms:100 { printf("tick\n"); }"#;

/// A tool at work.
pub(super) struct Session {
    name: &'static str,
    kind: Kind,
    child: Child,
    /// Of both streams; closed when the tool has closed them.
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Session {
    /// Starts a command of a tool.
    pub(super) fn start(tool: &Tool, command: &mut Command) -> Result<Session> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't start {}", tool.name))?;
        let (sender, lines) = channel();
        if let Some(stream) = child.stdout.take() {
            forward(stream, sender.clone());
        }
        if let Some(stream) = child.stderr.take() {
            forward(stream, sender);
        }
        Ok(Session { name: tool.name, kind: tool.kind, child, lines, seen: Vec::new() })
    }

    /// Waits until everything of a program that has [`TICKS`] is attached, and has recorded for a while.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.attached()?;
        (0..SETTLED).try_for_each(|_| self.wait_for("a tick", |line| line.contains("tick")))
    }

    /// Waits until the tool says that it has attached all, if it is one that does.
    pub(super) fn attached(&mut self) -> Result<()> {
        match self.kind {
            // "Attached" when all are (0.24 and later), "Attaching" when it begins (before).
            Kind::Bpftrace => self.wait_for("that all is attached", |line| line.starts_with("Attach")),
            // Nothing comes from it before.
            Kind::Portcullis => Ok(()),
        }
    }

    /// Waits for the next line of some kind.
    pub(super) fn wait_for(&mut self, what: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while let Some(line) = self.next(end)? {
            let found = is(&line);
            self.seen.push(line);
            if found {
                return Ok(());
            }
        }
        bail!("{} ended without saying {what}:\n{}", self.name, self.seen.join("\n"))
    }

    /// Sends Ctrl-C's signal to runs, to all in one go.
    pub(super) fn interrupt(sessions: &[&Session]) -> Result<()> {
        let pids = sessions.iter().map(|session| session.child.id().to_string());
        output(command("sh", Path::new("/")).args(["-c", r#"kill -INT "$@""#, "sh"]).args(pids)).map(drop)
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<Output> {
        let end = Instant::now() + PATIENCE;
        while let Some(line) = self.next(end)? {
            self.seen.push(line);
        }
        let status = self.child.wait().with_context(|| format!("can't wait for {}", self.name))?;
        if !status.success() {
            bail!("{} failed: {status}\n{}", self.name, self.seen.join("\n"));
        }
        Ok(Output::new(std::mem::take(&mut self.seen)))
    }

    /// The next line, `None` after the last.
    fn next(&self, end: Instant) -> Result<Option<String>> {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                let last = self.seen.last().map_or("nothing", String::as_str);
                bail!("{} was given up after {} s; the last that it said was: {last}", self.name, PATIENCE.as_secs())
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the lines of a stream on, from a thread of their own: a full pipe would hold the tool up.
fn forward(stream: impl Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
}
