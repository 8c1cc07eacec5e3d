//! The component, inside the worker: compiled, instantiated, called.
//!
//! This module and those below it are the only ones that name wasmtime, and only a worker runs them. One instance, one store, one
//! thread; every call has a deadline ([`deadline`]) and every error becomes one sentence ([`error`]).

mod compiled;
mod convert;
mod deadline;
mod doors;
mod error;
mod imports;
mod memory;
mod waiting;
mod wasi;

use std::{collections::HashSet, time::Duration};

use wasmtime::{
    Config, Engine, Store, UpdateDeadline,
    component::{Component, HasSelf, Linker, ResourceTable},
};

use self::{
    bindings::{
        Batch, Closing, PluginWithProcesses as Plugin, PluginWithProcessesPre as PluginPre, Schema, portcullis::plugin::types,
    },
    deadline::Deadline,
    error::{Stopped, explain, first_line},
    imports::State,
    memory::Memory,
    wasi::Transcript,
};
use super::{
    check,
    memory::View,
    protocol::{CallKind, Fault, FaultKind, Interface, MAX_FROM_WORKER, PACKAGE, of_contract},
    serve::Speaker,
};
use crate::{
    columns::{Descriptor, Layout},
    contract::{self, Kind, Limits, Opening, Program, Table},
    doors::Opened,
};

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "plugin-with-processes",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The world that plugins are made for.
const VERSION: &str = "0.1.0";

/// What a plugin exports, as `wit/plugin.wit` has it.
const EXPORTS: [&str; 7] = ["configure", "prepare", "start", "handle", "tick", "finish", "hand-over"];

/// How long an instantiation may take: it runs the component's constructors.
const INSTANTIATION: Duration = Duration::from_secs(10);

/// A component, loaded.
pub(super) struct Guest {
    store: Store<State>,
    plugin: Plugin,
    limits: Limits,
    interface: Interface,
    view: View,
    layout: Option<Layout>,
    /// What wasmtime-wasi wants to find on this thread.
    _runtime: (tokio::runtime::EnterGuard<'static>, &'static tokio::runtime::Runtime),
}

impl Guest {
    /// Compiles and instantiates a component, unless it was compiled before; what it was compiled to, if it was now.
    pub(super) fn load(
        wasm: &[u8],
        before: Option<Vec<u8>>,
        limits: Limits,
        view: View,
        speaker: Speaker,
        doors: Opened,
    ) -> Result<(Guest, Option<Vec<u8>>), Fault> {
        let runtime = doors::runtime(&doors);
        // For the rest of the process, which this guest outlives nothing of.
        let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(runtime.map_err(internal)?));
        let entered = runtime.enter();

        let engine = Engine::new(&config(limits.stack)).map_err(internal)?;
        let known = before.and_then(|before| compiled::read(&engine, &before));
        let is_new = known.is_none();
        let component = known.map_or_else(|| compile(&engine, wasm), Ok)?;
        let linker = linker(&engine, &doors).map_err(internal)?;
        let interface = interface(&engine, &component);
        let plugin = link(&component, &interface, &linker)?;

