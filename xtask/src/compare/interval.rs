//! An interval and three hundred probes, all entries of system calls: the interval must not fire before all are attached.
//!
//! It prints how many of the load's calls the first and the last of the probes have counted.

use anyhow::Result;

use super::{Experiment, Load, ROUNDS, Session, Tool, output::Output};
use crate::place::Place;

pub(super) const EXPERIMENTS: [Experiment; 2] = [
    Experiment {
        name: "interval, then 300 probes",
        measures: &[
            "ticks at which the first probe had counted and the last had not",
            "calls that only one of the two has counted at the end",
        ],
        // Some kernels and tools need half a minute to detach so many.
        rounds: ROUNDS.div_ceil(3),
        run: |tool, place| run(tool, place, |interval, probes| format!("{interval}\n{probes}")),
    },
    Experiment {
        name: "300 probes, then interval",
        measures: &["ticks at which the first probe had counted and the last had not"],
        rounds: 1,
        run: |tool, place| {
            let mut numbers = run(tool, place, |interval, probes| format!("{probes}\n{interval}"))?;
            numbers.truncate(1);
            Ok(numbers)
        },
    },
];

fn run(tool: &Tool, place: &Place, order: impl Fn(&str, &str) -> String) -> Result<Vec<u64>> {
    let load = Load::seeks(place)?;
    let only = format!("/pid == {}/", load.pid());
    let interval = r#"interval:ms:1 { printf("tick %lld %lld\n", @first, @last); }"#;
    let probes = format!(
        "tracepoint:syscalls:sys_enter_lseek {only} {{ @first++; }}
        tracepoint:syscalls:sys_enter_* {only} {{ @others = count(); }}
        tracepoint:syscalls:sys_exit_lseek {only} {{ @last++; }}"
    );
    let mut session = tool.trace(place, &order(interval, &probes))?;
    session.attached()?;
    session.wait_for("a tick after the last probe had begun", |line| tick(line).is_some_and(|[_, last]| last > 0))?;
    Session::interrupt(&[&session])?;
    let output = session.finish()?;
    Ok(vec![early(&output), output.apart("@first", "@last")?])
}

/// The numbers of a tick.
fn tick(line: &str) -> Option<[u64; 2]> {
    Output::new(vec![line.to_owned()]).rows("tick").pop()
}

/// How many ticks came when the first probe had begun and the last had not: one call may be between the two.
fn early(output: &Output) -> u64 {
    output.rows("tick").into_iter().filter(|[first, last]| *first > 1 && *last == 0).count() as u64
}

#[cfg(test)]
mod tests {
    use super::{Output, early, tick};

    /// A tick is early if the first probe has counted more than the call that is under way, and the last nothing.
    #[test]
    fn early_ticks() {
        let lines = ["tick 0 0", "tick 1 0", "tick 2 0", "tick 900 0", "tick 1200 1", "@first: 7", "@last: 0"];
        assert_eq!(early(&Output::new(lines.map(str::to_owned).to_vec())), 2);
        assert_eq!((tick("tick 3 4"), tick("Attached 3 probes")), (Some([3, 4]), None));
    }
}
