//! Records into columns.

use hashbrown::HashMap;
use portcullis_ebpf::{Naming, Slot, Stream, record};
use serde::{Deserialize, Serialize};

use super::{
    dictionary::{Dictionary, Interned},
    escape::{as_is, escape},
    layout::{Layout, LayoutError, StreamLayout, TEXT_ENOUGH},
    slots,
};
use crate::names::{MAX_NAME, Names, Value};

/// What a slot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Which slot.
    pub slot: u32,
    /// The streams that have rows, in the order of their first one.
    pub rows: Vec<RowsDescriptor>,
    /// Distinct texts.
    pub strings: u32,
}

/// What a slot holds of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsDescriptor {
    /// The stream's position in the schema.
    pub stream: u32,
    /// Its rows.
    pub rows: u32,
    /// Bit *i*: column *i* has a bitmap of absent values.
    pub absent: u32,
    /// Bit *i*: column *i* has a bitmap of values cut short.
    pub cut: u32,
}

impl Descriptor {
    /// All rows of the batch.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|rows| u64::from(rows.rows)).sum()
    }
}

/// Writes records into the columns of one slot after another.
#[derive(Debug)]
pub struct Transposer {
    layout: Layout,
    streams: Vec<Plan>,
    /// The streams that have rows in this batch, by position in it.
    present: Vec<u32>,
    rows: usize,
    texts: Texts,
    /// The text that the texts of one record can become at most.
    record_text: usize,
    /// For reading stacks.
    frames: Vec<u64>,
    malformed: u64,
}

/// The distinct texts of a batch.
#[derive(Debug, Default)]
struct Texts {
    dictionary: Dictionary,
    /// Where the next one goes, from the start of the texts.
    end: usize,
    /// Of the values that have names, the numbers of those.
    named: HashMap<(Naming, Value), u32>,
    /// For escaping.
    scratch: String,
}

/// How to read one stream's records, and what the batch has of it.
#[derive(Debug)]
struct Plan {
    size: usize,
    time: usize,
    ints: Vec<IntPlan>,
    texts: Vec<TextPlan>,
    /// The fields of all other kinds.
    rest: Vec<RestPlan>,
    /// Of every field, where its bitmaps are.
    bitmaps: Vec<(usize, usize)>,
    /// Position in the batch, once it has a row there.
    position: u32,
    rows: usize,
    absent: u32,
    cut: u32,
}

/// An integer of any width. The eight bytes that end with it are read and the other bytes are shifted out, which takes no branch
/// and stays within the record, since the header stands before every field.
#[derive(Clone, Copy, Debug)]
struct IntPlan {
    field: u32,
    /// Where the eight bytes begin.
    from: usize,
    /// Bits of them that are not the integer's.
    shift: u32,
    signed: bool,
    /// Where the column begins.
    to: usize,
}

#[derive(Clone, Copy, Debug)]
struct TextPlan {
    field: u32,
    from: usize,
    capacity: usize,
    to: usize,
}

/// A field that takes more than a copy.
#[derive(Clone, Copy, Debug)]
struct RestPlan {
    field: u32,
    what: Rest,
    /// Where the column begins.
    to: usize,
}

#[derive(Clone, Copy, Debug)]
enum Rest {
    Bytes {
        offset: u32,
        capacity: u32,
        /// Where they go, how many there is room for, and how many are there.
        data: usize,
        room: usize,
        used: usize,
    },
    Stack {
        offset: u32,
        depth: u32,
    },
    Named {
        naming: Naming,
        slot: Slot,
    },
}

