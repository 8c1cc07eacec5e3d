//! Ring records to columns: whatever the records are, a batch is one that its worker can read.
//!
//! The first bytes say what the streams are, as a compiler could have made them: how many fields each has, and two bytes for each
//! field. The rest is records, each after two bytes with its length.

use std::cell::RefCell;

use portcullis::{
    columns::{self, Descriptor, Layout, MAX_ROWS, SLOT_SIZE, StreamLayout, Transposer},
    contract::Kind,
    names::Names,
};
use portcullis_ebpf::{Field, Naming, Slot, Stream, record};

/// Takes bytes from the front; zero where there are none.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn record(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes([self.byte(), self.byte()]) as usize;
        if self.0.is_empty() { None } else { self.0.split_off(..length.min(self.0.len())) }
    }
}

fn streams(input: &mut Input<'_>) -> Vec<Stream> {
    (0..input.byte() % 4).map(|number| stream(number, input)).collect()
}

fn stream(number: u8, input: &mut Input<'_>) -> Stream {
    let mut end = record::HEADER;
    let fields = (0..input.byte() % 33)
        .map(|field| {
            let (kind, size) = (input.byte(), u32::from(input.byte()));
            let (slot, naming) = slot(kind, size, end);
            end = (slot_start(slot) + slot.size()).next_multiple_of(8);
            Field { name: format!("f{field}"), ctype: String::new(), slot, naming }
        })
        .collect();
    Stream { name: format!("s{number}"), fields, size: end }
}

/// A slot from `end` on.
fn slot(kind: u8, size: u32, end: u32) -> (Slot, Naming) {
    let int = |size: u32, naming| {
        let size = 1 << (size % 4);
        (Slot::Int { offset: end, size: size as u8, signed: kind & 0x80 != 0 }, naming)
    };
    match kind % 12 {
        0 | 1 => int(size, Naming::Plain),
        2 => int(2, Naming::Signal),
        3 => int(2, Naming::Errno),
        4 => int(3, Naming::Syscall),
        5 => int(3, Naming::KernelSymbol),
        6 => (Slot::Bytes { offset: end, capacity: 16 }, Naming::Inet),
        7 => (Slot::Bytes { offset: end, capacity: 6 }, Naming::Mac),
        8 => (Slot::Stack { offset: end, depth: 1 }, Naming::UserSymbol),
        9 => (Slot::Bytes { offset: end, capacity: size * 17 }, Naming::Plain),
        10 => (Slot::Stack { offset: end, depth: size % 128 }, Naming::Plain),
        _ => (Slot::Text { offset: end, capacity: size * 17 + 1 }, Naming::Plain),
    }
}

fn slot_start(slot: Slot) -> u32 {
    match slot {
        Slot::Int { offset, .. } | Slot::Text { offset, .. } | Slot::Bytes { offset, .. } | Slot::Stack { offset, .. } => offset,
    }
}

/// Panics where the host would write what it must not.
pub(crate) fn check(data: &[u8]) {
    thread_local!(static SLOT: RefCell<Vec<u8>> = RefCell::new(vec![0; SLOT_SIZE]));
    let mut input = Input(data);
    let streams = streams(&mut input);
    let Ok(mut transposer) = Transposer::new(&streams) else { return };
    let layout = Layout::new(&columns::schema(&streams, &[])).expect("the transposer has one");
    let mut names = Names::default();
    SLOT.with_borrow_mut(|slot| {
        let (mut pushed, mut accepted) = (0, 0);
        while let Some(record) = input.record() {
            if transposer.room() == 0 {
                read(slot, &layout, &transposer.finish(0), accepted);
                accepted = 0;
            }
            pushed += 1;
            accepted += u64::from(transposer.push(slot, record, &mut names));
            assert_eq!(transposer.rows() as u64, accepted);
        }
        assert!(transposer.malformed() <= pushed);
        read(slot, &layout, &transposer.finish(0), accepted);
    });
}

/// Reads a batch as a worker does.
fn read(slot: &[u8], layout: &Layout, batch: &Descriptor, accepted: u64) {
    assert_eq!(batch.total(), accepted);
    assert!(batch.total() <= MAX_ROWS as u64);
    let mut start = 0;
    for end in u32s(slot, layout.ends, batch.strings as usize) {
        let text = &slot[layout.text + start..layout.text + end];
        assert!(std::str::from_utf8(text).is_ok());
        start = end;
    }
    for position in u32s(slot, layout.order, batch.total() as usize) {
        assert!(position < batch.rows.len());
    }
    for rows in &batch.rows {
        let StreamLayout { columns, .. } = &layout.streams[rows.stream as usize];
        for column in columns {
            match column.kind {
                Kind::Text => {
                    assert!(u32s(slot, column.values, rows.rows as usize).all(|at| at < batch.strings as usize));
                }
                Kind::Bytes => {
                    let ends: Vec<usize> = u32s(slot, column.values, rows.rows as usize).collect();
                    assert!(ends.is_sorted() && ends.last().is_none_or(|end| *end <= column.room));
                }
                _ => {}
            }
        }
    }
}

fn u32s(slot: &[u8], at: usize, count: usize) -> impl Iterator<Item = usize> {
    slot[at..at + 4 * count].as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word) as usize)
}
