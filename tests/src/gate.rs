//! What the proofs of the gate's guarantees share: load on every CPU, threads that are in a call for as long as a test wants, and sessions
//! that a test goes through step by step, looking at everything that programs have changed.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use portcullis::{
    clock,
    contract::{ProbeCounts, StreamCounts},
    kernel::{PluginMaps, Ring, RunningKernel},
    session::{Attached, Closed, Compiled, Config, Error, Loaded, Open, Plugin},
};
use portcullis_ebpf::{
    Hook, Kernel, Options, ProbeSpec, Slot,
    kernel::{Btf, Features, Function, Modules, SourceError, UserFunction, UserProbe, UserSymbol},
    processes, record,
    scope::{self, Children},
};
use rustix::{
    process::{Pid, Signal, kill_process, setpriority_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::{
    elements,
    kernel::{Told, compile, probe},
    note, workload,
};

/// How long anything here is waited for that is bound to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The CPUs that this process may run on.
fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("a process knows its CPUs");
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// A workload that does not end, on each CPU.
#[derive(Debug)]
pub struct Load {
    children: Vec<Child>,
}

impl Load {
    /// Starts it.
    pub fn start(arguments: &[&str]) -> Load {
        Load::start_many(arguments, 1)
    }

    /// Starts it so many times on each CPU, where they take turns.
    pub fn start_many(arguments: &[&str], times: usize) -> Load {
        let start = |cpu| {
            let child = std::process::Command::new(workload()).args(arguments).stdin(Stdio::null()).spawn();
            let child = child.expect("the workload starts");
            let mut only = CpuSet::new();
            only.set(cpu);
            let pid = Some(Pid::from_child(&child));
            sched_setaffinity(pid, &only).expect("the workload can be put on a CPU");
            setpriority_process(pid, 0).expect("the workload can be of ordinary priority");
            child
        };
        let children = (0..times).flat_map(|_| cpus()).map(start).collect();
        // The test comes first when it has something to do: what it waits for is short.
        setpriority_process(None, -19).expect("a test can be of high priority");
        Load { children }
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Their threads.
    pub fn threads(&self) -> Vec<u32> {
        let tasks = self.pids().into_iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        tasks.flatten().flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
    }

    /// Stops it for as long as the closure takes. A thread stops on its way out of the kernel, so then none is in a program.
    pub fn stopped<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        for tid in self.threads() {
            wait_until(&format!("thread {tid} is stopped"), || {
                // The state comes after the name, which may hold anything (proc_pid_stat(5)).
                let stat = std::fs::read_to_string(format!("/proc/{tid}/stat"));
                stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
            });
        }
        let done = meanwhile();
        self.signal(Signal::CONT);
        done
    }

    fn signal(&self, signal: Signal) {
        for child in &self.children {
            kill_process(Pid::from_child(child), signal).expect("the workload lives, and is the test's own");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Threads that are in `workload_wait`, and there in read(2), until they are told to return; then they enter it again.
#[derive(Debug)]
pub struct Blocked {
    processes: Vec<Told>,
    /// When each of them entered: between these times.
    entered: Vec<Range<u64>>,
}

impl Blocked {
    /// Starts so many processes of one thread each. Each is in the call.
    pub fn start(count: usize) -> Blocked {
        let start = clock::now();
        let processes: Vec<Told> = (0..count).map(|_| Told::start(&["waits-to-be-told"]).0).collect();
        let mut blocked = Blocked { processes, entered: vec![start..start; count] };
        blocked.wait(start);
        blocked
    }

    /// Has each return from the call and enter it again.
    pub fn go_on(&mut self) {
        let told = clock::now();
        self.processes.iter_mut().for_each(Told::tell);
        self.processes.iter_mut().for_each(|one| drop(one.listen()));
        self.wait(told);
    }

    /// The threads, each with the time between which it entered the call that it is in.
    pub fn threads(&self) -> Vec<(u32, Range<u64>)> {
        self.pids().into_iter().zip(self.entered.iter().cloned()).collect()
    }

    /// Its processes: each is its own and only thread.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Told::pid).collect()
    }

    /// Waits until all are in the call, which they entered after `told`.
    fn wait(&mut self, told: u64) {
        for (process, entered) in self.processes.iter().zip(&mut self.entered) {
            let path = format!("/proc/{}/syscall", process.pid());
            // read(2), whose number is 0, of descriptor 0.
            let call = format!("{} 0x0 ", libc::SYS_read);
            wait_until(&format!("{path} is in read(2)"), || {
                std::fs::read_to_string(&path).is_ok_and(|now| now.starts_with(&call))
            });
            *entered = told..clock::now();
        }
    }
}

/// A bundle, compiled once and run in each round anew.
pub struct Experiment<'k> {
    kernel: &'k RunningKernel,
    plugins: Vec<portcullis_ebpf::Compiled>,
    options: Options,
    ring: u32,
    without_grace: bool,
}

impl<'k> Experiment<'k> {
    /// The probes of several plugins. With a gate the plugins have its bits from 0 on.
    pub fn new(kernel: &'k RunningKernel, plugins: &[Vec<ProbeSpec>], options: &Options) -> Experiment<'k> {
        Experiment::within(kernel, kernel, plugins, options)
    }

    /// The same, compiled for a kernel that can do less than the one that runs.
    pub fn within(
        kernel: &'k RunningKernel,
        compiled_for: &dyn Kernel,
        plugins: &[Vec<ProbeSpec>],
        options: &Options,
    ) -> Experiment<'k> {
        let compiled = (0..).zip(plugins).map(|(bit, specs)| {
            compile(compiled_for, specs, &Options { gate: options.gate.map(|_| bit), spans: 256, ..options.clone() })
        });
        Experiment { kernel, plugins: compiled.collect(), options: options.clone(), ring: 4 << 20, without_grace: false }
    }

    /// The same, closed without waiting.
    #[must_use]
    pub fn without_grace(self) -> Self {
        Experiment { without_grace: true, ..self }
    }

    /// The number of plugins.
    pub fn plugins(&self) -> usize {
        self.plugins.len()
    }

    /// The mechanism of a plugin's first probe.
    pub fn mechanism(&self) -> &str {
        &self.plugins[0].probes[0].mechanism
    }

    /// The same with one plugin more, compiled for another kernel, whose last program is to be attached to a tracepoint that no kernel
    /// has.
    #[must_use]
    pub fn with_impossible(mut self, specs: &[ProbeSpec]) -> Self {
        let plain = Lesser::new(self.kernel, self.kernel.features().plain());
        let gate = self.options.gate.map(|_| self.plugins.len() as u8);
        let mut compiled = compile(&plain, specs, &Options { gate, ..self.options.clone() });
        let last = compiled.programs.last_mut().expect("it has a program");
        last.hook = Hook::PerfTracepoint { category: "sched".to_owned(), name: "no_such_point".to_owned() };
        self.plugins.push(compiled);
        self
    }

    /// Loads and attaches, with these processes in scope.
    pub fn attach(&self, scope: &[u32]) -> Traced<'_, Attached> {
        self.load(scope).attach().unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// Loads, with these processes in scope.
    pub fn load(&self, scope: &[u32]) -> Traced<'_, Loaded<'_>> {
        let tracker = scope::tracker(self.kernel, Children::Follow).expect("the tracker can be made");
        let config = Config { gate: self.options.gate.is_some(), scope: self.options.scope, tracker: Some(tracker) };
        let plugin = |(n, compiled): (usize, &portcullis_ebpf::Compiled)| Plugin {
            name: format!("plugin {n}"),
            compiled: compiled.clone(),
            ring: self.ring,
        };
        let compiled =
            Compiled::new(self.plugins.iter().enumerate().map(plugin).collect(), config).expect("the session is sound");
        let compiled = if self.without_grace { compiled.without_grace() } else { compiled };
        let mut loaded = compiled.load(self.kernel).unwrap_or_else(|e| panic!("{e}"));
        scope.iter().for_each(|pid| loaded.processes().mark(*pid, processes::IN_SCOPE));
        let rings = (0..self.plugins()).map(|plugin| loaded.take_ring(plugin)).collect();
        let maps = (0..self.plugins()).map(|plugin| loaded.maps(plugin).expect("maps can be read")).collect();
        Traced { session: loaded, experiment: self, rings, maps }
    }
}

/// A session of an experiment in one of its states.
pub struct Traced<'e, S> {
    /// The session.
    pub session: S,
    experiment: &'e Experiment<'e>,
    rings: Vec<Option<Ring>>,
    maps: Vec<PluginMaps>,
}

/// A state in which programs have counted.
pub trait Counts {
    /// What a plugin's programs have counted.
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>);

    /// How often the kernel skipped one of them, where the session tells.
    fn misses(&self, _plugin: usize) -> u64 {
        0
    }
}

impl Counts for Attached {
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.counts(plugin)
    }
}

