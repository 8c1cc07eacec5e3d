//! What parts of the generated code take: the same program with and without.
//!
//! Of each pair both are loaded anew for each round, since where their code lies in memory makes a difference, too. Within a round they
//! take turns, and the least time of each counts: what else the machine does only adds to it.

use std::io;

use portcullis::kernel::RunningKernel;
use portcullis_ebpf::Rate;

use crate::repeat::{Outcome, Repeated};

/// How often they take turns in a round.
const TURNS: usize = 12;
/// How often the kernel runs each at a time: less than a millisecond, in which the machine may have nothing else to do.
const RUNS: u32 = 150;

/// A program, and the same without something.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// What it is without.
    pub name: &'static str,
    /// What the gate is, and whether it counts.
    with: Code,
    without: Code,
}

/// What is measured: what the gate is, whether it counts, the body, and its rate limit.
#[derive(Clone, Copy, Debug)]
struct Code {
    outcome: Outcome,
    counting: bool,
    body: &'static str,
    rate: Option<Rate>,
}

impl Code {
    const fn new(outcome: Outcome, counting: bool) -> Code {
        Code { outcome, counting, body: "return", rate: None }
    }

    const fn open(body: &'static str, rate: Option<Rate>) -> Code {
        Code { outcome: Outcome::Open, counting: true, body, rate }
    }
}

/// A rate that no probe comes to, and one that all hits but the first few are over.
const NEVER_SHED: Option<Rate> = Some(Rate { a_second: Rate::MOST, burst: Rate::MOST });
const ALWAYS_SHED: Option<Rate> = Some(Rate { a_second: 1, burst: 1 });

/// The gate: the load of its word, and the branch.
pub const GATE: [Pair; 2] = [
    Pair { name: "gate, open", with: Code::new(Outcome::Open, true), without: Code::new(Outcome::Without, true) },
    Pair { name: "gate, closed", with: Code::new(Outcome::Closed, true), without: Code::new(Outcome::KnownClosed, true) },
];

/// What every hit counts for the report: two counters, or one with the gate closed.
pub const COUNTING: [Pair; 2] = [
    Pair { name: "counting, open", with: Code::new(Outcome::Open, true), without: Code::new(Outcome::Open, false) },
    Pair { name: "counting, closed", with: Code::new(Outcome::Closed, true), without: Code::new(Outcome::Closed, false) },
];

/// A rate limit: of a hit that goes into a body that asks for the time anyway, of one that goes into a body that does not, and of one that is
/// shed.
pub const RATE: [Pair; 3] = [
    Pair {
        name: "rate limit, allowed, with `nsecs` in the body",
        with: Code::open("$t = nsecs", NEVER_SHED),
        without: Code::open("$t = nsecs", None),
    },
    Pair { name: "rate limit, allowed", with: Code::open("return", NEVER_SHED), without: Code::open("return", None) },
    Pair { name: "rate limit, shed", with: Code::open("return", ALWAYS_SHED), without: Code::open("return", None) },
];

/// What a pair took in so many rounds, in ns a hit; each in order.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The differences of the rounds.
    pub difference: Vec<f64>,
    /// With the part.
    pub with: Vec<f64>,
    /// Without it.
    pub without: Vec<f64>,
}

impl Pair {
    /// Measures it, on the CPU where this thread is kept.
    ///
    /// # Errors
    /// What the kernel says against the programs.
    pub fn measure(&self, kernel: &RunningKernel, rounds: usize) -> io::Result<Cost> {
        let rounds = (0..rounds).map(|_| self.round(kernel)).collect::<io::Result<Vec<_>>>()?;
        Ok(Cost {
            difference: sorted(rounds.iter().map(|(with, without)| with - without)),
            with: sorted(rounds.iter().map(|(with, _)| *with)),
            without: sorted(rounds.iter().map(|(_, without)| *without)),
        })
    }

    fn round(&self, kernel: &RunningKernel) -> io::Result<(f64, f64)> {
        let load = |code: Code| Repeated::load(kernel, code.body, code.rate, code.outcome, code.counting);
        let (with, without) = (load(self.with)?, load(self.without)?);
        let (mut least, mut runs) = ((f64::INFINITY, f64::INFINITY), 0);
        for _ in 0..TURNS {
            let ((a, count), (b, _)) = (with.run(RUNS)?, without.run(RUNS)?);
            least = (least.0.min(a), least.1.min(b));
            runs += count;
        }
        for (program, code) in [(&with, self.with), (&without, self.without)] {
            let runs = if code.counting { runs } else { 0 };
            let closed = matches!(code.outcome, Outcome::Closed | Outcome::KnownClosed);
            assert_eq!(program.hits(), if closed { (0, runs) } else { (runs, 0) }, "another program was measured");
            let shed = program.completed_and_shed().1;
            let expect = if code.rate == ALWAYS_SHED { runs - 10..runs } else { 0..1 };
            assert!(expect.contains(&shed), "another program was measured: {shed} of {runs} were shed");
        }
        Ok(least)
    }
}

/// Keeps this thread on the CPU where it is.
///
/// # Errors
/// What the kernel says against it.
pub fn stay() -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(rustix::thread::sched_getcpu());
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The value below which so many of a hundred lie.
pub fn quantile(values: &[f64], percent: usize) -> f64 {
    values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
