//! What a component may call: the interfaces of `wit/` that the host offers.

use std::collections::HashSet;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    bindings::portcullis::plugin::{log, output, session, types},
    convert,
    deadline::Deadline,
    memory::Memory,
    wasi::Transcript,
};
use crate::{
    contract::{Level, Table},
    worker::{
        check,
        protocol::{FrameError, FromWorker, cut_line},
        serve::Speaker,
    },
};

/// Everything that belongs to one instance.
pub(super) struct State {
    pub(super) speaker: Speaker,
    pub(super) deadline: Deadline,
    pub(super) memory: Memory,
    pub(super) transcript: Transcript,
    pub(super) tables: Vec<Table>,
    pub(super) metrics: HashSet<String>,
    pub(super) wasi: WasiCtx,
    pub(super) resources: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl State {
    fn say(&mut self, message: &FromWorker) -> Result<(), FrameError> {
        let listening = self.speaker.say(message)?;
        // A host that is slow to listen, since its own output is, takes nothing from the plugin's time.
        self.deadline.excuse(listening);
        Ok(())
    }

    /// Says what is short for certain.
    fn say_line(&mut self, message: &FromWorker) {
        // `cut_line` keeps it far below the limit of a frame.
        let _ = self.say(message);
    }

    /// What the component wrote to its standard output and error goes to the log.
    pub(super) fn log_transcript(&mut self, transcript: String) {
        if !transcript.trim().is_empty() {
            self.say_line(&FromWorker::Log { level: Level::Debug, message: cut_line(transcript) });
        }
    }
}

impl types::Host for State {}

impl output::Host for State {
    fn append(&mut self, table: u32, rows: output::TableRows) -> Result<(), String> {
        let tables = self.tables.len();
        let declared = self.tables.get(table as usize).ok_or_else(|| format!("there is no table {table}; there are {tables}"))?;
        let rows = convert::rows(rows);
        check::rows(declared, &rows)?;
        self.say(&FromWorker::Append { table, rows }).map_err(|_| "the rows are too long for one call; append fewer".into())
    }

    fn print(&mut self, line: String) {
        self.say_line(&FromWorker::Print { line: cut_line(line) });
    }

    fn set_metric(&mut self, name: String, value: f64) -> Result<(), String> {
        check::metric(&name)?;
        if !self.metrics.contains(&name) {
            if self.metrics.len() == check::MAX_METRICS {
                return Err(format!("a plugin can have {} metrics", check::MAX_METRICS));
            }
            self.metrics.insert(name.clone());
        }
        self.say_line(&FromWorker::Metric { name, value });
        Ok(())
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) {
        self.say_line(&FromWorker::Log { level: convert::level(level), message: cut_line(message) });
    }
}

impl session::Host for State {
    fn stop(&mut self, reason: String) {
        self.say_line(&FromWorker::Stop { reason: cut_line(reason) });
    }
}