        let deadline = Deadline::watch(engine.clone()).map_err(internal)?;
        let transcript = Transcript::default();
        let state = State {
            speaker,
            deadline: deadline.clone(),
            memory: Memory::new(&limits),
            wasi: wasi::context(&transcript, &doors),
            directories: doors::directories(doors).map_err(internal)?,
            runtime,
            transcript,
            tables: Vec::new(),
            maps: Vec::new(),
            may_ask: false,
            metrics: HashSet::new(),
            resources: ResourceTable::new(),
        };
        let mut store = Store::new(&engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MAX_FROM_WORKER);
        store.epoch_deadline_callback(|store| {
            // An epoch that advanced for the call before this one is none of its business.
            if store.data().deadline.expired() { Err(Stopped::TooLong.into()) } else { Ok(UpdateDeadline::Continue(1)) }
        });
        let plugin = timed(&mut store, INSTANTIATION, |store| plugin.instantiate(store)).map_err(|error| {
            let wrote = store.data().transcript.take();
            explain(CallKind::Load, INSTANTIATION, &limits, &error, &wrote)
        })?;
        let now = if is_new { compiled::write(&component, MAX_FROM_WORKER / 2) } else { None };
        Ok((Guest { store, plugin, limits, interface, view, layout: None, _runtime: (entered, runtime) }, now))
    }

    /// What it imports and exports.
    pub(super) fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The voice of the worker, which the guest holds.
    pub(super) fn speaker(&mut self) -> &mut Speaker {
        &mut self.store.data_mut().speaker
    }

    /// Calls `configure`.
    pub(super) fn configure(&mut self, config: &str) -> Result<Result<Program, String>, Fault> {
        let program = self.call(CallKind::Configure, |plugin, store, _| plugin.call_configure(store, config))?;
        Ok(program.map(convert::program))
    }

    /// Calls `prepare`.
    pub(super) fn prepare(&mut self, schema: &contract::Schema) -> Result<Result<Vec<Table>, String>, Fault> {
        self.layout = Some(Layout::new(schema).map_err(internal)?);
        let of_streams: Vec<Vec<types::Field<'_>>> = schema.streams.iter().map(|stream| fields(&stream.fields)).collect();
        let stream = |(stream, fields)| stream_of(stream, fields);
        let streams: Vec<types::Stream<'_>> = schema.streams.iter().zip(&of_streams).map(stream).collect();
        let of_maps: Vec<_> = schema.maps.iter().map(|map| (fields(&map.keys), fields(&map.values))).collect();
        let maps: Vec<types::Map<'_>> =
            schema.maps.iter().zip(&of_maps).map(|(map, (keys, values))| map_of(map, keys, values)).collect();
        self.store.data_mut().maps.clone_from(&schema.maps);
        let schema = Schema { streams: &streams, maps: &maps };
        let tables = self.call(CallKind::Prepare, |plugin, store, _| plugin.call_prepare(store, schema))?;
        let tables: Result<Vec<Table>, String> = tables.map(|tables| tables.into_iter().map(convert::table).collect());
        if let Ok(tables) = &tables
            && check::tables(tables).is_ok()
        {
            // The host says what is wrong with tables; here they are only needed when they are right.
            self.store.data_mut().tables.clone_from(tables);
        }
        Ok(tables)
    }

    /// Calls `start`.
    pub(super) fn start(&mut self, opening: &Opening) -> Result<Result<(), String>, Fault> {
        self.call(CallKind::Start, |plugin, store, _| plugin.call_start(store, convert::opening(opening)))
    }

    /// Calls `handle` with what a slot holds.
    pub(super) fn handle(&mut self, batch: &Descriptor) -> Result<Result<(), String>, Fault> {
        let layout = self.layout.take().ok_or_else(|| internal("a batch came before its schema"))?;
        let handled = self.call(CallKind::Handle, |plugin, store, view| {
            let malformed = || wasmtime::format_err!("the host sent a batch that does not fit the schema");
            let slot = batch.slot as usize;
            let strings = strings(view, &layout, batch).ok_or_else(malformed)?;
            let mut columns = Vec::with_capacity(batch.rows.len());
            for rows in &batch.rows {
                columns.push(columns_of(view, &layout, slot, rows).ok_or_else(malformed)?);
            }
            let mut rows = Vec::with_capacity(batch.rows.len());
            for ((time, columns), of) in columns.iter().zip(&batch.rows) {
                rows.push(types::Rows { stream: of.stream, time, columns });
            }
            let total = if rows.len() == 1 { 0 } else { batch.total() as usize };
            let order = view.u32s(slot, layout.order, total).ok_or_else(malformed)?;
            plugin.call_handle(store, Batch { rows: &rows, strings: &strings, order })
        });
        self.layout = Some(layout);
        handled
    }

    /// Calls `tick`.
    pub(super) fn tick(&mut self, timer: u32) -> Result<Result<(), String>, Fault> {
        self.call(CallKind::Tick, |plugin, store, _| plugin.call_tick(store, timer))
    }

    /// Calls `finish`.
    pub(super) fn finish(&mut self, closing: &contract::Closing) -> Result<Result<(), String>, Fault> {
        let probes: Vec<_> = closing.probes.iter().map(convert::probe_counts).collect();
        let streams: Vec<_> = closing.streams.iter().map(convert::stream_counts).collect();
        let closing = Closing {
            gate: closing.gate.map(convert::interval),
            quiesced: closing.quiesced,
            probes: &probes,
            streams: &streams,
            delivered: closing.delivered,
            undelivered: closing.undelivered,
        };
        self.call(CallKind::Finish, |plugin, store, _| plugin.call_finish(store, closing))
    }

    /// Calls `hand-over`.
    pub(super) fn hand_over(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.call(CallKind::HandOver, |plugin, store, _| plugin.call_hand_over(store))
    }

    /// One call with its deadline; an error is the last thing that this guest does.
    fn call<T>(
        &mut self,
        call: CallKind,
        body: impl FnOnce(&Plugin, &mut Store<State>, &View) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let limit = Duration::from_nanos(self.limits.call);
        let (plugin, view) = (&self.plugin, &self.view);
        self.store.data_mut().may_ask = call.may_ask();
        let outcome = timed(&mut self.store, limit, |store| body(plugin, store, view));
        let wrote = self.store.data().transcript.take();
        let outcome = outcome.map_err(|error| explain(call, limit, &self.limits, &error, &wrote));
        self.store.data_mut().log_transcript(wrote);
        outcome
    }
}

