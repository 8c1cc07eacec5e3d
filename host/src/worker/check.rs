//! What plugins may say: the rules for programs, tables and rows, each with its reason.
//!
//! The worker applies those for rows and metrics so that a plugin hears of its mistake; the host applies all of them, since it does
//! not believe its workers.

use std::collections::HashSet;

use crate::contract::{
    CellKind, Cells, Column, Content, Elements, Field, Kind, Map, Program, Table, TableRows, TableValues, Values,
};

/// Probes of a plugin.
pub const MAX_PROBES: usize = 1024;
/// Attach points of a probe, before wildcards are expanded.
pub const MAX_ATTACH: usize = 1024;
/// Timers of a plugin.
pub const MAX_TIMERS: usize = 64;
/// The shortest period of a timer, ns.
pub const MIN_PERIOD: u64 = 1_000_000;
/// Tables of a plugin. A plugin that shows each stream as it is has one for each, and streams can be as many as probes.
pub const MAX_TABLES: usize = 1024;
/// Columns of a table.
pub const MAX_COLUMNS: usize = 128;
/// Metrics of a plugin.
pub const MAX_METRICS: usize = 256;
/// Bytes of a name.
pub const MAX_NAME: usize = 64;
/// Bytes of an attach point, a predicate or a body.
pub const MAX_TEXT: usize = 64 << 10;

/// Checks what `configure` returned, where `probes` are allowed. The texts themselves are the compiler's to judge.
pub fn program(program: &Program, probes: u32) -> Result<(), String> {
    limit("probes", program.probes.len(), MAX_PROBES.min(probes as usize))?;
    limit("timers", program.timers.len(), MAX_TIMERS)?;
    let mut names = HashSet::new();
    for probe in &program.probes {
        name("probe", &probe.name, "_-")?;
        let of = format!("probe {:?}", probe.name);
        if !names.insert(&probe.name) {
            return Err(format!("{of} is there twice"));
        }
        if probe.attach.is_empty() {
            return Err(format!("{of} has no attach point"));
        }
        limit(&format!("attach points of {of}"), probe.attach.len(), MAX_ATTACH)?;
        for text in probe.attach.iter().chain(&probe.when).chain([&probe.body]) {
            limit(&format!("bytes in one text of {of}"), text.len(), MAX_TEXT)?;
        }
    }
    for (position, &period) in program.timers.iter().enumerate() {
        if period < MIN_PERIOD {
            return Err(format!("timer {position} has a period of {period} ns; the shortest is {MIN_PERIOD} ns (1 ms)"));
        }
    }
    Ok(())
}

/// Checks what `prepare` returned.
pub fn tables(tables: &[Table]) -> Result<(), String> {
    limit("tables", tables.len(), MAX_TABLES)?;
    let mut names = HashSet::new();
    for table in tables {
        name("table", &table.name, "_.-")?;
        let of = format!("table {:?}", table.name);
        if !names.insert(&table.name) {
            return Err(format!("{of} is there twice"));
        }
        limit(&format!("columns of {of}"), table.columns.len(), MAX_COLUMNS)?;
        let mut columns = HashSet::from(["plugin", "table", "time"]);
        for column in &table.columns {
            name(&format!("{of}, column"), &column.name, "_.-")?;
            if !columns.insert(&column.name) {
                let taken = ["plugin", "table", "time"].contains(&column.name.as_str());
                let why = if taken { "is a name that every table has" } else { "is there twice" };
                return Err(format!("{of}, column {:?} {why}", column.name));
            }
        }
    }
    Ok(())
}

/// Checks that rows fit their table.
pub fn rows(table: &Table, rows: &TableRows) -> Result<(), String> {
    let of = format!("table {:?}", table.name);
    let (have, want) = (rows.columns.len(), table.columns.len());
    if have != want {
        return Err(format!("{of} has {want} columns, and the rows have {have}"));
    }
    let count = rows.time.len();
    for (column, values) in table.columns.iter().zip(&rows.columns) {
        cells(column.kind, values, count, rows.strings.len()).map_err(|why| format!("{of}, column {:?} {why}", column.name))?;
    }
    Ok(())
}

