//! Typed rows for output tables: gathered column by column, handed to the host at the end of each call.

use std::{cell::RefCell, rc::Rc};

use hashbrown::HashTable;

use crate::{CellKind, Cells, Result, TableColumn, TableRows, TableValues, output, program::TableNumber};

/// A row of an output table: derive it for a struct with a [`Cell`] for each column.
///
/// A column has the name of its field, or the one in `#[column("name")]`. One field must be `#[time] time: u64`: when that
/// happened which the row tells of. `#[unit(nanoseconds)]`, `#[unit(bytes)]` and `#[unit(address)]` say what a number counts.
///
/// ```
/// # use portcullis_sdk::TableRow;
/// #[derive(TableRow)]
/// struct Latency<'a> {
///     #[time]
///     time: u64,
///     comm: &'a str,
///     #[unit(nanoseconds)]
///     average: f64,
///     result: Option<i64>,
/// }
/// ```
pub trait TableRow {
    /// A buffer for each column.
    type Columns: 'static;

    /// The columns, as they are declared.
    fn columns() -> Vec<TableColumn>;
    /// Buffers with no row.
    fn empty() -> Self::Columns;
    /// When that happened which the row tells of.
    fn time(&self) -> u64;
    /// Adds the row's cells to the buffers, and its texts to those of the table.
    fn push(self, columns: &mut Self::Columns, texts: &mut Texts);
    /// The buffers, in the order of the columns.
    fn buffers(columns: &mut Self::Columns) -> Vec<&mut dyn CellBuffer>;
}

/// A type that a cell may have: `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `bool`, `&str`, `String`, and `Option` of these for
/// a cell that may be empty.
pub trait Cell {
    /// What its column is declared as.
    const KIND: CellKind;
    /// What gathers its column.
    type Buffer: CellBuffer + Default + 'static;

    /// Adds it to its column.
    fn push(self, buffer: &mut Self::Buffer, texts: &mut Texts);
}

/// A column of a table that is being gathered.
pub trait CellBuffer {
    /// Adds an empty cell.
    fn push_absent(&mut self, texts: &mut Texts);
    /// No row follows: makes the column ready for the host.
    fn complete(&mut self);
    /// The column for the host.
    fn values(&self) -> TableValues<'_>;
    /// Takes all rows out.
    fn clear(&mut self);
}

/// A column's bitmap of empty cells: no bytes until there is one.
#[derive(Debug, Default)]
struct Absent(Vec<u8>);

impl Absent {
    fn mark(&mut self, row: usize) {
        let byte = row >> 3;
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        if let Some(byte) = self.0.get_mut(byte) {
            *byte |= 1 << (row & 7);
        }
    }

    /// The bitmap for the host: none at all, or one bit for each row.
    fn complete(&mut self, rows: usize) {
        if !self.0.is_empty() {
            self.0.resize(rows.div_ceil(8), 0);
        }
    }
}

/// A column of numbers or truth values.
#[derive(Debug, Default)]
pub struct NumberBuffer<T> {
    values: Vec<T>,
    absent: Absent,
}

macro_rules! buffers {
    ($($wide:ty: $kind:ident),*) => {$(
        impl CellBuffer for NumberBuffer<$wide> {
            fn push_absent(&mut self, _: &mut Texts) {
                self.absent.mark(self.values.len());
                self.values.push(<$wide>::default());
            }

            fn complete(&mut self) {
                self.absent.complete(self.values.len());
            }

            fn values(&self) -> TableValues<'_> {
                TableValues { cells: Cells::$kind(&self.values), absent: &self.absent.0 }
            }

            fn clear(&mut self) {
                self.values.clear();
                self.absent.0.clear();
            }
        }
    )*};
}

buffers!(u64: U64, i64: S64, f64: F64, bool: Bool);

macro_rules! cells {
    ($($cell:ty: $kind:ident $wide:ty),*) => {$(
        impl Cell for $cell {
            const KIND: CellKind = CellKind::$kind;
            type Buffer = NumberBuffer<$wide>;

            #[inline]
            fn push(self, buffer: &mut NumberBuffer<$wide>, _: &mut Texts) {
                buffer.values.push(self.into());
            }
        }
    )*};
}

cells!(u8: U64 u64, u16: U64 u64, u32: U64 u64, u64: U64 u64, i8: S64 i64, i16: S64 i64, i32: S64 i64, i64: S64 i64);
cells!(f32: F64 f64, f64: F64 f64, bool: Bool bool);

/// The texts of a table's rows, each distinct one kept once.
#[derive(Debug, Default)]
pub struct Texts {
    /// All of them, one behind the other, and where each ends.
    text: String,
    ends: Vec<usize>,
    /// Positions in `ends`, by the text's hash.
    known: HashTable<u32>,
}

impl Texts {
    /// The number of a text, which is added if it is new.
    fn number(&mut self, text: &str) -> u32 {
        let Texts { text: all, ends, known } = self;
        let hash = hash(text);
        if let Some(number) = known.find(hash, |number| piece(all, ends, *number) == text) {
            return *number;
        }
        // Rows are handed over long before they have 2³² texts.
        let number = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        all.push_str(text);
        ends.push(all.len());
        known.insert_unique(hash, number, |number| self::hash(piece(all, ends, *number)));
        number
    }

