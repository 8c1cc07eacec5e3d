//! All checks and all tests, from the quickest to the slowest.

use std::process::Command;

use anyhow::Result;

use crate::{
    examples,
    place::Place,
    plugins::{self, PROFILE, TARGET},
    process::{cargo, run as execute},
    quickstart::mount_tracefs,
};

/// Runs them.
pub(crate) fn run(place: &Place) -> Result<()> {
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

    execute(&mut step(&["fmt", "--all", "--check"]))?;

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
    mount_tracefs(place);

    let mut tests = step(&["test", "--release", "--workspace"]);
    without_components(&mut tests);
    execute(&mut tests)
}
