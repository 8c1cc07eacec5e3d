//! Elements of maps to columns and back.

use std::cmp::Ordering;

use portcullis_ebpf::{
    Field, Naming, PluginMap, Slot,
    aggregate::{Content, SeriesOf, decode_max, decode_min, linear_edges, log2_edges},
};

use super::{
    dictionary::{Dictionary, Interned},
    escape::{escape, unescape},
    schema::{kind, signed},
    slots,
};
use crate::{
    contract::{Column, Elements, Values},
    names::Names,
};

/// How many bytes of keys, or of values, one call may write.
const MOST: usize = 64 << 20;

/// Elements as the kernel has them, those of several CPUs merged: keys one behind the other, and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawElements {
    /// [`PluginMap::key_size`] bytes each.
    pub keys: Vec<u8>,
    /// [`PluginMap::value_size`] bytes each.
    pub values: Vec<u8>,
}

/// One element.
#[derive(Clone, Copy)]
struct Element<'r> {
    key: &'r [u8],
    value: &'r [u8],
    bucket: u32,
}

impl Element<'_> {
    fn word(&self, at: usize) -> u64 {
        slots::integer(self.value, 8 * at as u32, 8, false).unwrap_or(0)
    }
}

/// The elements as columns, sorted by key, and by bucket or time within.
pub fn to_columns(map: &PluginMap, raw: &RawElements, names: &mut Names) -> Elements {
    let (key_size, value_size) = (map.key_size.max(1) as usize, map.value_size.max(1) as usize);
    let pairs = raw.keys.chunks_exact(key_size).zip(raw.values.chunks_exact(value_size));
    let mut rows: Vec<Element<'_>> =
        pairs.map(|(key, value)| Element { key, value, bucket: bucket(map, key) }).filter(|row| !is_empty(map, row)).collect();
    rows.sort_by(|a, b| {
        let keys = map.keys.iter().fold(Ordering::Equal, |order, field| order.then_with(|| compare(field, a.key, b.key)));
        keys.then_with(|| match map.content {
            Content::TimeSeries { .. } => a.word(0).cmp(&b.word(0)),
            _ => a.bucket.cmp(&b.bucket),
        })
    });
    let mut texts = Texts::default();
    let keys = map.keys.iter().map(|field| column(field, rows.iter().map(|row| row.key), names, &mut texts)).collect();
    let values = match map.content {
        Content::Value => vec![column(&map.value, rows.iter().map(|row| row.value), names, &mut texts)],
        content => words(content, signed(map), &rows),
    };
    Elements { keys, values, strings: texts.strings }
}

/// The number of the bucket that a key is of.
fn bucket(map: &PluginMap, key: &[u8]) -> u32 {
    match map.bucket {
        Some(Slot::Int { offset, size, .. }) => {
            slots::integer(key, offset, size, false).map_or(0, |bucket| u32::try_from(bucket).unwrap_or(u32::MAX))
        }
        _ => 0,
    }
}

/// The element has nothing to tell: nothing was counted yet, or nothing is left.
fn is_empty(map: &PluginMap, row: &Element<'_>) -> bool {
    match map.content {
        Content::Min | Content::Max | Content::Hist { .. } | Content::LinearHist { .. } | Content::TimeSeries { .. } => {
            row.word(0) == 0
        }
        // A map without keys has its element from the beginning.
        Content::Value | Content::Count | Content::Sum | Content::Avg | Content::Stats => false,
    }
}

fn compare(field: &Field, a: &[u8], b: &[u8]) -> Ordering {
    let of = |key| match field.slot {
        Slot::Int { offset, size, signed } => {
            // Signed numbers in the order of unsigned ones.
            let number = slots::integer(key, offset, size, signed);
            (number.map(|number| if signed { number ^ 1 << 63 } else { number }), None)
        }
        Slot::Text { offset, capacity } => (None, slots::text(key, offset, capacity)),
        Slot::Bytes { offset, capacity } => (None, slots::bytes(key, offset, capacity)),
        Slot::Stack { offset, .. } => (None, key.get(offset as usize..(offset + field.slot.size()) as usize)),
    };
    of(a).cmp(&of(b))
}

/// The distinct texts of all columns.
#[derive(Default)]
struct Texts {
    dictionary: Dictionary,
    strings: Vec<String>,
}

impl Texts {
    /// The number of a text, which ends at its first NUL byte.
    fn number(&mut self, text: &[u8]) -> u32 {
        match self.dictionary.intern(text) {
            Interned::Known(number) => number,
            Interned::New(number, text) => {
                let mut string = String::with_capacity(text.len());
                escape(text, &mut string);
                self.strings.push(string);
                number
            }
        }
    }
}

