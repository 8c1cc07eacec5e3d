//! What a component may call: the interfaces of `wit/` that the host offers.

use std::{collections::HashSet, time::Duration};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    bindings::portcullis::plugin::{log, maps, output, process, session, stacks, types},
    convert,
    deadline::Deadline,
    doors::Preopen,
    memory::Memory,
    wasi::Transcript,
};
use crate::{
    contract::{Elements, Level, Map, Table},
    worker::{
        check,
        protocol::{FrameError, FromWorker, MAX_LOOKUP, MAX_RESOLVE, Request, Response, cut_line},
        serve::Speaker,
    },
};

/// An answer that comes sooner took no time of the host's that is worth a word.
const SHORT_WAIT: Duration = Duration::from_millis(1);

/// Everything that belongs to one instance.
pub(super) struct State {
    pub(super) speaker: Speaker,
    pub(super) deadline: Deadline,
    pub(super) memory: Memory,
    pub(super) transcript: Transcript,
    pub(super) tables: Vec<Table>,
    pub(super) maps: Vec<Map>,
    /// The call that runs may ask the host for something.
    pub(super) may_ask: bool,
    pub(super) metrics: HashSet<String>,
    pub(super) wasi: WasiCtx,
    pub(super) directories: Vec<Preopen>,
    pub(super) runtime: &'static tokio::runtime::Runtime,
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

    fn ask(&mut self, request: Request) -> Result<Response, String> {
        if !self.may_ask {
            return Err("maps and processes are there from `start` on".into());
        }
        let asked = self.speaker.ask(request);
        let (response, waited) = asked.map_err(|_| "the elements are too long for one call; write fewer".to_owned())?;
        // What the host needs for it takes nothing from the plugin's time. The way there and back does: else one that asks without
        // end would have no deadline of its own.
        if waited >= SHORT_WAIT {
            self.deadline.excuse(waited);
        }
        Ok(response)
    }

    fn ask_elements(&mut self, request: Request) -> Result<maps::Elements, String> {
        match self.ask(request)? {
            Response::Elements(elements) => elements.map(convert::elements),
            other => Err(unexpected(&other)),
        }
    }

    fn ask_done(&mut self, request: Request) -> Result<(), String> {
        match self.ask(request)? {
            Response::Done(done) => done,
            other => Err(unexpected(&other)),
        }
    }

    /// The host takes a number that is none for a lie.
    fn map(&self, map: u32) -> Result<&Map, String> {
        let maps = self.maps.len();
        self.maps.get(map as usize).ok_or_else(|| format!("there is no map {map}; there are {maps}"))
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

impl maps::Host for State {
    fn read(&mut self, map: u32) -> Result<maps::Elements, String> {
        self.map(map)?;
        self.ask_elements(Request::Read { map })
    }

    fn take(&mut self, map: u32) -> Result<maps::Elements, String> {
        self.map(map)?;
        self.ask_elements(Request::Take { map })
    }

    fn write(&mut self, map: u32, elements: maps::Elements) -> Result<(), String> {
        let elements = Elements {
            keys: elements.keys.into_iter().map(convert::column).collect(),
            values: elements.values.into_iter().map(convert::column).collect(),
            strings: elements.strings,
        };
        check::elements(self.map(map)?, &elements)?;
        self.ask_done(Request::Write { map, elements })
    }

    fn delete(&mut self, map: u32, keys: Vec<types::ColumnResult>, strings: Vec<String>) -> Result<(), String> {
        let keys: Vec<_> = keys.into_iter().map(convert::column).collect();
        check::keys(self.map(map)?, &keys, &strings)?;
        self.ask_done(Request::Delete { map, keys, strings })
    }

    fn clear(&mut self, map: u32) -> Result<(), String> {
        self.map(map)?;
        self.ask_done(Request::Clear { map })
    }
}

impl stacks::Host for State {
    fn resolve(&mut self, stacks: Vec<u64>) -> Vec<Vec<stacks::Frame>> {
        let mut frames = Vec::with_capacity(stacks.len());
        for some in stacks.chunks(MAX_RESOLVE) {
            match self.ask(Request::Resolve { stacks: some.to_vec() }) {
                Ok(Response::Frames(found)) => frames.extend(found.into_iter().map(convert::frames)),
                // Before `start` no stack has been seen.
                _ => frames.resize_with(frames.len() + some.len(), Vec::new),
            }
        }
        frames
    }
}

impl process::Host for State {
    fn lookup(&mut self, pids: Vec<u32>) -> Result<Vec<Option<process::Facts>>, String> {
        let mut facts = Vec::with_capacity(pids.len());
        for some in pids.chunks(MAX_LOOKUP) {
            match self.ask(Request::Lookup { pids: some.to_vec() })? {
                Response::Processes(found) => facts.extend(found?.into_iter().map(|found| found.map(convert::facts))),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(facts)
    }
}

fn unexpected(response: &Response) -> String {
    let kind = match response {
        Response::Elements(_) => "elements",
        Response::Done(_) => "a result",
        Response::Frames(_) => "frames",
        Response::Processes(_) => "processes",
    };
    format!("the host answered {kind}: a bug of Portcullis, please report it")
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
