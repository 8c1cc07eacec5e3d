//! A session of one plugin: its probes as text, and what is run beside it.

use std::fmt::Write as _;

use portcullis::kernel::Mechanism;
use portcullis_ebpf::{Options, ProbeSpec, Rate, Scope};

use crate::{kernel, workload};

/// A file that is there on every machine, and whose path is longer than [`SHORT`].
pub const PATH: &str = "/proc/self/status";
/// How much of a path is kept where little is.
pub const SHORT: u64 = 4;
const LONG: u64 = 64;
/// The streams. Any probe may emit to any of them.
pub const STREAMS: [&str; 3] = ["plain", "named", "texts"];

/// All that is random about a session.
#[derive(Clone, Debug)]
pub struct Case {
    /// The programs have the gate.
    pub gate: bool,
    /// Every process is in scope, not the workloads alone.
    pub system: bool,
    /// How probes are attached.
    pub mechanism: Mechanism,
    /// Of the ring, in bytes.
    pub ring: u32,
    /// How many threads can be inside one span probe at a time.
    pub spans: u32,
    /// How often each probe may run its body.
    pub rate: Option<Rate>,
    /// The probes.
    pub probes: Vec<Probe>,
    /// What runs before the opening, one after the other.
    pub before: Vec<Load>,
    /// What runs after it.
    pub open: Vec<Load>,
}

/// A probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Where it is.
    pub site: Site,
    /// Its predicate.
    pub when: When,
    /// Its body.
    pub body: Vec<Step>,
}

/// Attach points of which a workload knows how often it comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Site {
    EnterGetppid,
    ExitGetppid,
    SpanGetppid,
    /// Of all calls, where the number is that of getppid(2).
    RawEnter,
    /// Of all calls, where nothing is asked for but to read.
    EnterOpenat,
    SpanOpenat,
    /// Of all calls, where one byte is asked for.
    EnterRead,
    SpanRead,
    /// A call that returns twice.
    SpanClone,
    /// A call that never returns.
    SpanExit,
    SpanSleep,
    NewTask,
    RawNewTask,
    TaskExit,
    Function,
    Return,
    SpanFunction,
    /// Two functions, of which one calls the other.
    SpanNested,
    Marker,
    Begin,
    End,
    /// Nobody knows how often.
    Interval,
}

/// What of the hits goes into the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum When {
    Always,
    All,
    None,
    /// Nobody knows which.
    Random,
    /// Those with an odd number, where hits have numbers; else as [`When::Random`].
    Odd,
}

/// A statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record of a stream; `short`: of a long text the beginning is kept.
    Emit {
        /// Its position in [`STREAMS`].
        stream: usize,
        /// Every hit so many.
        every: u64,
        /// Of a long text the beginning is kept.
        short: bool,
    },
    /// The end of the body.
    Return {
        /// Every hit so many.
        every: u64,
    },
    /// A new element of a map.
    Insert {
        /// How many it has room for.
        room: u64,
        /// It holds an aggregation.
        counts: bool,
    },
}

/// A workload, with the number of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Load {
    Getppid(u64),
    Opens(u64),
    /// The path is at an address that is not there.
    BadOpens(u64),
    Forks(u64),
    Reads {
        count: u64,
        threads: u64,
    },
    Calls(u64),
    Pairs(u64),
    /// Only where someone listens.
    Markers(u64),
    Sleeps(u64),
}

impl Load {
    /// The arguments of the workload.
    pub fn arguments(self) -> Vec<String> {
        let words = match self {
            Load::Getppid(n) => format!("getppid {n}"),
            Load::Opens(n) => format!("opens {n} {PATH}"),
            Load::BadOpens(n) => format!("opens-bad {n}"),
            Load::Forks(n) => format!("forks {n}"),
            Load::Reads { count, threads } => format!("reads {count} {threads}"),
            Load::Calls(n) => format!("calls {n}"),
            Load::Pairs(n) => format!("pairs {n}"),
            Load::Markers(n) => format!("markers {n}"),
            Load::Sleeps(n) => format!("waits {n}"),
        };
        words.split(' ').map(str::to_owned).collect()
    }

    /// Threads of one process do the same at the same time.
    pub fn concurrent(self) -> bool {
        matches!(self, Load::Reads { threads: 2.., .. })
    }
}

impl Site {
    /// In the language.
    pub fn attach(self) -> String {
        let within = |kind: &str, rest: &str| format!("{kind}:{}:{rest}", workload().display());
        let fixed = match self {
            Site::EnterGetppid => "tracepoint:syscalls:sys_enter_getppid",
            Site::ExitGetppid => "tracepoint:syscalls:sys_exit_getppid",
            Site::SpanGetppid => "span:syscall:getppid",
            Site::RawEnter => "tracepoint:raw_syscalls:sys_enter",
            Site::EnterOpenat => "tracepoint:syscalls:sys_enter_openat",
            Site::SpanOpenat => "span:syscall:openat",
            Site::EnterRead => "tracepoint:syscalls:sys_enter_read",
            Site::SpanRead => "span:syscall:read",
            Site::SpanClone => "span:syscall:clone",
            Site::SpanExit => "span:syscall:exit_group",
            Site::SpanSleep => "span:syscall:clock_nanosleep",
            Site::NewTask => "tracepoint:task:task_newtask",
            Site::RawNewTask => "rawtracepoint:task_newtask",
            Site::TaskExit => "tracepoint:sched:sched_process_exit",
            Site::Function => return within("uprobe", "workload_double"),
            Site::Return => return within("uretprobe", "workload_double"),
            Site::SpanFunction => return within("span:uprobe", "workload_double"),
            Site::SpanNested => {
                return [within("span:uprobe", "workload_triple"), within("span:uprobe", "workload_double")].join(", ");
            }
            Site::Marker => return within("usdt", "workload:marker"),
            Site::Begin => "begin",
            Site::End => "end",
            Site::Interval => "interval:ms:1",
        };
        fixed.to_owned()
    }

