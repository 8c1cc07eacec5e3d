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
            without_counter: None,
            without_stream_counter: None,
            without_counters: false,
            broken: None,
        }
    }
}
