//! What begins at one instant, and what ends at one: Portcullis, and beside it bpftrace, in the same experiments.
//!
//! Both run the same programs under the same load, on the machine as it is. Each number counts what a perfect tool would not show,
//! so that 0 is best; where one system call may be under way at the moment that is looked at, 1 is as good.

mod interval;
mod load;
mod output;
mod seed;
mod session;
mod stop;
mod table;
mod tool;
mod two;

use std::fs::File;

use anyhow::{Context, Result};
use load::Load;
use session::Session;
use table::{Cell, Row};
use tool::Tool;

use crate::{
    document,
    place::Place,
    plugins,
    process::{command, output as text_of, run as execute, say},
    quickstart::ensure_tracing,
};

/// Something that is done with each tool, several times, for one or more numbers.
struct Experiment {
    name: &'static str,
    /// What each number counts.
    measures: &'static [&'static str],
    rounds: usize,
    /// One round: a number for each of `measures`.
    run: fn(&Tool, &Place) -> Result<Vec<u64>>,
}

/// Where the table is kept.
const DOCUMENT: &str = "docs/guarantees.md";
/// The rounds of an experiment that takes a second or two.
const ROUNDS: usize = 7;

/// What is looked at, in the order of the table.
const EXPERIMENTS: [&[Experiment]; 4] = [&seed::EXPERIMENTS, &interval::EXPERIMENTS, &stop::EXPERIMENTS, &two::EXPERIMENTS];

/// Builds what it needs, runs all experiments with both tools, and prints one table; with UPDATE_EXPECT=1 also into [`DOCUMENT`].
pub(crate) fn run(place: &Place) -> Result<()> {
    ensure_tracing(place)?;
    let bpftrace = Tool::bpftrace(place)?;
    plugins::run(place)?;
    execute(plugins::native(place, "build")?.args(["--bin", "portcullis", "--bin", "workload"]))?;
    let portcullis = Tool::portcullis(place)?;
    if bpftrace.is_none() {
        say("There is no bpftrace in the path, and BPFTRACE does not say how to run it: only Portcullis is measured.");
    }
    // The plugin is compiled the first time that it runs; that is not what is measured.
    let first = lock()?;
    portcullis.trace(place, "BEGIN { exit(); }")?.finish()?;
    drop(first);

    let mut rows = Vec::new();
    for experiment in EXPERIMENTS.into_iter().flatten() {
        let beside = bpftrace.as_ref().map(|tool| rounds(experiment, tool, place));
        // That a version of bpftrace can't do something says nothing of the others, and nothing of Portcullis.
        let beside = beside.map(|result| result.inspect_err(|error| say(&format!("warning: {error:#}"))).ok());
        let own = rounds(experiment, &portcullis, place)?;
        for (at, measure) in experiment.measures.iter().enumerate() {
            let cell = |runs: &[Vec<u64>]| Cell::of(runs.iter().filter_map(|run| run.get(at).copied()).collect());
            rows.push(Row {
                experiment: experiment.name,
                measure,
                bpftrace: match &beside {
                    None => Cell::Absent,
                    Some(None) => Cell::Failed,
                    Some(Some(runs)) => cell(runs),
                },
                portcullis: cell(&own),
            });
        }
    }
    let found = format!("{}\n\n{}\n", heading(place, bpftrace.as_ref(), &portcullis)?, table::markdown(&rows));
    print(&found);
    document::update(place, DOCUMENT, "compare", &found)
}

/// All rounds of an experiment with a tool.
fn rounds(experiment: &Experiment, tool: &Tool, place: &Place) -> Result<Vec<Vec<u64>>> {
    let mut runs = Vec::new();
    for round in 1..=experiment.rounds {
        let _lock = lock()?;
        let run = (experiment.run)(tool, place)
            .with_context(|| format!("{}, {}, run {round} of {}", experiment.name, tool.name, experiment.rounds))?;
        let numbers: Vec<String> = run.iter().map(|number| table::thousands(*number)).collect();
        say(&format!("{}, {}, run {round} of {}: {}", experiment.name, tool.name, experiment.rounds, numbers.join(", ")));
        runs.push(run);
    }
    Ok(runs)
}

/// The lock of the tests that load programs: they and the experiments would disturb each other.
fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("portcullis-tests.lock");
    let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
    if file.try_lock().is_err() {
        say("Waiting for tests that use the kernel.");
    }
    file.lock().with_context(|| format!("can't lock {}", path.display()))?;
    Ok(file)
}

/// What was compared, where and when.
fn heading(place: &Place, bpftrace: Option<&Tool>, portcullis: &Tool) -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel does not say its version")?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let beside = bpftrace.map_or_else(|| "no bpftrace".to_owned(), |tool| format!("bpftrace {}", tool.version));
    let date = text_of(command("date", &place.root).args(["-u", "+%F"]))?;
    Ok(format!(
        "{beside}, Portcullis {}, Linux {}, {cpus} CPUs, {}. Median and, in brackets, worst of the runs.",
        portcullis.version,
        release(kernel.trim_end()),
        date.trim_end()
    ))
}

/// A kernel's version without what its builder has appended.
fn release(kernel: &str) -> &str {
    kernel.split_once('-').map_or(kernel, |(release, _)| release)
}

/// The result, and nothing else, goes to standard output.
#[allow(clippy::print_stdout)]
fn print(found: &str) {
    print!("{found}");
}

#[cfg(test)]
mod tests {
    use super::{EXPERIMENTS, release};

    /// No two rows of the table are told apart by nothing.
    #[test]
    fn names() {
        let mut rows: Vec<_> =
            EXPERIMENTS.into_iter().flatten().flat_map(|e| e.measures.iter().map(|measure| (e.name, *measure))).collect();
        let all = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), all);
    }

    /// The version of a kernel is that of its sources.
    #[test]
    fn releases() {
        assert_eq!(release("6.12.30-amd64"), "6.12.30");
        assert_eq!(release("6.18.0"), "6.18.0");
    }
}
