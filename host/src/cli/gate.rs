//! `portcullis gate`: what is said to a run that goes on.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{Exit, status};
use crate::{
    contract::Interval,
    control::{self, Answer, Request},
    output::{clean, units::nanoseconds},
};

/// `portcullis gate`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(subcommand_value_name = "ACTION", subcommand_help_heading = "Actions", disable_help_subcommand = true)]
pub struct Gate {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,

    /// The run: the bundle's name, or the host's process id. Not needed where there is but one.
    #[arg(long, value_name = "NAME|PID", global = true)]
    pub run: Option<String>,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Open the gate of a run that waits for it, or what of it is not open yet.
    Open(One),
    /// Close the gate for good: the run ends with its report, or the plugin leaves.
    Close(One),
    /// Close the gate for a while: nothing is recorded, and everything stays attached.
    Pause(One),
    /// Open it again.
    Resume(One),
    /// Put another version of a plugin in its place: the new one opens, then the old one closes, and nothing is missed in between.
    Replace {
        /// The plugin's name.
        plugin: String,
        /// The new component.
        file: PathBuf,
    },
    /// Add the plugins of a bundle: they are attached, and one store opens them all.
    Join {
        /// The bundle's manifest. What it says of start, stop and output does not count.
        bundle: PathBuf,
    },
}

/// One plugin, or all.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct One {
    /// This plugin alone.
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
}

/// Asks the run, and says what it did.
pub fn gate(arguments: &Gate) -> anyhow::Result<Exit> {
    let request = match arguments.action.clone() {
        Action::Open(One { plugin }) => Request::Open { plugin },
        Action::Close(One { plugin }) => Request::Close { plugin },
        Action::Pause(One { plugin }) => Request::Pause { plugin },
        Action::Resume(One { plugin }) => Request::Resume { plugin },
        Action::Replace { plugin, file } => Request::Replace { plugin, file: absolute(&file)? },
        Action::Join { bundle } => Request::Join { bundle: absolute(&bundle)? },
    };
    let answer = control::ask(arguments.run.as_deref(), &request)?;
    io::stdout().write_all(clean::lines(&say(&answer)).as_bytes()).context("can't print")?;
    Ok(Exit::Ok)
}

/// The run has another working directory.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("can't read {}", path.display()))
}

fn say(answer: &Answer) -> String {
    let within = |at: &Interval| nanoseconds(at.latest.saturating_sub(at.earliest));
    match answer {
        Answer::Opened { plugins, at } => format!("opened within {}: {}\n", within(at), plugins.join(", ")),
        Answer::Paused { plugins, at } => format!("paused within {}: {}\n", within(at), plugins.join(", ")),
        Answer::Ending => "the run ends\n".into(),
        Answer::Leaving { plugin, at: Some(at) } => format!("closed within {}: {plugin}\n", within(at)),
        Answer::Leaving { plugin, at: None } => format!("{plugin} leaves; it was not open\n"),
        Answer::Joined { plugins, at: Some(at) } => format!("joined, opened within {}: {}\n", within(at), plugins.join(", ")),
        Answer::Joined { plugins, at: None } => format!("joined: {}\n", plugins.join(", ")),
        Answer::Replaced { plugin, overlap: Some(overlap) } => {
            format!("replaced, old and new both open for {}: {plugin}\n", within(overlap))
        }
        Answer::Replaced { plugin, overlap: None } => format!("replaced while it was paused: {plugin}\n"),
        Answer::Status(run) => status::say(run),
    }
}
