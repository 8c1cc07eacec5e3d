//! Runs that are watched from outside while they go on: what they have said so far, which processes they have, what those hold.

#![allow(clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Bundle, Outcome, children};

/// How long anything here is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `there` finds something.
pub fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Sends a signal to a process, which may be gone.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// A stream of a process, read by a thread as it comes, so that it never fills up.
#[derive(Debug)]
struct Heard {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Heard {
    fn of(mut stream: impl Read + Send + 'static) -> Heard {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
            }
        });
        Heard { text, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn all(self) -> String {
        self.reader.join().expect("the reader does not panic");
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// A `portcullis run` that goes on. Dropped in the middle of a test that fails, it is killed.
#[derive(Debug)]
pub struct Watched {
    child: Child,
    report: PathBuf,
    streams: Option<(Heard, Heard)>,
}

impl Watched {
    /// Starts `run --format json` with a report.
    pub fn start(bundle: &Bundle, arguments: &[&str]) -> Watched {
        let report = bundle.directory.path().join("report.json");
        let mut all = vec!["--format", "json", "--report", report.to_str().expect("the path is text")];
        all.extend(arguments);
        Watched::spawn(&mut bundle.command("run", &all), report)
    }

    /// Starts a command whose streams are pipes; its report would be at `report`.
    pub fn spawn(command: &mut std::process::Command, report: PathBuf) -> Watched {
        let mut child = command.spawn().expect("portcullis can be started");
        let out = Heard::of(child.stdout.take().expect("standard output is a pipe"));
        let err = Heard::of(child.stderr.take().expect("standard error is a pipe"));
        Watched { child, report, streams: Some((out, err)) }
    }

    /// The host's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its report will be.
    pub fn report(&self) -> &PathBuf {
        &self.report
    }

    /// What it has written to standard error.
    pub fn said(&self) -> String {
        self.streams.as_ref().map(|(_, err)| err.so_far()).unwrap_or_default()
    }

    /// Waits until standard error has `text`.
    pub fn wait_for(&self, text: &str) {
        until(text, || self.said().contains(text).then_some(()));
    }

    /// Sends the host a signal.
    pub fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// Its workers that are there now.
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid()).into_iter().filter(|pid| worker_name(*pid).is_some()).collect()
    }

    /// Waits until a worker of the plugin is there.
    pub fn worker(&self, plugin: &str) -> u32 {
        until("a worker", || self.workers().into_iter().find(|pid| worker_name(*pid).as_deref() == Some(plugin)))
    }

    /// Its children that are no workers: COMMAND.
    pub fn commands(&self) -> Vec<u32> {
        // Before execve a child is still called what its parent is.
        let is_other = |pid: &u32| cmdline(*pid).first().is_some_and(|command| !command.ends_with("portcullis"));
        children(self.pid()).into_iter().filter(is_other).collect()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("portcullis can be waited for")
    }

    /// Kills the host outright.
    pub fn kill(&mut self) {
        self.child.kill().expect("portcullis can be killed");
        self.child.wait().expect("portcullis can be waited for");
    }

    /// Waits for its end and checks the report, if there is one.
    pub fn finish(mut self) -> Outcome {
        let status = until("the end of the run", || self.ended());
        let (out, err) = self.streams.take().expect("a run ends once");
        let report = fs::read_to_string(&self.report).ok();
        let report = report.map(|text| serde_json::from_str(&text).expect("the report is JSON"));
        let outcome = Outcome { code: status.code(), stdout: out.all(), stderr: err.all(), report };
        if outcome.report.is_some() {
            outcome.assert_equations();
        }
        outcome
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of a process; none if it is gone, or has ended.
fn cmdline(pid: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.split(|byte| *byte == 0).filter(|a| !a.is_empty()).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

/// The plugin of a worker process; `None` if it is none.
fn worker_name(pid: u32) -> Option<String> {
    match cmdline(pid).as_slice() {
        [host, worker, name, ..] if host == "portcullis" && worker == "worker" => Some(name.clone()),
        _ => None,
    }
}

/// A process is there, and is more than an entry that nobody has waited for.
pub fn is_alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The state of a process as proc(5) has it: `R`, `S`, `t` ...
pub fn state(pid: u32) -> Option<char> {
    facts(&format!("/proc/{pid}"))?.get("State")?.chars().next()
}

/// Waits until none of these processes is left.
pub fn assert_gone(pids: &[u32]) {
    until("the end of the workers", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

/// `/proc/PID[/task/TID]/status`, by name; `None` if it is gone.
pub fn facts(directory: &str) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("{directory}/status")).ok()?;
    let facts = text.lines().filter_map(|line| line.split_once(':'));
    Some(facts.map(|(name, value)| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" "))).collect())
}

/// The facts of every thread of a process that is there.
pub fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| facts(task.path().to_str()?)).collect()
}

/// What each descriptor of a process is, in the kernel's words.
pub fn descriptors(pid: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut all: Vec<(u32, String)> = entries
        .filter_map(|entry| {
            let what = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, what.to_string_lossy().into_owned()))
        })
        .collect();
    all.sort();
    all
}
