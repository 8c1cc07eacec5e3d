//! What the compiler is given.

use crate::{
    broken::Broken,
    counters::{Counter, StreamCounter},
    diagnostic::Part,
};

/// One probe as its plugin declares it. The texts are in the probe language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Names the probe in errors and reports; unique within the plugin.
    pub name: String,
    /// Attach points, each with wildcards if wanted.
    pub attach: Vec<String>,
    /// A hit for which this expression is zero is counted as filtered and goes no further.
    pub when: Option<String>,
    /// Statements.
    pub body: String,
    /// An optional probe may be missing on this kernel, or at one of its attach points, because of what it attaches to or of what its
    /// body names: a type, a member, an argument.
    pub optional: bool,
}

impl ProbeSpec {
    /// The text of one of its parts; empty for one that is not there.
    pub(crate) fn text(&self, part: Part) -> &str {
        match part {
            Part::Name => &self.name,
            Part::Attach(i) => self.attach.get(i).map_or("", String::as_str),
            Part::When => self.when.as_deref().unwrap_or_default(),
            Part::Body => &self.body,
        }
    }
}

/// Which tasks a plugin's probes see, apart from the host and its workers, which none ever sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every process.
    System,
    /// The processes that are marked [`crate::processes::IN_SCOPE`]: a command and its children.
    Marked,
}

/// A control group of the unified hierarchy, with all below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its number: that of its directory.
    pub id: u64,
    /// How far it is below the hierarchy's root.
    pub level: u32,
}

/// A process that is there, told from any other that gets its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, as the initial pid namespace has it.
    pub id: u32,
    /// When it started, in ticks since the boot: the field `starttime` of its /proc/PID/stat.
    pub started: u64,
}

impl Process {
    /// How long a tick is, ns: `NSEC_PER_SEC / USER_HZ`, in nsec_to_clock_t(), kernel/time/time.c.
    pub const TICK: u64 = 10_000_000;
}

/// What a task must be for a hit of its to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A thread of this process; its children are others.
    Process(Process),
    /// Of this user (the real one).
    User(u32),
    /// In this control group.
    Cgroup(Cgroup),
}

/// How often each probe may run its body, all its attach points and all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    /// How often in a second, at least once.
    pub a_second: u32,
    /// How often at once, if it did not for long enough; at least once.
    pub burst: u32,
}

impl Rate {
    /// The most of either.
    pub const MOST: u32 = 1_000_000_000;

    /// The time that a run takes up, ns. It is rounded up, so that a probe never runs more often than it may, and less often by one in
    /// [`Rate::MOST`]` / a_second` at the most.
    pub fn interval(self) -> u64 {
        u64::from(Rate::MOST.div_ceil(self.a_second.clamp(1, Rate::MOST)))
    }

    /// How far back time that no run has taken up is kept, ns.
    pub(crate) fn kept(self) -> u64 {
        self.interval() * u64::from(self.burst.clamp(1, Rate::MOST))
    }
}

/// How to compile the probes of one plugin.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plugin's bit in the gate word, below 64; `None` compiles the gate out (guarantee G10).
    pub gate: Option<u8>,
    /// The processes in scope.
    pub scope: Scope,
    /// Of those, only what is within all of these: the wish of whoever runs it. Time that passes is nobody's, and a span that a key of
    /// its own joins may end anywhere.
    pub limits: Vec<Limit>,
    /// And within all of these, at every place where something of the plugin runs: what is granted.
    pub granted: Vec<Limit>,
    /// The reader of the plugin's ring is woken when this many bytes wait in it; until then it polls.
    pub wake_at: u32,
    /// How many threads can be inside one span probe at a time.
    pub spans: u32,
    /// How many attach points one probe may have after its wildcards are expanded.
    pub max_targets: usize,
    /// How much memory of the kernel the maps that its probes name may take, in bytes.
    pub max_map_bytes: u64,
    /// How many instructions each program may have.
    pub max_instructions: usize,
    /// How often each probe may run its body; `None` for as often as it is hit.
    pub rate: Option<Rate>,
    /// Leaves one counter out of every program. For the tests that prove that each counter is needed.
    #[doc(hidden)]
    pub without_counter: Option<Counter>,
    /// The same for a stream's counter.
    #[doc(hidden)]
    pub without_stream_counter: Option<StreamCounter>,
    /// Leaves all counters out, and the way to them. For the measurement of what counting costs.
    #[doc(hidden)]
    pub without_counters: bool,
    /// Leaves a mechanism out. For the tests that prove that each is needed.
    #[doc(hidden)]
    pub broken: Option<Broken>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            gate: Some(0),
            scope: Scope::System,
            limits: Vec::new(),
            granted: Vec::new(),
            wake_at: 1 << 20,
            spans: 16_384,
            max_targets: 1000,
            max_map_bytes: 256 << 20,
            max_instructions: 1_000_000,
            rate: None,
            without_counter: None,
            without_stream_counter: None,
            without_counters: false,
            broken: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However an interval is rounded, no more intervals fit into a second than may be, and what is kept is a time.
    #[test]
    fn rates() {
        let check = |a_second: u32, interval: u64, runs: u64| {
            let rate = Rate { a_second, burst: Rate::MOST };
            assert_eq!((rate.interval(), 1_000_000_000 / rate.interval()), (interval, runs), "{a_second}");
            assert!(runs <= u64::from(a_second.max(1)) && i64::try_from(rate.kept()).is_ok());
        };
        check(1, 1_000_000_000, 1);
        check(3, 333_333_334, 2);
        check(10_000, 100_000, 10_000);
        check(30_000, 33_334, 29_999);
        check(999_999, 1_001, 999_000);
        check(600_000_000, 2, 500_000_000);
        check(Rate::MOST, 1, 1_000_000_000);
        // What nobody may say.
        check(0, 1_000_000_000, 1);
        check(u32::MAX, 1, 1_000_000_000);
        assert_eq!(Rate { a_second: 10, burst: 0 }.kept(), 100_000_000);
    }
}
