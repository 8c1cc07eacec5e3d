//! The bundle manifest: which plugins run together, what each may do, and how the run begins and ends.
//!
//! A manifest is TOML (`docs/bundle.md` is its reference). [`Manifest::read`] takes a file to a checked [`Manifest`] or to every
//! mistake that is in it, each with its place. A single plugin file is run as a bundle of one, [`Manifest::single`].

mod error;
pub mod limits;
pub mod moment;
pub mod quantity;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::{ManifestError, Problem};
pub use moment::Moment;
use toml::value::Datetime;

use crate::{
    cage::{Layers, Sandbox},
    contract::Limits,
    grants::Grants,
};

/// The version of the manifest's format.
pub const SCHEMA: u64 = 1;

/// How many plugins a bundle can have: the bits of the gate word.
pub const MAX_PLUGINS: usize = portcullis_ebpf::gate::BITS;

/// How large a manifest file can be. A bundle of 64 plugins with a long config each is some hundred KiB.
const MAX_BYTES: u64 = 4 << 20;

/// How long the kernel has to come to rest after the attaching, where the manifest does not say: some times what it takes to rewrite code.
pub const DEFAULT_SETTLE: Duration = Duration::from_millis(2);

/// How long plugins have for the events that were recorded before the gate closed, where the manifest does not say.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(5);

/// A bundle, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Where it comes from.
    pub source: Source,
    /// The bundle's name, `[A-Za-z0-9_-]+`.
    pub name: String,
    /// How the run begins.
    pub start: Start,
    /// How it ends.
    pub stop: Stop,
    /// How what plugins show is printed.
    pub format: Format,
    /// How workers and the symbolizer are locked in.
    pub sandbox: Sandbox,
    /// At least one, at most [`MAX_PLUGINS`], in the manifest's order; a plugin's position is its bit in the gate word.
    pub plugins: Vec<Plugin>,
}

/// What was named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A manifest.
    Bundle(PathBuf),
    /// A plugin, run as a bundle of one.
    Plugin(PathBuf),
}

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Probes record nothing until one store opens them all; `false` compiles the gate out (guarantee G10).
    pub gate: bool,
    /// When the gate opens.
    pub open: Open,
    /// How long after the attaching nothing is opened, so that what the attaching itself sets going is not seen.
    pub settle: Duration,
}

/// When the gate opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// As soon as every probe of every plugin is attached.
    Attached,
    /// When somebody says so: `portcullis gate open`, or the signal SIGUSR1.
    Manual,
    /// This long after every probe of every plugin was attached.
    After(Duration),
    /// At a moment that several machines share.
    At(Moment),
}

impl std::str::FromStr for Open {
    type Err = String;

    /// As on the command line: `attached`, `manual`, a duration, or a moment.
    fn from_str(text: &str) -> Result<Open, String> {
        match text {
            "attached" => return Ok(Open::Attached),
            "manual" => return Ok(Open::Manual),
            _ => {}
        }
        // A moment begins with a year and a dash, which no duration does.
        if text.contains('-') {
            let date: Datetime = text.parse().map_err(|_| "this is no moment; write it as 2027-01-01T00:00:00Z".to_owned())?;
            return Moment::of(&date).map(Open::At).map_err(str::to_owned);
        }
        let help = "write `attached`, `manual`, a time as in `2s`, or a moment as in `2027-01-01T00:00:00Z`";
        quantity::duration(text).map(Open::After).map_err(|error| format!("{error}; {help}"))
    }
}

/// How a run ends, other than by a signal, by its command or by a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// This long after the opening; `None`: never.
    pub after: Option<Duration>,
    /// How long plugins have for the events that were recorded before the gate closed.
    pub drain: Duration,
}

/// How what plugins show is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned tables, for people.
    #[default]
    Table,
    /// One JSON object a line, for programs.
    Json,
}

/// One plugin of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Unique in the bundle, `[A-Za-z0-9_-]+`.
    pub name: String,
    /// Its component; what the manifest says, from the manifest's directory.
    pub source: PathBuf,
    /// The component itself, where the host ships it; `source` is then what messages call it.
    pub shipped: Option<&'static [u8]>,
    /// What `configure` gets: a JSON object as text.
    pub config: String,
    /// What it may do.
    pub grants: Grants,
    /// What it may use.
    pub limits: Limits,
    /// The run ends when this plugin fails, and is not started again.
    pub essential: bool,
    /// Whether it is started again when it has failed.
    pub restart: Option<Restart>,
    /// How its worker is locked in: as the bundle says that it comes from.
    pub sandbox: Sandbox,
}

/// How a plugin that has failed is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// How often, at least once.
    pub times: u32,
    /// How long after the failure; twice as long after each further one.
    pub backoff: Duration,
}

/// The longest time after which a plugin is started again.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

impl Plugin {
    /// What is started when this has failed, and how long after: the same plugin with one try less.
    pub fn again(&self) -> Option<(Duration, Plugin)> {
        let Restart { times, backoff } = self.restart?;
        let next = Restart { times: times.checked_sub(1)?, backoff: backoff.saturating_mul(2).min(MAX_BACKOFF) };
        Some((backoff, Plugin { restart: (next.times > 0).then_some(next), ..self.clone() }))
    }
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
        Manifest::parse(&read(path)?, path)
    }

    /// Checks the manifest `text`, whose relative paths begin in the directory of `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Manifest, ManifestError> {
        reader::read(text, path).map_err(|problems| ManifestError::Wrong { path: path.into(), problems })
    }

    /// The bundle that the plugin at `path` is when it is run alone: its name is that of the file, all else as a manifest that
    /// says nothing has it. `config` is a JSON object as text.
    pub fn single(path: &Path, config: String, grants: Grants) -> Manifest {
        let name = name_of_file(path);
        Manifest {
            source: Source::Plugin(path.into()),
            name: name.clone(),
            start: Start::default(),
            stop: Stop::default(),
            format: Format::Table,
            sandbox: Sandbox::default(),
            plugins: vec![Plugin {
                name,
                source: path.into(),
                shipped: None,
                config,
                grants,
                limits: Limits::default(),
                essential: false,
                restart: None,
                sandbox: Sandbox::default(),
            }],
        }
    }

    /// Requires these layers, whatever was required before.
    pub fn require(&mut self, layers: Layers) {
        self.sandbox.layers = layers;
        self.plugins.iter_mut().for_each(|plugin| plugin.sandbox.layers = layers);
    }
}

/// The grants that a file has below `[plugin.grants]`, as a manifest has them, and nothing else.
pub fn read_grants(path: &Path) -> Result<Grants, ManifestError> {
    reader::read_grants(&read(path)?, path).map_err(|problems| ManifestError::Wrong { path: path.into(), problems })
}

/// The text of a manifest.
fn read(path: &Path) -> Result<String, ManifestError> {
    let unreadable = |error| ManifestError::Unreadable { path: path.into(), error };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(io::Error::other("it is larger than 4 MiB, which no manifest is")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        unreadable(io::Error::other(format!("line {line} is not UTF-8 text")))
    })
}

impl Default for Start {
    fn default() -> Self {
        Start { gate: true, open: Open::Attached, settle: DEFAULT_SETTLE }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop { after: None, drain: DEFAULT_DRAIN }
    }
}

/// A bundle's or plugin's name from its file's: what a name can't have becomes `-`.
fn name_of_file(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let name: String = stem.chars().map(|c| if is_name_char(c) { c } else { '-' }).take(MAX_NAME).collect();
    if name.is_empty() { "plugin".into() } else { name }
}

/// How long a name can be, in characters.
const MAX_NAME: usize = 64;

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}
