#![allow(clippy::unwrap_used)]

use portcullis_sdk_macros::Row;

use super::*;
use crate::{Program, Schema, program};

fn field(name: &str, kind: Kind) -> SchemaField {
    SchemaField { name: name.into(), kind, ctype: "c".into() }
}

/// A map `m` with keys of these kinds, `key0` and so on, and one value.
fn schema(content: Content, keys: &[Kind], value: (&str, Kind)) -> Schema {
    let keys = keys.iter().enumerate().map(|(at, kind)| field(&format!("key{at}"), *kind)).collect();
    let map = |name: &str, keys| SchemaMap { name: name.into(), content, keys, values: vec![field(value.0, value.1)] };
    Schema { streams: Vec::new(), maps: vec![map("", Vec::new()), map("m", keys)] }
}

fn bound<R: Row>(schema: &Schema) -> Result<Map<R>> {
    let mut program = Program::default();
    let map = program.map("m");
    program::bind(&program.links, schema)?;
    Ok(map)
}

#[derive(Debug, PartialEq, Row)]
struct Count<'a> {
    count: u64,
    #[column("key1")]
    comm: &'a str,
    key0: i32,
    key2: Stack,
}

fn column(values: Values) -> Column {
    Column { values, absent: Vec::new(), cut: Vec::new() }
}

/// Fields find the parts of the key and the columns of the value by name.
#[test]
fn elements_are_rows() {
    let map =
        bound::<Count<'static>>(&schema(Content::Count, &[Kind::S64, Kind::Text, Kind::Stack], ("count", Kind::U64))).unwrap();
    let raw = RawElements {
        keys: vec![column(Values::S64(vec![-1, 2])), column(Values::Text(vec![1, 0])), column(Values::Stack(vec![7, 0]))],
        values: vec![column(Values::U64(vec![10, 20]))],
        strings: vec!["a".into(), "b".into()],
    };
    let elements = Elements { link: Rc::clone(&map.link), raw, row: PhantomData::<fn() -> Count<'static>> };
    assert_eq!((elements.len(), elements.is_empty()), (2, false));
    let rows: Vec<Count<'_>> = elements.rows().unwrap().collect();
    assert_eq!(
        rows,
        [Count { count: 10, comm: "b", key0: -1, key2: Stack(7) }, Count { count: 20, comm: "a", key0: 2, key2: Stack(0) }]
    );
}

/// What a row needs and a map does not have is an error that names both; so is a map that there is not.
#[test]
fn schema_errors() {
    #[derive(Row)]
    #[allow(dead_code)]
    struct Timed {
        #[time]
        time: u64,
        count: u64,
    }
    let counts = |keys: &[Kind]| schema(Content::Count, keys, ("count", Kind::U64));
    let check = |error: Option<Error>, expect: &str| assert_eq!(error.unwrap().text(), expect);
    check(
        bound::<Count<'static>>(&counts(&[Kind::S64])).err(),
        "map `@m` has no column `key1`, which `Count::comm` reads; it has `key0`, `count`",
    );
    check(
        bound::<Count<'static>>(&counts(&[Kind::U64, Kind::Text, Kind::Stack])).err(),
        "map `@m`, column `key0`: `Count::key0` expects s64, and it is u64 (c)",
    );
    check(bound::<Timed>(&counts(&[])).err(), "map `@m`: `Timed::time` is the time of an event, and elements of maps have none");
    let nothing = Schema { streams: Vec::new(), maps: counts(&[]).maps.split_off(2) };
    check(bound::<Timed>(&nothing).err(), "no probe fills the map `@m`, which `Timed` reads; there is none");
    let mut program = Program::default();
    check(program.map::<Timed>("m").read().err(), "the map `@m` was read before `prepare` had found it");
}

#[derive(Row)]
#[allow(dead_code)]
struct Any {
    value: u64,
}

/// Keys and values become the columns that the schema asks for.
#[test]
fn elements_are_written() {
    let map = bound::<Any>(&schema(Content::Value, &[Kind::S64, Kind::Text, Kind::Bytes], ("value", Kind::U64))).unwrap();
    let place = map.link.place().unwrap();
    let raw = map.to_raw(place, [((1u8, "a", &b"xy"[..]), 5i64), ((i64::MIN as u8, "b", &b"z"[..]), 6)]).unwrap();
    let values: Vec<String> = raw.keys.iter().chain(&raw.values).map(|column| format!("{:?}", column.values)).collect();
    assert_eq!(values[0], "Values::S64([1, 0])");
    assert_eq!(values[1], "Values::Text([0, 1])");
    assert!(values[2].contains("[2, 3]") && values[2].contains("[120, 121, 122]"), "{}", values[2]);
    assert_eq!(values[3], "Values::U64([5, 6])");
    assert_eq!(raw.strings, ["a", "b"]);
    let single = bound::<Any>(&schema(Content::Value, &[], ("value", Kind::U64))).unwrap();
    let raw = single.to_raw(single.link.place().unwrap(), [((), 5u8)]).unwrap();
    assert_eq!((raw.keys.len(), raw.values[0].values.len()), (0, 1));
}

/// What does not fit is an error that says what and where.
#[test]
fn what_does_not_fit() {
    fn check<K: Key, V: Part>(content: Content, keys: &[Kind], element: (K, V), expect: &str) {
        let map = bound::<Any>(&schema(content, keys, ("value", Kind::U64))).unwrap();
        let error = map.to_raw(map.link.place().unwrap(), [element]).err().unwrap();
        assert_eq!(error.text(), format!("map `@m`: {expect}"));
    }
    let value = Content::Value;
    check(value, &[Kind::U64], ((1u8, 2u8), 3u8), "its key has 1 parts, and there is one of 2");
    check(value, &[Kind::U64], ((), 3u8), "its key has 1 parts, and there is one of 0");
    check(value, &[Kind::U64], (-1, 3u8), "column `key0` is of kind u64, and there is the number -1");
    check(value, &[Kind::S64], (u64::MAX, 3u8), "column `key0` is of kind s64, and there is the number 18446744073709551615");
    check(value, &[Kind::Text], (5, 3u8), "column `key0` is of kind text, and there is the number 5");
    check(value, &[Kind::U64], ("x".to_owned(), 3u8), "column `key0` is of kind u64, and there is the text \"x\"");
    check(value, &[Kind::U64], (Stack(1), 3u8), "column `key0` is of kind u64, and there is a stack");
    check(value, &[Kind::U64], (1, vec![1u8]), "column `value` is of kind u64, and there is bytes");
    check(Content::Count, &[Kind::U64], (1, 1), "it holds what programs count; only a map of values can be written");
}