fn cells(kind: CellKind, values: &TableValues, rows: usize, strings: usize) -> Result<(), String> {
    let (given, count) = match &values.cells {
        Cells::U64(values) => (CellKind::U64, values.len()),
        Cells::S64(values) => (CellKind::S64, values.len()),
        Cells::F64(values) => (CellKind::F64, values.len()),
        Cells::Bool(values) => (CellKind::Bool, values.len()),
        Cells::Text(index) => {
            if let Some(wrong) = index.iter().find(|&&at| at as usize >= strings) {
                return Err(format!("points to text {wrong}, and there are {strings}"));
            }
            (CellKind::Text, index.len())
        }
    };
    if given != kind {
        return Err(format!("has cells of kind {}, and was declared as {}", kind_name(given), kind_name(kind)));
    }
    if count != rows {
        return Err(format!("has {count} cells, and there are {rows} times"));
    }
    let bitmap = values.absent.len();
    if bitmap != 0 && bitmap != rows.div_ceil(8) {
        return Err(format!("has a bitmap of {bitmap} bytes, and {} are right for {rows} rows", rows.div_ceil(8)));
    }
    Ok(())
}

/// Checks that elements can be written to their map, as far as their shape goes.
pub fn elements(map: &Map, elements: &Elements) -> Result<(), String> {
    let of = format!("map {:?}", map.name);
    if map.content != Content::Value {
        return Err(format!("{of} holds what programs count; only a map of values can be written"));
    }
    let rows = elements.values.first().map_or(0, |column| column.values.len());
    columns(&of, "key", &map.keys, &elements.keys, rows, &elements.strings)?;
    columns(&of, "value", &map.values, &elements.values, rows, &elements.strings)
}

/// Checks the shape of keys to be deleted.
pub fn keys(map: &Map, keys: &[Column], strings: &[String]) -> Result<(), String> {
    let of = format!("map {:?}", map.name);
    let rows = keys.first().map_or(0, |column| column.values.len());
    columns(&of, "key", &map.keys, keys, rows, strings)
}

fn columns(of: &str, what: &str, fields: &[Field], columns: &[Column], rows: usize, strings: &[String]) -> Result<(), String> {
    if columns.len() != fields.len() {
        return Err(format!("{of} has {} {what} columns, and there are {}", fields.len(), columns.len()));
    }
    for (field, column) in fields.iter().zip(columns) {
        values(field.kind, column, rows, strings.len()).map_err(|why| format!("{of}, {what} column {:?} {why}", field.name))?;
    }
    Ok(())
}

fn values(kind: Kind, column: &Column, rows: usize, strings: usize) -> Result<(), String> {
    let given = column.values.kind();
    if given != kind {
        return Err(format!("has values of kind {}, and is of kind {}", column_kind(given), column_kind(kind)));
    }
    if column.values.len() != rows {
        return Err(format!("has {} values, and there are {rows} rows", column.values.len()));
    }
    if column.absent.iter().any(|bits| *bits != 0) {
        return Err("has rows without a value".into());
    }
    match &column.values {
        Values::Text(index) => match index.iter().find(|&&at| at as usize >= strings) {
            Some(wrong) => Err(format!("points to text {wrong}, and there are {strings}")),
            None => Ok(()),
        },
        Values::Bytes { ends, data } if !ends.is_sorted() || ends.last().is_some_and(|end| *end as usize > data.len()) => {
            Err(format!("has rows that end outside of its {} bytes", data.len()))
        }
        _ => Ok(()),
    }
}

fn column_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::U64 => "u64",
        Kind::S64 => "s64",
        Kind::Text => "text",
        Kind::Bytes => "bytes",
        Kind::Stack => "stack",
    }
}

/// Checks the name of a metric.
pub fn metric(metric: &str) -> Result<(), String> {
    name("metric", metric, "_.-")
}

fn kind_name(kind: CellKind) -> &'static str {
    match kind {
        CellKind::U64 => "u64",
        CellKind::S64 => "s64",
        CellKind::F64 => "f64",
        CellKind::Bool => "bool",
        CellKind::Text => "text",
    }
}

fn limit(what: &str, count: usize, limit: usize) -> Result<(), String> {
    if count > limit { Err(format!("{count} {what}; {limit} are allowed")) } else { Ok(()) }
}

