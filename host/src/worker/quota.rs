//! How much a plugin may say in a second: rows, lines and bytes of output, and messages of the log. What is over is dropped and counted.

use std::time::Instant;

use crate::contract::{Cells, Limits, TableRows};

/// What was dropped of what a plugin said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Rows.
    pub rows: u64,
    /// Lines of text.
    pub lines: u64,
    /// Messages of the log.
    pub messages: u64,
}

impl Dropped {
    /// Nothing was.
    pub fn is_empty(&self) -> bool {
        *self == Dropped::default()
    }
}

/// So many a second, and as many at once after a second without any.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    left: u64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Bucket {
        Bucket { rate, left: rate, filled: now }
    }

    /// How many there are now, `wanted` at the most.
    fn there(&mut self, wanted: u64, now: Instant) -> u64 {
        let nanoseconds = now.saturating_duration_since(self.filled).as_nanos();
        let more = u64::try_from(u128::from(self.rate) * nanoseconds / 1_000_000_000).unwrap_or(u64::MAX);
        // What is less than one is not lost: the time stays.
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.rate);
            self.filled = now;
        }
        wanted.min(self.left)
    }

    fn take(&mut self, count: u64) {
        self.left = self.left.saturating_sub(count);
    }
}

/// What a plugin has left of this second.
#[derive(Debug)]
pub(super) struct Quota {
    rows: Bucket,
    bytes: Bucket,
    messages: Bucket,
    pub(super) dropped: Dropped,
}

impl Quota {
    pub(super) fn new(limits: &Limits, now: Instant) -> Quota {
        Quota {
            rows: Bucket::new(limits.output_rows, now),
            bytes: Bucket::new(limits.output_bytes, now),
            messages: Bucket::new(limits.log_messages, now),
            dropped: Dropped::default(),
        }
    }

    /// Shortens rows to those that may be shown.
    pub(super) fn rows(&mut self, rows: &mut TableRows, now: Instant) {
        let count = rows.time.len() as u64;
        let mut there = self.rows.there(count, now);
        let bytes = bytes(rows);
        let room = self.bytes.there(bytes, now);
        if room < bytes {
            // Rows are taken to be of one size.
            there = there.min(u64::try_from(u128::from(count) * u128::from(room) / u128::from(bytes)).unwrap_or(0));
        }
        if there < count {
            truncate(rows, there as usize);
            self.dropped.rows += count - there;
        }
        self.rows.take(there);
        self.bytes.take(if there == count { bytes } else { room });
    }

    /// Whether a line may be shown.
    pub(super) fn line(&mut self, line: &str, now: Instant) -> bool {
        let bytes = line.len() as u64;
        let may = self.rows.there(1, now) == 1 && self.bytes.there(bytes, now) == bytes;
        if may {
            self.rows.take(1);
            self.bytes.take(bytes);
        } else {
            self.dropped.lines += 1;
        }
        may
    }

    /// Whether a message may be logged.
    pub(super) fn message(&mut self, now: Instant) -> bool {
        let may = self.messages.there(1, now) == 1;
        if may {
            self.messages.take(1);
        } else {
            self.dropped.messages += 1;
        }
        may
    }
}

/// How large rows are: eight bytes a number, and texts as often as they are shown.
fn bytes(rows: &TableRows) -> u64 {
    let columns = rows.columns.iter().map(|column| match &column.cells {
        Cells::U64(_) | Cells::S64(_) | Cells::F64(_) | Cells::Bool(_) => 8 * rows.time.len() as u64,
        Cells::Text(index) => index.iter().map(|&at| rows.strings.get(at as usize).map_or(0, |text| text.len() as u64)).sum(),
    });
    8 * rows.time.len() as u64 + columns.sum::<u64>()
}

fn truncate(rows: &mut TableRows, count: usize) {
    rows.time.truncate(count);
    for column in &mut rows.columns {
        match &mut column.cells {
            Cells::U64(cells) => cells.truncate(count),
            Cells::S64(cells) => cells.truncate(count),
            Cells::F64(cells) => cells.truncate(count),
            Cells::Bool(cells) => cells.truncate(count),
            Cells::Text(cells) => cells.truncate(count),
        }
        column.absent.truncate(count.div_ceil(8));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::TableValues;

    fn some(count: usize) -> TableRows {
        let column = |cells, absent| TableValues { cells, absent };
        TableRows {
            time: (0..count as u64).collect(),
            columns: vec![
                column(Cells::U64(vec![7; count]), vec![0xff; count.div_ceil(8)]),
                column(Cells::Text(vec![0; count]), vec![]),
            ],
            strings: vec!["four".into()],
        }
    }

    /// Rows past the limit are dropped from the end and counted, and come again with time.
    #[test]
    fn rows_are_limited() {
        let start = Instant::now();
        let mut quota = Quota::new(&Limits { output_rows: 10, ..Limits::default() }, start);
        let mut shown = |count, after| {
            let mut rows = some(count);
            quota.rows(&mut rows, start + Duration::from_millis(after));
            assert!(rows.columns.iter().all(|column| column.absent.len() <= rows.time.len().div_ceil(8)));
            (rows.time.len(), quota.dropped.rows)
        };
        assert_eq!(shown(8, 0), (8, 0));
        assert_eq!(shown(8, 0), (2, 6));
        assert_eq!(shown(8, 50), (0, 14));
        assert_eq!(shown(8, 150), (1, 21));
        assert_eq!(shown(20, 60_000), (10, 31));
    }

    /// The same of their bytes: twenty a row here.
    #[test]
    fn bytes_are_limited() {
        let start = Instant::now();
        let mut quota = Quota::new(&Limits { output_bytes: 100, ..Limits::default() }, start);
        let mut rows = some(8);
        quota.rows(&mut rows, start);
        assert_eq!((rows.time.len(), quota.dropped.rows), (5, 3));
        assert!(!quota.line("a line", start));
        assert!(quota.line("a line", start + Duration::from_secs(1)));
        assert_eq!(quota.dropped.lines, 1);
    }

    /// Messages past the limit are dropped and counted.
    #[test]
    fn messages_are_limited() {
        let start = Instant::now();
        let mut quota = Quota::new(&Limits { log_messages: 3, ..Limits::default() }, start);
        assert_eq!((0..1000).filter(|_| quota.message(start)).count(), 3);
        assert_eq!(quota.dropped, Dropped { messages: 997, ..Dropped::default() });
    }
}
