//! What actions print.
//!
//! For people it is text: whole lines go to the host, what has no line end yet waits for it. For programs each statement that
//! prints is a row of a table named after it, `{"table":"printf","text":...}`.

use portcullis_adhoc_program::{Action, What};
use portcullis_sdk::{CellKind, Cells, Result, TableColumn, TableNumber, TableRows, TableValues, Tables, Unit, append, print};

/// How much text goes to the host at once, if there is a line end in it: the host cuts a line of more than 16 KiB.
const PIECE: usize = 8 << 10;

/// How many rows are collected at most, and how many bytes of them: the host takes 8 MiB in one call.
const ROWS: usize = 4096;
const BYTES: usize = 1 << 20;

pub(crate) struct Lines {
    json: bool,
    /// For people: what was not printed yet.
    text: String,
    /// For programs: a table for each statement that prints, and its rows.
    tables: Vec<(&'static str, TableNumber)>,
    /// The position in `tables` of the rows that wait, all of one table.
    table: usize,
    times: Vec<u64>,
    texts: Vec<String>,
    /// The bytes of `texts`.
    bytes: usize,
}

impl Lines {
    pub(crate) fn new(json: bool) -> Lines {
        Lines { json, text: String::new(), tables: Vec::new(), table: 0, times: Vec::new(), texts: Vec::new(), bytes: 0 }
    }

    /// Declares the tables that the actions need, and gives their names. `taken` are names of others.
    pub(crate) fn declare(&mut self, actions: &[Action], taken: &[&str], tables: &mut Tables) -> Vec<String> {
        let mut declared = Vec::new();
        if !self.json {
            return declared;
        }
        for Action { what, .. } in actions {
            let name = what.name();
            let prints = matches!(what, What::Printf { .. } | What::Value { .. } | What::Time { .. } | What::Join { .. });
            if prints && self.tables.iter().all(|(known, _)| *known != name) {
                let table = if taken.contains(&name) { format!("{name}_") } else { name.to_owned() };
                let column = TableColumn { name: "text".into(), kind: CellKind::Text, unit: Unit::None };
                declared.push(table.clone());
                self.tables.push((name, tables.declare(table, vec![column])));
            }
        }
        declared
    }

    /// Prints what a statement shows.
    ///
    /// # Errors
    /// The host does not take rows.
    pub(crate) fn push(&mut self, statement: &'static str, time: u64, text: String) -> Result<()> {
        if !self.json {
            self.text.push_str(&text);
            return if self.text.len() >= PIECE { self.flush() } else { Ok(()) };
        }
        let table = self.tables.iter().position(|(name, _)| *name == statement).unwrap_or_default();
        if table != self.table || self.times.len() >= ROWS || self.bytes >= BYTES {
            self.flush()?;
        }
        self.table = table;
        self.times.push(time);
        self.bytes += text.len();
        self.texts.push(text);
        Ok(())
    }

    /// Hands over all that is complete.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if let Some(end) = self.text.rfind('\n') {
            let rest = self.text.split_off(end + 1);
            let mut text = std::mem::replace(&mut self.text, rest);
            while !text.is_empty() {
                let whole = text.floor_char_boundary(PIECE);
                let cut = text
                    .get(..whole)
                    .and_then(|piece| piece.rfind('\n'))
                    .or_else(|| text.find('\n'))
                    .map_or(text.len(), |at| at + 1);
                let rest = text.split_off(cut);
                print(&text);
                text = rest;
            }
        }
        if let Some((_, table)) = self.tables.get(self.table)
            && !self.times.is_empty()
        {
            let strings: Vec<&str> = self.texts.iter().map(String::as_str).collect();
            let numbers: Vec<u32> = (0u32..).zip(&strings).map(|(number, _)| number).collect();
            let columns = [TableValues { cells: Cells::Text(&numbers), absent: &[] }];
            append(*table, TableRows { time: &self.times, columns: &columns, strings: &strings })?;
            self.times.clear();
            self.texts.clear();
            self.bytes = 0;
        }
        Ok(())
    }

    /// Hands over everything: the last line needs no end.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.flush()
    }
}
