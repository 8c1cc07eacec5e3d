//! The component's own types to those of [`crate::contract`] and back. Lists of numbers move; they are not copied.

use super::bindings::{
    Program,
    portcullis::plugin::{log::Level, maps, output, process, stacks, types},
};
use crate::contract;

pub(super) fn program(program: Program) -> contract::Program {
    let probe = |probe: types::Probe| contract::Probe {
        name: probe.name,
        attach: probe.attach,
        when: probe.when,
        body: probe.body,
        optional: probe.optional,
    };
    contract::Program {
        probes: program.probes.into_iter().map(probe).collect(),
        timers: program.timers.into_iter().map(|timer| timer.period).collect(),
    }
}

pub(super) fn table(table: output::Table) -> contract::Table {
    let column = |column: output::TableColumn| contract::TableColumn {
        name: column.name,
        kind: match column.kind {
            output::CellKind::U64 => contract::CellKind::U64,
            output::CellKind::S64 => contract::CellKind::S64,
            output::CellKind::F64 => contract::CellKind::F64,
            output::CellKind::Bool => contract::CellKind::Bool,
            output::CellKind::Text => contract::CellKind::Text,
        },
        unit: match column.unit {
            output::Unit::None => contract::Unit::None,
            output::Unit::Nanoseconds => contract::Unit::Nanoseconds,
            output::Unit::Bytes => contract::Unit::Bytes,
            output::Unit::Address => contract::Unit::Address,
        },
    };
    contract::Table { name: table.name, columns: table.columns.into_iter().map(column).collect() }
}

pub(super) fn rows(rows: output::TableRows) -> contract::TableRows {
    let values = |values: output::TableValues| contract::TableValues {
        cells: match values.cells {
            output::Cells::U64(cells) => contract::Cells::U64(cells),
            output::Cells::S64(cells) => contract::Cells::S64(cells),
            output::Cells::F64(cells) => contract::Cells::F64(cells),
            output::Cells::Bool(cells) => contract::Cells::Bool(cells),
            output::Cells::Text(cells) => contract::Cells::Text(cells),
        },
        absent: values.absent,
    };
    contract::TableRows { time: rows.time, columns: rows.columns.into_iter().map(values).collect(), strings: rows.strings }
}

pub(super) fn level(level: Level) -> contract::Level {
    match level {
        Level::Debug => contract::Level::Debug,
        Level::Info => contract::Level::Info,
        Level::Warn => contract::Level::Warn,
        Level::Error => contract::Level::Error,
    }
}

pub(super) fn kind(kind: contract::Kind) -> types::Kind {
    match kind {
        contract::Kind::U64 => types::Kind::U64,
        contract::Kind::S64 => types::Kind::S64,
        contract::Kind::Text => types::Kind::Text,
        contract::Kind::Bytes => types::Kind::Bytes,
        contract::Kind::Stack => types::Kind::Stack,
    }
}

pub(super) fn content(content: contract::Content) -> types::Content {
    match content {
        contract::Content::Value => types::Content::Value,
        contract::Content::Count => types::Content::Count,
        contract::Content::Sum => types::Content::Sum,
        contract::Content::Avg => types::Content::Avg,
        contract::Content::Stats => types::Content::Stats,
        contract::Content::Min => types::Content::Min,
        contract::Content::Max => types::Content::Max,
        contract::Content::Hist => types::Content::Hist,
        contract::Content::Lhist => types::Content::Lhist,
        contract::Content::Tseries => types::Content::Tseries,
    }
}

pub(super) fn elements(elements: contract::Elements) -> maps::Elements {
    let column = |column: contract::Column| types::ColumnResult {
        values: match column.values {
            contract::Values::U64(values) => types::ValuesResult::U64(values),
            contract::Values::S64(values) => types::ValuesResult::S64(values),
            contract::Values::Text(index) => types::ValuesResult::Text(index),
            contract::Values::Bytes { ends, data } => types::ValuesResult::Bytes(types::BytesValuesResult { ends, data }),
            contract::Values::Stack(values) => types::ValuesResult::Stack(values),
        },
        absent: column.absent,
        cut: column.cut,
    };
    maps::Elements {
        keys: elements.keys.into_iter().map(column).collect(),
        values: elements.values.into_iter().map(column).collect(),
        strings: elements.strings,
    }
}

pub(super) fn column(column: types::ColumnResult) -> contract::Column {
    contract::Column {
        values: match column.values {
            types::ValuesResult::U64(values) => contract::Values::U64(values),
            types::ValuesResult::S64(values) => contract::Values::S64(values),
            types::ValuesResult::Text(index) => contract::Values::Text(index),
            types::ValuesResult::Bytes(types::BytesValuesResult { ends, data }) => contract::Values::Bytes { ends, data },
            types::ValuesResult::Stack(values) => contract::Values::Stack(values),
        },
        absent: column.absent,
        cut: column.cut,
    }
}

pub(super) fn frames(frames: Vec<contract::Frame>) -> Vec<stacks::Frame> {
    let frame = |frame: contract::Frame| stacks::Frame {
        address: frame.address,
        function: frame.function,
        offset: frame.offset,
        module: frame.module,
        file: frame.file,
        line: frame.line,
        inlined: frame.inlined,
    };
    frames.into_iter().map(frame).collect()
}

pub(super) fn facts(facts: contract::ProcessFacts) -> process::Facts {
    let contract::ProcessFacts { pid, parent, uid, gid, started, comm, executable, arguments, cgroup } = facts;
    process::Facts { pid, parent, uid, gid, started, comm, executable, arguments, cgroup }
}

pub(super) fn opening(opening: &contract::Opening) -> types::Opening<'_> {
    types::Opening {
        gate: opening.gate.map(interval),
        realtime_offset: opening.realtime_offset,
        kernel: &opening.kernel,
        cpus: opening.cpus,
        handed_over: opening.handed_over.as_deref(),
    }
}

pub(super) fn interval(interval: contract::Interval) -> types::Interval {
    types::Interval { earliest: interval.earliest, latest: interval.latest }
}

pub(super) fn probe_counts(counts: &contract::ProbeCounts) -> types::ProbeCounts<'_> {
    types::ProbeCounts {
        name: &counts.name,
        hits: counts.hits,
        unpaired: counts.unpaired,
        filtered: counts.filtered,
        shed: counts.shed,
        completed: counts.completed,
        entered: counts.entered,
        matched: counts.matched,
        in_flight: counts.in_flight,
        map_full: counts.map_full,
        read_fault: counts.read_fault,
        truncated: counts.truncated,
    }
}

pub(super) fn stream_counts(counts: &contract::StreamCounts) -> types::StreamCounts {
    types::StreamCounts { attempted: counts.attempted, emitted: counts.emitted, ring_full: counts.ring_full }
}
