//! The command line: what can be typed, what is said about errors, and how the process exits.
//!
//! Each subcommand has its own file.

mod check;
mod doctor;
mod gate;
mod inspect;
mod lock;
mod probes;
mod run;
mod scope;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod trace;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

pub use check::check;
use clap::{Args, Parser, Subcommand};
pub use doctor::doctor;
pub use gate::{Action, Gate, One, gate};
pub use inspect::inspect;
pub use lock::lock;
use portcullis_ebpf::Rate;
pub use probes::probes;
pub use run::run;
pub use scope::Scope;
pub use status::status;
pub use target::Target;
pub use trace::trace;

use crate::{
    cage::Layers,
    grants::{Refusals, Refused},
    kernel::Mechanism,
    lock::Unlocked,
    manifest::{Format, Manifest, Open, quantity},
    output::{self, clean},
};

/// How the process exits. The numbers are an interface, and [`EXIT_CODES`] documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything went as asked.
    Ok = 0,
    /// Refused or failed before the gate opened: nothing was recorded and no command ran. Or the end could not be told.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A plugin needs more than it is granted, or than its lock approved.
    Grants = 3,
    /// The run ended, and a plugin of it had failed.
    Plugin = 4,
    /// The run ended, and its counts do not add up.
    Accounting = 5,
}

/// The end of `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  everything went as asked
  1  refused or failed; before the gate opened, nothing was recorded and COMMAND did not run
  2  wrong usage
  3  a plugin needs more than it is granted, or is not what its lock approved
  4  the run ended, but a plugin had failed
  5  the run ended, but its counts do not add up, which is a bug
  128+N  ended at once by a second signal N
How COMMAND ended is in the report and does not change the exit code.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    about = "Trace Linux with sandboxed WebAssembly plugins, every probe behind one gate.",
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    subcommand_value_name = "SUBCOMMAND",
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a bundle or one plugin: attach every probe, open the gate, show what plugins show, report.
    Run(Run),
    /// Compile every probe and check it with the kernel, but attach nothing.
    Check(Check),
    /// Say in plain words what a bundle or plugin needs and what it is granted.
    Inspect(Inspect),
    /// Approve what the plugins of a bundle are and need: write it to the lock beside the manifest.
    Lock(Lock),
    /// List the attach points that a pattern fits, with their fields.
    Probes(Probes),
    /// Open, pause or close the gate of a run that goes on, or change its plugins.
    Gate(Gate),
    /// Say how the runs of this user go.
    Status(Status),
    /// Run a program in bpftrace's notation: 'ATTACH /predicate/ { body } ...'.
    Trace(Trace),
    /// Say what this kernel lets this user do, and how to get what is missing.
    Doctor(Doctor),
}

/// `portcullis run`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = EXIT_CODES)]
pub struct Run {
    /// The bundle or plugin.
    #[command(flatten)]
    pub target: Target,

    /// End this long after the gate opened, as in 10s or 1m30s; the bundle's `stop.after` otherwise.
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub duration: Option<Duration>,

    /// How to print rows; the bundle's `output.format` otherwise. With json, standard output carries rows alone.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// When the gate opens: attached, manual (`portcullis gate open` or SIGUSR1), a time after that as in 2s, or a moment as in
    /// 2027-01-01T00:00:00Z; the bundle's `start.open` otherwise.
    #[arg(long, value_name = "WHEN", conflicts_with = "no_gate")]
    pub open: Option<Open>,

    /// Put a plugin whose file is built anew in the place of the version that runs, without a gap.
    #[arg(long, conflicts_with = "no_gate")]
    pub watch: bool,

    /// Write a line to this descriptor when the gate is open.
    #[arg(long, value_name = "FD")]
    pub ready_fd: Option<i32>,

    /// Compile the gate out: each probe begins when it is attached.
    #[arg(long)]
    pub no_gate: bool,

