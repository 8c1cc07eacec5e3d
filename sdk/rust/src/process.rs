//! Facts about processes.

use crate::{Error, ProcessFacts, Result, bindings::portcullis::plugin::process};

/// For each process, of any, what is known of it now: nothing of one that is gone or out of the plugin's scope. Many at once are
/// quicker than one after another. A plugin that calls this needs `read = ["process"]` of its bundle.
///
/// # Errors
/// Before [`Plugin::start`](crate::Plugin::start).
pub fn lookup(pids: &[u32]) -> Result<Vec<Option<ProcessFacts>>> {
    process::lookup(pids).map_err(Error::new)
}