/// The column of a field.
fn column<'r>(field: &Field, rows: impl Iterator<Item = &'r [u8]>, names: &mut Names, texts: &mut Texts) -> Column {
    let mut missing = Vec::new();
    let mut there = |row: usize, is: bool| {
        if !is {
            missing.push(row);
        }
    };
    let mut count = 0;
    let rows = rows.enumerate().inspect(|_| count += 1);
    let values = match field.slot {
        slot if field.naming != Naming::Plain => Values::Text(
            rows.map(|(row, bytes)| {
                let value = slots::named(bytes, slot);
                there(row, value.is_some());
                texts.number(value.map_or("", |value| names.name(field.naming, value)).as_bytes())
            })
            .collect(),
        ),
        Slot::Int { offset, size, signed } => {
            let numbers = rows.map(|(_, bytes)| slots::integer(bytes, offset, size, signed).unwrap_or(0));
            if signed { Values::S64(numbers.map(u64::cast_signed).collect()) } else { Values::U64(numbers.collect()) }
        }
        Slot::Text { offset, capacity } => {
            Values::Text(rows.map(|(_, bytes)| texts.number(slots::text(bytes, offset, capacity).unwrap_or_default())).collect())
        }
        Slot::Bytes { offset, capacity } => {
            let mut data = Vec::new();
            let ends = rows
                .map(|(_, bytes)| {
                    data.extend_from_slice(slots::bytes(bytes, offset, capacity).unwrap_or_default());
                    data.len() as u32
                })
                .collect();
            Values::Bytes { ends, data }
        }
        Slot::Stack { offset, depth } => {
            let mut frames = Vec::new();
            let numbers = rows.map(|(row, bytes)| {
                let pid = slots::stack(bytes, offset, depth, &mut frames);
                there(row, pid.is_some());
                pid.map_or(0, |pid| names.stack(pid, &frames))
            });
            Values::Stack(numbers.collect())
        }
    };
    let mut absent = if missing.is_empty() { Vec::new() } else { vec![0_u8; usize::div_ceil(count, 8)] };
    for row in missing {
        if let Some(byte) = absent.get_mut(row / 8) {
            *byte |= 1 << (row % 8);
        }
    }
    Column { values, absent, cut: Vec::new() }
}

/// The columns of what was aggregated, as [`super::schema`] names them.
fn words(content: Content, signed: bool, rows: &[Element<'_>]) -> Vec<Column> {
    let number = |of: &dyn Fn(&Element<'_>) -> u64| {
        let numbers = rows.iter().map(of);
        if signed { Values::S64(numbers.map(u64::cast_signed).collect()) } else { Values::U64(numbers.collect()) }
    };
    let count = |at: usize| Values::U64(rows.iter().map(|row| row.word(at)).collect());
    let average = |at: usize| {
        let average = move |row: &Element<'_>| {
            let (count, total) = (row.word(at), row.word(at + 1));
            match i64::try_from(count) {
                Ok(count) if signed => total.cast_signed().checked_div(count).unwrap_or(0).cast_unsigned(),
                _ => total.checked_div(count).unwrap_or(0),
            }
        };
        vec![count(at), number(&average), number(&|row| row.word(at + 1))]
    };
    let edges = |of: &dyn Fn(u32) -> (i64, i64)| {
        let (from, to) = rows.iter().map(|row| of(row.bucket)).unzip();
        vec![Values::S64(from), Values::S64(to), count(0)]
    };
    let values = match content {
        Content::Value => Vec::new(),
        Content::Count => vec![count(0)],
        Content::Sum => vec![number(&|row| row.word(0))],
        Content::Avg | Content::Stats => average(0),
        Content::Min => vec![number(&|row| decode_min(row.word(0), signed))],
        Content::Max => vec![number(&|row| decode_max(row.word(0), signed))],
        Content::Hist { bits } => edges(&|bucket| log2_edges(bucket, bits)),
        Content::LinearHist { min, max, step } => edges(&|bucket| linear_edges(bucket, min, max, step)),
        Content::TimeSeries { interval, of, .. } => {
            let start = rows.iter().map(|row| row.word(0).saturating_sub(1).saturating_mul(interval)).collect();
            let mut values = vec![Values::U64(start)];
            match of {
                SeriesOf::Last => values.push(number(&|row| row.word(2))),
                SeriesOf::Sum => values.push(number(&|row| row.word(1))),
                SeriesOf::Avg => values.extend(average(1)),
                SeriesOf::Min => values.push(number(&|row| decode_min(row.word(1), signed))),
                SeriesOf::Max => values.push(number(&|row| decode_max(row.word(1), signed))),
            }
            values
        }
    };
    values.into_iter().map(|values| Column { values, absent: Vec::new(), cut: Vec::new() }).collect()
}

