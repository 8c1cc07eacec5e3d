//! The signals that a run knows: SIGINT, SIGTERM and SIGHUP end it, SIGUSR1 opens the gate and SIGUSR2 pauses it.
//!
//! While a bundle is loaded there is nothing to put in order, and a signal that ends ends the process at once. From then on the first ends
//! the run in the ordinary way, with closed gate and report; the next ends the process at once, and says what was left undone. A signal that
//! comes right after the first is the first again: timeout(1) sends each to the process and then to its group.

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
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2},
    low_level,
};

use crate::clock;

/// How long after the first a signal is still the same one, ns.
const SAME: u64 = 500_000_000;

/// How far the end of a run has come, for one who does not wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// It has not begun.
    Running,
    /// The gate closes.
    Closing,
    /// Plugins take what was recorded.
    Draining,
    /// Plugins make their last call.
    Finishing,
    /// The report is made.
    Reporting,
    /// Everything is out.
    Detaching,
}

impl Stage {
    const ALL: [Stage; 6] =
        [Stage::Running, Stage::Closing, Stage::Draining, Stage::Finishing, Stage::Reporting, Stage::Detaching];

    /// What was not done when a run was ended at once.
    fn undone(self) -> &'static str {
        match self {
            Stage::Running | Stage::Closing => {
                "the gate was not closed in order: what plugins had not taken yet is lost, no plugin finished, and there is no report"
            }
            Stage::Draining => "what plugins had not taken yet is lost, no plugin finished, and there is no report",
            Stage::Finishing => "plugins took all that was recorded, but some did not finish, and there is no report",
            Stage::Reporting => "plugins finished, but there is no report",
            Stage::Detaching => "the report is out; the kernel detaches what was left",
        }
    }
}

/// What is said of a signal that comes before the opening.
pub fn interrupted(signal: &str) -> String {
    format!("interrupted by {signal} before the gate opened: nothing was recorded")
}

/// The handlers of the signals, until it is dropped.
#[derive(Debug)]
pub struct Signals {
    wake: OwnedFd,
    orderly: Arc<AtomicBool>,
    first: Arc<AtomicUsize>,
    stage: Arc<AtomicUsize>,
    opens: Arc<AtomicBool>,
    pauses: Arc<AtomicBool>,
    ids: Vec<SigId>,
}

impl Signals {
    /// Installs the handlers. SIGHUP stays ignored where it was (nohup). Until [`Signals::orderly`] a signal that ends ends the process at
    /// once: what was loaded is gone with it.
    pub fn install() -> io::Result<Signals> {
        let (wake, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut signals = Signals {
            wake,
            orderly: Arc::default(),
            first: Arc::default(),
            stage: Arc::default(),
            opens: Arc::default(),
            pauses: Arc::default(),
            ids: Vec::new(),
        };
        let since = Arc::new(AtomicU64::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(SIGHUP) {
                continue;
            }
            let (tell, orderly, stage) = (tell.try_clone()?, signals.orderly.clone(), signals.stage.clone());
            let (first, since) = (signals.first.clone(), since.clone());
            let early = format!("portcullis: error: {}\n", interrupted(name(signal)));
            let late = Stage::ALL.map(|stage| {
                format!("portcullis: error: ended at once by a second signal, {}: {}\n", name(signal), stage.undone())
            });
            let handler = move || {
                if !orderly.load(Ordering::Acquire) {
                    let _ = rustix::io::write(io::stderr(), early.as_bytes());
                    low_level::exit(1);
                }
                let now = clock::now();
                match since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        first.store(signal.unsigned_abs() as usize, Ordering::Release);
                        // An empty pipe has room for a byte, and one that is full wakes as well.
                        let _ = rustix::io::write(&tell, &[1]);
                    }
                    Err(first) if now.saturating_sub(first) < SAME => {}
                    Err(_) => {
                        let late = late.get(stage.load(Ordering::Acquire)).map_or("", String::as_str);
                        let _ = rustix::io::write(io::stderr(), late.as_bytes());
                        low_level::exit(128 + signal);
                    }
                }
            };
            // SAFETY: the handler reads a clock, uses atomics, writes to descriptors and may call _exit(2): all are
            // async-signal-safe.
            signals.ids.push(unsafe { low_level::register(signal, handler) }?);
        }
        for (signal, asked) in [(SIGUSR1, signals.opens.clone()), (SIGUSR2, signals.pauses.clone())] {
            let tell = tell.try_clone()?;
            let handler = move || {
                asked.store(true, Ordering::Release);
                let _ = rustix::io::write(&tell, &[1]);
            };
            // SAFETY: the handler uses an atomic and writes to a descriptor: both are async-signal-safe.
            signals.ids.push(unsafe { low_level::register(signal, handler) }?);
        }
        Ok(signals)
    }

    /// From now on a signal is told, and ends nothing by itself.
    pub fn orderly(&self) {
        self.orderly.store(true, Ordering::Release);
    }

    /// The first signal that ends, by name; `None` if none has come.
    pub fn received(&self) -> Option<&'static str> {
        match self.first.load(Ordering::Acquire) {
            0 => None,
            signal => Some(name(i32::try_from(signal).unwrap_or(0))),
        }
    }

    /// SIGUSR1 has come since this was asked last.
    pub fn open_asked(&self) -> bool {
        self.opens.swap(false, Ordering::AcqRel)
    }

    /// SIGUSR2 has come since this was asked last.
    pub fn pause_asked(&self) -> bool {
        self.pauses.swap(false, Ordering::AcqRel)
    }

    /// Forgets what has woken; to be called before asking what has come.
    pub fn clear(&self) {
        while rustix::io::read(&self.wake, &mut [0; 64]).is_ok_and(|read| read > 0) {}
    }

    /// The end of the run has come this far.
    pub fn at(&self, stage: Stage) {
        self.stage.store(stage as usize, Ordering::Release);
    }
}

fn name(signal: i32) -> &'static str {
    low_level::signal_name(signal).unwrap_or("a signal")
}

impl AsFd for Signals {
    /// Becomes readable when a signal has come that [`Signals::clear`] has not forgotten.
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
        signals.clear();
        if signals.open_asked() {
            eprintln!("asked to open");
        }
        let Some(signal) = signals.received() else { return };
        signals.at(Stage::Draining);
        eprintln!("got {signal}");
        thread::sleep(Duration::from_secs(2));
    }

    fn command(mut command: Command) -> Child {
        command.args(["--exact", "signals::tests::child", "--nocapture"]).env(CHILD, "1");
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

    /// A later signal, of whichever kind, ends the process at once, and what was left undone is said.
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
        assert_eq!(
            next(),
            "portcullis: error: ended at once by a second signal, SIGTERM: what plugins had not taken yet is lost, no plugin finished, \
             and there is no report\n"
        );
    }

    /// The signals that work the gate are told, and end nothing.
    #[test]
    fn signals_of_the_gate() {
        let (mut child, pid, mut next) = start();
        kill_process(pid, Signal::USR1).unwrap();
        assert_eq!(next(), "asked to open\n");
        assert!(child.wait().unwrap().success());
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
