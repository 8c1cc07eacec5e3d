//! The `portcullis` command.

use std::process::ExitCode;

use portcullis::cli::{self, Command};

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        Err(exit) => return exit,
    };
    cli::conclude(match command {
        Command::Run(arguments) => cli::run(&arguments),
        Command::Check(arguments) => cli::check(&arguments),
        Command::Inspect(arguments) => cli::inspect(&arguments),
        Command::Probes(arguments) => cli::probes(&arguments),
        Command::Worker(_) => portcullis::worker::main(),
    })
}
