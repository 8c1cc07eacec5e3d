//! `kernel-check [LIST]`: has the running kernel load every program of the language's data tests, runs the tests whose executables
//! the file LIST names, a line each, and prints what became of them all.
//!
//! As the first process of a virtual machine it writes that to the second serial port and ends the machine.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use portcullis_tests::{kernel, lock, machine::Machine, matrix, specs};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kernel-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run() -> Result<bool> {
    let machine = Machine::take()?;
    // Here others may be testing, and the tests of the list take the lock themselves.
    let lock = if machine.is_none() { lock() } else { None };
    let mut column = matrix::check(&kernel::running(), &specs::directory());
    drop(lock);
    if let Some(list) = std::env::args_os().nth(1) {
        let list = std::fs::read_to_string(&list).with_context(|| format!("can't read {}", list.display()))?;
        column.run(list.lines().map(Path::new))?;
    }
    match machine {
        Some(machine) => {
            write!(machine.line()?, "{column}")?;
            machine.end()?;
        }
        None => print!("{column}"),
    }
    Ok(column.refusals.is_empty())
}