impl Counts for Open {
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.counts(plugin)
    }

    fn misses(&self, plugin: usize) -> u64 {
        self.account(plugin).expect("counts can be read").map_or(0, |account| account.misses)
    }
}

impl Counts for Closed {
    fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        self.counts(plugin).expect("counts can be read")
    }

    fn misses(&self, plugin: usize) -> u64 {
        self.account(plugin).expect("counts can be read").map_or(0, |account| account.misses)
    }
}

/// A session that is gone.
#[derive(Debug)]
pub struct Nothing;

impl Counts for Nothing {
    fn counts(&self, _: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
        (Vec::new(), Vec::new())
    }
}

impl<'e, S> Traced<'e, S> {
    fn step<T>(self, step: impl FnOnce(S) -> T) -> Traced<'e, T> {
        Traced { session: step(self.session), experiment: self.experiment, rings: self.rings, maps: self.maps }
    }

    /// The elements of a plugin's maps, as [`elements::read`] has them.
    pub fn elements(&mut self, plugin: usize) -> Vec<(String, Vec<String>)> {
        elements::read(&mut self.maps[plugin], &self.experiment.plugins[plugin], self.experiment.kernel.symbols())
    }

    /// The numbers of a map with one key, by key.
    pub fn numbers(&mut self, plugin: usize, map: &str) -> BTreeMap<u64, i64> {
        let rows = self.elements(plugin).into_iter().filter(|(name, _)| name == map);
        let number = |word: &str| word.parse::<i64>().unwrap_or_else(|_| panic!("`{word}` is no number"));
        rows.map(|(_, words)| (number(&words[1]).cast_unsigned(), number(&words[2]))).collect()
    }

    /// Reads what waits in a plugin's ring: the stream, the time of the record, and its fields, which are numbers.
    pub fn records(&mut self, plugin: usize, mut each: impl FnMut(&str, u64, &[u64])) -> usize {
        let streams = &self.experiment.plugins[plugin].streams;
        let Some(ring) = &mut self.rings[plugin] else { return 0 };
        let mut fields = Vec::new();
        ring.read(usize::MAX, |bytes| {
            let word = |at: u32, size: usize| {
                let mut wide = [0; 8];
                wide[..size].copy_from_slice(&bytes[at as usize..at as usize + size]);
                u64::from_le_bytes(wide)
            };
            let stream = &streams[word(record::STREAM, 4) as usize];
            fields.clear();
            fields.extend(stream.fields.iter().map(|field| match field.slot {
                Slot::Int { offset, size, .. } => word(offset, size.into()),
                _ => panic!("{} is no number", field.name),
            }));
            each(&stream.name, word(record::TIME, 8), &fields);
        })
    }
}

