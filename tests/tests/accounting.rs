//! Conservation (G6): whatever is traced, however it is filtered, and whatever is lost on the way, every hit, span and record is in
//! one count, and the counts are those of the workloads and of the kernel.
//!
//! Sessions are generated. `ACCOUNTING_CASES=1000` makes more of them; what failed once is kept in `accounting.regressions` and tried
//! first.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{cell::Cell, thread, time::Duration};

use portcullis::kernel::{Mechanism, RunningKernel};
use portcullis_ebpf::{Compiled, Hook, output::Ends};
use portcullis_tests::{
    accounting::{
        case::{self, Case, Load, Probe, Site, Step, When},
        generate,
        model::{self, Done, Hit, Truth},
        runs,
    },
    kernel::{self, Traced, Workloads, probe},
    lock, note,
};
use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner},
};

/// How many sessions there are if the environment says nothing else.
const CASES: u32 = 100;
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/accounting.regressions");

type Checked = Result<(), TestCaseError>;

/// What the sessions of the test have in common.
struct Bench {
    cheapest: RunningKernel,
    perf: RunningKernel,
    /// How many files every program opens before its `main`.
    opens: u64,
    hits: Cell<u64>,
    lost: Cell<u64>,
    shed: Cell<u64>,
}

impl Bench {
    fn new() -> Bench {
        let perf = kernel::running().with_mechanism(Mechanism::Perf);
        let bench = Bench {
            cheapest: kernel::running(),
            perf,
            opens: 0,
            hits: Cell::default(),
            lost: Cell::default(),
            shed: Cell::default(),
        };
        let opens = bench.opens_of_every_program();
        Bench { opens, ..bench }
    }

    /// Counted at two places, by a program that opens nothing.
    fn opens_of_every_program(&self) -> u64 {
        let all = format!("args.id == {}", libc::SYS_openat);
        let specs = [
            probe("call", "tracepoint:syscalls:sys_enter_openat", None, "return"),
            probe("all", "tracepoint:raw_syscalls:sys_enter", Some(&all), "return"),
        ];
        let traced = run(&self.cheapest, &specs, &kernel::options(), &[], &[Load::Getppid(0)], 4096);
        assert_eq!(traced.probes[0].hits, traced.probes[1].completed);
        traced.probes[0].hits
    }

    fn kernel(&self, case: &Case) -> &RunningKernel {
        match case.mechanism {
            Mechanism::Cheapest => &self.cheapest,
            Mechanism::Perf => &self.perf,
        }
    }
}

fn run(
    kernel: &RunningKernel,
    specs: &[portcullis_ebpf::ProbeSpec],
    options: &portcullis_ebpf::Options,
    before: &[Load],
    open: &[Load],
    ring: u32,
) -> Traced {
    let words = |loads: &[Load]| loads.iter().map(|load| load.arguments()).collect::<Vec<_>>();
    let (before, open) = (words(before), words(open));
    let (before, open) = (borrowed(&before), borrowed(&open));
    let before: Vec<&[&str]> = before.iter().map(Vec::as_slice).collect();
    let open: Vec<&[&str]> = open.iter().map(Vec::as_slice).collect();
    kernel::trace_on(kernel, specs, options, Workloads { before: &before, open: &open }, ring)
}

fn borrowed(loads: &[Vec<String>]) -> Vec<Vec<&str>> {
    loads.iter().map(|words| words.iter().map(String::as_str).collect()).collect()
}

/// A count that is known, or only from below.
fn agree(what: &str, found: u64, expect: u64, exact: bool) -> Checked {
    prop_assert!(found == expect || !exact && found >= expect, "{}: {} and not {}, exact: {}", what, found, expect, exact);
    Ok(())
}

/// The sessions whose counts are looked at.
struct Session<'a> {
    case: &'a Case,
    compiled: &'a Compiled,
    traced: &'a Traced,
}

/// What is known of a probe, and what its body must have done.
struct Known {
    open: Truth,
    closed: Truth,
    done: Done,
    /// It was known which hits get to the body.
    passing: bool,
}

