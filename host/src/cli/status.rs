//! `portcullis status`: how runs go.

use std::io::{self, Write};

use anyhow::Context as _;

use super::{Exit, Status};
use crate::{
    control,
    output::{
        clean,
        units::{count, nanoseconds},
    },
};

/// Lists the runs of this user.
pub fn status(arguments: &Status) -> anyhow::Result<Exit> {
    let mut runs = control::runs();
    if let Some(run) = &arguments.run {
        runs.retain(|status| status.name == *run || status.pid.to_string() == *run);
    }
    let text = match (arguments.json, runs.as_slice()) {
        (true, runs) => clean::json(&format!("{:#}\n", serde_json::to_value(runs)?)).into_owned(),
        (false, []) => "no run goes on\n".to_owned(),
        (false, runs) => clean::lines(&runs.iter().map(say).collect::<Vec<_>>().join("\n")).into_owned(),
    };
    io::stdout().write_all(text.as_bytes()).context("can't print")?;
    Ok(Exit::Ok)
}

/// A run in words.
pub(super) fn say(run: &control::Status) -> String {
    let since = match (run.gate, run.since) {
        (false, _) => "without a gate".to_owned(),
        (true, None) => "attached, and the gate closed".to_owned(),
        (true, Some(since)) => format!("the gate opened {} ago", nanoseconds(since)),
    };
    let mut text = format!("{} (process {}): {since}\n", run.name, run.pid);
    for plugin in &run.plugins {
        text.push_str(&format!(
            "  {}: {}, {} probes, {} hits and {} with the gate closed, {} beyond the rate, {} events, {} without room\n",
            plugin.name,
            plugin.state.as_str(),
            count(plugin.probes),
            count(plugin.hits),
            count(plugin.hits_closed),
            count(plugin.shed),
            count(plugin.emitted),
            count(plugin.ring_full)
        ));
    }
    text
}
