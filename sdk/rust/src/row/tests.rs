#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use portcullis_sdk_macros::Row;

use super::*;
use crate::{BytesValues, Column, Cut, Field, RawRows, SchemaField, SchemaStream, Values, program};

/// A schema of streams written as `"name: column kind, column kind"`.
fn schema(streams: &[&str]) -> Schema {
    let kind = |name: &str| match name {
        "u64" => (Kind::U64, "unsigned long"),
        "s64" => (Kind::S64, "int"),
        "text" => (Kind::Text, "char[16]"),
        "bytes" => (Kind::Bytes, "char[16]"),
        _ => (Kind::Stack, "stack"),
    };
    let stream = |text: &&str| {
        let (name, columns) = text.split_once(": ").unwrap();
        let field = |column: &str| {
            let (name, kind_name) = column.split_once(' ').unwrap();
            let (kind, ctype) = kind(kind_name);
            SchemaField { name: name.into(), kind, ctype: ctype.into() }
        };
        SchemaStream { name: name.into(), fields: columns.split(", ").map(field).collect() }
    };
    Schema { streams: streams.iter().map(stream).collect(), maps: Vec::new() }
}

/// The stream `name` read as `R`, bound to a schema.
fn bound<R: Row>(name: &str, streams: &[&str]) -> Result<Stream<R>> {
    let mut program = crate::Program::default();
    let stream = program.stream(name);
    program::bind(&program.links, &schema(streams))?;
    Ok(stream)
}

fn column(values: Values) -> Column {
    Column { values, absent: Vec::new(), cut: Vec::new() }
}

fn rows(stream: u32, time: &[u64], columns: Vec<Column>) -> RawRows {
    RawRows { stream, time: time.to_vec(), columns }
}

fn batch(rows: Vec<RawRows>, strings: &[&str], order: &[u32]) -> Batch {
    Batch { rows, strings: strings.iter().map(|s| (*s).to_owned()).collect(), order: order.to_vec() }
}

#[derive(Debug, PartialEq, Row)]
struct Open<'a> {
    #[time]
    time: u64,
    pid: u32,
    comm: &'a str,
    #[column("retval")]
    result: i64,
    path: Option<Cut<&'a str>>,
}

const OPENS: &str = "opens: extra s64, pid u64, comm text, retval s64, path text";

/// Columns are found by name wherever they stand, others are passed over, and absent and cut rows are told.
#[test]
fn rows_are_read() {
    let stream = bound::<Open<'static>>("opens", &["other: a u64", OPENS]).unwrap();
    let path = Column { values: Values::Text(vec![1, 0, 2]), absent: vec![0b010], cut: vec![0b100] };
    let columns = vec![
        column(Values::S64(vec![0; 3])),
        column(Values::U64(vec![10, 11, 12])),
        column(Values::Text(vec![0, 0, 1])),
        column(Values::S64(vec![3, -2, i64::MIN])),
        path,
    ];
    let batch = batch(vec![rows(1, &[100, 101, 102], columns)], &["cat", "/etc/passwd", "/long"], &[]);
    let found: Vec<Open<'_>> = batch.rows(&stream).unwrap().collect();
    assert_eq!(
        found,
        [
            Open { time: 100, pid: 10, comm: "cat", result: 3, path: Some(Cut { value: "/etc/passwd", cut: false }) },
            Open { time: 101, pid: 11, comm: "cat", result: -2, path: None },
            Open { time: 102, pid: 12, comm: "/etc/passwd", result: i64::MIN, path: Some(Cut { value: "/long", cut: true }) },
        ]
    );
    assert_eq!(batch.rows(&stream).unwrap().len(), 3);
    assert_eq!(batch.len(), 3);
}

/// A batch without rows of a stream gives none, and a stream that was never bound says so.
#[test]
fn no_rows() {
    let stream = bound::<Open<'static>>("opens", &[OPENS]).unwrap();
    let nothing = batch(vec![], &[], &[]);
    assert_eq!(nothing.rows(&stream).unwrap().count(), 0);
    assert!(nothing.is_empty());
    assert_eq!(nothing.order().count(), 0);
    let unbound = crate::Program::default().stream::<Open<'static>>("opens");
    assert_eq!(nothing.rows(&unbound).err().unwrap().text(), "the stream `opens` was read before `prepare` had found it");
}

