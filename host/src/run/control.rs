//! What others ask of a run, answered.

use super::plugins::{Plugin, Plugins};
use crate::{
    clock,
    contract::{Interval, ProbeCounts, StreamCounts},
    control::{PluginState, PluginStatus, Status},
};

/// There is no such plugin.
pub(super) fn no_plugin(name: &str) -> String {
    format!("this run has no plugin \"{name}\"; `portcullis status` lists those that it has")
}

/// How a run goes.
pub(super) fn status(
    plugins: &Plugins,
    opened: Option<Interval>,
    state: impl Fn(usize) -> PluginState,
    counts: impl Fn(usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>),
) -> Status {
    let status = |(number, plugin): (usize, &Plugin)| {
        let (probes, streams) = counts(number);
        PluginStatus {
            name: plugin.spec.name.clone(),
            state: if plugin.leaving.is_some() { PluginState::Leaving } else { state(number) },
            probes: probes.len() as u64,
            hits: probes.iter().map(|probe| probe.hits + probe.entry_hits).sum(),
            hits_closed: probes.iter().map(|probe| probe.hits_closed + probe.entry_hits_closed).sum(),
            shed: probes.iter().map(|probe| probe.shed).sum(),
            emitted: streams.iter().map(|stream| stream.emitted).sum(),
            ring_full: streams.iter().map(|stream| stream.ring_full).sum(),
        }
    };
    Status {
        name: plugins.bundle.clone(),
        pid: std::process::id(),
        gate: plugins.gated,
        opened,
        since: opened.map(|opened| clock::now().saturating_sub(opened.latest)),
        plugins: plugins.here().map(status).collect(),
    }
}