impl Session<'_> {
    fn known(&self, number: usize, opens: u64) -> Known {
        let (case, probe) = (self.case, &self.case.probes[number]);
        let mut open = model::truth(probe, case, case.recorded(), opens);
        let closed = model::truth(probe, case, case.closed(), opens);
        if matches!(probe.site, Site::Begin | Site::End) {
            // Nobody else runs these.
            open = Truth { hits: 1, exact: true, own: vec![Hit { number: 0, bad: false }], in_turn: true, ..Truth::default() };
        }
        let completed = self.traced.probes[number].completed;
        let passing = model::passing(probe, &open.own).filter(|hits| hits.len() as u64 == completed);
        let done = match &passing {
            Some(hits) => model::run(probe, hits.iter().copied()),
            // Whichever they were, there were so many.
            None => model::run(probe, (0..completed).map(|number| Hit { number, bad: false })),
        };
        Known { open, closed, done, passing: passing.is_some() }
    }

    /// Hits, entries and spans against the workloads.
    fn hits(&self, number: usize, known: &Known) -> Checked {
        let (case, probe, counts) = (self.case, &self.case.probes[number], &self.traced.probes[number]);
        let Known { open, closed, .. } = known;
        if probe.site == Site::Interval {
            prop_assert_eq!(counts.entry_hits + counts.unpaired.unwrap_or(0) + counts.lost, 0);
            return Ok(());
        }
        agree("hits", counts.hits, open.hits, open.exact)?;
        let exact = closed.exact || matches!(probe.site, Site::Begin | Site::End);
        if self.compiled.probes[number].skips {
            // The kernel leaves out returns of calls that nobody wanted to see; not where another probe wants to see returns alone.
            let most = if self.has_returns_alone(number) { closed.hits } else { 0 };
            prop_assert!(counts.hits_closed <= most, "hits with the gate closed: {} of {}", counts.hits_closed, most);
        } else {
            agree("hits with the gate closed", counts.hits_closed, closed.hits, exact)?;
        }
        let ours = !case.system || probe.site.is_private();
        if probe.site.is_span() {
            agree("entries", counts.entry_hits, open.entries, open.exact)?;
            agree("entries with the gate closed", counts.entry_hits_closed, closed.entries, closed.exact)?;
            if ours {
                let room = u64::from(case.spans);
                prop_assert_eq!(counts.in_flight, open.endless.min(room), "in flight");
                let crowded_out = counts.lost.checked_sub(open.endless.saturating_sub(room) + open.nested);
                // Whose entry found no room, its exit finds no entry.
                prop_assert_eq!(crowded_out, counts.unpaired.unwrap_or(0).checked_sub(open.orphans), "lost and unpaired");
                prop_assert!(crowded_out == Some(0) || open.crowded && crowded_out.is_some(), "lost: {:?}", crowded_out);
            }
        } else {
            prop_assert_eq!(counts.entered + counts.matched + counts.lost + counts.in_flight, 0);
        }
        // What got to the body.
        let own = open.own.len() as u64;
        let lossy = probe.site.is_span() && open.crowded;
        let passed = counts.completed + counts.shed;
        match model::passing(probe, &open.own) {
            Some(hits) if ours && !lossy => prop_assert_eq!(passed, hits.len() as u64, "completed and shed"),
            _ if ours => prop_assert!(passed <= own, "completed and shed: {} of {}", passed, own),
            _ => {}
        }
        let none = probe.when() == When::None;
        prop_assert!(!none || passed == 0, "completed and shed: {}", passed);
        Ok(())
    }

    /// What was shed against the limit.
    fn rate(&self, number: usize) -> Checked {
        let (probe, counts) = (&self.case.probes[number], &self.traced.probes[number]);
        let Some(rate) = self.case.rate.filter(|_| !matches!(probe.site, Site::Begin | Site::End)) else {
            prop_assert_eq!(counts.shed, 0, "shed without a limit");
            return Ok(());
        };
        // Nothing before the opening took anything of the burst.
        prop_assert!(counts.shed == 0 || counts.completed >= model::least(rate), "shed within a burst: {:?}", rate);
        if let (Some(open), Some(close)) = (self.traced.closed.opened(), self.traced.closed.interval()) {
            let most = model::most(rate, close.latest - open.earliest);
            prop_assert!(counts.completed <= most, "completed: {} of {} at the most by {:?}", counts.completed, most, rate);
        }
        Ok(())
    }

    /// A program of the probe is attached where calls return, and not where they begin.
    fn has_returns_alone(&self, number: usize) -> bool {
        let programs = self.compiled.programs.iter().filter(|program| program.probes.contains(&number));
        programs.map(|program| &program.hook).any(|hook| matches!(hook, Hook::UprobeMulti { ends: Ends::Return, .. }))
    }

    /// Maps and texts against the body.
    fn body(&self, number: usize, known: &Known, texts_lost: bool) -> Checked {
        let (probe, counts) = (&self.case.probes[number], &self.traced.probes[number]);
        let elements = |map: &str| -> Vec<u64> {
            let rows = self.traced.elements.iter().filter(|(name, _)| name == map);
            rows.map(|(_, words)| words.last().unwrap().parse().unwrap()).collect()
        };
        prop_assert_eq!(elements(&case::seen(number)).iter().sum::<u64>(), counts.completed, "the body's own count");
        let in_turn = known.open.in_turn;
        let mut full = 0;
        for (step, inserted) in &known.done.inserted {
            let Step::Insert { room, .. } = probe.body[*step] else { unreachable!("it inserts") };
            let elements = elements(&case::map(number, *step));
            full += inserted.saturating_sub(room);
            if in_turn {
                prop_assert_eq!(elements.len() as u64, (*inserted).min(room), "elements of step {}", step);
                prop_assert!(elements.iter().all(|value| *value == 1));
            } else {
                prop_assert!(elements.len() as u64 <= room);
            }
        }
        if in_turn {
            prop_assert_eq!(counts.map_full, full + counts.lost, "without room");
        } else {
            let most = counts.lost + counts.completed * known.done.inserted.len() as u64;
            prop_assert!(counts.map_full <= most, "without room: {} of {}", counts.map_full, most);
        }
        let texts = (counts.read_fault, counts.truncated);
        match probe.site {
            Site::EnterOpenat if in_turn && known.passing => {
                let expect = (known.done.faults, known.done.cut);
                // What has no room in the ring is not read.
                let fewer = texts_lost && texts.0 <= expect.0 && texts.1 <= expect.1;
                prop_assert!(texts == expect || fewer, "not read, and cut: {:?} and not {:?}", texts, expect);
            }
            // Its entries read the paths of others, too.
            Site::EnterOpenat | Site::SpanOpenat => {}
            _ => prop_assert_eq!(texts, (0, 0), "not read, and cut"),
        }
        Ok(())
    }

    /// Streams against the bodies, and against what was in the ring.
    fn streams(&self, known: &[Known]) -> Checked {
        let (mut used, mut full) = (0, Vec::new());
        for (stream, counts) in self.compiled.streams.iter().zip(&self.traced.streams) {
            let position = case::STREAMS.iter().position(|name| *name == stream.name).unwrap();
            let expect: u64 = known.iter().map(|known| known.done.attempted[position]).sum();
            let most = |(probe, counts): (&Probe, &portcullis::contract::ProbeCounts)| {
                let emits = probe.body.iter().filter(|step| matches!(step, Step::Emit { stream, .. } if *stream == position));
                emits.count() as u64 * counts.completed
            };
            let most: u64 = self.case.probes.iter().zip(&self.traced.probes).map(most).sum();
            if known.iter().all(|known| known.open.in_turn) {
                prop_assert_eq!(counts.attempted, expect, "attempted: {}", stream.name);
            }
            prop_assert!(counts.attempted <= most, "attempted: {} of {}", counts.attempted, most);
            let read = self.traced.rows.iter().filter(|(name, _)| *name == stream.name).count() as u64;
            prop_assert_eq!(counts.emitted, read, "emitted: {}", stream.name);
            // Each has a header of 8 bytes.
            let record = u64::from(stream.size).next_multiple_of(8) + 8;
            used += counts.emitted * record;
            if counts.ring_full > 0 {
                full.push(record);
            }
        }
        // Nobody reads before the end. What found no room would have none now, and what is there had it (kernel/bpf/ringbuf.c).
        let ring = u64::from(self.case.ring);
        prop_assert!(used < ring, "{} bytes in a ring of {}", used, ring);
        prop_assert!(
            full.iter().all(|record| used + record >= ring),
            "{} bytes in a ring of {}, no room for {:?}",
            used,
            ring,
            full
        );
        Ok(())
    }

    /// Counts against the kernel's own of runs. Others go on to run the programs, so this may come between two counts.
    fn runs(&self) -> Checked {
        let mut attempts = 0;
        loop {
            let checked = self.runs_now();
            attempts += 1;
            if checked.is_ok() || attempts == 100 {
                return checked;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn runs_now(&self) -> Checked {
        let (probes, _) = self.traced.closed.counts(0).unwrap();
        let all = runs::of_this_process();
        // The first is the session's own.
        prop_assert_eq!(all.len(), self.compiled.programs.len() + 1);
        for (number, (probe, counts)) in self.case.probes.iter().zip(&probes).enumerate() {
            let programs = self.compiled.programs.iter().zip(&all[1..]).filter(|(program, _)| program.probes.contains(&number));
            let runs: u64 = programs.clone().map(|(_, runs)| runs).sum();
            let counted = counts.hits + counts.hits_closed + counts.entry_hits + counts.entry_hits_closed;
            // A program for both ends of calls runs at returns, too, of which a probe of the entry knows nothing.
            let both = |hook: &Hook| matches!(hook, Hook::UprobeMulti { ends: Ends::Both, .. });
            let whole = probe.site.is_span() || !programs.clone().any(|(program, _)| both(&program.hook));
            let exact = whole && self.runs_for_the_probe_alone(probe.site);
            prop_assert!(
                runs == counted || !exact && runs > counted,
                "p{}: {} runs and {} counted, exact: {}",
                number,
                runs,
                counted,
                exact
            );
        }
        Ok(())
    }

    /// Each run of a program there is a hit of the probe, whoever it was: no other calls come there, and none is out of scope. The host
    /// itself is, where it comes there.
    fn runs_for_the_probe_alone(&self, site: Site) -> bool {
        let Case { gate, system, mechanism, .. } = *self.case;
        match site {
            Site::Begin | Site::End | Site::Interval => true,
            // Without a gate the host detaches at the close, in threads that begin and end.
            Site::NewTask | Site::RawNewTask | Site::TaskExit => system && gate,
            Site::EnterGetppid | Site::ExitGetppid | Site::SpanGetppid | Site::SpanClone | Site::SpanSleep => {
                system && mechanism == Mechanism::Perf
            }
            Site::RawEnter | Site::EnterOpenat | Site::SpanOpenat | Site::EnterRead | Site::SpanRead | Site::SpanExit => false,
            Site::Function | Site::Return | Site::SpanFunction | Site::SpanNested | Site::Marker => true,
        }
    }
}

fn check(bench: &Bench, case: &Case) -> Checked {
    let kernel = bench.kernel(case);
    let (specs, options) = (case.specs(), case.options());
    let compiled = kernel::compile(kernel, &specs, &options);
    let traced = run(kernel, &specs, &options, &case.before, &case.open, case.ring);
    prop_assert_eq!(traced.report.check(), vec![]);
    prop_assert_eq!(traced.closed.misses().unwrap(), vec![]);
    let session = Session { case, compiled: &compiled, traced: &traced };
    let known: Vec<Known> = (0..case.probes.len()).map(|number| session.known(number, bench.opens)).collect();
    let texts_lost = compiled
        .streams
        .iter()
        .zip(&traced.streams)
        .any(|(stream, counts)| stream.name == case::STREAMS[case::STREAMS.len() - 1] && counts.ring_full > 0);
    for (number, known) in known.iter().enumerate() {
        let named = |error: TestCaseError| {
            TestCaseError::fail(format!("p{number}, {}: {error}\n{:?}", specs[number].attach[0], traced.probes[number]))
        };
        session.hits(number, known).map_err(named)?;
        session.rate(number).map_err(named)?;
        session.body(number, known, texts_lost).map_err(named)?;
    }
    session.streams(&known)?;
    session.runs()?;
    bench.hits.set(bench.hits.get() + traced.probes.iter().map(|probe| probe.hits).sum::<u64>());
    bench.shed.set(bench.shed.get() + traced.probes.iter().map(|probe| probe.shed).sum::<u64>());
    bench.lost.set(bench.lost.get() + traced.streams.iter().map(|stream| stream.ring_full).sum::<u64>());
    Ok(())
}

/// In any session the equations hold, and every counter, each from its own place, says what the workloads did, what the bodies say,
/// what is in maps and ring, and how often the kernel ran the programs.
#[test]
fn conservation() {
    let Some(_lock) = lock() else { return };
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let bench = Bench::new();
    let cases = std::env::var("ACCOUNTING_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..Config::default()
    });
    if let Err(error) = runner.run(&generate::case(generate::sites(&bench.cheapest)), |case| check(&bench, &case)) {
        panic!("{error}");
    }
    let (hits, shed, lost) = (bench.hits.get(), bench.shed.get(), bench.lost.get());
    note(&format!("{cases} sessions with {hits} hits; {shed} were shed, {lost} records found no room"));
    assert!(cases < CASES || shed > 0, "no session shed anything");
}
