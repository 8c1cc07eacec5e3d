//! G3: one store closes all. Runs in flight at it still count, and end before the quiesced time, after which nothing changes.

use std::{thread::sleep, time::Duration};

use portcullis_tests::{
    gate::{Experiment, Load, holds, runs, seen, slow},
    kernel, lock, note,
};

const ROUNDS: usize = 200;
/// How long nothing may change while the load goes on: fifty times and more what a run takes.
const AFTER: Duration = Duration::from_millis(15);

/// What the close of one round was like.
struct Round {
    violations: Vec<String>,
    /// A run had begun before the store and ended after it.
    in_flight: bool,
    runs: usize,
}

/// Closes while a run is in flight, and looks at all that was recorded as soon as that returns, and again later.
fn round(experiment: &Experiment<'_>, load: &Load, after: Duration) -> Round {
    let traced = experiment.attach(&load.pids()).open();
    traced.wait_for_a_run();
    let mut traced = traced.close();
    let quiesced = traced.recorded(0);
    sleep(after);
    let mut violations = traced.recorded(0).changes(&quiesced);
    let (store, end) = (traced.session.interval().unwrap(), traced.session.quiesced().unwrap());
    let runs = runs(&mut traced, 0);
    violations.extend(runs.iter().filter(|run| run.end > end).map(|run| format!("a run ended {} ns after it", run.end - end)));
    violations.extend(traced.equations());
    traced.detach();
    Round { violations, in_flight: runs.iter().any(|run| run.start < store.earliest && run.end > store.latest), runs: runs.len() }
}

/// Under load on every CPU, closed each time while a run is in flight: whatever it does, it has done when the close returns.
#[test]
fn nothing_changes_after_the_close() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let experiment = Experiment::new(&kernel, &[vec![slow]], &kernel::options());
    let (mut wrong, mut in_flight, mut runs, mut rounds) = (Vec::new(), 0, 0, 0);
    while in_flight < ROUNDS {
        assert!(rounds < 5 * ROUNDS, "in {rounds} rounds a run was in flight {in_flight} times");
        let round = round(&experiment, &load, AFTER);
        wrong.extend(round.violations);
        in_flight += usize::from(round.in_flight);
        runs += round.runs;
        rounds += 1;
    }
    holds(
        "changes after the quiesced time",
        rounds,
        &wrong,
        format_args!("{runs} runs, {in_flight} closes with a run in flight"),
    );
}

/// Without the grace period the close returns while a run is in flight, and then the run goes on to write.
#[test]
fn something_does_without_a_grace_period() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let Some(slow) = slow(&kernel) else { return note("skipped: this kernel has no loop over a map") };
    let experiment = Experiment::new(&kernel, &[vec![slow]], &kernel::options()).without_grace();
    seen("changes after the close without a grace period", 50, || round(&experiment, &load, Duration::from_millis(5)).violations);
}
