//! The seed experiment: the gate at work, and what the same run is without it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    place::Place,
    plugins,
    process::{cargo, is_root, run as execute},
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
    execute(cargo(&place.root).args([
        "build",
        "--release",
        "--package",
        "portcullis",
        "--package",
        "portcullis-tests",
        "--bins",
    ]))?;
    let test = ["test", "--release", "--package", "portcullis-tests", "--test", "seed"];
    execute(cargo(&place.root).args(test).args(["--", "--nocapture", "--test-threads", "1"]))
}
