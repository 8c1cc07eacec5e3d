//! The seed experiment: the gate at work, and what the same run is without it.

use anyhow::Result;

use crate::{place::Place, plugins, process::run as execute, quickstart::ensure_tracing};

/// Builds what it needs and runs it; it prints a line a run.
pub(crate) fn run(place: &Place) -> Result<()> {
    ensure_tracing(place)?;
    plugins::run(place)?;
    execute(plugins::native(place, "build")?.args(["--bin", "portcullis", "--bin", "workload"]))?;
    execute(plugins::native(place, "test")?.args(["--test", "seed", "--", "--nocapture", "--test-threads", "1"]))
}