/// The keys in these columns, as the kernel has them. Those of maps with buckets are of bucket 0.
///
/// # Errors
/// A value that does not fit its part of the key, or one that can't be turned back.
pub fn from_keys(map: &PluginMap, keys: &[Column], strings: &[String], names: &Names) -> Result<Vec<u8>, String> {
    let rows = keys.first().map_or(0, |column| column.values.len());
    from_columns(&map.name, &map.keys, map.key_size, keys, rows, strings, names)
}

/// The elements in these columns of a map of values. A map without keys has one.
///
/// # Errors
/// As [`from_keys`].
pub fn from_elements(map: &PluginMap, elements: &Elements, names: &Names) -> Result<RawElements, String> {
    let rows = elements.values.first().map_or(0, |column| column.values.len());
    if map.keys.is_empty() && rows > 1 {
        return Err(format!("map {:?} has no keys, so it has one element, and there are {rows}", map.name));
    }
    let strings = &elements.strings;
    let value = Field { name: "value".to_owned(), ..map.value.clone() };
    Ok(RawElements {
        keys: from_columns(&map.name, &map.keys, map.key_size, &elements.keys, rows, strings, names)?,
        values: from_columns(&map.name, &[value], map.value_size, &elements.values, rows, strings, names)?,
    })
}

fn from_columns(
    map: &str,
    fields: &[Field],
    size: u32,
    columns: &[Column],
    rows: usize,
    strings: &[String],
    names: &Names,
) -> Result<Vec<u8>, String> {
    let size = size as usize;
    // The rows are those of a worker, which may say anything.
    let bytes = size.checked_mul(rows).filter(|bytes| *bytes <= MOST);
    let bytes = bytes.ok_or_else(|| format!("map {map:?}: {rows} rows are too many for one call; write fewer"))?;
    let mut all = vec![0; bytes];
    for (row, out) in all.chunks_exact_mut(size.max(1)).enumerate() {
        for (field, column) in fields.iter().zip(columns) {
            let put = put(field, column, row, strings, names, out);
            put.map_err(|why| format!("map {map:?}, column {:?}, row {row}: {why}", field.name))?;
        }
    }
    Ok(all)
}

