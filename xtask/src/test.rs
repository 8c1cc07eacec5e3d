//! All checks and all tests, from the quickest to the slowest.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    examples, kernels,
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

    tools::component(place, "rustfmt", "fmt")?;
    execute(cargo(&place.root).args(["fmt", "--all", "--check"]))?;
    // Workspaces of their own.
    for other in ["fuzz", "tests/smith"] {
        execute(cargo(&place.root.join(other)).args(["fmt", "--check"]))?;
    }

    tools::component(place, "clippy", "clippy")?;
    execute(plugins::native(place, "clippy")?.args(["--all-targets", "--", "-D", "warnings"]))?;

    plugins::ensure_target(place)?;
    // The plugins are no programs of this machine; they are checked for their own target, and run by the tests.
    let mut wasm = cargo(&place.root);
    wasm.args(["clippy", "--profile", PROFILE, "--target", TARGET]);
    for package in plugins::packages(place)? {
        wasm.arg("--package").arg(package);
    }
    execute(wasm.args(["--", "-D", "warnings"]))?;

    execute(plugins::native(place, "doc")?.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))?;

    plugins::run(place)?;
    examples::run(place)?;

    execute(&mut plugins::native(place, "test")?)?;

    match kernels::prepare(place) {
        Ok(prepared) => kernels::check(place, &prepared),
        // Where they can't be had, a person has tested this kernel; a CI has not done what it is for.
        Err(error) if std::env::var_os("CI").is_none() => {
            say(&format!("warning: the other kernels were left out: {error:#}"));
            Ok(())
        }
        Err(error) => Err(error),
    }
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