fn name(what: &str, name: &str, also: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        let begin: String = name.chars().take(16).collect();
        return Err(format!("{what} name {begin:?}... has {} bytes; {MAX_NAME} are allowed", name.len()));
    }
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if first && characters.all(|character| character.is_ascii_alphanumeric() || also.contains(character)) {
        return Ok(());
    }
    Err(format!("{what} name {name:?} is not [A-Za-z_][A-Za-z0-9{also}]*"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{Probe, TableColumn, Unit};

    fn probe(name: &str) -> Probe {
        Probe { name: name.into(), attach: vec!["a:b:c".into()], when: None, body: "emit x {}".into(), optional: false }
    }

    /// Each rule for programs, with its words.
    #[test]
    fn programs() {
        let check = |probes: Vec<Probe>, timers: Vec<u64>, expect: Result<(), &str>| {
            assert_eq!(program(&Program { probes, timers }, u32::MAX), expect.map_err(String::from));
        };
        check(vec![], vec![], Ok(()));
        check(vec![probe("a"), probe("_b-1")], vec![1_000_000], Ok(()));
        check(vec![probe("a"), probe("a")], vec![], Err("probe \"a\" is there twice"));
        check(vec![probe("")], vec![], Err("probe name \"\" is not [A-Za-z_][A-Za-z0-9_-]*"));
        check(vec![probe("1")], vec![], Err("probe name \"1\" is not [A-Za-z_][A-Za-z0-9_-]*"));
        check(vec![probe("a\x1b[2J")], vec![], Err("probe name \"a\\u{1b}[2J\" is not [A-Za-z_][A-Za-z0-9_-]*"));
        check(vec![probe(&"ab".repeat(40))], vec![], Err("probe name \"abababababababab\"... has 80 bytes; 64 are allowed"));
        check(vec![Probe { attach: vec![], ..probe("a") }], vec![], Err("probe \"a\" has no attach point"));
        check(
            vec![Probe { body: "x".repeat(65_537), ..probe("a") }],
            vec![],
            Err("65537 bytes in one text of probe \"a\"; 65536 are allowed"),
        );
        check((0..1025).map(|i| probe(&format!("p{i}"))).collect(), vec![], Err("1025 probes; 1024 are allowed"));
        check(vec![], vec![5_000_000, 999_999], Err("timer 1 has a period of 999999 ns; the shortest is 1000000 ns (1 ms)"));
        check(vec![], vec![u64::MAX; 65], Err("65 timers; 64 are allowed"));
    }

    fn table(columns: &[(&str, CellKind)]) -> Table {
        let column = |&(name, kind): &(&str, CellKind)| TableColumn { name: name.into(), kind, unit: Unit::None };
        Table { name: "t".into(), columns: columns.iter().map(column).collect() }
    }

    /// Each rule for tables, with its words.
    #[test]
    fn table_declarations() {
        let check = |given: &[Table], expect: Result<(), &str>| assert_eq!(tables(given), expect.map_err(String::from));
        let plain = table(&[("a", CellKind::U64), ("b.c", CellKind::Text)]);
        check(std::slice::from_ref(&plain), Ok(()));
        check(&[plain.clone(), plain.clone()], Err("table \"t\" is there twice"));
        check(&[table(&[("a", CellKind::U64); 2])], Err("table \"t\", column \"a\" is there twice"));
        check(&[table(&[("time", CellKind::U64)])], Err("table \"t\", column \"time\" is a name that every table has"));
        check(&[table(&[("a b", CellKind::U64)])], Err("table \"t\", column name \"a b\" is not [A-Za-z_][A-Za-z0-9_.-]*"));
        check(&[Table { name: "é".into(), ..plain.clone() }], Err("table name \"é\" is not [A-Za-z_][A-Za-z0-9_.-]*"));
        check(&vec![plain; 1025], Err("1025 tables; 1024 are allowed"));
        check(&[table(&vec![("a", CellKind::U64); 129])], Err("129 columns of table \"t\"; 128 are allowed"));
    }

    /// Each rule for rows, with its words.
    #[test]
    fn table_rows() {
        let table = table(&[("n", CellKind::U64), ("s", CellKind::Text)]);
        let check = |n: Cells, index: Vec<u32>, absent: Vec<u8>, expect: Result<(), &str>| {
            let columns = vec![TableValues { cells: n, absent }, TableValues { cells: Cells::Text(index), absent: vec![] }];
            assert_eq!(
                rows(&table, &TableRows { time: vec![1, 2], columns, strings: vec!["x".into()] }),
                expect.map_err(String::from)
            );
        };
        let n = || Cells::U64(vec![1, 2]);
        check(n(), vec![0, 0], vec![], Ok(()));
        check(n(), vec![0, 0], vec![3], Ok(()));
        check(n(), vec![0, 1], vec![], Err("table \"t\", column \"s\" points to text 1, and there are 1"));
        check(n(), vec![0], vec![], Err("table \"t\", column \"s\" has 1 cells, and there are 2 times"));
        check(n(), vec![0, 0], vec![0, 0], Err("table \"t\", column \"n\" has a bitmap of 2 bytes, and 1 are right for 2 rows"));
        check(
            Cells::F64(vec![1.0, 2.0]),
            vec![0, 0],
            vec![],
            Err("table \"t\", column \"n\" has cells of kind f64, and was declared as u64"),
        );
        let none = TableRows { time: vec![], columns: vec![], strings: vec![] };
        assert_eq!(rows(&table, &none), Err("table \"t\" has 2 columns, and the rows have 0".into()));
    }
}
