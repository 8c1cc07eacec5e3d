//! Values of columns, one by one.

use std::collections::HashMap;

pub(crate) use portcullis_adhoc_program::Cell;
use portcullis_adhoc_program::text;
use portcullis_sdk::{Column, Frame, Stack, Values, resolve};

use crate::tables::is_set;

/// Reads cells. Stacks are numbers in columns: what they are made of is asked once each, while their processes live. The host gives
/// out only so many numbers.
#[derive(Default)]
pub(crate) struct Reader {
    stacks: HashMap<u64, Vec<String>>,
}

impl Reader {
    /// Asks for all stacks of the columns that are not known yet.
    pub(crate) fn learn<'c>(&mut self, columns: impl IntoIterator<Item = &'c Column>) {
        let mut new: Vec<Stack> = Vec::new();
        for column in columns {
            if let Values::Stack(values) = &column.values {
                new.extend(values.iter().filter(|stack| !self.stacks.contains_key(stack)).map(|stack| Stack(*stack)));
            }
        }
        if new.is_empty() {
            return;
        }
        new.sort_unstable();
        new.dedup();
        let frames = resolve(&new);
        let shown = frames.iter().map(|frames| frames.iter().map(Frame::to_string).collect());
        self.stacks.extend(new.iter().map(|stack| stack.0).zip(shown));
    }

    /// A value; [`Reader::learn`] has seen its column.
    pub(crate) fn cell(&self, column: &Column, row: usize, strings: &[&str]) -> Cell {
        if is_set(&column.absent, row) {
            return Cell::Absent;
        }
        let cell = match &column.values {
            Values::U64(values) => values.get(row).map(|n| Cell::U64(*n)),
            Values::S64(values) => values.get(row).map(|n| Cell::S64(*n)),
            Values::Text(numbers) => {
                let text = numbers.get(row).and_then(|number| strings.get(*number as usize));
                text.map(|text| Cell::Text((*text).to_owned()))
            }
            Values::Bytes(values) => {
                let end = |row: usize| values.ends.get(row).map(|end| *end as usize);
                let start = row.checked_sub(1).map_or(Some(0), end);
                let bytes = start.zip(end(row)).and_then(|(start, end)| values.data.get(start..end));
                bytes.map(|bytes| Cell::Bytes(bytes.to_vec()))
            }
            Values::Stack(values) => {
                values.get(row).map(|stack| Cell::Stack(self.stacks.get(stack).cloned().unwrap_or_default()))
            }
        };
        cell.unwrap_or(Cell::Absent)
    }
}

/// A value on one line: a stack's frames with semicolons between.
pub(crate) fn line(cell: &Cell) -> String {
    match cell {
        Cell::Stack(frames) => frames.join(";"),
        other => text(other),
    }
}

pub(crate) fn is_number(column: &Column) -> bool {
    matches!(column.values, Values::U64(_) | Values::S64(_))
}

/// Makes numbers zero.
pub(crate) fn zero(column: &mut Column) {
    match &mut column.values {
        Values::U64(values) => values.fill(0),
        Values::S64(values) => values.fill(0),
        _ => {}
    }
}
