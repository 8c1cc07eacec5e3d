//! What a worker may say, as its host hears it: frames, messages, the order of both, shapes, and what is made of requests.
//!
//! The first byte says where the talk stands; the rest is what comes out of the socket.

use portcullis::{
    columns,
    contract::{CellKind, Cells, Limits, Table, TableColumn, TableRows, Unit},
    names::Names,
    worker::{
        check,
        conversation::{Conversation, Heard},
        protocol::{self, CallKind, FromWorker, MAX_FROM_WORKER, Request, Returned},
    },
};
use portcullis_ebpf::{Field, MapKind, Naming, PluginMap, Slot, aggregate::Content};

/// The calls that may run.
pub(crate) const CALLS: [CallKind; 8] = [
    CallKind::Load,
    CallKind::Configure,
    CallKind::Prepare,
    CallKind::Start,
    CallKind::Handle,
    CallKind::Tick,
    CallKind::Finish,
    CallKind::HandOver,
];

/// A message past this is no message for a person.
const LONGEST_MESSAGE: usize = 64 << 10;

/// The tables that were declared before.
pub(crate) fn tables() -> Vec<Table> {
    let kinds = [CellKind::U64, CellKind::S64, CellKind::F64, CellKind::Bool, CellKind::Text];
    let column = |(number, kind)| TableColumn { name: format!("c{number}"), kind, unit: Unit::None };
    let columns: Vec<TableColumn> = kinds.into_iter().enumerate().map(column).collect();
    vec![Table { name: "all".into(), columns }, Table { name: "none".into(), columns: Vec::new() }]
}

/// The maps that there are: one with a key of every kind, one that can't be written.
pub(crate) fn maps() -> Vec<PluginMap> {
    let field = |name: &str, slot, naming| Field { name: name.into(), ctype: String::new(), slot, naming };
    let keys = vec![
        field("int", Slot::Int { offset: 0, size: 4, signed: true }, Naming::Plain),
        field("text", Slot::Text { offset: 8, capacity: 14 }, Naming::Plain),
        field("bytes", Slot::Bytes { offset: 24, capacity: 8 }, Naming::Plain),
        field("stack", Slot::Stack { offset: 40, depth: 2 }, Naming::Plain),
        field("call", Slot::Int { offset: 64, size: 8, signed: false }, Naming::Syscall),
        field("address", Slot::Bytes { offset: 72, capacity: 16 }, Naming::Inet),
    ];
    let value = field("", Slot::Int { offset: 0, size: 8, signed: false }, Naming::Plain);
    let values = PluginMap {
        name: "values".into(),
        content: Content::Value,
        kind: MapKind::Hash,
        keys,
        bucket: None,
        value,
        key_size: 96,
        value_size: 8,
    };
    let counts = PluginMap { name: "counts".into(), content: Content::Count, ..values.clone() };
    vec![values, counts]
}

/// Panics where the host would do what it must not.
pub(crate) fn check(data: &[u8]) {
    let Some((state, mut stream)) = data.split_first() else { return };
    let maps = maps();
    let schema = columns::schema(&[], &maps);
    let mut talk = Conversation::default();
    talk.prepared(schema.maps.clone());
    talk.declared(tables());
    if state & 1 == 0 {
        // Else it is the fuzzer's to say.
        assert!(talk.hear(FromWorker::Caged(Vec::new())).is_ok());
    }
    let call = CALLS[usize::from(state >> 1 & 7)];
    let calls = usize::from(state >> 4 & 3);
    (0..calls).for_each(|_| talk.called(call));
    let mut returns = 0;
    loop {
        let length = match protocol::frame_length(stream, MAX_FROM_WORKER) {
            Ok(Some(length)) => length,
            Ok(None) => return,
            Err(error) => return said(&error.to_string()),
        };
        let Some(body) = stream.get(4..4 + length) else { return };
        let message = match protocol::decode::<FromWorker>(body) {
            Ok(message) => message,
            Err(error) => return said(&error.to_string()),
        };
        match talk.hear(message) {
            Err(violation) => return said(&violation.to_string()),
            Ok(Heard::Returned(returned)) => {
                returns += 1;
                assert!(returned.call() == call && returns <= calls, "a return that there was no call for");
                self::returned(&mut talk, &returned);
            }
            Ok(Heard::Rows(table, rows)) => shown(&talk.tables()[table], &rows),
            Ok(Heard::Asked(request)) => asked(&maps, &request),
            Ok(Heard::Line(text) | Heard::Log(_, text) | Heard::Stop(text)) => assert!(text.len() <= protocol::MAX_LINE),
            Ok(Heard::Metric(name, _)) => assert!(name.len() <= check::MAX_NAME),
            Ok(Heard::Fault(fault)) => return said(&fault.message),
            Ok(Heard::Caged(missing)) => missing.iter().for_each(|missing| said(&missing.to_string())),
        }
        stream = &stream[4 + length..];
    }
}

fn said(text: &str) {
    assert!(text.len() <= LONGEST_MESSAGE, "a message of {} bytes", text.len());
}

fn returned(talk: &mut Conversation, returned: &Returned) {
    match returned {
        Returned::Configured(Ok(program)) => {
            if let Err(reason) = check::program(program, Limits::default().probes) {
                said(&reason);
            }
        }
        Returned::Prepared(Ok(tables)) => match check::tables(tables) {
            Ok(()) => talk.declared(tables.clone()),
            Err(reason) => said(&reason),
        },
        _ => {}
    }
}

/// Every cell can be looked up.
fn shown(table: &Table, rows: &TableRows) {
    assert_eq!(table.columns.len(), rows.columns.len());
    for column in &rows.columns {
        let cells = match &column.cells {
            Cells::U64(cells) => cells.len(),
            Cells::S64(cells) => cells.len(),
            Cells::F64(cells) => cells.len(),
            Cells::Bool(cells) => cells.len(),
            Cells::Text(index) => {
                assert!(index.iter().all(|&at| rows.strings.get(at as usize).is_some()));
                index.len()
            }
        };
        assert_eq!(cells, rows.time.len());
        assert!(column.absent.is_empty() || column.absent.len() == cells.div_ceil(8));
    }
}

/// What would be written to the kernel has the size that the kernel takes it for.
fn asked(maps: &[PluginMap], request: &Request) {
    let names = Names::default();
    let map = request.map().map(|map| &maps[map as usize]);
    match (request, map) {
        (Request::Write { elements, .. }, Some(map)) => match columns::from_elements(map, elements, &names) {
            Ok(raw) => {
                let rows = elements.values.first().map_or(0, |column| column.values.len());
                assert_eq!(raw.keys.len(), rows * map.key_size as usize);
                assert_eq!(raw.values.len(), rows * map.value_size as usize);
            }
            Err(reason) => said(&reason),
        },
        (Request::Delete { keys, strings, .. }, Some(map)) => match columns::from_keys(map, keys, strings, &names) {
            Ok(raw) => {
                let rows = keys.first().map_or(0, |column| column.values.len());
                assert_eq!(raw.len(), rows * map.key_size as usize);
            }
            Err(reason) => said(&reason),
        },
        (Request::Resolve { stacks }, _) => assert_eq!(names.resolve(stacks).len(), stacks.len()),
        _ => {}
    }
}