/// Runs `body` and interrupts it after `limit`.
fn timed<T>(
    store: &mut Store<State>,
    limit: Duration,
    body: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    store.set_epoch_deadline(1);
    store.data().deadline.begin(limit);
    let outcome = body(store);
    store.data().deadline.end();
    outcome
}

/// `stack` is that of the component, bytes.
fn config(stack: u32) -> Config {
    let mut config = Config::new();
    config.max_wasm_stack(stack as usize);
    // Nothing here runs on stacks of this kind, but they have to be larger.
    config.async_stack_size(2 * stack as usize);
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    // It would make a memfd for every component, and a worker has no descriptors to spare.
    config.memory_init_cow(false);
    config
}

/// Compiles a component, or says what the file is instead.
fn compile(engine: &Engine, wasm: &[u8]) -> Result<Component, Fault> {
    // The preamble: the magic number, the version, and the layer, which is 1 for components (Binary.md of the component model).
    match wasm {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => {}
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            return Err(not_a_plugin(
                "it is a core WebAssembly module, not a component; `wasm-tools component new` makes one of it",
            ));
        }
        [] => return Err(not_a_plugin("its file is empty")),
        _ => return Err(not_a_plugin("its file is not WebAssembly")),
    }
    Component::new(engine, wasm).map_err(|error| {
        let cause = error.root_cause().to_string();
        let cause = first_line(&cause);
        let cause = cause.split_once(" (at offset").map_or(cause, |(cause, _)| cause);
        not_a_plugin(format!("it is not a valid component: {cause}"))
    })
}

fn linker(engine: &Engine, doors: &Opened) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker, doors)?;
    Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

fn interface(engine: &Engine, component: &Component) -> Interface {
    let ty = component.component_type();
    Interface {
        imports: ty.imports(engine).map(|(name, _)| name.to_owned()).collect(),
        exports: ty.exports(engine).map(|(name, _)| name.to_owned()).collect(),
    }
}

/// Links a component, or says what it is instead of a plugin.
fn link(component: &Component, interface: &Interface, linker: &Linker<State>) -> Result<PluginPre<State>, Fault> {
    let Interface { imports, exports } = interface;
    // A plugin of another version may have other exports; that it is of another version says more.
    let other = imports.iter().find_map(|import| {
        let version = of_contract(import)?.1?;
        version.split('.').take(2).ne(VERSION.split('.').take(2)).then_some(version)
    });
    if let Some(version) = other {
        return Err(not_a_plugin(format!("it is made for {PACKAGE}@{version}, and this host offers {PACKAGE}@{VERSION}")));
    }
    if let Some(missing) = EXPORTS.iter().find(|&&name| exports.iter().all(|export| export != name)) {
        return Err(not_a_plugin(format!("it does not export `{missing}`, so it is not a plugin of {PACKAGE}@{VERSION}")));
    }
    let linked = linker.instantiate_pre(component).map_err(|error| {
        let cause = format!("{error:#}");
        let import = imports.iter().find(|import| cause.contains(&format!("`{import}`")));
        not_a_plugin(match import {
            Some(import) => format!("it imports `{import}`, which this host does not offer in that form"),
            None => format!("its imports are not those of {PACKAGE}@{VERSION}: {}", first_line(&cause)),
        })
    })?;
    PluginPre::new(linked).map_err(|error| {
        let cause = format!("{error:#}");
        not_a_plugin(format!("its exports are not those of {PACKAGE}@{VERSION}: {}", first_line(&cause)))
    })
}