impl<S: Counts> Traced<'_, S> {
    /// How often the kernel skipped a program of a plugin. One that can be preempted in a program does so with those that would
    /// run it meanwhile on the same CPU: `active` of struct bpf_prog is one number a CPU (`__bpf_trace_run`, kernel/trace/bpf_trace.c).
    pub fn misses(&self, plugin: usize) -> u64 {
        self.session.misses(plugin)
    }

    /// All that a plugin's programs have changed so far.
    pub fn recorded(&mut self, plugin: usize) -> Recorded {
        let (probes, streams) = self.session.counts(plugin);
        let mut facts = BTreeMap::new();
        let mut fact = |what: String, value: u64| drop(facts.insert(what, value.to_string()));
        for p in probes {
            // Not `hits_closed` and `entry_hits_closed`.
            let counters = [
                ("hits", p.hits),
                ("unpaired", p.unpaired.unwrap_or(0)),
                ("filtered", p.filtered),
                ("completed", p.completed),
                ("entry hits", p.entry_hits),
                ("entered", p.entered),
                ("matched", p.matched),
                ("in flight", p.in_flight),
                ("lost", p.lost),
                ("map full", p.map_full),
                ("read fault", p.read_fault),
                ("truncated", p.truncated),
            ];
            counters.into_iter().for_each(|(counter, value)| fact(format!("{counter} of `{}`", p.name), value));
        }
        for (number, s) in streams.iter().enumerate() {
            let counters = [("attempted", s.attempted), ("emitted", s.emitted), ("ring full", s.ring_full)];
            counters.into_iter().for_each(|(counter, value)| fact(format!("{counter} of stream {number}"), value));
        }
        fact("bytes in the ring".to_owned(), self.rings[plugin].as_ref().map_or(0, Ring::waiting));
        facts.retain(|_, value| value != "0");
        for (_, mut words) in self.elements(plugin) {
            let value = words.pop().unwrap_or_default();
            facts.insert(words.join(" "), value);
        }
        Recorded { plugin, facts }
    }
}