    /// Write the report to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Do everything up to loading the programs into the kernel, attach nothing, and say what would have run.
    #[arg(long)]
    pub dry_run: bool,

    /// Whose processes are traced.
    #[command(flatten)]
    pub scope: Scope,

    /// Trace every process, not only COMMAND and its children.
    #[arg(long, requires = "command")]
    pub system_wide: bool,

    /// How to attach: as cheaply as this kernel can, or each attach point by a perf event of its own, for comparison.
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub mechanism: Mechanism,

    /// Which layers of plugins' sandboxes there must be: those that this kernel has, or all, else nothing is run; the bundle's
    /// `sandbox` otherwise.
    #[arg(long, value_enum, value_name = "LAYERS")]
    pub sandbox: Option<Layers>,

    /// Run nothing that the bundle's lock has not approved.
    #[arg(long)]
    pub locked: bool,

    /// Show the debug messages of plugins and of the host.
    #[arg(long, short)]
    pub verbose: bool,

    /// Start COMMAND, trace it and its children from its first instruction, and end with it.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `portcullis status`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// One run alone: the bundle's name, or the host's process id.
    #[arg(long, value_name = "NAME|PID")]
    pub run: Option<String>,

    /// Print JSON: an array of runs.
    #[arg(long)]
    pub json: bool,
}

/// `portcullis check`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The bundle or plugin.
    #[command(flatten)]
    pub target: Target,

    /// Print the programs: source beside instructions.
    #[arg(long)]
    pub listing: bool,

    /// Refuse what the bundle's lock has not approved.
    #[arg(long)]
    pub locked: bool,
}

/// `portcullis lock`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = EXIT_CODES)]
pub struct Lock {
    /// The bundle's manifest (TOML); its lock stands beside it, with the ending `.lock`.
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,

    /// Approve also what is needed beyond what the lock had approved before.
    #[arg(long)]
    pub approve: bool,
}

/// `portcullis inspect`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspect {
    /// The bundle or plugin.
    #[command(flatten)]
    pub target: Target,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `portcullis probes`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// KIND:TARGET with wildcards, as in 'tracepoint:block:*' or 'span:syscall:open*'.
    #[arg(value_name = "PATTERN")]
    pub pattern: String,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `portcullis doctor`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = "Exit codes: 0 if some probe can be attached, else 1.")]
pub struct Doctor {
    /// Print JSON: an array of {name, group, ok, detail, way_out}.
    #[arg(long)]
    pub json: bool,
}

/// `portcullis trace`
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = EXIT_CODES)]
pub struct Trace {
    /// The program, as in 'tracepoint:sched:sched_switch { @ = count(); }', or a file that has it, or `-`; behind it
    /// the program's parameters $1, $2 and so on.
    #[arg(value_name = "PROGRAM|FILE", required_unless_present = "program")]
    pub words: Vec<String>,

    /// The program; every other word is a parameter of it.
    #[arg(short = 'e', value_name = "PROGRAM")]
    pub program: Option<String>,

    /// Whose processes are traced.
    #[command(flatten)]
    pub scope: Scope,

    /// Start COMMAND, as behind `--`: words with blanks between, and quotes.
    #[arg(short = 'c', value_name = "COMMAND", conflicts_with_all = ["command", "pid"])]
    pub command_line: Option<String>,

    /// End this long after the gate opened, as in 10s or 1m30s.
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub duration: Option<Duration>,

    /// How to print. With json, standard output carries rows alone.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub format: Format,

    /// Print all maps this often, as in 1s.
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub interval: Option<Duration>,

    /// How many attach points each clause may have once wildcards are expanded.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub attach_points: Option<u32>,

    /// Run each clause at most this often in a second; further hits are shed and counted. Not `begin` and `end`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(Rate::MOST)))]
    pub rate: Option<u32>,

