//! The seed experiment: entries and exits of read(2), printed one by one, until the second clause prints for the first time.
//!
//! Whichever of the two is the second: once all has begun, no thread can have two of the one kind without one of the other in between.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Experiment, Load, ROUNDS, Tool, output::Output};
use crate::place::Place;

/// More than CPUs on small machines, so that some thread reads whenever a probe begins.
const THREADS: usize = 4;

pub(super) const EXPERIMENTS: [Experiment; 2] = [
    Experiment {
        name: "seed: enter, then exit",
        measures: &["enters before the first exit, beyond one a thread", "events lost"],
        rounds: ROUNDS,
        run: |tool, place| run(tool, place, ["enter", "exit"]),
    },
    Experiment {
        name: "seed: exit, then enter",
        measures: &["exits before the first enter, beyond one a thread", "events lost"],
        rounds: ROUNDS,
        run: |tool, place| run(tool, place, ["exit", "enter"]),
    },
];

fn run(tool: &Tool, place: &Place, [first, second]: [&str; 2]) -> Result<Vec<u64>> {
    let load = Load::reads(place, THREADS)?;
    let pid = load.pid();
    let program = format!(
        r#"tracepoint:syscalls:sys_{first}_read /pid == {pid}/ {{ printf("first %d %llu\n", tid, nsecs); }}
        tracepoint:syscalls:sys_{second}_read /pid == {pid}/ {{ printf("second %d %llu\n", tid, nsecs); exit(); }}"#
    );
    let output = tool.trace(place, &program)?.finish()?;
    Ok(vec![early(&output)?, output.lost()])
}

/// How many of the first kind, less one a thread, are older than all of the second.
fn early(output: &Output) -> Result<u64> {
    let second = output.rows("second").into_iter().map(|[_, time]| time).min();
    let second = second.context("the second clause printed nothing")?;
    let mut threads: BTreeMap<u64, u64> = BTreeMap::new();
    for [thread, time] in output.rows("first") {
        if time < second {
            *threads.entry(thread).or_default() += 1;
        }
    }
    Ok(threads.values().map(|count| count - 1).sum())
}

#[cfg(test)]
mod tests {
    use super::{Output, early};

    /// What is early is by time, not by line, and one a thread is not.
    #[test]
    fn early_events() {
        let early = |lines: &[&str]| early(&Output::new(lines.iter().map(|line| (*line).to_owned()).collect())).ok();
        assert_eq!(early(&["second 1 50", "first 1 10", "first 1 20", "first 2 30", "first 1 60", "second 1 70"]), Some(1));
        assert_eq!(early(&["first 1 10", "second 1 50"]), Some(0));
        assert_eq!(early(&["second 1 50"]), Some(0));
        assert_eq!(early(&["first 1 10"]), None);
    }
}
