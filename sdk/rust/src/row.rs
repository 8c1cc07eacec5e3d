//! Typed rows over the columns of a stream: bound to the schema once, then read in place.

use std::{cell::OnceCell, fmt::Write, marker::PhantomData, rc::Rc};

use crate::{Batch, ColumnOf, Error, Kind, RawRows, Result, Schema, SchemaStream};

/// A row of a stream: derive it for a struct with a [`Field`](crate::Field) for each column that the plugin reads.
///
/// A field reads the column of its own name, or of the one in `#[column("name")]`. A field `#[time] time: u64` is the time of
/// the event. The struct may have one lifetime, that of the batch.
///
/// ```
/// # use portcullis_sdk::{Cut, Row};
/// #[derive(Row)]
/// struct Open<'a> {
///     #[time]
///     time: u64,
///     pid: u32,
///     #[column("retval")]
///     result: i64,
///     /// `None` where the name could not be read.
///     path: Option<Cut<&'a str>>,
/// }
/// ```
pub trait Row {
    /// The struct's name, for errors.
    const ROW: &'static str;
    /// What it expects of the stream.
    const FIELDS: &'static [FieldSpec];
    /// The same row with the lifetime of a batch.
    type At<'b>;
    /// Its columns in a batch.
    type Columns<'b>;

    /// Looks the columns of a batch through.
    ///
    /// # Errors
    /// A column is not what the schema says, or has values that do not fit.
    fn columns(source: Source<'_>) -> Result<Self::Columns<'_>>;

    /// One row. `row` is below the number of rows.
    fn read<'b>(columns: &Self::Columns<'b>, row: usize) -> Self::At<'b>;
}

/// What a field expects of a stream.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// The field's name in the struct.
    pub field: &'static str,
    /// The column's name in the stream.
    pub column: &'static str,
    /// The column's kind.
    pub kind: Kind,
}

/// A stream that the plugin reads as rows of type `R`, from [`Program::stream`](crate::Program::stream).
pub struct Stream<R> {
    link: Rc<Link>,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Stream<R> {
    pub(crate) fn new(link: Rc<Link>) -> Stream<R> {
        Stream { link, row: PhantomData }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.link.name
    }
}

/// What a [`Stream`] and the program that made it share: the stream's place in the schema, once that is known.
pub(crate) struct Link {
    name: String,
    row: &'static str,
    fields: &'static [FieldSpec],
    place: OnceCell<Place>,
}

struct Place {
    /// The stream's number.
    stream: u32,
    /// For each field the position of its column.
    columns: Vec<usize>,
}

impl Link {
    pub(crate) fn new(name: String, row: &'static str, fields: &'static [FieldSpec]) -> Link {
        Link { name, row, fields, place: OnceCell::new() }
    }

    /// Looks up the stream and the column of each field.
    pub(crate) fn bind(&self, schema: &Schema) -> Result<()> {
        let (number, stream) =
            (0u32..).zip(&schema.streams).find(|(_, stream)| stream.name == self.name).ok_or_else(|| self.no_stream(schema))?;
        let columns = self.fields.iter().map(|field| self.column(stream, field)).collect::<Result<_>>()?;
        // A second `prepare` of one instance is not part of the contract; the first place stays.
        let _ = self.place.set(Place { stream: number, columns });
        Ok(())
    }

    fn column(&self, stream: &SchemaStream, field: &FieldSpec) -> Result<usize> {
        let (name, reader) = (&self.name, format!("`{}::{}`", self.row, field.field));
        let Some(position) = stream.fields.iter().position(|column| column.name == field.column) else {
            let columns = list(stream.fields.iter().map(|column| column.name.as_str()));
            return Err(Error::new(format!(
                "stream `{name}` has no column `{}`, which {reader} reads; it has {columns}",
                field.column
            )));
        };
        match stream.fields.get(position) {
            Some(found) if found.kind != field.kind => Err(Error::new(format!(
                "stream `{name}`, column `{}`: {reader} expects {}, and it is {} ({})",
                field.column,
                field.kind.name(),
                found.kind.name(),
                found.ctype
            ))),
            _ => Ok(position),
        }
    }

    fn no_stream(&self, schema: &Schema) -> Error {
        let streams = list(schema.streams.iter().map(|stream| stream.name.as_str()));
        Error::new(format!("no probe emits the stream `{}`, which `{}` reads; there is {streams}", self.name, self.row))
    }
}

/// Names in a sentence.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut text = String::new();
    for name in names {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}`{name}`");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Where a row's columns come from: the rows of one stream in a batch.
#[derive(Clone, Copy)]
pub struct Source<'b> {
    batch: &'b Batch,
    rows: &'b RawRows,
    link: &'b Link,
    place: &'b Place,
}

