//! What `run`, `check` and `inspect` are told to work on: a bundle, or one plugin with what its manifest would say.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use portcullis_ebpf::DataClass;
use serde_json::Value;

use super::UsageError;
use crate::{
    grants::{GrantedBy, Grants},
    manifest::{self, Manifest},
};

/// How WebAssembly begins.
const MAGIC: [u8; 4] = *b"\0asm";

/// A bundle or a plugin.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// A bundle's manifest (TOML), or one plugin (a WebAssembly component).
    #[arg(value_name = "BUNDLE|PLUGIN.wasm")]
    pub path: PathBuf,

    /// The configuration of a single plugin: a JSON object, or @FILE to read one.
    #[arg(long, value_name = "JSON|@FILE", help_heading = "A single plugin")]
    pub config: Option<String>,

    /// Let a single plugin attach to what GLOB fits, as in 'span:syscall:open*'. Can be repeated.
    #[arg(long, value_name = "GLOB", help_heading = "A single plugin")]
    pub allow_probes: Vec<String>,

    /// Let a single plugin read a class of data. Can be repeated.
    #[arg(long, value_name = "CLASS", help_heading = "A single plugin", value_parser = classes())]
    pub allow_read: Vec<DataClass>,

    /// Grant a single plugin what FILE says below `[plugin.grants]`, as a manifest would.
    #[arg(long, value_name = "FILE", help_heading = "A single plugin")]
    pub grant: Option<PathBuf>,

    /// Grant a single plugin whatever it needs.
    #[arg(long, help_heading = "A single plugin", conflicts_with_all = ["grant", "allow_probes", "allow_read"])]
    pub grant_all: bool,
}

fn classes() -> impl TypedValueParser<Value = DataClass> {
    PossibleValuesParser::new(DataClass::ALL.map(DataClass::as_str))
        .try_map(|name| DataClass::ALL.into_iter().find(|class| class.as_str() == name).ok_or("there is no such class"))
}

impl Target {
    /// The bundle that is meant. What is named `.wasm` or begins as WebAssembly does is a plugin; nothing more of it is read here.
    pub fn load(&self) -> anyhow::Result<Manifest> {
        if !is_plugin(&self.path) {
            let flags = [
                ("--config", self.config.is_some()),
                ("--allow-probes", !self.allow_probes.is_empty()),
                ("--allow-read", !self.allow_read.is_empty()),
                ("--grant", self.grant.is_some()),
                ("--grant-all", self.grant_all),
            ];
            if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
                return Err(UsageError(format!("{flag} is for a single plugin; a bundle says it in its manifest")).into());
            }
            return Ok(Manifest::read(&self.path)?);
        }
        let mut grants = self.grant.as_deref().map_or_else(|| Ok(Grants::none()), manifest::read_grants)?;
        grants.probes.extend(self.allow_probes.iter().cloned());
        grants.read.extend(self.allow_read.iter().copied());
        if self.grant_all {
            grants.probes.push("*".into());
            grants.read.extend(DataClass::ALL);
        }
        grants.by = GrantedBy::CommandLine;
        let config = self.config.as_deref().map_or(Ok("{}".into()), config)?;
        Ok(Manifest::single(&self.path, config, grants))
    }
}

fn is_plugin(path: &Path) -> bool {
    if path.extension() == Some(OsStr::new("wasm")) {
        return true;
    }
    let mut start = [0; MAGIC.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC
}

/// The text of a JSON object, from the command line or a file.
fn config(argument: &str) -> anyhow::Result<String> {
    let (text, place) = match argument.strip_prefix('@') {
        Some(file) => (fs::read_to_string(file).with_context(|| format!("can't read the configuration {file}"))?, file),
        None => (argument.to_owned(), "--config"),
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object).to_string()),
        Ok(_) => Err(UsageError(format!("{place} must be a JSON object, as in {{\"key\": 1}}")).into()),
        Err(error) => Err(UsageError(format!("{place} is not JSON: {error}")).into()),
    }
}