impl<'e> Traced<'e, Loaded<'_>> {
    /// Attaches; if that fails, why, and what is left to look at: rings and maps.
    pub fn attach(self) -> Result<Traced<'e, Attached>, (Error, Traced<'e, Nothing>)> {
        let Traced { session, experiment, rings, maps } = self;
        match session.attach() {
            Ok(session) => Ok(Traced { session, experiment, rings, maps }),
            Err(error) => Err((error, Traced { session: Nothing, experiment, rings, maps })),
        }
    }
}

impl<'e> Traced<'e, Attached> {
    /// Opens the gate.
    pub fn open(self) -> Traced<'e, Open> {
        self.step(Attached::open)
    }

    /// Opens it for some plugins.
    pub fn open_some(self, plugins: &[usize]) -> Traced<'e, Open> {
        self.step(|attached| attached.open_some(plugins))
    }
}

impl<'e> Traced<'e, Open> {
    /// Waits until a run of the first plugin's first probe begins, and returns at once: where a run is long, it is in flight then.
    pub fn wait_for_a_run(&self) {
        let hits = || self.session.counts(0).0[0].hits;
        let (before, end) = (hits(), Instant::now() + PATIENCE);
        while hits() == before {
            assert!(Instant::now() < end, "no hit within {PATIENCE:?}");
        }
    }

    /// Closes the gate.
    pub fn close(self) -> Traced<'e, Closed> {
        self.step(Open::close)
    }
}

impl Traced<'_, Closed> {
    /// Detaches.
    pub fn detach(self) {
        self.session.detach();
    }

    /// What the end of a run without losses has to say of every probe, or what is wrong with it.
    pub fn equations(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for plugin in 0..self.experiment.plugins() {
            let (probes, streams) = Counts::counts(&self.session, plugin);
            for p in probes {
                if p.hits != p.unpaired.unwrap_or(0) + p.filtered + p.shed + p.completed
                    || p.entry_hits != p.entered
                    || p.entered != p.matched + p.in_flight + p.lost
                {
                    wrong.push(format!("the counts do not add up: {p:?}"));
                }
            }
            if let Some(stream) = streams.iter().find(|s| s.attempted != s.emitted + s.ring_full) {
                wrong.push(format!("the counts do not add up: {stream:?}"));
            }
        }
        wrong
    }
}

/// All that a plugin's programs can change, but for the hits of a closed gate: counters, records, elements of maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    plugin: usize,
    /// What is not 0.
    facts: BTreeMap<String, String>,
}

impl Recorded {
    /// What there is, in words.
    pub fn all(&self) -> Vec<String> {
        self.facts.iter().map(|(what, value)| format!("plugin {}: {what} = {value}", self.plugin)).collect()
    }

    /// What has changed since.
    pub fn changes(&self, since: &Recorded) -> Vec<String> {
        let keys = self.facts.keys().chain(since.facts.keys().filter(|what| !self.facts.contains_key(*what)));
        let value = |recorded: &Recorded, what| recorded.facts.get(what).cloned().unwrap_or_else(|| "0".to_owned());
        let changed = keys.filter(|what| self.facts.get(*what) != since.facts.get(*what));
        changed
            .map(|what| format!("plugin {}: {what} = {}, then {}", self.plugin, value(since, what), value(self, what)))
            .collect()
    }
}