    /// All texts, by number.
    fn strings(&self) -> Vec<&str> {
        (0u32..).zip(&self.ends).map(|(number, _)| piece(&self.text, &self.ends, number)).collect()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.known.clear();
    }
}

/// A column of texts.
#[derive(Debug, Default)]
pub struct TextBuffer {
    /// For each row the number of its text.
    index: Vec<u32>,
    absent: Absent,
}

/// The text with a number.
fn piece<'t>(all: &'t str, ends: &[usize], number: u32) -> &'t str {
    let number = number as usize;
    let end_of = |number: usize| ends.get(number).copied().unwrap_or_default();
    all.get(number.checked_sub(1).map_or(0, end_of)..end_of(number)).unwrap_or_default()
}

/// A hash for short texts, eight bytes a step: std's own is keyed, which is slower and asks the host for random numbers. Texts
/// made to collide would only slow down the plugin that gathers them, and the host limits the time that a call may take.
fn hash(text: &str) -> u64 {
    // The odd multiplier and the rotation are those of rustc's FxHasher.
    const MULTIPLIER: u64 = 0x51_7c_c1_b7_27_22_0a_95;
    let step = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let hash = words.iter().fold(text.len() as u64, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)));
    // The table picks by the highest and the lowest bits; a product's best ones are the highest.
    hash ^ hash >> 32
}

impl CellBuffer for TextBuffer {
    fn push_absent(&mut self, texts: &mut Texts) {
        self.absent.mark(self.index.len());
        self.index.push(texts.number(""));
    }

    fn complete(&mut self) {
        self.absent.complete(self.index.len());
    }

    fn values(&self) -> TableValues<'_> {
        TableValues { cells: Cells::Text(&self.index), absent: &self.absent.0 }
    }

    fn clear(&mut self) {
        self.index.clear();
        self.absent.0.clear();
    }
}

impl Cell for &str {
    const KIND: CellKind = CellKind::Text;
    type Buffer = TextBuffer;

    fn push(self, buffer: &mut TextBuffer, texts: &mut Texts) {
        buffer.index.push(texts.number(self));
    }
}

impl Cell for String {
    const KIND: CellKind = CellKind::Text;
    type Buffer = TextBuffer;

    fn push(self, buffer: &mut TextBuffer, texts: &mut Texts) {
        buffer.index.push(texts.number(&self));
    }
}

impl<C: Cell> Cell for Option<C> {
    const KIND: CellKind = C::KIND;
    type Buffer = C::Buffer;

    fn push(self, buffer: &mut C::Buffer, texts: &mut Texts) {
        match self {
            Some(cell) => cell.push(buffer, texts),
            None => buffer.push_absent(texts),
        }
    }
}

/// Rows are handed over at the end of each call, or when there are this many: a call of `finish` may push millions.
const MOST_ROWS: usize = 16_384;

/// A table of rows of type `T`, from [`Program::table`](crate::Program::table) or [`Tables::add`](crate::Tables::add).
pub struct Table<T: TableRow> {
    rows: Rc<RefCell<Pending<T>>>,
}

/// The rows of one table that the host does not have yet.
struct Pending<T: TableRow> {
    number: TableNumber,
    time: Vec<u64>,
    columns: T::Columns,
    texts: Texts,
    /// The first refusal since the last `flush`: `push` has no result, so that it reads like pushing to a list.
    refused: Result<()>,
}

impl<T: TableRow + 'static> Table<T> {
    pub(crate) fn new(number: TableNumber) -> Table<T> {
        let pending = Pending { number, time: Vec::new(), columns: T::empty(), texts: Texts::default(), refused: Ok(()) };
        Table { rows: Rc::new(RefCell::new(pending)) }
    }

    pub(crate) fn flusher(&self) -> Rc<dyn Flush> {
        Rc::clone(&self.rows) as Rc<dyn Flush>
    }

    /// Adds a row: a `T` of any lifetime.
    pub fn push<R: TableRow<Columns = T::Columns>>(&self, row: R) {
        let pending = &mut *self.rows.borrow_mut();
        pending.time.push(row.time());
        row.push(&mut pending.columns, &mut pending.texts);
        if pending.time.len() >= MOST_ROWS {
            pending.hand_over(output::append);
        }
    }
}

