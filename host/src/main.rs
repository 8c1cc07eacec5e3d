//! The executable: the command line, and the processes that the host starts itself as: workers, a symbolizer, and
//! one that closes what is slow to close.

use std::process::ExitCode;

use portcullis::{
    cli::{self, Command},
    kernel::closer,
};

fn main() -> ExitCode {
    // Before anything else runs in a process that is to be caged.
    match std::env::args_os().nth(1) {
        Some(argument) if argument == "worker" => portcullis::worker::main(),
        Some(argument) if argument == "symbolizer" => portcullis::symbols::main(),
        Some(argument) if argument == closer::SUBCOMMAND => closer::main(),
        _ => {}
    }
    let command = match cli::parse() {
        Ok(command) => command,
        Err(exit) => return exit,
    };
    cli::conclude(match command {
        Command::Run(arguments) => cli::run(&arguments),
        Command::Check(arguments) => cli::check(&arguments),
        Command::Inspect(arguments) => cli::inspect(&arguments),
        Command::Lock(arguments) => cli::lock(&arguments),
        Command::Probes(arguments) => cli::probes(&arguments),
        Command::Gate(arguments) => cli::gate(&arguments),
        Command::Status(arguments) => cli::status(&arguments),
        Command::Trace(arguments) => cli::trace(&arguments),
        Command::Doctor(arguments) => cli::doctor(&arguments),
    })
}
