//! The time that a call may take.
//!
//! A thread sleeps until the running call is due and then advances the engine's epoch, which interrupts WebAssembly code wherever
//! it is. It wakes once a limit rather than every millisecond, and beginning a call costs a store and a load.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use wasmtime::Engine;

/// No call runs; or the thread waits for one.
const NEVER: u64 = u64::MAX;

/// The watch over one engine's calls.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    /// When the running call is due, ns since `origin`.
    due: AtomicU64,
    /// Until when the thread sleeps.
    asleep_until: AtomicU64,
}

impl Shared {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Deadline {
    /// Starts the thread.
    pub(super) fn watch(engine: Engine) -> io::Result<Deadline> {
        let shared = Arc::new(Shared { origin: Instant::now(), due: AtomicU64::new(NEVER), asleep_until: AtomicU64::new(NEVER) });
        let watched = shared.clone();
        let thread = std::thread::Builder::new().name("deadline".into()).spawn(move || {
            loop {
                let due = watched.due.load(Ordering::SeqCst);
                watched.asleep_until.store(due, Ordering::SeqCst);
                let now = watched.now();
                if due <= now {
                    engine.increment_epoch();
                    // Until the call has noticed.
                    std::thread::sleep(Duration::from_millis(1));
                } else if due != watched.due.load(Ordering::SeqCst) {
                    // A call began in between; it may not have seen that we go to sleep.
                } else if due == NEVER {
                    std::thread::park();
                } else {
                    std::thread::park_timeout(Duration::from_nanos(due - now));
                }
            }
        })?;
        Ok(Deadline { shared, thread: thread.thread().clone() })
    }

    /// A call begins that may take `limit`.
    pub(super) fn begin(&self, limit: Duration) {
        let due = self.shared.now().saturating_add(limit.as_nanos() as u64);
        self.shared.due.store(due, Ordering::SeqCst);
        if due < self.shared.asleep_until.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// `time` of the running call was not its own.
    pub(super) fn excuse(&self, time: Duration) {
        if !time.is_zero() {
            self.shared.due.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
        }
    }

    /// The call is over.
    pub(super) fn end(&self) {
        self.shared.due.store(NEVER, Ordering::SeqCst);
    }

    /// What is left of the running call's time.
    pub(super) fn left(&self) -> Duration {
        Duration::from_nanos(self.shared.due.load(Ordering::SeqCst).saturating_sub(self.shared.now()))
    }

    /// Whether the running call is over its time.
    pub(super) fn expired(&self) -> bool {
        self.shared.due.load(Ordering::SeqCst) <= self.shared.now()
    }
}
