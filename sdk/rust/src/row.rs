//! Typed rows over the columns of a stream or a map: bound to the schema once, then read in place.

use std::{cell::OnceCell, fmt::Write, marker::PhantomData, rc::Rc};

use crate::{Batch, Column, ColumnOf, Error, Kind, Result, Schema, SchemaField, SchemaMap};

/// A row of a stream, or an element of a map: derive it for a struct with a [`Field`](crate::Field) for each column that the plugin
/// reads.
///
/// A field reads the column of its own name, or of the one in `#[column("name")]`. A field `#[time] time: u64` is the time of
/// the event; elements of maps have none. The struct may have one lifetime, that of the batch.
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
    /// What it expects of the stream or map.
    const FIELDS: &'static [FieldSpec];
    /// The field that is the time of the event.
    const TIME: Option<&'static str> = None;
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

/// What a [`Stream`] or [`Map`](crate::Map) and the program that made it share: its place in the schema, once that is known.
pub(crate) struct Link {
    pub(crate) name: String,
    /// As errors name it.
    pub(crate) label: String,
    what: What,
    row: &'static str,
    fields: &'static [FieldSpec],
    time: Option<&'static str>,
    pub(crate) place: OnceCell<Place>,
}

/// What a plugin reads as rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A stream.
    Stream,
    /// A map.
    Map,
}

pub(crate) struct Place {
    /// The number of the stream or map.
    pub(crate) number: u32,
    /// For each field the position of its column; those of a map's values stand behind its keys.
    columns: Vec<usize>,
    /// Of a map, what the schema says.
    pub(crate) map: Option<SchemaMap>,
}

impl Link {
    pub(crate) fn new<R: Row>(what: What, name: String) -> Link {
        let label = match what {
            What::Stream => format!("stream `{name}`"),
            What::Map => format!("map `@{name}`"),
        };
        Link { name, label, what, row: R::ROW, fields: R::FIELDS, time: R::TIME, place: OnceCell::new() }
    }

    /// Looks up the stream or map and the column of each field.
    pub(crate) fn bind(&self, schema: &Schema) -> Result<()> {
        let place = match self.what {
            What::Stream => {
                let found = (0u32..).zip(&schema.streams).find(|(_, stream)| stream.name == self.name);
                let (number, stream) = found.ok_or_else(|| {
                    let streams = list(schema.streams.iter().map(|stream| stream.name.clone()));
                    let (name, row) = (&self.name, self.row);
                    Error::new(format!("no probe emits the stream `{name}`, which `{row}` reads; there is {streams}"))
                })?;
                let fields: Vec<&SchemaField> = stream.fields.iter().collect();
                Place { number, columns: self.columns(&fields)?, map: None }
            }
            What::Map => {
                let found = (0u32..).zip(&schema.maps).find(|(_, map)| map.name == self.name);
                let (number, map) = found.ok_or_else(|| {
                    let maps = list(schema.maps.iter().map(|map| format!("@{}", map.name)));
                    let (name, row) = (&self.name, self.row);
                    Error::new(format!("no probe fills the map `@{name}`, which `{row}` reads; there is {maps}"))
                })?;
                if let Some(time) = self.time {
                    return Err(self
                        .error(format_args!("`{}::{time}` is the time of an event, and elements of maps have none", self.row)));
                }
                let fields: Vec<&SchemaField> = map.keys.iter().chain(&map.values).collect();
                Place { number, columns: self.columns(&fields)?, map: Some(map.clone()) }
            }
        };
        // A second `prepare` of one instance is not part of the contract; the first place stays.
        let _ = self.place.set(place);
        Ok(())
    }

    fn columns(&self, columns: &[&SchemaField]) -> Result<Vec<usize>> {
        self.fields.iter().map(|field| self.column(columns, field)).collect()
    }

    fn column(&self, columns: &[&SchemaField], field: &FieldSpec) -> Result<usize> {
        let reader = format!("`{}::{}`", self.row, field.field);
        let Some(position) = columns.iter().position(|column| column.name == field.column) else {
            let there = list(columns.iter().map(|column| column.name.clone()));
            return Err(Error::new(format!(
                "{} has no column `{}`, which {reader} reads; it has {there}",
                self.label, field.column
            )));
        };
        match columns.get(position) {
            Some(found) if found.kind != field.kind => Err(Error::new(format!(
                "{}, column `{}`: {reader} expects {}, and it is {} ({})",
                self.label,
                field.column,
                field.kind.name(),
                found.kind.name(),
                found.ctype
            ))),
            _ => Ok(position),
        }
    }

    /// An error about it.
    pub(crate) fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::new(format!("{}: {what}", self.label))
    }

    /// Where it is, once `prepare` has found it.
    pub(crate) fn place(&self) -> Result<&Place> {
        self.place.get().ok_or_else(|| Error::new(format!("the {} was read before `prepare` had found it", self.label)))
    }
}

/// Names in a sentence.
fn list(names: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for name in names {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}`{name}`");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Where a row's columns come from: the rows of one stream in a batch, or the elements of a map.
#[derive(Clone, Copy)]
pub struct Source<'b> {
    pub(crate) link: &'b Link,
    pub(crate) place: &'b Place,
    pub(crate) time: &'b [u64],
    /// How many rows there are.
    pub(crate) rows: usize,
    /// The columns of a stream; or those of a map's keys, and those of its values.
    pub(crate) columns: (&'b [Column], &'b [Column]),
    pub(crate) strings: &'b [String],
}

impl<'b> Source<'b> {
    /// When each event happened.
    pub fn time(&self) -> &'b [u64] {
        self.time
    }

    /// The column of the field at a position in [`Row::FIELDS`].
    ///
    /// # Errors
    /// The batch lacks it.
    pub fn column(&self, field: usize) -> Result<ColumnOf<'b>> {
        let name = self.link.fields.get(field).map_or("", |field| field.column);
        let (first, second) = self.columns;
        let column = self.place.columns.get(field).and_then(|&position| match position.checked_sub(first.len()) {
            None => first.get(position),
            Some(position) => second.get(position),
        });
        let column = column.ok_or_else(|| self.link.error(format_args!("a batch came without the column `{name}`")))?;
        Ok(ColumnOf { of: &self.link.label, name, column, strings: self.strings, rows: self.rows })
    }
}

impl Batch {
    /// The rows that a stream has here, in their order; none is no error.
    ///
    /// # Errors
    /// A value does not fit its field, or the batch is not what the schema says.
    pub fn rows<'b, R: Row>(&'b self, stream: &'b Stream<R>) -> Result<Rows<'b, R>> {
        let link = &*stream.link;
        let place = link.place()?;
        let found = (0u32..).zip(&self.rows).find(|(_, rows)| rows.stream == place.number);
        let Some((position, rows)) = found else { return Ok(Rows { columns: None, position: None, next: 0, len: 0 }) };
        let len = rows.time.len();
        let (columns, strings) = ((rows.columns.as_slice(), &[][..]), self.strings.as_slice());
        Rows::new(Source { link, place, time: &rows.time, rows: len, columns, strings }, Some(position))
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

/// The rows of one stream in a batch, or the elements of a map. An iterator that reads the columns in place.
pub struct Rows<'b, R: Row> {
    columns: Option<R::Columns<'b>>,
    /// Of the stream's rows in the batch.
    position: Option<u32>,
    next: usize,
    len: usize,
}

impl<'b, R: Row> Rows<'b, R> {
    pub(crate) fn new(source: Source<'b>, position: Option<u32>) -> Result<Rows<'b, R>> {
        Ok(Rows { columns: Some(R::columns(source)?), position, next: 0, len: source.rows })
    }

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