impl<'b> Source<'b> {
    /// When each event happened.
    pub fn time(&self) -> &'b [u64] {
        &self.rows.time
    }

    /// The column of the field at a position in [`Row::FIELDS`].
    ///
    /// # Errors
    /// The batch lacks it.
    pub fn column(&self, field: usize) -> Result<ColumnOf<'b>> {
        let name = self.link.fields.get(field).map_or("", |field| field.column);
        let column = self.place.columns.get(field).and_then(|position| self.rows.columns.get(*position));
        let column =
            column.ok_or_else(|| Error::new(format!("stream `{}`: a batch came without the column `{name}`", self.link.name)))?;
        Ok(ColumnOf { stream: &self.link.name, name, column, strings: &self.batch.strings, rows: self.rows.time.len() })
    }
}

impl Batch {
    /// The rows that a stream has here, in their order; none is no error.
    ///
    /// # Errors
    /// A value does not fit its field, or the batch is not what the schema says.
    pub fn rows<'b, R: Row>(&'b self, stream: &'b Stream<R>) -> Result<Rows<'b, R>> {
        let link = &*stream.link;
        let Some(place) = link.place.get() else {
            return Err(Error::new(format!("the stream `{}` was read before `prepare` had found it", link.name)));
        };
        let found = (0u32..).zip(&self.rows).find(|(_, rows)| rows.stream == place.stream);
        let Some((position, rows)) = found else { return Ok(Rows { columns: None, position: None, next: 0, len: 0 }) };
        let columns = R::columns(Source { batch: self, rows, link, place })?;
        Ok(Rows { columns: Some(columns), position: Some(position), next: 0, len: rows.time.len() })
    }

    /// How the rows of different streams interleave: a [`Turn`] for each event of the batch, in the order in which the kernel
    /// wrote them. Exact within a thread; across CPUs by the time at which room was reserved.
    ///
    /// ```
    /// # use portcullis_sdk::{Batch, Result, Row, Stream};
    /// # #[derive(Row)] struct Enter { pid: u32 }
    /// # #[derive(Row)] struct Exit { pid: u32 }
    /// fn in_order(batch: &Batch, enters: &Stream<Enter>, exits: &Stream<Exit>) -> Result<()> {
    ///     let (mut enters, mut exits) = (batch.rows(enters)?, batch.rows(exits)?);
    ///     for turn in batch.order() {
    ///         if let Some(enter) = enters.next_if(turn) {
    ///             // `enter` comes next
    ///         } else if let Some(exit) = exits.next_if(turn) {
    ///             // `exit` does
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn order(&self) -> Order<'_> {
        match self.rows.as_slice() {
            [only] => Order { listed: &[], single: only.time.len() },
            _ => Order { listed: &self.order, single: 0 },
        }
    }

    /// How many events it has.
    pub fn len(&self) -> usize {
        self.rows.iter().map(|rows| rows.time.len()).sum()
    }

    /// It has no event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The rows of one stream in a batch. An iterator that reads the batch's columns in place.
pub struct Rows<'b, R: Row> {
    columns: Option<R::Columns<'b>>,
    /// Of the stream's rows in the batch.
    position: Option<u32>,
    next: usize,
    len: usize,
}

impl<'b, R: Row> Rows<'b, R> {
    /// The next row, if the turn is this stream's.
    #[inline]
    pub fn next_if(&mut self, turn: Turn) -> Option<R::At<'b>> {
        if self.position == Some(turn.0) { self.next() } else { None }
    }
}

impl<'b, R: Row> Iterator for Rows<'b, R> {
    type Item = R::At<'b>;

    #[inline]
    fn next(&mut self) -> Option<R::At<'b>> {
        let row = self.next;
        if row >= self.len {
            return None;
        }
        self.next += 1;
        self.columns.as_ref().map(|columns| R::read(columns, row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.next;
        (left, Some(left))
    }
}

impl<R: Row> ExactSizeIterator for Rows<'_, R> {}

/// Says which stream the next event of a batch belongs to; see [`Batch::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u32);

/// The turns of a batch's streams.
#[derive(Clone, Debug)]
pub struct Order<'b> {
    listed: &'b [u32],
    /// The rows of the only stream, whose turn it always is; the batch lists no order then.
    single: usize,
}

impl Iterator for Order<'_> {
    type Item = Turn;

    #[inline]
    fn next(&mut self) -> Option<Turn> {
        if let Some((first, rest)) = self.listed.split_first() {
            self.listed = rest;
            return Some(Turn(*first));
        }
        self.single = self.single.checked_sub(1)?;
        Some(Turn(0))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.listed.len() + self.single;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Order<'_> {}

#[cfg(test)]
mod tests;
