//! The seed experiment: the gate at work, and what the same run is without it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    place::Place,
    plugins,
    process::{is_root, run as execute},
    quickstart::{missing, mount_tracefs},
};

/// Builds what it needs and runs it; it prints a line a run.
pub(crate) fn run(place: &Place) -> Result<()> {
    mount_tracefs(place);
    let missing = missing(is_root(), Path::exists);
    if !missing.is_empty() {
        bail!("this machine can't trace:\n  - {}", missing.join("\n  - "));
    }
    plugins::run(place)?;
    execute(plugins::native(place, "build")?.args(["--bin", "portcullis", "--bin", "workload"]))?;
    execute(plugins::native(place, "test")?.args(["--test", "seed", "--", "--nocapture", "--test-threads", "1"]))
}
