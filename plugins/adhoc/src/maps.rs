//! The maps of a program, and how they are printed.

use portcullis_adhoc_program::{Content, Element, Map};
use portcullis_sdk::{
    CellKind, Cells, Column, Content as Declared, Error, Result, Schema, SchemaField, TableColumn, TableNumber, TableRows,
    TableValues, Tables, Unit, append,
    maps::{self, Elements},
};

use crate::{
    cells::{Cell, Reader},
    lines::Lines,
    tables::{LONG_ROWS, column_name, kind_of},
};

/// All maps of the program, by number.
#[derive(Default)]
pub(crate) struct Maps(Vec<Known>);

struct Known {
    /// With the `@`.
    name: String,
    content: Content,
    fields: Vec<SchemaField>,
    /// How many of the fields are keys.
    keys: usize,
    /// For programs: its table.
    table: Option<TableNumber>,
    /// It was cleared, and nothing was seen in it since.
    cleared: bool,
}

/// How a map is printed.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) time: u64,
    pub(crate) top: Option<u64>,
    pub(crate) div: Option<u64>,
    /// What is printed is taken out.
    pub(crate) take: bool,
    /// A statement asks for it: a value that was cleared is shown too.
    pub(crate) asked: bool,
}

impl Maps {
    /// The maps of the schema. For programs each has a table; `taken` are names of others.
    pub(crate) fn new(schema: &Schema, json: bool, taken: &[&str], tables: &mut Tables) -> Maps {
        let mut names: Vec<String> = taken.iter().map(|name| (*name).to_owned()).collect();
        let known = schema.maps.iter().map(|map| {
            let fields: Vec<SchemaField> = map.keys.iter().chain(&map.values).cloned().collect();
            let table = json.then(|| {
                let name = unique(if map.name.is_empty() { "_" } else { &map.name }, &mut names);
                let mut columns = Vec::new();
                let columns = fields.iter().map(|field| TableColumn {
                    name: unique(&column_name(&field.name), &mut columns),
                    kind: kind_of(field.kind),
                    unit: Unit::None,
                });
                tables.declare(name, columns.collect())
            });
            Known {
                name: format!("@{}", map.name),
                content: content(map.content),
                fields,
                keys: map.keys.len(),
                table,
                cleared: false,
            }
        });
        Maps(known.collect())
    }

    /// The number of a map.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|map| map.name == name)
    }

    /// The numbers of all.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }

    /// Prints a map, or of it the element with these keys, if there is anything to print.
    pub(crate) fn print(&mut self, number: usize, how: How, keys: &[Cell], reader: &mut Reader, lines: &mut Lines) -> Result<()> {
        let Some(known) = self.0.get_mut(number) else { return Ok(()) };
        let host = host_number(number);
        let elements = if how.take { maps::take(host) } else { maps::read(host) };
        let elements = elements.map_err(|error| known.error("read", &error))?;
        let mut map = known.map(&elements, reader);
        if !keys.is_empty() {
            map.elements.retain(|element| same(&element.keys, keys));
        }
        known.cleared &= map.is_zero();
        if map.is_empty() || (known.cleared && !how.asked) {
            return Ok(());
        }
        known.cleared |= how.take;
        map.sort(how.top);
        if let Some(div) = how.div {
            map.divide(div);
        }
        match known.table {
            Some(table) => {
                lines.flush()?;
                known.append(table, how.time, &map)
            }
            None => lines.push("print", how.time, map.show()),
        }
    }

    /// Takes all elements out of a map.
    pub(crate) fn clear(&mut self, number: usize) -> Result<()> {
        let Some(known) = self.0.get_mut(number) else { return Ok(()) };
        known.cleared = true;
        maps::clear(host_number(number)).map_err(|error| known.error("clear", &error))
    }

    /// Makes the values of a map zero. What is aggregated begins from nothing.
    pub(crate) fn zero(&mut self, number: usize) -> Result<()> {
        let Some(known) = self.0.get(number) else { return Ok(()) };
        if known.content != Content::Value {
            return self.clear(number);
        }
        let host = host_number(number);
        let mut elements = maps::read(host).map_err(|error| known.error("read", &error))?;
        for column in &mut elements.values {
            crate::cells::zero(column);
        }
        if let Some(text) = elements.values.iter().position(|column| !crate::cells::is_number(column)) {
            let field = known.fields.get(known.keys + text).map_or("value", |field| field.name.as_str());
            return Err(known.error("zero", &format!("`{field}` is no number")));
        }
        maps::write(host, &elements).map_err(|error| known.error("zero", &error))
    }
}

impl Known {
    fn error(&self, what: &str, error: &str) -> Error {
        Error::new(format!("can't {what} the map {}: {error}", self.name))
    }