    /// How often of that at once, if a clause did not run for long enough; as much as --rate unless told.
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(1..=i64::from(Rate::MOST)))]
    pub burst: Option<u32>,

    /// Of each map print only the N elements with the largest values.
    #[arg(long, value_name = "N")]
    pub top: Option<u64>,

    /// Clear each map after it was printed by --interval.
    #[arg(long, requires = "interval")]
    pub clear: bool,

    /// Trace every process, not only COMMAND and its children.
    #[arg(long)]
    pub system_wide: bool,

    /// Do everything up to loading the programs into the kernel, attach nothing, and say what would have run.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the programs, source beside instructions, and attach nothing.
    #[arg(long)]
    pub listing: bool,

    /// Write the report to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// How to attach: as cheaply as this kernel can, or each attach point by a perf event of its own, for comparison.
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub mechanism: Mechanism,

    /// Which layers of the sandbox there must be: those that this kernel has, or all, else nothing is run.
    #[arg(long, value_enum, value_name = "LAYERS")]
    pub sandbox: Option<Layers>,

    /// Show the whole report at the end, and the debug messages of the host.
    #[arg(long, short)]
    pub verbose: bool,

    /// Start COMMAND, trace it and its children from its first instruction, and end with it.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The command line is wrong in a way that is seen only when it is followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl Run {
    /// The bundle to run, with what the command line changes in it.
    pub fn manifest(&self) -> anyhow::Result<Manifest> {
        let mut manifest = self.target.load()?;
        manifest.start.gate &= !self.no_gate;
        manifest.start.open = self.open.unwrap_or(manifest.start.open);
        if !manifest.start.gate && manifest.start.open != Open::Attached {
            let what = "the bundle's `start.open` says when the gate opens, and without a gate nothing does";
            return Err(UsageError(what.into()).into());
        }
        if !manifest.start.gate && manifest.plugins.iter().any(|plugin| plugin.restart.is_some()) {
            let what = "a plugin of the bundle has `restart`, which takes a gate: it begins again by a store to it";
            return Err(UsageError(what.into()).into());
        }
        if !manifest.start.gate && self.watch {
            return Err(UsageError("--watch takes a gate: a new version takes over by a store to it".into()).into());
        }
        manifest.stop.after = self.duration.or(manifest.stop.after);
        manifest.format = self.format.unwrap_or(manifest.format);
        if let Some(layers) = self.sandbox {
            manifest.require(layers);
        }
        Ok(manifest)
    }
}

/// Reads the process's command line. `Err` is how to exit: help was asked for and shown, or the usage is wrong and that was said.
pub fn parse() -> Result<Command, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) if error.use_stderr() => {
            say(&format!("portcullis: {error}"));
            Err(ExitCode::from(Exit::Usage as u8))
        }
        Err(help) => {
            // That nobody reads the help is no failure.
            let _ = help.print();
            Err(ExitCode::SUCCESS)
        }
    }
}

/// Says what went wrong, if anything did, and how to exit.
pub fn conclude(result: anyhow::Result<Exit>) -> ExitCode {
    let exit = result.unwrap_or_else(|error| {
        say(&describe(&error));
        exit_of(&error)
    });
    ExitCode::from(exit as u8)
}

/// How to exit after an error.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let kind = error.chain().find_map(|cause| {
        if cause.is::<UsageError>() {
            Some(Exit::Usage)
        } else if cause.is::<Refused>() || cause.is::<Refusals>() || cause.is::<Unlocked>() {
            Some(Exit::Grants)
        } else {
            None
        }
    });
    kind.unwrap_or(Exit::Failed)
}

/// An error with its causes, `portcullis: error: what: why`.
pub fn describe(error: &anyhow::Error) -> String {
    format!("portcullis: error: {}", output::describe(error))
}

fn say(text: &str) {
    // There is nowhere to tell that standard error is closed.
    let _ = writeln!(io::stderr(), "{}", clean::lines(text.trim_end()));
}

fn positive(text: &str) -> Result<Duration, String> {
    match quantity::duration(text) {
        Ok(Duration::ZERO) => Err("a run takes some time".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
