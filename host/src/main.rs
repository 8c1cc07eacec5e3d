//! The executable: the command line, and the worker that the host starts itself as.

use std::process::ExitCode;

use portcullis::cli::{self, Command};

fn main() -> ExitCode {
    // Before anything else runs in a process that is to be caged.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "worker") {
        portcullis::worker::main();
    }
    let command = match cli::parse() {
        Ok(command) => command,
        Err(exit) => return exit,
    };
    cli::conclude(match command {
        Command::Run(arguments) => cli::run(&arguments),
        Command::Check(arguments) => cli::check(&arguments),
        Command::Inspect(arguments) => cli::inspect(&arguments),
        Command::Probes(arguments) => cli::probes(&arguments),
    })
}