    fn map(&self, elements: &Elements, reader: &mut Reader) -> Map {
        let strings: Vec<&str> = elements.strings.iter().map(String::as_str).collect();
        let columns: Vec<&Column> = elements.keys.iter().chain(&elements.values).collect();
        let rows = columns.first().map_or(0, |column| column.values.len());
        reader.learn(columns.iter().copied());
        let cells = |columns: &[&Column], row| columns.iter().map(|column| reader.cell(column, row, &strings)).collect();
        let (keys, values) = columns.split_at(self.keys.min(columns.len()));
        let elements = (0..rows).map(|row| Element { keys: cells(keys, row), values: cells(values, row) }).collect();
        Map { name: self.name.clone(), content: self.content, elements }
    }

    /// Appends the elements as rows.
    fn append(&self, table: TableNumber, time: u64, map: &Map) -> Result<()> {
        for elements in map.elements.chunks(LONG_ROWS) {
            let times = vec![time; elements.len()];
            let mut columns: Vec<Gathered> = self.fields.iter().map(|field| Gathered::new(kind_of(field.kind))).collect();
            let mut strings: Vec<String> = Vec::new();
            for Element { keys, values } in elements {
                for (column, cell) in columns.iter_mut().zip(keys.iter().chain(values)) {
                    column.push(cell, &mut strings);
                }
            }
            let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
            let columns: Vec<TableValues<'_>> = columns.iter().map(Gathered::values).collect();
            append(table, TableRows { time: &times, columns: &columns, strings: &strings })?;
        }
        Ok(())
    }
}

/// A column of a table from cells.
enum Gathered {
    Unsigned(Vec<u64>, Vec<u8>),
    Signed(Vec<i64>, Vec<u8>),
    Text(Vec<u32>, Vec<u8>),
}

impl Gathered {
    fn new(kind: CellKind) -> Gathered {
        match kind {
            CellKind::U64 => Gathered::Unsigned(Vec::new(), Vec::new()),
            CellKind::S64 => Gathered::Signed(Vec::new(), Vec::new()),
            _ => Gathered::Text(Vec::new(), Vec::new()),
        }
    }

    fn push(&mut self, cell: &Cell, strings: &mut Vec<String>) {
        let absent = *cell == Cell::Absent;
        let (row, bitmap) = match self {
            Gathered::Unsigned(values, bitmap) => {
                values.push(if let Cell::U64(n) = cell { *n } else { 0 });
                (values.len() - 1, bitmap)
            }
            Gathered::Signed(values, bitmap) => {
                values.push(if let Cell::S64(n) = cell { *n } else { 0 });
                (values.len() - 1, bitmap)
            }
            Gathered::Text(numbers, bitmap) => {
                numbers.push(u32::try_from(strings.len()).unwrap_or(u32::MAX));
                strings.push(crate::cells::line(cell));
                (numbers.len() - 1, bitmap)
            }
        };
        if row & 7 == 0 {
            bitmap.push(0);
        }
        if let Some(byte) = bitmap.last_mut() {
            *byte |= u8::from(absent) << (row & 7);
        }
    }

    fn values(&self) -> TableValues<'_> {
        match self {
            Gathered::Unsigned(values, absent) => TableValues { cells: Cells::U64(values), absent },
            Gathered::Signed(values, absent) => TableValues { cells: Cells::S64(values), absent },
            Gathered::Text(numbers, absent) => TableValues { cells: Cells::Text(numbers), absent },
        }
    }
}

/// Whether the keys of an element are those of a row; numbers may differ in their sign's place, as types do.
fn same(element: &[Cell], row: &[Cell]) -> bool {
    let bits = |cell: &Cell| match cell {
        Cell::U64(n) => Some(*n),
        Cell::S64(n) => Some(n.cast_unsigned()),
        _ => None,
    };
    let equal = |(a, b): (&Cell, &Cell)| a == b || (bits(a).is_some() && bits(a) == bits(b));
    element.len() == row.len() && element.iter().zip(row).all(equal)
}

/// The name, or one like it that is not taken; it is taken then.
fn unique(name: &str, taken: &mut Vec<String>) -> String {
    let mut name = name.to_owned();
    while taken.contains(&name) {
        name.push('_');
    }
    taken.push(name.clone());
    name
}

/// The schema has fewer maps than a `u32` can count.
fn host_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn content(content: Declared) -> Content {
    match content {
        Declared::Value => Content::Value,
        Declared::Count => Content::Count,
        Declared::Sum => Content::Sum,
        Declared::Avg => Content::Avg,
        Declared::Stats => Content::Stats,
        Declared::Min => Content::Min,
        Declared::Max => Content::Max,
        Declared::Hist => Content::Hist,
        Declared::Lhist => Content::LinearHist,
        Declared::Tseries => Content::TimeSeries,
    }
}
