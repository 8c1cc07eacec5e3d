//! The kernel matrix: what kernels from old to new, this machine's and others in virtual machines, make of every test program.
//!
//! The kernels, their way here and the virtual machines are in the files of this directory; what is checked inside is the program
//! `kernel-check`, `tests/src/bin/kernel-check.rs`.

mod column;
mod fetch;
mod image;
mod modules;
mod vm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    document,
    place::{Place, json_path},
    plugins,
    process::{command, is_root, output, run as execute, say},
    quickstart::{missing, mount_tracefs},
    tools,
};
use column::Column;

/// Checks a kernel, and is the first process of the machines.
const CHECK: &str = "kernel-check";
/// The programs that the machines have.
const PROGRAMS: [&str; 4] = [CHECK, "portcullis", "workload", "hostile"];
/// What tests run beside these.
const SHELL: &str = "/bin/sh";
/// The tests of crate `tests` that they run.
const TESTS: [&str; 10] =
    ["language", "kinds", "tools", "oracle", "whole", "guarantees", "preemption", "aliases", "rate", "takeover"];
/// What these read, from the root of the checkout.
const DATA: [&str; 4] = ["host-ebpf/tests/specs", "docs/probe-language.md", "tests/language", "target/plugins"];
/// Where the machines have the list of the tests' executables.
const LIST: &str = "/tests";
/// Where the table is kept.
const DOCUMENT: &str = "docs/kernels.md";

/// Kernels, what runs them, and the tests that they run.
pub(crate) struct Prepared {
    kernels: Vec<fetch::Kernel>,
    tests: Vec<String>,
}

/// Runs all of it and prints the table; with UPDATE_EXPECT=1 also into docs/kernels.md. Where kernels or tests are named, only these.
pub(crate) fn run(place: &Place, named: &[&str]) -> Result<()> {
    let (tests, series): (Vec<_>, Vec<_>) = named.iter().copied().partition(|name| TESTS.contains(name));
    if let Some(unknown) = series.iter().find(|name| !fetch::SERIES.iter().any(|(series, _)| series == *name)) {
        let known = fetch::SERIES.iter().map(|(series, _)| *series).chain(TESTS).collect::<Vec<_>>();
        bail!("there is no kernel and no test `{unknown}`; there are {}", known.join(", "));
    }
    plugins::run(place)?;
    let mut prepared = prepare(place)?;
    if named.is_empty() {
        return check(place, &prepared);
    }
    if !tests.is_empty() {
        prepared.tests = tests.into_iter().map(str::to_owned).collect();
    }
    if !series.is_empty() {
        prepared.kernels.retain(|kernel| series.contains(&kernel.series));
    }
    judge(&columns(place, &prepared, series.is_empty())?)
}

/// The kernels, and the program that runs them.
///
/// # Errors
/// They are not here and can't be had.
pub(crate) fn prepare(place: &Place) -> Result<Prepared> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the kernels are those of Linux on x86-64, and this is another machine");
    }
    tools::qemu(place)?;
    Ok(Prepared { kernels: fetch::all(place)?, tests: TESTS.map(str::to_owned).to_vec() })
}

/// Has every kernel load every test program.
///
/// # Errors
/// A kernel refuses one.
pub(crate) fn check(place: &Place, prepared: &Prepared) -> Result<()> {
    let columns = columns(place, prepared, true)?;
    document::update(place, DOCUMENT, "kernels", &column::table(&columns))?;
    judge(&columns)
}

/// What each kernel made of it, the oldest first; of this machine's, too, if `here`.
fn columns(place: &Place, prepared: &Prepared, here: bool) -> Result<Vec<Column>> {
    let mut build = plugins::native(place, "build")?;
    PROGRAMS.iter().for_each(|program| {
        build.args(["--bin", program]);
    });
    execute(&mut build)?;
    let tests = tests(place, &prepared.tests)?;

    let mut columns = Vec::new();
    mount_tracefs(place);
    match missing(is_root(), Path::exists).as_slice() {
        _ if !here => {}
        [] => columns.push(this_machine(place, &tests)?),
        missing => say(&format!("warning: this machine's own kernel is left out:\n  - {}", missing.join("\n  - "))),
    }
    let image = make_image(place, &tests)?;
    for kernel in &prepared.kernels {
        let image = modules::with_modules(place, kernel, &image)?;
        columns.push(vm::check(place, kernel, &image)?);
    }
    columns.sort_by_key(|column| fetch::numbers(&column.release));
    show(&column::table(&columns));
    Ok(columns)
}

/// Refuses refusals.
fn judge(columns: &[Column]) -> Result<()> {
    if let Some(idle) = columns.iter().find(|column| column.programs == 0) {
        bail!("Linux {} loaded no program at all", idle.release);
    }
    let refusals: Vec<String> = columns.iter().flat_map(Column::refusals).collect();
    if !refusals.is_empty() {
        bail!("programs were refused:\n\n{}", refusals.join("\n\n"));
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn show(table: &str) {
    println!("{table}");
}

/// Builds these of [`TESTS`]; their executables.
fn tests(place: &Place, names: &[String]) -> Result<Vec<PathBuf>> {
    let build = || -> Result<Command> {
        let mut build = plugins::native(place, "test")?;
        build.arg("--no-run");
        names.iter().for_each(|test| {
            build.args(["--test", test]);
        });
        Ok(build)
    };
    execute(&mut build()?)?;
    let messages = output(build()?.arg("--message-format=json"))?;
    let tests: Vec<PathBuf> = messages.lines().filter_map(|line| json_path(line, "executable")).collect();
    // The programs that they run are built with them.
    let tests: Vec<PathBuf> = tests.into_iter().filter(|path| path.parent().is_some_and(|dir| dir.ends_with("deps"))).collect();
    if tests.len() != names.len() {
        bail!("cargo names {} executables for {} tests", tests.len(), names.len());
    }
    Ok(tests)
}

/// What `kernel-check` reads: a line an executable.
fn list(tests: &[PathBuf]) -> Vec<u8> {
    tests.iter().flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\n"].concat()).collect()
}

/// The column of this machine's kernel.
fn this_machine(place: &Place, tests: &[PathBuf]) -> Result<Column> {
    let path = place.target.join("kernels/tests");
    fs::write(&path, list(tests)).with_context(|| format!("can't write {}", path.display()))?;
    // Refusals fail it, and are in what it prints.
    let output = command(release(place, CHECK), &place.root).arg(path).output().with_context(|| format!("can't run {CHECK}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Column::parse(&text).with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{CHECK} ended with {} on this machine's kernel\n{}", output.status, errors.trim_end())
    })
}

fn release(place: &Place, program: &str) -> PathBuf {
    place.target.join("release").join(program)
}

/// What the machines begin with: everything where it is here, so that tests find it.
fn make_image(place: &Place, tests: &[PathBuf]) -> Result<PathBuf> {
    let mut image = image::Image::default();
    image.link(Path::new("/init"), &release(place, CHECK))?;
    let programs = PROGRAMS.iter().map(|program| release(place, program)).chain([SHELL.into()]);
    for program in programs.chain(tests.iter().cloned()) {
        image.program(&program)?;
    }
    DATA.iter().try_for_each(|data| image.copy(&place.root.join(data)))?;
    image.file(Path::new(LIST), list(tests))?;
    // A file that workloads open, as every machine has it.
    image.file(Path::new("/etc/hostname"), b"machine\n".to_vec())?;
    let path = place.target.join("kernels/initramfs");
    fs::write(&path, image.bytes()).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}
