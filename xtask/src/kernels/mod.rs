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
const PROGRAMS: [&str; 3] = [CHECK, "portcullis", "workload"];
/// The tests of crate `tests` that they run.
const TESTS: [&str; 5] = ["language", "kinds", "tools", "oracle", "whole"];
/// What these read, from the root of the checkout.
const DATA: [&str; 4] = ["host-ebpf/tests/specs", "docs/probe-language.md", "tests/language", "target/plugins"];
/// Where the machines have the list of the tests' executables.
const LIST: &str = "/tests";
/// Where the table is kept.
const DOCUMENT: &str = "docs/kernels.md";

/// Kernels and what runs them.
pub(crate) struct Prepared {
    kernels: Vec<fetch::Kernel>,
}

/// Runs all of it and prints the table; with UPDATE_EXPECT=1 also into docs/kernels.md.
pub(crate) fn run(place: &Place) -> Result<()> {
    plugins::run(place)?;
    check(place, &prepare(place)?)
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
    Ok(Prepared { kernels: fetch::all(place)? })
}

/// Has every kernel load every test program.
///
/// # Errors
/// A kernel refuses one.
pub(crate) fn check(place: &Place, prepared: &Prepared) -> Result<()> {
    let mut build = plugins::native(place, "build")?;
    PROGRAMS.iter().for_each(|program| {
        build.args(["--bin", program]);
    });
    execute(&mut build)?;
    let tests = tests(place)?;

    let mut columns = Vec::new();
    mount_tracefs(place);
    match missing(is_root(), Path::exists).as_slice() {
        [] => columns.push(here(place, &tests)?),
        missing => say(&format!("warning: this machine's own kernel is left out:\n  - {}", missing.join("\n  - "))),
    }
    let image = make_image(place, &tests)?;
    for kernel in &prepared.kernels {
        let image = modules::with_modules(place, kernel, &image)?;
        columns.push(vm::check(place, kernel, &image)?);
    }
    columns.sort_by_key(|column| fetch::numbers(&column.release));

    let table = column::table(&columns);
    show(&table);
    document::update(place, DOCUMENT, "kernels", &table)?;
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

/// Builds [`TESTS`]; their executables.
fn tests(place: &Place) -> Result<Vec<PathBuf>> {
    let build = || -> Result<Command> {
        let mut build = plugins::native(place, "test")?;
        build.arg("--no-run");
        TESTS.iter().for_each(|test| {
            build.args(["--test", test]);
        });
        Ok(build)
    };
    execute(&mut build()?)?;
    let messages = output(build()?.arg("--message-format=json"))?;
    let tests: Vec<PathBuf> = messages.lines().filter_map(|line| json_path(line, "executable")).collect();
    // The programs that they run are built with them.
    let tests: Vec<PathBuf> = tests.into_iter().filter(|path| path.parent().is_some_and(|dir| dir.ends_with("deps"))).collect();
    if tests.len() != TESTS.len() {
        bail!("cargo names {} executables for {} tests", tests.len(), TESTS.len());
    }
    Ok(tests)
}

/// What `kernel-check` reads: a line an executable.
fn list(tests: &[PathBuf]) -> Vec<u8> {
    tests.iter().flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\n"].concat()).collect()
}

/// The column of this machine's kernel.
fn here(place: &Place, tests: &[PathBuf]) -> Result<Column> {
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
    for program in PROGRAMS.iter().map(|program| release(place, program)).chain(tests.iter().cloned()) {
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
