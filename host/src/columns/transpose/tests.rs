//! Records in, columns out.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use portcullis_ebpf::{Naming, Slot, Stream};

use super::{Transposer, take};
use crate::{
    columns::{Descriptor, Layout, LayoutError, RowsDescriptor, SLOT_SIZE},
    names::Names,
};

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