fn not_a_plugin(message: impl Into<String>) -> Fault {
    Fault { kind: FaultKind::NotAPlugin, message: message.into() }
}

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault { kind: FaultKind::Internal, message: format!("its worker failed: {error:#}") }
}

fn fields<'a>(fields: &'a [contract::Field]) -> Vec<types::Field<'a>> {
    let field =
        |field: &'a contract::Field| types::Field { name: &field.name, kind: convert::kind(field.kind), ctype: &field.ctype };
    fields.iter().map(field).collect()
}

fn stream_of<'a>(stream: &'a contract::Stream, fields: &'a Vec<types::Field<'a>>) -> types::Stream<'a> {
    types::Stream { name: &stream.name, fields }
}

fn map_of<'a>(map: &'a contract::Map, keys: &'a Vec<types::Field<'a>>, values: &'a Vec<types::Field<'a>>) -> types::Map<'a> {
    types::Map { name: &map.name, content: convert::content(map.content), keys, values }
}

/// The texts of a batch.
fn strings<'a>(view: &'a View, layout: &Layout, batch: &Descriptor) -> Option<Vec<&'a str>> {
    let slot = batch.slot as usize;
    let ends = view.u32s(slot, layout.ends, batch.strings as usize)?;
    let text = view.bytes(slot, layout.text, ends.last().copied().unwrap_or(0) as usize)?;
    let text = std::str::from_utf8(text).ok()?;
    let mut start = 0;
    ends.iter()
        .map(|&end| {
            let string = text.get(start..end as usize);
            start = end as usize;
            string
        })
        .collect()
}

/// The times and columns of one stream in a batch.
fn columns_of<'a>(
    view: &'a View,
    layout: &Layout,
    slot: usize,
    rows: &crate::columns::RowsDescriptor,
) -> Option<(&'a [u64], Vec<types::ColumnParam<'a>>)> {
    let stream = layout.streams.get(rows.stream as usize)?;
    let count = rows.rows as usize;
    let time = view.u64s(slot, stream.time, count)?;
    let mut columns = Vec::with_capacity(stream.columns.len());
    for (at, column) in stream.columns.iter().enumerate() {
        let values = match column.kind {
            Kind::U64 => types::ValuesParam::U64(view.u64s(slot, column.values, count)?),
            Kind::S64 => types::ValuesParam::S64(view.i64s(slot, column.values, count)?),
            Kind::Text => types::ValuesParam::Text(view.u32s(slot, column.values, count)?),
            Kind::Stack => types::ValuesParam::Stack(view.u64s(slot, column.values, count)?),
            Kind::Bytes => {
                let ends = view.u32s(slot, column.values, count)?;
                let length = ends.last().copied().unwrap_or(0) as usize;
                if length > column.room {
                    return None;
                }
                types::ValuesParam::Bytes(types::BytesValuesParam { ends, data: view.bytes(slot, column.data, length)? })
            }
        };
        let bitmap = |used: u32, bitmap| {
            let there = used.checked_shr(at as u32).unwrap_or(0) & 1 != 0;
            view.bytes(slot, bitmap, if there { count.div_ceil(8) } else { 0 })
        };
        columns.push(types::ColumnParam {
            values,
            absent: bitmap(rows.absent, column.absent)?,
            cut: bitmap(rows.cut, column.cut)?,
        });
    }
    Some((time, columns))
}