impl<T: TableRow> Pending<T> {
    /// Hands the rows to `append` and begins anew.
    fn hand_over(&mut self, append: impl FnOnce(TableNumber, TableRows<'_>) -> Result<()>) {
        if self.time.is_empty() {
            return;
        }
        let mut buffers = T::buffers(&mut self.columns);
        buffers.iter_mut().for_each(|buffer| buffer.complete());
        {
            let columns: Vec<TableValues<'_>> = buffers.iter().map(|buffer| buffer.values()).collect();
            let outcome = append(self.number, TableRows { time: &self.time, columns: &columns, strings: &self.texts.strings() });
            if self.refused.is_ok() {
                self.refused = outcome;
            }
        }
        buffers.iter_mut().for_each(|buffer| buffer.clear());
        self.time.clear();
        self.texts.clear();
    }
}

/// A table of any row type, as the plugin's instance sees it.
pub(crate) trait Flush {
    /// Hands over what was pushed.
    fn flush(&self) -> Result<()>;
}

impl<T: TableRow> Flush for RefCell<Pending<T>> {
    fn flush(&self) -> Result<()> {
        let mut pending = self.borrow_mut();
        pending.hand_over(output::append);
        std::mem::replace(&mut pending.refused, Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use portcullis_sdk_macros::TableRow;

    use super::*;
    use crate::{Error, Unit};

    #[derive(TableRow)]
    #[allow(dead_code)]
    struct Line<'a> {
        #[time]
        time: u64,
        pid: u32,
        comm: &'a str,
        #[unit(nanoseconds)]
        #[column("latency")]
        duration: Option<u64>,
        #[unit(bytes)]
        size: i32,
        ratio: f64,
        ok: bool,
        path: Option<String>,
    }

    fn line(time: u64, comm: &str) -> Line<'_> {
        let path = (time > 1).then(|| format!("/{time}"));
        Line { time, pid: 7, comm, duration: (time != 1).then_some(time), size: -1, ratio: 0.5, ok: true, path }
    }

    /// What the host is shown of a table's pending rows.
    fn shown(table: &Table<Line<'static>>) -> String {
        let mut text = String::new();
        table.rows.borrow_mut().hand_over(|_, rows| {
            text = format!("{:?}{:?}", rows.time, rows.strings);
            for column in rows.columns {
                let cells = match &column.cells {
                    Cells::U64(values) => format!("{values:?}"),
                    Cells::S64(values) => format!("{values:?}"),
                    Cells::F64(values) => format!("{values:?}"),
                    Cells::Bool(values) => format!("{values:?}"),
                    Cells::Text(numbers) => format!("{numbers:?}"),
                };
                text.push_str(&format!(" {cells}/{:?}", column.absent));
            }
            Ok(())
        });
        text
    }

    /// Columns are declared in the order of the fields, with their names, kinds and units.
    #[test]
    fn declaration() {
        let columns: Vec<_> = Line::columns().into_iter().map(|c| (c.name, c.kind, c.unit)).collect();
        let expect = [
            ("pid", CellKind::U64, Unit::None),
            ("comm", CellKind::Text, Unit::None),
            ("latency", CellKind::U64, Unit::Nanoseconds),
            ("size", CellKind::S64, Unit::Bytes),
            ("ratio", CellKind::F64, Unit::None),
            ("ok", CellKind::Bool, Unit::None),
            ("path", CellKind::Text, Unit::None),
        ];
        assert_eq!(columns, expect.map(|(name, kind, unit)| (name.to_owned(), kind, unit)));
    }

    /// Rows become columns, each text is there once, empty cells are marked, and what was handed over is gone.
    #[test]
    fn gathering() {
        let table = Table::<Line<'static>>::new(TableNumber(3));
        assert_eq!(shown(&table), "");
        let local = String::from("cat");
        table.push(line(1, &local));
        table.push(line(2, "dog"));
        table.push(line(3, "cat"));
        assert_eq!(
            shown(&table),
            r#"[1, 2, 3]["cat", "", "dog", "/2", "/3"] [7, 7, 7]/[] [0, 2, 0]/[] [0, 2, 3]/[1] [-1, -1, -1]/[] [0.5, 0.5, 0.5]/[] [true, true, true]/[] [1, 3, 4]/[1]"#
        );
        assert_eq!(shown(&table), "");
        table.push(line(4, "dog"));
        assert_eq!(shown(&table), r#"[4]["dog", "/4"] [7]/[] [0]/[] [4]/[] [-1]/[] [0.5]/[] [true]/[] [1]/[]"#);
    }

    /// A bitmap has a bit for each row, also for those behind its last mark.
    #[test]
    fn bitmaps() {
        let table = Table::<Line<'static>>::new(TableNumber(0));
        (1..=17).for_each(|time| table.push(line(time, "c")));
        assert!(shown(&table).contains("/[1, 0, 0] [-1"));
    }

    /// Texts of every length come back as they went in, thousands of them too.
    #[test]
    fn texts() {
        let texts: Vec<String> = (0..5000).map(|n| "x".repeat(n % 40) + &n.to_string()).collect();
        let mut known = Texts::default();
        for _ in 0..2 {
            assert!(texts.iter().map(|text| known.number(text)).eq(0..5000));
        }
        assert_eq!(known.strings(), texts);
    }

    /// A refusal by the host is kept until the call's end, and the first one counts.
    #[test]
    fn refusals() {
        let table = Table::<Line<'static>>::new(TableNumber(0));
        for text in ["first", "second"] {
            table.push(line(1, "c"));
            table.rows.borrow_mut().hand_over(|_, _| Err(Error::new(text)));
        }
        assert_eq!(table.flusher().flush().unwrap_err().text(), "first");
        assert!(table.flusher().flush().is_ok());
    }
}
