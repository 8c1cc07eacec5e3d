//! Rows as aligned tables, for people, while they arrive.
//!
//! Nobody knows the next row, so columns keep the width that they have reached and a header is printed anew when the rows that
//! follow belong to another table or no longer fit under the last one. No cell is ever cut.

use std::{collections::HashMap, fmt::Write};

use super::{clean, is_absent, units};
use crate::contract::{CellKind, Cells, Table, TableColumn, TableRows, TableValues, Unit};

/// A text wider than this does not make its column wider: one long path shall not push all others apart.
const WIDEST: usize = 48;

/// After so many rows a header that no longer fits is printed anew.
const STALE_AFTER: usize = 20;

/// What was printed last, and how wide each table has become.
#[derive(Default)]
pub(super) struct Tables {
    /// The table of the rows above, by plugin and table.
    current: Option<(String, String)>,
    layouts: HashMap<(String, String), Layout>,
    /// A line was printed since the start, so that a blank one sets tables apart.
    begun: bool,
}

#[derive(Default)]
struct Layout {
    /// Of the time and of each column.
    widths: Vec<usize>,
    /// The widths changed since the header was printed.
    stale: bool,
    /// Rows since then.
    rows: usize,
}

impl Tables {
    /// Something else than rows is printed: the next rows begin with a header.
    pub(super) fn interrupted(&mut self) {
        self.current = None;
        self.begun = true;
    }

    /// Appends the rows as text; times are shown from `origin` on.
    pub(super) fn rows(&mut self, to: &mut String, plugin: &str, table: &Table, rows: &TableRows, origin: u64) {
        if rows.time.is_empty() {
            return;
        }
        let name = (plugin.to_owned(), table.name.clone());
        let layout = self.layouts.entry(name.clone()).or_default();
        let cells = Formatted::new(table, rows, origin);
        layout.fit(table, &cells);
        let switched = self.current.as_ref() != Some(&name);
        if switched {
            to.push_str(if self.begun { "\n" } else { "" });
            // Writing to a String does not fail.
            let _ = writeln!(to, "── {}: {} ──", clean::line(plugin), clean::line(&table.name));
            self.current = Some(name);
            self.begun = true;
        }
        if switched || (layout.stale && layout.rows >= STALE_AFTER) {
            layout.header(to, table);
        }
        for row in 0..rows.time.len() {
            layout.row(to, table, (0..=table.columns.len()).map(|column| cells.get(row, column)));
        }
        layout.rows += rows.time.len();
    }
}

impl Layout {
    fn fit(&mut self, table: &Table, cells: &Formatted) {
        if self.widths.is_empty() {
            // A time in seconds with its microseconds; the columns' own names.
            self.widths = std::iter::once(11).chain(table.columns.iter().map(|column| width(&title(column)))).collect();
        }
        for (position, (text, width)) in cells.cells.iter().enumerate() {
            let column = position % self.widths.len();
            let width = (*width).min(WIDEST);
            if width > self.widths[column] && !text.is_empty() {
                self.widths[column] = width;
                self.stale = true;
            }
        }
    }

    fn header(&mut self, to: &mut String, table: &Table) {
        let titles: Vec<_> = std::iter::once("TIME".to_owned()).chain(table.columns.iter().map(title)).collect();
        self.row(to, table, titles.iter().map(|title| (title.as_str(), width(title))));
        (self.stale, self.rows) = (false, 0);
    }

    /// One line: numbers to the right, text to the left, nothing behind the last.
    fn row<'c>(&self, to: &mut String, table: &Table, cells: impl Iterator<Item = (&'c str, usize)>) {
        let start = to.len();
        for (column, ((text, width), widest)) in cells.zip(&self.widths).enumerate() {
            let pad = widest.saturating_sub(width);
            let left = column.checked_sub(1).and_then(|at| table.columns.get(at)).is_some_and(|c| c.kind == CellKind::Text);
            to.extend(std::iter::repeat_n(' ', if column > 0 { 2 } else { 0 } + if left { 0 } else { pad }));
            to.push_str(text);
            to.extend(std::iter::repeat_n(' ', if left { pad } else { 0 }));
        }
        to.truncate(start + to[start..].trim_end_matches(' ').len());
        to.push('\n');
    }
}

/// The cells of a batch as text, row by row, each with its width.
struct Formatted {
    columns: usize,
    cells: Vec<(String, usize)>,
}

impl Formatted {
    fn new(table: &Table, rows: &TableRows, origin: u64) -> Formatted {
        let columns = table.columns.len() + 1;
        let mut cells = Vec::with_capacity(columns * rows.time.len());
        for (row, time) in rows.time.iter().enumerate() {
            let texts = table.columns.iter().enumerate().map(|(at, column)| {
                let text = rows.columns.get(at).and_then(|values| cell(column.unit, values, &rows.strings, row));
                text.unwrap_or_else(|| "-".into())
            });
            cells.extend(std::iter::once(seconds(*time, origin)).chain(texts).map(|text| {
                let width = width(&text);
                (text, width)
            }));
        }
        Formatted { columns, cells }
    }

    fn get(&self, row: usize, column: usize) -> (&str, usize) {
        let (text, width) = &self.cells[row * self.columns + column];
        (text, *width)
    }
}

/// A cell's text; `None` if there is no value.
fn cell(unit: Unit, values: &TableValues, strings: &[String], row: usize) -> Option<String> {
    if is_absent(&values.absent, row) {
        return None;
    }
    Some(match &values.cells {
        Cells::U64(values) => unsigned(*values.get(row)?, unit),
        Cells::S64(values) => signed(*values.get(row)?, unit),
        Cells::F64(values) => float(*values.get(row)?, unit),
        Cells::Bool(values) => if *values.get(row)? { "yes" } else { "no" }.to_owned(),
        Cells::Text(index) => clean::line(strings.get(*index.get(row)? as usize)?).into_owned(),
    })
}

fn unsigned(value: u64, unit: Unit) -> String {
    match unit {
        Unit::None => value.to_string(),
        Unit::Nanoseconds => units::nanoseconds(value),
        Unit::Bytes => units::bytes(value),
        Unit::Address => format!("{value:#x}"),
    }
}

fn signed(value: i64, unit: Unit) -> String {
    match unit {
        Unit::None => value.to_string(),
        Unit::Nanoseconds => units::signed_nanoseconds(value),
        Unit::Bytes => units::signed_bytes(value),
        Unit::Address => format!("{value:#x}"),
    }
}

fn float(value: f64, unit: Unit) -> String {
    // A cast of a float ends at the integer's ends.
    match unit {
        Unit::Nanoseconds if value.is_finite() => units::signed_nanoseconds(value.round() as i64),
        Unit::Bytes if value.is_finite() => units::signed_bytes(value.round() as i64),
        _ if value == 0.0 || (1e-3..1e15).contains(&value.abs()) => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ if value.is_finite() => format!("{value:.3e}"),
        _ => value.to_string(),
    }
}

/// A time in seconds from `origin`, with its microseconds.
fn seconds(time: u64, origin: u64) -> String {
    let (sign, ns) = if time < origin { ("-", origin - time) } else { ("", time - origin) };
    format!("{sign}{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

fn title(column: &TableColumn) -> String {
    clean::line(&column.name).to_uppercase()
}

fn width(text: &str) -> usize {
    text.chars().count()
}
