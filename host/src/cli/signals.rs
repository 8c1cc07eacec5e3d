//! The signals that end a run: SIGINT, SIGTERM and SIGHUP.
//!
//! While a bundle is loaded there is nothing to put in order, and a signal ends the process at once. From then on the first ends
//! the run in the ordinary way, with closed gate and report; the next ends the process at once. A signal that comes
//! right after the first is the first again: timeout(1) sends each to the process and then to its group.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::{
    SigId,
    consts::{SIGHUP, SIGINT, SIGTERM},
    low_level,
};

use crate::{clock, run::interrupted};

/// How long after the first a signal is still the same one, ns.
const SAME: u64 = 500_000_000;

/// The handlers of the signals that end a run, until it is dropped.
#[derive(Debug)]
pub struct Signals {
    wake: OwnedFd,
    orderly: Arc<AtomicBool>,
    first: Arc<AtomicUsize>,
    ids: Vec<SigId>,
}

impl Signals {
    /// Installs the handlers. SIGHUP stays ignored where it was (nohup). Until [`Signals::orderly`] a signal ends the process at
    /// once: what was loaded is gone with it.
    pub fn install() -> io::Result<Signals> {
        let (wake, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut signals = Signals { wake, orderly: Arc::default(), first: Arc::default(), ids: Vec::new() };
        let since = Arc::new(AtomicU64::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(SIGHUP) {
                continue;
            }
            let (tell, orderly) = (tell.try_clone()?, signals.orderly.clone());
            let (first, since) = (signals.first.clone(), since.clone());
            let early = format!("portcullis: error: {}\n", interrupted(name(signal)));
            let handler = move || {
                if !orderly.load(Ordering::Acquire) {
                    let _ = rustix::io::write(io::stderr(), early.as_bytes());
                    low_level::exit(1);
                }
                let now = clock::now();
                match since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        first.store(signal.unsigned_abs() as usize, Ordering::Release);
                        // An empty pipe has room for a byte.
                        let _ = rustix::io::write(&tell, &[1]);
                    }
                    Err(first) if now.saturating_sub(first) < SAME => {}
                    Err(_) => low_level::exit(128 + signal),
                }
            };
            // SAFETY: the handler reads a clock, uses atomics, writes to descriptors and may call _exit(2): all are
            // async-signal-safe.
            signals.ids.push(unsafe { low_level::register(signal, handler) }?);
        }
        Ok(signals)
    }

    /// From now on a signal is told, and ends nothing by itself.
    pub fn orderly(&self) {
        self.orderly.store(true, Ordering::Release);
    }

    /// The first signal that came, by name; `None` if none has.
    pub fn received(&self) -> Option<&'static str> {
        match self.first.load(Ordering::Acquire) {
            0 => None,
            signal => Some(name(i32::try_from(signal).unwrap_or(0))),
        }
    }
}

fn name(signal: i32) -> &'static str {
    low_level::signal_name(signal).unwrap_or("a signal")
}

impl AsFd for Signals {
    /// Becomes readable, and stays so, when the first signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// This process ignores `signal`; as proc(5) has it, bit *n - 1* of `SigIgn`.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|line| line.strip_prefix("SigIgn:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Child, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::{Pid, Signal, kill_process},
    };

    use super::*;

    /// Set in the process that [`child`] is to be.
    const CHILD: &str = "PORTCULLIS_TEST_SIGNALS";

    /// A process of its own, which the tests below start: it waits for a signal, says which came, and goes on for a while.
    #[test]
    #[allow(clippy::print_stderr)]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let signals = Signals::install().unwrap();
        signals.orderly();
        eprintln!("ready {:?}", signals.received());
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        while poll(&mut [PollFd::new(&signals, PollFlags::IN)], Some(&limit)).is_err() {}
        eprintln!("got {}", signals.received().unwrap());
        thread::sleep(Duration::from_secs(2));
    }

    fn command(mut command: Command) -> Child {
        command.args(["--exact", "cli::signals::tests::child", "--nocapture"]).env(CHILD, "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn start() -> (Child, Pid, impl FnMut() -> String) {
        let mut child = command(Command::new(std::env::current_exe().unwrap()));
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut next = move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            line
        };
        assert_eq!(next(), "ready None\n");
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        (child, pid, next)
    }

    /// The first signal is told and ends nothing; one right behind it changes nothing.
    #[test]
    fn the_first_signal_is_told() {
        let (mut child, pid, mut next) = start();
        kill_process(pid, Signal::INT).unwrap();
        assert_eq!(next(), "got SIGINT\n");
        kill_process(pid, Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    /// A later signal, of whichever kind, ends the process at once.
    #[test]
    fn the_second_ends_at_once() {
        let (mut child, pid, mut next) = start();
        kill_process(pid, Signal::HUP).unwrap();
        assert_eq!(next(), "got SIGHUP\n");
        thread::sleep(Duration::from_nanos(SAME + SAME / 5));
        let start = Instant::now();
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + SIGTERM));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    /// What nohup made the process ignore stays ignored.
    #[test]
    fn nohup_is_respected() {
        let mut nohup = Command::new("nohup");
        nohup.arg(std::env::current_exe().unwrap());
        let mut child = command(nohup);
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready None\n") {
            assert_ne!(lines.read_line(&mut line).unwrap(), 0);
        }
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        thread::sleep(Duration::from_millis(50));
        kill_process(pid, Signal::TERM).unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("got SIGTERM\n"), "{rest}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