/// Writes one value of a column to where its field stands.
fn put(field: &Field, column: &Column, row: usize, strings: &[String], names: &Names, out: &mut [u8]) -> Result<(), String> {
    if field.naming != Naming::Plain {
        return Err("names can't be turned back into what they are the names of".into());
    }
    let misfit = || format!("there are no values of kind {:?}", kind(field));
    let mut write = |at: usize, bytes: &[u8]| match out.get_mut(at..at + bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Ok(())
        }
        None => Err("it lies outside of the element: a bug of Portcullis, please report it".to_owned()),
    };
    let header = portcullis_ebpf::record::LENGTH_HEADER as usize;
    match (field.slot, &column.values) {
        (Slot::Int { offset, size, signed: false }, Values::U64(values)) => {
            let value = *values.get(row).ok_or_else(misfit)?;
            let bytes = value.to_le_bytes();
            let (kept, rest) = bytes.split_at(usize::from(size).min(8));
            if rest.iter().any(|byte| *byte != 0) {
                return Err(format!("{value} does not fit into {size} bytes"));
            }
            write(offset as usize, kept)
        }
        (Slot::Int { offset, size, signed: true }, Values::S64(values)) => {
            let value = *values.get(row).ok_or_else(misfit)?;
            let bytes = value.to_le_bytes();
            let kept = bytes.get(..usize::from(size).min(8)).unwrap_or_default();
            if slots::integer(&bytes, 0, size, true) != Some(value.cast_unsigned()) {
                return Err(format!("{value} does not fit into {size} bytes"));
            }
            write(offset as usize, kept)
        }
        (Slot::Text { offset, capacity }, Values::Text(index)) => {
            let text = index.get(row).and_then(|at| strings.get(*at as usize)).ok_or_else(misfit)?;
            let text = unescape(text);
            if text.len() > capacity as usize || text.contains(&0) {
                return Err(format!("a text of {} bytes, where {capacity} without a NUL byte are allowed", text.len()));
            }
            write(offset as usize, &text)
        }
        (Slot::Bytes { offset, capacity }, Values::Bytes { ends, data }) => {
            let end = *ends.get(row).ok_or_else(misfit)? as usize;
            let start = row.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |end| *end as usize);
            let bytes = data.get(start..end).ok_or_else(misfit)?;
            if bytes.len() > capacity as usize {
                return Err(format!("{} bytes, where {capacity} are allowed", bytes.len()));
            }
            write(offset as usize, &(bytes.len() as u32).to_ne_bytes())?;
            write(offset as usize + header, bytes)
        }
        (Slot::Stack { offset, depth }, Values::Stack(numbers)) => {
            let number = *numbers.get(row).ok_or_else(misfit)?;
            let stack = names.stacks.get(number).ok_or_else(|| format!("there is no stack {number}"))?;
            if stack.addresses.len() > depth as usize {
                return Err(format!("a stack of {} frames, where {depth} are allowed", stack.addresses.len()));
            }
            let bytes: Vec<u8> = stack.addresses.iter().flat_map(|address| address.to_ne_bytes()).collect();
            write(offset as usize, &(bytes.len() as i32).to_ne_bytes())?;
            write(offset as usize + 4, &stack.pid.to_ne_bytes())?;
            write(offset as usize + header, &bytes)
        }
        _ => Err(misfit()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portcullis_ebpf::{MapKind, aggregate::encode_max};

    use super::*;

    fn field(name: &str, slot: Slot, naming: Naming) -> Field {
        Field { name: name.into(), ctype: String::new(), slot, naming }
    }

    const fn int(offset: u32, size: u8, signed: bool) -> Slot {
        Slot::Int { offset, size, signed }
    }

    fn map(content: Content, keys: Vec<Field>, bucket: Option<Slot>, value: Slot, key_size: u32) -> PluginMap {
        let value_size = if content == Content::Value { value.size().next_multiple_of(8) } else { 8 * content.words() };
        let value = field("", value, Naming::Plain);
        PluginMap { name: "m".into(), content, kind: MapKind::Hash, keys, bucket, value, key_size, value_size }
    }

    fn raw(elements: &[(&[u8], &[u64])]) -> RawElements {
        RawElements {
            keys: elements.iter().flat_map(|(key, _)| key.iter().copied()).collect(),
            values: elements.iter().flat_map(|(_, words)| words.iter().flat_map(|word| word.to_ne_bytes())).collect(),
        }
    }

    fn values(columns: &[Column]) -> Vec<Values> {
        columns.iter().map(|column| column.values.clone()).collect()
    }

    /// Keys of every kind become columns, sorted by their parts, and can be turned back into the same bytes.
    #[test]
    fn keys_of_every_kind() {
        let fields = vec![
            field("s", int(0, 8, true), Naming::Plain),
            field("t", Slot::Text { offset: 8, capacity: 6 }, Naming::Plain),
            field("b", Slot::Bytes { offset: 16, capacity: 4 }, Naming::Plain),
            field("k", Slot::Stack { offset: 32, depth: 2 }, Naming::Plain),
        ];
        let map = map(Content::Value, fields, None, int(0, 8, false), 56);
        let key = |number: i64, text: &[u8], bytes: &[u8], stack: &[u64]| {
            let mut key = vec![0; 56];
            key[..8].copy_from_slice(&number.to_ne_bytes());
            key[8..8 + text.len()].copy_from_slice(text);
            key[16] = bytes.len() as u8;
            key[24..24 + bytes.len()].copy_from_slice(bytes);
            key[32..36].copy_from_slice(&(8 * stack.len() as i32).to_ne_bytes());
            key[36] = 7;
            let stack: Vec<u8> = stack.iter().flat_map(|address| address.to_ne_bytes()).collect();
            key[40..40 + stack.len()].copy_from_slice(&stack);
            key
        };
        let keys = [
            key(5, b"x\xff", b"ab", &[1, 2]),
            key(-1, b"zz", b"", &[1]),
            key(5, b"a", b"abcd", &[1, 2]),
            key(-7, b"a", b"c", &[]),
        ];
        let raw = raw(&[(&keys[0], &[10]), (&keys[1], &[11]), (&keys[2], &[12]), (&keys[3], &[13])]);
        let mut names = Names::default();
        let elements = to_columns(&map, &raw, &mut names);
        assert_eq!(elements.strings, ["a", "zz", "x\\xff"]);
        assert_eq!(
            values(&elements.keys),
            [
                Values::S64(vec![-7, -1, 5, 5]),
                Values::Text(vec![0, 1, 0, 2]),
                Values::Bytes { ends: vec![1, 1, 5, 7], data: b"cabcdab".to_vec() },
                Values::Stack(vec![1, 2, 3, 3]),
            ]
        );
        assert_eq!(values(&elements.values), [Values::U64(vec![13, 11, 12, 10])]);
        let back = from_elements(&map, &elements, &names).unwrap();
        let sorted: Vec<u8> = [3, 1, 2, 0].iter().flat_map(|at: &usize| keys[*at].clone()).collect();
        assert_eq!(back.keys, sorted);
        assert_eq!(back.values, [13_u64, 11, 12, 10].iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>());
    }

    /// The columns of each content, with their names and kinds as the schema has them.
    #[test]
    fn contents() {
        let check = |content: Content, signed: bool, words: &[&[u64]], expect: &[(&str, Values)]| {
            let bucket = content.buckets().map(|_| int(0, 4, false));
            let map = map(content, vec![], bucket, int(0, 8, signed), 4);
            let keys: Vec<[u8; 4]> = (0..words.len() as u32).map(u32::to_ne_bytes).collect();
            let rows: Vec<(&[u8], &[u64])> = keys.iter().zip(words).map(|(key, words)| (&key[..], *words)).collect();
            let elements = to_columns(&map, &raw(&rows), &mut Names::default());
            let schema = crate::columns::schema(&[], std::slice::from_ref(&map)).maps.remove(0);
            let given: Vec<(&str, Values)> =
                schema.values.iter().zip(&elements.values).map(|(f, c)| (f.name.as_str(), c.values.clone())).collect();
            assert_eq!(given, expect, "{content:?}");
            assert!(schema.values.iter().zip(&elements.values).all(|(f, c)| f.kind == c.values.kind()), "{content:?}");
        };
        let minus = |number: i64| number as u64;
        let u64s = |values: &[u64]| Values::U64(values.to_vec());
        let s64s = |values: &[i64]| Values::S64(values.to_vec());
        check(Content::Count, false, &[&[0]], &[("count", u64s(&[0]))]);
        check(Content::Sum, true, &[&[minus(-3)]], &[("sum", s64s(&[-3]))]);
        check(Content::Avg, true, &[&[2, minus(-6)]], &[("count", u64s(&[2])), ("average", s64s(&[-3])), ("total", s64s(&[-6]))]);
        check(Content::Stats, false, &[&[0, 0]], &[("count", u64s(&[0])), ("average", u64s(&[0])), ("total", u64s(&[0]))]);
        check(Content::Max, true, &[&[encode_max(minus(-5), true)]], &[("max", s64s(&[-5]))]);
        check(Content::Min, false, &[&[0]], &[("min", u64s(&[]))]);
        check(
            Content::Hist { bits: 0 },
            false,
            &[&[4], &[0], &[7]],
            &[("from", s64s(&[i64::MIN, 1])), ("to", s64s(&[0, 2])), ("count", u64s(&[4, 7]))],
        );
        check(
            Content::LinearHist { min: 0, max: 10, step: 5 },
            false,
            &[&[1], &[2], &[3], &[4]],
            &[("from", s64s(&[i64::MIN, 0, 5, 10])), ("to", s64s(&[0, 5, 10, i64::MAX])), ("count", u64s(&[1, 2, 3, 4]))],
        );
        check(
            Content::TimeSeries { interval: 10, buckets: 3, of: SeriesOf::Avg },
            false,
            &[&[7, 1, 5], &[5, 2, 8], &[0, 0, 0]],
            &[("start", u64s(&[40, 60])), ("count", u64s(&[2, 1])), ("average", u64s(&[4, 5])), ("total", u64s(&[8, 5]))],
        );
        check(
            Content::TimeSeries { interval: 10, buckets: 1, of: SeriesOf::Last },
            true,
            &[&[3, 25, minus(-1)]],
            &[("start", u64s(&[20])), ("value", s64s(&[-1]))],
        );
    }

    /// What can't be written is an error that says why.
    #[test]
    fn what_does_not_fit() {
        let check = |key: Field, values: Values, strings: &[&str], expect: &str| {
            let map = map(Content::Value, vec![key], None, int(0, 8, false), 16);
            let strings: Vec<String> = strings.iter().map(ToString::to_string).collect();
            let columns = [Column { values, absent: vec![], cut: vec![] }];
            assert_eq!(
                from_keys(&map, &columns, &strings, &Names::default()).unwrap_err(),
                format!("map \"m\", column \"k\", row 0: {expect}")
            );
        };
        let plain = |slot| field("k", slot, Naming::Plain);
        check(plain(int(0, 4, false)), Values::U64(vec![1 << 32]), &[], "4294967296 does not fit into 4 bytes");
        check(plain(int(0, 1, true)), Values::S64(vec![-129]), &[], "-129 does not fit into 1 bytes");
        check(
            plain(Slot::Text { offset: 0, capacity: 3 }),
            Values::Text(vec![0]),
            &["long"],
            "a text of 4 bytes, where 3 without a NUL byte are allowed",
        );
        check(
            plain(Slot::Bytes { offset: 0, capacity: 3 }),
            Values::Bytes { ends: vec![4], data: vec![0; 4] },
            &[],
            "4 bytes, where 3 are allowed",
        );
        check(plain(Slot::Stack { offset: 0, depth: 1 }), Values::Stack(vec![5]), &[], "there is no stack 5");
        check(
            field("k", int(0, 8, false), Naming::KernelSymbol),
            Values::Text(vec![0]),
            &["f"],
            "names can't be turned back into what they are the names of",
        );
    }

    /// Whatever bytes a map holds, and whatever its fields claim, there are columns of one length.
    #[test]
    fn any_bytes() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let namings =
            [Naming::Plain, Naming::Syscall, Naming::Inet, Naming::Mac, Naming::UserSymbol, Naming::Cgroup, Naming::Errno];
        for _ in 0..3000 {
            let slot = |random: &mut dyn FnMut() -> u64| {
                let offset = (random() % 40) as u32;
                match random() % 4 {
                    0 => int(offset, [1, 2, 4, 8][(random() % 4) as usize], random().is_multiple_of(2)),
                    1 => Slot::Text { offset, capacity: (random() % 40) as u32 },
                    2 => Slot::Bytes { offset, capacity: (random() % 40) as u32 },
                    _ => Slot::Stack { offset, depth: (random() % 5) as u32 },
                }
            };
            let series = [SeriesOf::Last, SeriesOf::Sum, SeriesOf::Avg, SeriesOf::Min, SeriesOf::Max];
            let contents = [
                Content::Value,
                Content::Avg,
                Content::Min,
                Content::Hist { bits: (random() % 6) as u8 },
                Content::LinearHist { min: random() as i64 >> 1, max: i64::MAX, step: (random() >> 1) as i64 | 1 },
                Content::TimeSeries { interval: random(), buckets: 4, of: series[(random() % 5) as usize] },
            ];
            let content = contents[(random() % 6) as usize];
            let keys: Vec<Field> = (0..random() % 4)
                .map(|_| {
                    let naming = namings[(random() % 7) as usize];
                    field("k", slot(&mut random), naming)
                })
                .collect();
            let mut map = map(content, keys, Some(int((random() % 40) as u32, 8, false)), slot(&mut random), 48);
            map.value_size = 8 * (1 + (random() % 6) as u32);
            let rows = (random() % 20) as usize;
            let mut bytes = |count: usize| -> Vec<u8> {
                // Small numbers are the lengths that lead somewhere.
                (0..count).map(|_| if random() % 3 == 0 { random() as u8 } else { (random() % 3) as u8 }).collect()
            };
            let raw = RawElements { keys: bytes(48 * rows), values: bytes(map.value_size as usize * rows) };
            let mut names = Names::default();
            let elements = to_columns(&map, &raw, &mut names);
            let columns = elements.keys.iter().chain(&elements.values);
            let lengths: Vec<usize> = columns.map(|column| column.values.len()).collect();
            assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{map:?}");
            let schema = crate::columns::schema(&[], std::slice::from_ref(&map)).maps.remove(0);
            assert_eq!((schema.keys.len(), schema.values.len()), (elements.keys.len(), elements.values.len()));
            let texts = elements.keys.iter().chain(&elements.values).filter_map(|column| match &column.values {
                Values::Text(index) => index.iter().max().copied(),
                _ => None,
            });
            assert!(texts.max().is_none_or(|last| (last as usize) < elements.strings.len()));
            let _ = from_elements(&map, &elements, &names);
            assert!(lengths.iter().all(|length| *length <= rows));
            assert!(schema.keys.iter().zip(&elements.keys).all(|(field, column)| field.kind == column.values.kind()));
        }
    }
}