/// What a row needs and a stream does not have is an error that names stream, column, expected and found.
#[test]
fn schema_errors() {
    #[track_caller]
    fn check(streams: &[&str], expect: &str) {
        assert_eq!(bound::<Open<'static>>("opens", streams).err().unwrap().text(), expect);
    }
    check(&[], "no probe emits the stream `opens`, which `Open` reads; there is none");
    check(&["a: x u64", "b: x u64"], "no probe emits the stream `opens`, which `Open` reads; there is `a`, `b`");
    check(
        &["opens: pid u64, comm text, retval s64, filename text"],
        "stream `opens` has no column `path`, which `Open::path` reads; it has `pid`, `comm`, `retval`, `filename`",
    );
    check(
        &["opens: pid s64, comm text, retval s64, path text"],
        "stream `opens`, column `pid`: `Open::pid` expects u64, and it is s64 (int)",
    );
    check(
        &["opens: pid u64, comm text, retval u64, path text"],
        "stream `opens`, column `retval`: `Open::result` expects s64, and it is u64 (unsigned long)",
    );
}

/// Every type of field reads what it should, at its bounds.
#[test]
fn field_types() {
    fn check<'b, F: Field<'b> + std::fmt::Debug + PartialEq>(column: &'b Column, strings: &'b [String], expect: &[F]) {
        let source = ColumnOf { of: "stream `s`", name: "c", column, strings, rows: expect.len() };
        let read = F::column(source).unwrap();
        let found: Vec<F> = (0..expect.len()).map(|row| F::read(&read, row)).collect();
        assert_eq!(found, expect);
    }
    check(&column(Values::U64(vec![0, 255])), &[], &[0u8, 255]);
    check(&column(Values::U64(vec![0, 65535])), &[], &[0u16, 65535]);
    check(&column(Values::U64(vec![0, u64::from(u32::MAX)])), &[], &[0, u32::MAX]);
    check(&column(Values::U64(vec![0, u64::MAX])), &[], &[0, u64::MAX]);
    check(&column(Values::U64(vec![0, 1, 7])), &[], &[false, true, true]);
    check(&column(Values::S64(vec![-128, 127])), &[], &[i8::MIN, i8::MAX]);
    check(&column(Values::S64(vec![-32768, 32767])), &[], &[i16::MIN, i16::MAX]);
    check(&column(Values::S64(vec![i64::from(i32::MIN), i64::from(i32::MAX)])), &[], &[i32::MIN, i32::MAX]);
    check(&column(Values::S64(vec![i64::MIN, i64::MAX])), &[], &[i64::MIN, i64::MAX]);
    let bytes = Values::Bytes(BytesValues { ends: vec![2, 2, 3], data: vec![1, 2, 3] });
    check::<&[u8]>(&column(bytes), &[], &[&[1, 2], &[], &[3]]);
    // The tenth row's bit is in the second byte; past the bitmap's end all rows are there.
    let absent = Column { values: Values::U64((0..18).collect()), absent: vec![0, 0b10], cut: vec![] };
    let expect: Vec<Option<u64>> = (0..18).map(|row| if row == 9 { None } else { Some(row) }).collect();
    check(&absent, &[], &expect);
}

/// Values that do not fit, and batches that are not what their schema says, are errors; nothing is cut off in silence.
#[test]
fn column_errors() {
    #[track_caller]
    fn check<'b, F: Field<'b>>(column: &'b Column, rows: usize, expect: &str) {
        let source = ColumnOf { of: "stream `s`", name: "c", column, strings: &[], rows };
        assert_eq!(F::column(source).err().unwrap().text(), format!("stream `s`, column `c`: {expect}"));
    }
    check::<u8>(&column(Values::U64(vec![1, 256])), 2, "256 does not fit the row's u8; make the field wider");
    check::<u32>(&column(Values::U64(vec![1 << 32])), 1, "4294967296 does not fit the row's u32; make the field wider");
    check::<i32>(
        &column(Values::S64(vec![-1, i64::MIN])),
        2,
        "-9223372036854775808 does not fit the row's i32; make the field wider",
    );
    check::<u64>(&column(Values::U64(vec![1])), 2, "1 values for 2 rows");
    check::<u64>(&column(Values::S64(vec![1])), 1, "declared as u64, and the batch has s64");
    check::<&str>(&column(Values::Text(vec![0])), 1, "text number 0, and the batch has 0 texts");
    let bytes = |ends, data| column(Values::Bytes(BytesValues { ends, data }));
    check::<&[u8]>(&bytes(vec![3], vec![1]), 1, "rows that end outside of its 1 bytes");
    check::<&[u8]>(&bytes(vec![1, 0], vec![1]), 2, "rows that end outside of its 1 bytes");
}

/// The rows of several streams come in the batch's order; a batch with one stream needs no list for it.
#[test]
fn interleaving() {
    #[derive(Row)]
    struct Read {
        tid: u32,
    }
    #[track_caller]
    fn check(batch: &Batch, expect: &str) {
        let schema = ["enters: tid u64", "exits: tid u64"];
        let (enters, exits) = (bound::<Read>("enters", &schema).unwrap(), bound::<Read>("exits", &schema).unwrap());
        let (mut enters, mut exits) = (batch.rows(&enters).unwrap(), batch.rows(&exits).unwrap());
        let mut found = String::new();
        for turn in batch.order() {
            if let Some(enter) = enters.next_if(turn) {
                write!(found, "+{} ", enter.tid).unwrap();
            } else if let Some(exit) = exits.next_if(turn) {
                write!(found, "-{} ", exit.tid).unwrap();
            }
        }
        assert_eq!(found.trim_end(), expect);
    }
    let part = |stream, tids: &[u64]| rows(stream, &vec![0; tids.len()], vec![column(Values::U64(tids.to_vec()))]);
    check(&batch(vec![part(0, &[1, 2]), part(1, &[1, 2])], &[], &[0, 1, 0, 1]), "+1 -1 +2 -2");
    // The streams' places in a batch are not their numbers.
    check(&batch(vec![part(1, &[1, 2]), part(0, &[1])], &[], &[0, 1, 0]), "-1 +1 -2");
    check(&batch(vec![part(1, &[5, 6, 7])], &[], &[]), "-5 -6 -7");
    check(&batch(vec![], &[], &[]), "");
    // An order with more turns than rows, or of unknown streams, ends the rows and nothing else.
    check(&batch(vec![part(0, &[1]), part(1, &[2])], &[], &[0, 0, 9, 1, 1]), "+1 -2");
}