impl Plan {
    fn new(stream: &Stream, layout: &StreamLayout) -> Plan {
        let (mut ints, mut texts, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        // The compiler says how long a record is; what it says of the fields has to agree.
        let mut size = stream.size.max(record::HEADER) as usize;
        for (at, (field, column)) in stream.fields.iter().zip(&layout.columns).take(record::MAX_FIELDS).enumerate() {
            let (field_number, to) = (at as u32, column.values);
            let mut other = |what| rest.push(RestPlan { field: field_number, what, to });
            match field.slot {
                slot if field.naming != Naming::Plain => {
                    other(Rest::Named { naming: field.naming, slot });
                    size = size.max((start(slot) + slot.size()) as usize);
                }
                Slot::Int { offset, size: bytes, signed } => {
                    let bytes = u32::from(bytes).clamp(1, 8);
                    let from = (offset + bytes).saturating_sub(8) as usize;
                    size = size.max(from + 8);
                    ints.push(IntPlan { field: field_number, from, shift: 64 - 8 * bytes, signed, to });
                }
                Slot::Text { offset, capacity } => {
                    let (from, capacity) = (offset as usize, capacity as usize);
                    size = size.max(from + capacity);
                    texts.push(TextPlan { field: field_number, from, capacity, to });
                }
                Slot::Bytes { offset, capacity } => {
                    other(Rest::Bytes { offset, capacity, data: column.data, room: column.room, used: 0 });
                    size = size.max((offset + field.slot.size()) as usize);
                }
                Slot::Stack { offset, depth } => {
                    other(Rest::Stack { offset, depth });
                    size = size.max((offset + field.slot.size()) as usize);
                }
            }
        }
        let bitmaps = layout.columns.iter().take(record::MAX_FIELDS).map(|column| (column.absent, column.cut)).collect();
        Plan { size, time: layout.time, ints, texts, rest, bitmaps, position: 0, rows: 0, absent: 0, cut: 0 }
    }
}

/// Where a slot begins.
fn start(slot: Slot) -> u32 {
    match slot {
        Slot::Int { offset, .. } | Slot::Text { offset, .. } | Slot::Bytes { offset, .. } | Slot::Stack { offset, .. } => offset,
    }
}

impl IntPlan {
    #[inline]
    fn read(&self, record: &[u8]) -> u64 {
        // eBPF and this host are little-endian.
        let bytes = u64::from_le_bytes(take(record, self.from));
        if self.signed { ((bytes as i64) >> self.shift) as u64 } else { bytes >> self.shift }
    }
}

/// `N` bytes of `bytes` from `at`.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[at..at + N]);
    taken
}

