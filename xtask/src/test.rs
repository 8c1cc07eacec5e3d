//! All checks and all tests, from the quickest to the slowest.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    examples,
    place::Place,
    plugins::{self, PROFILE, TARGET},
    process::{cargo, is_root, run as execute, say},
    quickstart::{missing, mount_tracefs},
    tools,
};

/// Runs them.
pub(crate) fn run(place: &Place) -> Result<()> {
    // Before anything is built: what can't be tested here.
    mount_tracefs(place);
    kernel_tests(&missing(is_root(), Path::exists), std::env::var_os("CI").is_some())?;

    let components = plugins::packages(place)?;
    let step = |arguments: &[&str]| {
        let mut cargo = cargo(&place.root);
        cargo.args(arguments);
        cargo
    };
    // The plugins are no programs of this machine; they are checked for their own target, and run by the tests.
    let without_components = |cargo: &mut Command| {
        components.iter().for_each(|package| {
            cargo.args(["--exclude", package]);
        });
    };

    tools::component(place, "rustfmt", "fmt")?;
    execute(&mut step(&["fmt", "--all", "--check"]))?;

    tools::component(place, "clippy", "clippy")?;
    let mut native = step(&["clippy", "--release", "--workspace", "--all-targets"]);
    without_components(&mut native);
    execute(native.args(["--", "-D", "warnings"]))?;

    plugins::ensure_target(place)?;
    let mut wasm = step(&["clippy", "--profile", PROFILE, "--target", TARGET]);
    components.iter().for_each(|package| {
        wasm.args(["--package", package]);
    });
    execute(wasm.args(["--", "-D", "warnings"]))?;

    let mut doc = step(&["doc", "--release", "--workspace", "--no-deps"]);
    without_components(&mut doc);
    execute(doc.env("RUSTDOCFLAGS", "-D warnings"))?;

    plugins::run(place)?;
    examples::run(place)?;

    let mut tests = step(&["test", "--release", "--workspace"]);
    without_components(&mut tests);
    execute(&mut tests)
}

/// Tests of the kernel leave themselves out where they can't run; a CI that does not run them has tested nothing.
fn kernel_tests(missing: &[&str], ci: bool) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let reasons = missing.join("\n  - ");
    if ci {
        bail!("the tests of the kernel can't run here:\n  - {reasons}");
    }
    say(&format!("warning: the tests of the kernel can't run here:\n  - {reasons}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::kernel_tests;

    /// A machine that can't trace passes for a person, and fails in CI.
    #[test]
    fn machines() {
        assert!(kernel_tests(&[], true).is_ok());
        assert!(kernel_tests(&["x"], false).is_ok());
        assert_eq!(
            kernel_tests(&["x", "y"], true).map_err(|error| error.to_string()),
            Err("the tests of the kernel can't run here:\n  - x\n  - y".to_owned())
        );
    }
}