    /// It pairs entries with exits.
    pub fn is_span(self) -> bool {
        self.attach().starts_with("span:")
    }

    /// It is in the workload's own code, where no other process comes.
    pub fn is_private(self) -> bool {
        matches!(self, Site::Function | Site::Return | Site::SpanFunction | Site::SpanNested | Site::Marker)
    }

    /// What tells the workload's own calls from others that every program makes.
    fn own(self) -> Option<String> {
        match self {
            Site::RawEnter => Some(format!("args.id == {}", libc::SYS_getppid)),
            Site::EnterOpenat => Some(format!("args.flags == {}", libc::O_RDONLY)),
            Site::SpanOpenat => Some(format!("entry.args.flags == {}", libc::O_RDONLY)),
            Site::EnterRead => Some("args.count == 1".to_owned()),
            Site::SpanRead => Some("entry.args.count == 1".to_owned()),
            _ => None,
        }
    }

    /// What is true of every other hit.
    fn odd(self) -> Option<&'static str> {
        match self {
            Site::Function | Site::Marker => Some("arg0 % 2 == 1"),
            Site::SpanFunction | Site::SpanNested => Some("entry.arg0 % 2 == 1"),
            // It returns its argument, doubled.
            Site::Return => Some("retval % 4 == 2"),
            _ => None,
        }
    }

    /// A text of the hit.
    fn text(self, short: bool) -> String {
        let room = if short { SHORT } else { LONG };
        match self {
            Site::EnterOpenat => format!("str(args.filename, {room})"),
            Site::SpanOpenat => format!("str(entry.args.filename, {room})"),
            _ => "comm".to_owned(),
        }
    }
}

impl Probe {
    /// Its predicate, if it can be: what hits have no numbers for is left to chance.
    pub fn when(&self) -> When {
        match self.when {
            When::Odd if self.site.odd().is_none() => When::Random,
            when => when,
        }
    }

    fn predicate(&self) -> Option<String> {
        let chosen = match self.when() {
            When::Always => None,
            When::All => Some("nsecs > 0"),
            When::None => Some("nsecs == 0"),
            When::Random => Some("rand % 2 == 0"),
            When::Odd => self.site.odd(),
        };
        let parts: Vec<String> = self.site.own().into_iter().chain(chosen.map(str::to_owned)).collect();
        (!parts.is_empty()).then(|| parts.join(" && "))
    }

    /// In the language. A hit of the body has a number, which a map of its own holds: the first is 1.
    fn spec(&self, number: usize) -> ProbeSpec {
        let seen = seen(number);
        let mut body = format!("@{seen}++; ");
        for (position, step) in self.body.iter().enumerate() {
            let _ = match *step {
                Step::Emit { stream, every, short } => {
                    let fields = match stream {
                        0 => "tid, cpu".to_owned(),
                        1 => format!("pid, comm, number: @{seen}"),
                        _ => format!("tid, text: {}", self.site.text(short)),
                    };
                    let emit = format!("emit {} {{ {fields} }}", STREAMS[stream]);
                    match every {
                        1 => write!(body, "{emit}; "),
                        _ => write!(body, "if @{seen} % {every} == 0 {{ {emit}; }} "),
                    }
                }
                Step::Return { every } => write!(body, "if @{seen} % {every} == 0 {{ return; }} "),
                Step::Insert { room, counts } => {
                    let map = map(number, position);
                    let value = if counts { "count()" } else { "1" };
                    write!(body, "let @{map} = hash({room}); @{map}[@{seen}] = {value}; ")
                }
            };
        }
        kernel::probe(&format!("p{number}"), &self.site.attach(), self.predicate().as_deref(), &body)
    }
}

/// The map with the number of a probe's hits.
pub fn seen(probe: usize) -> String {
    format!("seen{probe}")
}

/// The map of a step.
pub fn map(probe: usize, step: usize) -> String {
    format!("m{probe}_{step}")
}

impl Case {
    /// The probes in the language.
    pub fn specs(&self) -> Vec<ProbeSpec> {
        self.probes.iter().enumerate().map(|(number, probe)| probe.spec(number)).collect()
    }

    /// With what they are compiled.
    pub fn options(&self) -> Options {
        Options {
            gate: self.gate.then_some(0),
            scope: if self.system { Scope::System } else { Scope::Marked },
            spans: self.spans,
            rate: self.rate,
            ..Options::default()
        }
    }

    /// What is recorded: without a gate all that runs.
    pub fn recorded(&self) -> impl Iterator<Item = Load> + '_ {
        let before = if self.gate { &[] } else { self.before.as_slice() };
        before.iter().chain(&self.open).copied()
    }

    /// What runs while the gate is closed.
    pub fn closed(&self) -> impl Iterator<Item = Load> + '_ {
        let before = if self.gate { self.before.as_slice() } else { &[] };
        before.iter().copied()
    }
}
