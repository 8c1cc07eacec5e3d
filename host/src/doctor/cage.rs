//! What the host's own processes lock themselves in with ([`crate::cage`]).

use std::{path::Path, sync::Arc};

use super::Finding;
use crate::{
    cage::{self, Layer, Missing, Sandbox},
    contract::Limits,
    doors::Opened,
    symbols::{self, Symbols},
    worker::{self, Silent, Worker},
};

const GROUP: &str = "cage";

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = worker();
    findings.push(symbolizer());
    findings
}

/// A worker, started as for a run, which says how far it is locked in.
fn worker() -> Vec<Finding> {
    let options = worker::Options {
        name: "doctor".into(),
        limits: Limits::default(),
        output: Arc::new(Silent),
        executable: None,
        cache: None,
        sandbox: Sandbox::default(),
        doors: Opened::default(),
    };
    let mut missing = match Worker::try_cage(options.clone()) {
        Ok(account) => account.missing,
        Err(error) => {
            let way_out = "without it no plugin can be run; this is an error in portcullis, or a kernel older than Linux 5.9";
            return vec![Finding::no(GROUP, "worker, locked in", error.cause.to_string(), way_out)];
        }
    };
    missing.extend(with_a_door(options));
    let finding = |layer: Layer| match missing.iter().find(|missing| missing.layer == layer) {
        Some(missing) => Finding::no(GROUP, layer.as_str(), missing.reason.as_str(), layer.way_out()),
        None => Finding::yes(GROUP, layer.as_str(), holds(layer)),
    };
    Layer::ALL.into_iter().map(finding).collect()
}

/// What a worker lacks that may connect, and no other has: to whom does not matter.
fn with_a_door(options: worker::Options) -> Option<Missing> {
    let layer = Layer::Connections;
    let doors = Opened { network: "127.0.0.1:1".parse().into_iter().collect(), ..Opened::default() };
    match Worker::try_cage(worker::Options { doors, ..options }) {
        Ok(account) => account.missing.into_iter().find(|missing| missing.layer == layer),
        Err(error) => Some(Missing::new(layer, &error.cause)),
    }
}

fn holds(layer: Layer) -> String {
    match (layer, cage::landlock_version()) {
        (Layer::Landlock, Some(version)) => format!("{}; version {version}", layer.holds()),
        _ => layer.holds().into(),
    }
}

/// The caged process, asked for a function of this program. Whether there is one does not matter.
fn symbolizer() -> Finding {
    let name = "symbolizer, locked in";
    let symbols = Symbols::new(&symbols::Options::default());
    match symbols.functions(Path::new("/proc/self/exe"), None, "main") {
        Ok(_) => Finding::yes(GROUP, name, "it runs and answers"),
        Err(error) => Finding::no(GROUP, name, error.to_string(), "see the lines above; without it user functions have no names"),
    }
}