/// A program that takes a tenth of a millisecond and more: in its midst it goes through a large table. What it does first it does again
/// at its end, and then tells the time. `None` on a kernel that does not let programs go through tables.
pub fn slow(kernel: &RunningKernel) -> Option<ProbeSpec> {
    let body = "let @large = hash(16384); @large[0] = 1; @began[tid] = count(); emit began { tid }; $n = len(@large); \
                @ended[tid] = count(); emit ended { n: $n, end: nsecs(boot) }";
    let features = kernel.features();
    (features.for_each_map && features.time_boot).then(|| probe("slow", "tracepoint:syscalls:sys_enter_lseek", None, body))
}

/// The runs of the program [`slow`] that came to their end: from when to when, CLOCK_MONOTONIC.
pub fn runs<S>(traced: &mut Traced<'_, S>, plugin: usize) -> Vec<Range<u64>> {
    // A hit knows one time of CLOCK_MONOTONIC, that of its beginning.
    let boot = clock_gettime(ClockId::Boottime);
    let ahead = (boot.tv_sec.cast_unsigned() * 1_000_000_000 + boot.tv_nsec.cast_unsigned()).saturating_sub(clock::now());
    let mut runs = Vec::new();
    traced.records(plugin, |stream, time, fields| {
        if stream == "ended" {
            runs.push(time..fields[1] - ahead);
        }
    });
    runs
}

/// Repeats a round that lacks a mechanism until its violation is seen, which has to be within so many.
pub fn seen(what: &str, within: usize, mut round: impl FnMut() -> Vec<String>) {
    for number in 1..=within {
        if let Some(violation) = round().first() {
            note(&format!("{what}: seen in round {number}: {violation}"));
            return;
        }
    }
    panic!("{what}: not seen in {within} rounds, so the check that looks for it proves nothing");
}

/// Fails with what was found, or says how much was looked at.
pub fn holds(what: &str, rounds: usize, violations: &[String], looked_at: fmt::Arguments<'_>) {
    assert!(violations.is_empty(), "{what}, {rounds} rounds: {} violations\n{}", violations.len(), first(violations));
    note(&format!("{what}: {rounds} rounds, {looked_at}: none"));
}

fn first(violations: &[String]) -> String {
    violations.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
}

/// The running kernel as one that can do less.
pub struct Lesser<'k> {
    kernel: &'k RunningKernel,
    features: Features,
}

impl<'k> Lesser<'k> {
    /// With these features.
    pub fn new(kernel: &'k RunningKernel, features: Features) -> Lesser<'k> {
        Lesser { kernel, features }
    }
}

impl Kernel for Lesser<'_> {
    fn features(&self) -> Features {
        self.features
    }

    fn btf(&self) -> &Btf {
        self.kernel.btf()
    }

    fn tracepoints(&self) -> Result<&[(String, String)], SourceError> {
        self.kernel.tracepoints()
    }

    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError> {
        self.kernel.tracepoint_format(category, name)
    }

    fn modules(&self) -> &Modules {
        self.kernel.modules()
    }

    fn module_btf(&self, module: &str) -> Result<Vec<u8>, SourceError> {
        self.kernel.module_btf(module)
    }

    fn possible_cpus(&self) -> u32 {
        self.kernel.possible_cpus()
    }

    fn functions(&self) -> Result<&[Function], SourceError> {
        self.kernel.functions()
    }

    fn symbol(&self, name: &str) -> Result<Option<Range<u64>>, SourceError> {
        self.kernel.symbol(name)
    }

    fn user_binary(&self, binary: &str) -> Result<String, SourceError> {
        self.kernel.user_binary(binary)
    }

    fn user_functions(&self, binary: &str, pattern: &str) -> Result<Vec<UserFunction>, SourceError> {
        self.kernel.user_functions(binary, pattern)
    }

    fn user_probes(&self, binary: &str, provider: &str, name: &str) -> Result<Vec<UserProbe>, SourceError> {
        self.kernel.user_probes(binary, provider, name)
    }

    fn user_symbol(&self, path: &str, name: &str, from: u64) -> Result<Option<UserSymbol>, SourceError> {
        self.kernel.user_symbol(path, name, from)
    }

    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError> {
        self.kernel.cgroup_id(path)
    }
}
