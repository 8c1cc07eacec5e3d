//! What parts of the generated code take: the same program with and without.
//!
//! Of each pair both are loaded anew for each round, since where their code lies in memory makes a difference, too. Within a round they
//! take turns, and the least time of each counts: what else the machine does only adds to it.

use std::io;

use portcullis::kernel::RunningKernel;

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
    with: (Outcome, bool),
    without: (Outcome, bool),
}

/// The gate: the load of its word, and the branch.
pub const GATE: [Pair; 2] = [
    Pair { name: "gate, open", with: (Outcome::Open, true), without: (Outcome::Without, true) },
    Pair { name: "gate, closed", with: (Outcome::Closed, true), without: (Outcome::KnownClosed, true) },
];

/// What every hit counts for the report: two counters, or one with the gate closed.
pub const COUNTING: [Pair; 2] = [
    Pair { name: "counting, open", with: (Outcome::Open, true), without: (Outcome::Open, false) },
    Pair { name: "counting, closed", with: (Outcome::Closed, true), without: (Outcome::Closed, false) },
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
        let load = |(outcome, counting)| Repeated::load(kernel, "return", outcome, counting);
        let (with, without) = (load(self.with)?, load(self.without)?);
        let (mut least, mut runs) = ((f64::INFINITY, f64::INFINITY), 0);
        for _ in 0..TURNS {
            let ((a, count), (b, _)) = (with.run(RUNS)?, without.run(RUNS)?);
            least = (least.0.min(a), least.1.min(b));
            runs += count;
        }
        for (program, (outcome, counting)) in [(&with, self.with), (&without, self.without)] {
            let runs = if counting { runs } else { 0 };
            let closed = matches!(outcome, Outcome::Closed | Outcome::KnownClosed);
            assert_eq!(program.hits(), if closed { (0, runs) } else { (runs, 0) }, "another program was measured");
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
