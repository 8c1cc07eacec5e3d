//! The project's own commands: everything that is more than one call of cargo.
//!
//! They work in a fresh clone and fetch what they need; `cargo xtask help` lists them.

mod compare;
mod dist;
mod document;
mod examples;
mod kernels;
mod place;
mod plugins;
mod process;
mod quickstart;
mod seed;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};
use place::Place;

/// A command, what it does, and how.
struct Task {
    name: &'static str,
    about: &'static str,
    run: Run,
}

/// What a command is given.
enum Run {
    /// Nothing but the checkout.
    Plain(fn(&Place) -> Result<()>),
    /// Its arguments as well.
    With(fn(&Place, &[&str]) -> Result<()>),
}

const TASKS: &[Task] = &[
    Task {
        name: "quickstart",
        about: "build the plugins and the host, and run examples/quickstart/bundle.toml on this kernel",
        run: Run::Plain(quickstart::run),
    },
    Task { name: "test", about: "format check, lints, documentation, all builds, all tests", run: Run::Plain(test::run) },
    Task {
        name: "seed",
        about: "run the seed experiment: what the gate is for, measured with it and without it",
        run: Run::Plain(seed::run),
    },
    Task {
        name: "compare",
        about: "start and stop Portcullis and, where it is installed, bpftrace in the midst of events, and print one table",
        run: Run::Plain(compare::run),
    },
    Task {
        name: "kernels",
        about: "load every test program on this kernel and on others, 5.10 to 7.2, in virtual machines; or of both, those that are named",
        run: Run::With(kernels::run),
    },
    Task {
        name: "plugins",
        about: "build the first-party plugins, and those that tests need, into target/plugins",
        run: Run::Plain(plugins::run),
    },
    Task {
        name: "dist",
        about: "build target/dist/portcullis, an executable that has the plugin of `portcullis trace` inside",
        run: Run::Plain(dist::run),
    },
    Task {
        name: "examples",
        about: "build the example plugin in each language into target/examples",
        run: Run::Plain(examples::run),
    },
];

fn main() -> ExitCode {
    match dispatch(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            process::say(&help());
            Ok(())
        }
        [name, arguments @ ..] => match TASKS.iter().find(|task| task.name == *name).map(|task| &task.run) {
            Some(Run::Plain(run)) if arguments.is_empty() => run(&Place::find()?),
            Some(Run::Plain(_)) => bail!("`cargo xtask {name}` takes no arguments\n\n{}", help()),
            Some(Run::With(run)) => run(&Place::find()?, arguments),
            None => bail!("there is no command `{name}`\n\n{}", help()),
        },
    }
}

fn help() -> String {
    let mut text = String::from("Usage: cargo xtask COMMAND\n");
    for task in TASKS {
        text.push_str(&format!("\n  {:<12}{}", task.name, task.about));
    }
    text
}