fn put_u32(slot: &mut [u8], at: usize, value: u32) {
    slot[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn put_u64(slot: &mut [u8], at: usize, value: u64) {
    slot[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}

impl Transposer {
    /// A transposer for the records of these streams.
    pub fn new(streams: &[Stream]) -> Result<Transposer, LayoutError> {
        let layout = Layout::new(&super::schema(streams, &[]))?;
        let plans: Vec<Plan> = streams.iter().zip(&layout.streams).map(|(stream, layout)| Plan::new(stream, layout)).collect();
        let mut record_text = 0;
        for (stream, plan) in streams.iter().zip(&plans) {
            let names = plan.rest.iter().filter(|rest| matches!(rest.what, Rest::Named { .. })).count();
            let bytes = plan.texts.iter().map(|text| text.capacity).sum::<usize>() + MAX_NAME * names;
            for rest in &plan.rest {
                if let Rest::Bytes { capacity, room, .. } = rest.what
                    && capacity as usize > room
                {
                    let field = stream.fields.get(rest.field as usize).map(|field| field.name.clone()).unwrap_or_default();
                    return Err(LayoutError::LongBytes { stream: stream.name.clone(), field, capacity, room });
                }
            }
            // One byte becomes four at most.
            if 4 * bytes > layout.text_size() {
                return Err(LayoutError::LongText { stream: stream.name.clone(), bytes });
            }
            record_text = record_text.max(4 * bytes);
        }
        Ok(Transposer {
            layout,
            streams: plans,
            present: Vec::new(),
            rows: 0,
            texts: Texts::default(),
            record_text,
            frames: Vec::new(),
            malformed: 0,
        })
    }

    /// How many more records fit for certain; 0 when the batch should be handed over.
    pub fn room(&self) -> usize {
        if self.texts.end >= TEXT_ENOUGH {
            return 0;
        }
        let texts = (self.layout.text_size() - self.texts.end).checked_div(self.record_text).unwrap_or(usize::MAX);
        let rest = self.streams.iter().flat_map(|plan| &plan.rest);
        let bytes = rest.map(|rest| match rest.what {
            Rest::Bytes { capacity, room, used, .. } => (room - used).checked_div(capacity as usize).unwrap_or(usize::MAX),
            _ => usize::MAX,
        });
        texts.min(bytes.min().unwrap_or(usize::MAX)).min(self.layout.rows - self.rows)
    }

    /// Rows in this batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Records that were none: too short, or of a stream that does not exist.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Adds a record to the batch in `slot`, of [`super::SLOT_SIZE`] bytes, for which there was [`Transposer::room`]. False says
    /// that it was malformed, and skipped.
    #[inline]
    pub fn push(&mut self, slot: &mut [u8], record: &[u8], names: &mut Names) -> bool {
        let fits = self.rows < self.layout.rows && self.texts.end + self.record_text <= self.layout.text_size();
        let accepted = fits && self.transpose(slot, record, names).is_some();
        self.malformed += u64::from(!accepted);
        accepted
    }

    #[inline]
    fn transpose(&mut self, slot: &mut [u8], record: &[u8], names: &mut Names) -> Option<()> {
        let header = record.get(..record::HEADER as usize)?;
        let stream = u32::from_ne_bytes(take(header, record::STREAM as usize));
        let plan = self.streams.get_mut(stream as usize)?;
        let record = record.get(..plan.size)?;
        let mut absent = u32::from_ne_bytes(take(header, record::ABSENT as usize));
        let cut = u32::from_ne_bytes(take(header, record::CUT as usize));

        if plan.rows == 0 {
            plan.position = self.present.len() as u32;
            self.present.push(stream);
        }
        let row = plan.rows;
        plan.rows += 1;
        put_u32(slot, self.layout.order + 4 * self.rows, plan.position);
        self.rows += 1;
        put_u64(slot, plan.time + 8 * row, u64::from_ne_bytes(take(header, record::TIME as usize)));

        for int in &plan.ints {
            let there = absent >> int.field & 1 == 0;
            put_u64(slot, int.to + 8 * row, if there { int.read(record) } else { 0 });
        }
        for text in &plan.texts {
            let there = absent >> text.field & 1 == 0;
            let bytes = if there { &record[text.from..text.from + text.capacity] } else { &[] };
            let number = self.texts.put(slot, &self.layout, bytes);
            put_u32(slot, text.to + 4 * row, number);
        }
        if !plan.rest.is_empty() {
            absent |= put_rest(&mut plan.rest, slot, &self.layout, record, row, absent, &mut self.texts, &mut self.frames, names);
        }
        if absent | cut != 0 {
            for (at, &(absent_map, cut_map)) in plan.bitmaps.iter().enumerate() {
                mark(slot, absent_map, self.layout.rows, row, absent >> at & 1 != 0, &mut plan.absent, at);
                mark(slot, cut_map, self.layout.rows, row, cut >> at & 1 != 0, &mut plan.cut, at);
            }
        }
        Some(())
    }

    /// Ends the batch: what `slot`, the number of the slot that was written to, holds. The next record begins the next batch.
    pub fn finish(&mut self, slot: u32) -> Descriptor {
        let streams = &mut self.streams;
        let rows = self.present.drain(..).map(|stream| {
            let plan = &mut streams[stream as usize];
            let rows = RowsDescriptor { stream, rows: plan.rows as u32, absent: plan.absent, cut: plan.cut };
            (plan.rows, plan.absent, plan.cut) = (0, 0, 0);
            for rest in &mut plan.rest {
                if let Rest::Bytes { used, .. } = &mut rest.what {
                    *used = 0;
                }
            }
            rows
        });
        let descriptor = Descriptor { slot, rows: rows.collect(), strings: self.texts.dictionary.len() };
        self.texts.clear();
        self.rows = 0;
        descriptor
    }
}

impl Texts {
    /// The number of a text, which ends at its first NUL byte; a new one is written, and there is room for it.
    #[inline]
    fn put(&mut self, slot: &mut [u8], layout: &Layout, text: &[u8]) -> u32 {
        match self.dictionary.intern(text) {
            Interned::Known(number) => number,
            Interned::New(number, text) => {
                let text = as_is(text).unwrap_or_else(|| {
                    self.scratch.clear();
                    escape(text, &mut self.scratch);
                    &self.scratch
                });
                let start = layout.text + self.end;
                slot[start..start + text.len()].copy_from_slice(text.as_bytes());
                self.end += text.len();
                put_u32(slot, layout.ends + 4 * number as usize, self.end as u32);
                number
            }
        }
    }

    /// The number of a value's name.
    fn put_name(&mut self, slot: &mut [u8], layout: &Layout, naming: Naming, value: Value, names: &mut Names) -> u32 {
        if let Some(known) = self.named.get(&(naming, value)) {
            return *known;
        }
        let number = self.put(slot, layout, names.name(naming, value).as_bytes());
        self.named.insert((naming, value), number);
        number
    }

    fn clear(&mut self) {
        self.dictionary.clear();
        self.named.clear();
        self.end = 0;
    }
}

/// Writes what takes more than a copy, and returns the bits of what is not there. Apart, so that records without such fields are not
/// slower for it.
#[inline(never)]
#[allow(clippy::too_many_arguments)]
fn put_rest(
    fields: &mut [RestPlan],
    slot: &mut [u8],
    layout: &Layout,
    record: &[u8],
    row: usize,
    absent: u32,
    texts: &mut Texts,
    frames: &mut Vec<u64>,
    names: &mut Names,
) -> u32 {
    let mut missing = 0;
    for field in fields {
        let there = absent >> field.field & 1 == 0;
        let found = match &mut field.what {
            Rest::Bytes { offset, capacity, data, room, used } => {
                let bytes = there.then(|| slots::bytes(record, *offset, *capacity)).flatten().unwrap_or_default();
                // There is room for all: the caller asked.
                let bytes = &bytes[..bytes.len().min(*room - *used)];
                let start = *data + *used;
                slot[start..start + bytes.len()].copy_from_slice(bytes);
                *used += bytes.len();
                put_u32(slot, field.to + 4 * row, *used as u32);
                there
            }
            Rest::Stack { offset, depth } => {
                let pid = there.then(|| slots::stack(record, *offset, *depth, frames)).flatten();
                let number = pid.map(|pid| names.stack(pid, frames));
                put_u64(slot, field.to + 8 * row, number.unwrap_or(0));
                number.is_some()
            }
            Rest::Named { naming, slot: place } => {
                let value = there.then(|| slots::named(record, *place)).flatten();
                let number = match value {
                    Some(value) => texts.put_name(slot, layout, *naming, value, names),
                    None => texts.put(slot, layout, &[]),
                };
                put_u32(slot, field.to + 4 * row, number);
                value.is_some()
            }
        };
        missing |= u32::from(!found) << field.field;
    }
    missing
}

/// Sets bit `row` of the bitmap at `bitmap` if `set`; the first bit of a batch clears the bitmap before, and says in `used` that
/// there is one.
fn mark(slot: &mut [u8], bitmap: usize, capacity: usize, row: usize, set: bool, used: &mut u32, field: usize) {
    if !set {
        return;
    }
    if *used >> field & 1 == 0 {
        slot[bitmap..bitmap + capacity / 8].fill(0);
        *used |= 1 << field;
    }
    slot[bitmap + row / 8] |= 1 << (row % 8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stderr)]
    use super::*;
    use crate::columns::SLOT_SIZE;

    fn int(name: &str, offset: u32, size: u8, signed: bool) -> portcullis_ebpf::Field {
        portcullis_ebpf::Field {
            name: name.into(),
            ctype: String::new(),
            slot: Slot::Int { offset, size, signed },
            naming: Naming::Plain,
        }
    }

    fn text(name: &str, offset: u32, capacity: u32) -> portcullis_ebpf::Field {
        portcullis_ebpf::Field {
            name: name.into(),
            ctype: String::new(),
            slot: Slot::Text { offset, capacity },
            naming: Naming::Plain,
        }
    }

    fn streams() -> Vec<Stream> {
        vec![
            Stream {
                name: "all".into(),
                fields: vec![
                    int("u8", 24, 1, false),
                    int("s8", 25, 1, true),
                    int("u16", 26, 2, false),
                    int("s16", 28, 2, true),
                    int("u32", 32, 4, false),
                    int("s32", 36, 4, true),
                    int("u64", 40, 8, false),
                    int("s64", 48, 8, true),
                    text("text", 56, 8),
                ],
                size: 64,
            },
            Stream { name: "bare".into(), fields: vec![], size: 24 },
        ]
    }

    fn record(stream: u32, time: u64, absent: u32, cut: u32, body: &[u8]) -> Vec<u8> {
        let mut record = time.to_ne_bytes().to_vec();
        for word in [stream, absent, cut, 0xdead_beef] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(body);
        record
    }

    fn u64s(slot: &[u8], at: usize, rows: usize) -> Vec<u64> {
        (0..rows).map(|row| u64::from_ne_bytes(take(slot, at + 8 * row))).collect()
    }

    fn u32s(slot: &[u8], at: usize, rows: usize) -> Vec<u32> {
        (0..rows).map(|row| u32::from_ne_bytes(take(slot, at + 4 * row))).collect()
    }

    fn strings(slot: &[u8], layout: &Layout, count: u32) -> Vec<String> {
        let mut start = 0;
        u32s(slot, layout.ends, count as usize)
            .into_iter()
            .map(|end| {
                let text = &slot[layout.text + start..layout.text + end as usize];
                start = end as usize;
                String::from_utf8(text.to_vec()).unwrap()
            })
            .collect()
    }

    /// Every width and sign is widened, texts are numbered, streams interleave in `order`, and bitmaps come only when needed.
    #[test]
    fn transposes() {
        let mut names = Names::default();
        let mut t = Transposer::new(&streams()).unwrap();
        // Whatever an earlier batch left behind.
        let mut slot = vec![0xaa; SLOT_SIZE];
        let minus = [0xff; 32];
        let mut body = minus.to_vec();
        body.extend(b"abc\0zzzz");
        assert!(t.push(&mut slot, &record(1, 5, 0, 0, &[]), &mut names));
        assert!(t.push(&mut slot, &record(0, 6, 0, 0, &body), &mut names));
        // The last text is as long as there is room and not UTF-8; the text before it could not be read.
        assert!(t.push(&mut slot, &record(0, 7, 1 << 8 | 1 << 6, 0, &body), &mut names));
        body[32..].copy_from_slice(b"abcdefg\xc3");
        assert!(t.push(&mut slot, &record(0, 8, 0, 1 << 8, &body), &mut names));
        assert!(t.push(&mut slot, &record(1, 9, 0, 0, &[]), &mut names));
        assert_eq!(t.rows(), 5);

        let layout = t.layout.clone();
        let batch = t.finish(3);
        assert_eq!(batch.slot, 3);
        assert_eq!(
            batch.rows,
            [
                RowsDescriptor { stream: 1, rows: 2, absent: 0, cut: 0 },
                RowsDescriptor { stream: 0, rows: 3, absent: 1 << 8 | 1 << 6, cut: 1 << 8 },
            ]
        );
        assert_eq!(u32s(&slot, layout.order, 5), [0, 1, 1, 1, 0]);
        assert_eq!(u64s(&slot, layout.streams[1].time, 2), [5, 9]);
        let all = &layout.streams[0];
        assert_eq!(u64s(&slot, all.time, 3), [6, 7, 8]);
        let widened = [0xff, u64::MAX, 0xffff, u64::MAX, 0xffff_ffff, u64::MAX, u64::MAX, u64::MAX];
        for (column, value) in all.columns.iter().zip(widened) {
            assert_eq!(u64s(&slot, column.values, 1), [value]);
        }
        assert_eq!(u64s(&slot, all.columns[6].values, 3), [u64::MAX, 0, u64::MAX]);
        assert_eq!(slot[all.columns[6].absent], 0b010);
        assert_eq!(u32s(&slot, all.columns[8].values, 3), [0, 1, 2]);
        assert_eq!(slot[all.columns[8].absent], 0b010);
        assert_eq!(slot[all.columns[8].cut], 0b100);
        assert_eq!(strings(&slot, &layout, batch.strings), ["abc", "", "abcdefg\\xc3"]);

        assert!(t.push(&mut slot, &record(1, 1, 0, 0, &[]), &mut names));
        assert_eq!(
            t.finish(0),
            Descriptor { slot: 0, rows: vec![RowsDescriptor { stream: 1, rows: 1, absent: 0, cut: 0 }], strings: 0 }
        );
    }

    /// Records that are too short or of no stream are counted and skipped; so are those past the last row.
    #[test]
    fn malformed_records_are_skipped() {
        let mut names = Names::default();
        let mut t = Transposer::new(&streams()).unwrap();
        let mut slot = vec![0; SLOT_SIZE];
        assert!(!t.push(&mut slot, &[], &mut names));
        assert!(!t.push(&mut slot, &[0; 23], &mut names));
        assert!(!t.push(&mut slot, &record(0, 0, 0, 0, &[0; 39]), &mut names));
        assert!(!t.push(&mut slot, &record(2, 0, 0, 0, &[0; 100]), &mut names));
        assert!(!t.push(&mut slot, &record(u32::MAX, 0, 0, 0, &[0; 100]), &mut names));
        assert_eq!((t.malformed(), t.rows()), (5, 0));
        for _ in 0..t.layout.rows {
            assert!(t.push(&mut slot, &record(1, 0, u32::MAX, u32::MAX, &[]), &mut names));
        }
        assert_eq!(t.room(), 0);
        assert!(!t.push(&mut slot, &record(1, 0, 0, 0, &[]), &mut names));
    }

    /// Bytes lie behind one another, equal stacks have one number, named numbers are texts; what is not there is absent.
    #[test]
    fn other_kinds() {
        let field = |name: &str, slot, naming| portcullis_ebpf::Field { name: name.into(), ctype: String::new(), slot, naming };
        let fields = vec![
            field("bytes", Slot::Bytes { offset: 24, capacity: 4 }, Naming::Plain),
            field("stack", Slot::Stack { offset: 40, depth: 2 }, Naming::Plain),
            field("errno", Slot::Int { offset: 64, size: 4, signed: true }, Naming::Errno),
            field("ip", Slot::Bytes { offset: 72, capacity: 16 }, Naming::Inet),
        ];
        let event = |absent: u32, bytes: &[u8], stack: &[u64], length: i32, errno: i32, ip: &[u8]| {
            let mut body = vec![0; 72];
            body[..4].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
            body[8..8 + bytes.len()].copy_from_slice(bytes);
            body[16..20].copy_from_slice(&length.to_ne_bytes());
            let stack: Vec<u8> = stack.iter().flat_map(|address| address.to_ne_bytes()).collect();
            body[24..24 + stack.len()].copy_from_slice(&stack);
            body[40..44].copy_from_slice(&errno.to_ne_bytes());
            body[48..52].copy_from_slice(&(ip.len() as u32).to_ne_bytes());
            body[56..56 + ip.len()].copy_from_slice(ip);
            record(0, 0, absent, 0, &body)
        };
        let mut names = Names::default();
        let mut t = Transposer::new(&[Stream { name: "s".into(), fields, size: 96 }]).unwrap();
        let mut slot = vec![0xaa; SLOT_SIZE];
        for round in 0..2 {
            assert!(t.push(&mut slot, &event(0, b"ab", &[1, 2], 16, -2, &[127, 0, 0, 1]), &mut names));
            assert!(t.push(&mut slot, &event(0, b"", &[1], 8, 99_999, &[127, 0, 0, 1]), &mut names));
            // No stack was to be had, and the bytes could not be read.
            assert!(t.push(&mut slot, &event(1, b"zz", &[1], -14, -2, &[]), &mut names));
            assert!(t.push(&mut slot, &event(0, b"cdef", &[1, 2], 16, 2, &[0; 16]), &mut names));
            let batch = t.finish(0);
            let stream = &t.layout.streams[0];
            let columns = &stream.columns;
            assert_eq!(u32s(&slot, columns[0].values, 4), [2, 2, 2, 6]);
            assert_eq!(&slot[columns[0].data..][..6], b"abcdef");
            assert_eq!(u64s(&slot, columns[1].values, 4), [1, 2, 0, 1], "round {round}");
            assert_eq!(u32s(&slot, columns[2].values, 4), [0, 2, 0, 0]);
            assert_eq!(u32s(&slot, columns[3].values, 4), [1, 1, 3, 4]);
            assert_eq!(strings(&slot, &t.layout, batch.strings), ["ENOENT", "127.0.0.1", "99999", "", "::"]);
            assert_eq!((batch.rows[0].absent, batch.rows[0].cut), (0b11, 0));
            assert_eq!((slot[columns[0].absent], slot[columns[1].absent]), (0b100, 0b100));
        }
    }

    /// A batch ends before its bytes can overrun their column, and a field that could not have one event's is refused.
    #[test]
    fn bytes_end_a_batch() {
        let stream = |capacity: u32| {
            let slot = Slot::Bytes { offset: 24, capacity };
            let field = portcullis_ebpf::Field { name: "b".into(), ctype: String::new(), slot, naming: Naming::Plain };
            Stream { name: "s".into(), fields: vec![field], size: 24 + slot.size() }
        };
        let mut names = Names::default();
        let mut t = Transposer::new(&[stream(65_536)]).unwrap();
        let mut slot = vec![0; SLOT_SIZE];
        let mut body = vec![7; 65_544];
        body[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        let mut rows = 0;
        while t.room() > 0 {
            assert!(t.push(&mut slot, &record(0, 0, 0, 0, &body), &mut names));
            rows += 1;
        }
        assert!((2..=64).contains(&rows), "{rows}");
        t.finish(0);
        assert!(t.room() > 1);
        let error = Transposer::new(&[stream(8 << 20)]).unwrap_err().to_string();
        assert!(error.starts_with("stream `s`, field `b` has up to 8388608 bytes in one event"), "{error}");
    }

    /// A batch of long distinct texts ends before they can overrun the slot.
    #[test]
    fn texts_end_a_batch() {
        let mut names = Names::default();
        let stream = Stream { name: "long".into(), fields: vec![text("t", 24, 65_536)], size: 24 + 65_536 };
        let mut t = Transposer::new(&[stream]).unwrap();
        let mut slot = vec![0; SLOT_SIZE];
        let mut rows = 0u32;
        while t.room() > 0 {
            let mut body = vec![0xff; 65_536];
            body[..4].copy_from_slice(&(rows | 0x0101_0101).to_ne_bytes());
            assert!(t.push(&mut slot, &record(0, 0, 0, 0, &body), &mut names));
            rows += 1;
        }
        assert!((2..64).contains(&rows), "{rows}");

        let stream = Stream { name: "longer".into(), fields: vec![text("t", 24, 4 << 20)], size: 24 + (4 << 20) };
        assert!(matches!(Transposer::new(&[stream]), Err(LayoutError::LongText { .. })));
    }

    /// Prints what a record costs: `cargo test --release -p portcullis transpose -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn cost_per_event() {
        let mut names = Names::default();
        let stream = Stream {
            name: "opens".into(),
            fields: vec![
                int("pid", 24, 4, false),
                int("uid", 28, 4, false),
                int("duration", 32, 8, false),
                int("ret", 40, 4, true),
                int("flags", 44, 4, false),
                text("comm", 48, 16),
            ],
            size: 64,
        };
        let mut t = Transposer::new(&[stream]).unwrap();
        let mut slots = vec![vec![0; SLOT_SIZE]; 4];
        // One behind the other, as in a ring.
        let records: Vec<u8> = (0..65_536u32)
            .flat_map(|i| {
                let mut body = [0u8; 40];
                body[..4].copy_from_slice(&i.to_ne_bytes());
                let comm = format!("worker/{}", i.wrapping_mul(2_654_435_761) >> 26);
                body[24..24 + comm.len()].copy_from_slice(comm.as_bytes());
                record(0, u64::from(i), 0, 0, &body)
            })
            .collect();
        let mut best = f64::MAX;
        for round in 0..300 {
            let start = std::time::Instant::now();
            for batch in records.chunks(64 * 4096) {
                let slot = &mut slots[round % 4];
                for record in batch.chunks(64) {
                    t.push(slot, record, &mut names);
                }
                std::hint::black_box(t.finish(0));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / 65_536.0);
        }
        eprintln!("{best:.1} ns an event of 64 bytes with one text column");
    }
}
