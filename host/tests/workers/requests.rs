//! What a plugin asks for: elements of maps, and the frames of stacks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis::{
    contract::{Column, Elements, Frame, Values},
    names::{Names, Symbols},
    worker::{Answers, Maps},
};
use portcullis_ebpf::{Field, MapKind, Naming, PluginMap, Slot, aggregate::Content};

use crate::{
    guest::{self, ECHO, Guest, RESOLVE, RESULT, echo_map},
    run::{Run, counts, limits, record, streams},
};

/// Maps with one element; what is done to them is written down.
#[derive(Clone, Default)]
struct FakeMaps(Arc<Mutex<Vec<String>>>);

impl FakeMaps {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn elements(&self) -> Elements {
        let column = |values| Column { values, absent: vec![], cut: vec![] };
        let keys = vec![column(Values::Text(vec![1, 0]))];
        Elements { keys, values: vec![column(Values::U64(vec![7, 8]))], strings: vec!["a".into(), "b".into()] }
    }
}

impl Maps for FakeMaps {
    fn read(&mut self, map: u32, _: &mut Names) -> Result<Elements, String> {
        if map == 1 {
            // As long as a call may take.
            std::thread::sleep(limits_of_a_call());
            return Err("the kernel says no".into());
        }
        self.note(format!("read {map}"));
        Ok(self.elements())
    }

    fn take(&mut self, map: u32, _: &mut Names) -> Result<Elements, String> {
        self.note(format!("take {map}"));
        Ok(self.elements())
    }

    fn write(&mut self, map: u32, elements: &Elements, _: &Names) -> Result<(), String> {
        self.note(format!("write {map} {}", *elements == self.elements()));
        Ok(())
    }

    fn delete(&mut self, map: u32, keys: &[Column], strings: &[String], _: &Names) -> Result<(), String> {
        self.note(format!("delete {map} {}", keys == self.elements().keys && strings == self.elements().strings));
        Ok(())
    }

    fn clear(&mut self, map: u32) -> Result<(), String> {
        self.note(format!("clear {map}"));
        Ok(())
    }
}

fn limits_of_a_call() -> Duration {
    Duration::from_nanos(limits().call)
}

/// Three maps with a text as key and a number as value; of the last the number is counted.
fn maps() -> Vec<PluginMap> {
    let field = |name: &str, slot| Field { name: name.into(), ctype: String::new(), slot, naming: Naming::Plain };
    let map = |name: &str, content| PluginMap {
        name: name.into(),
        content,
        kind: MapKind::Hash,
        keys: vec![field("k", Slot::Text { offset: 0, capacity: 14 })],
        bucket: None,
        value: field("", Slot::Int { offset: 0, size: 8, signed: false }),
        key_size: 16,
        value_size: 8,
    };
    vec![map("one", Content::Value), map("broken", Content::Value), map("counts", Content::Count)]
}

/// Elements reach the plugin and come back as they were; what the host can't do is an error that the plugin reads, however long the
/// host took; nothing is asked for before the opening.
#[test]
fn maps_are_read_and_written() {
    let fake = FakeMaps::default();
    let well = format!("(i32.store8 {RESULT} (i32.const 0)) {RESULT}");
    let prepare = format!("{} {}", echo_map("$read", 0), Guest::default().prepare);
    let start = format!("{} {} {} {well}", echo_map("$read", 0), guest::write_back(0), guest::delete(0));
    let handle = format!("{} {} {} {well}", echo_map("$read", 1), echo_map("$read", 3), echo_map("$take", 2));
    let finish = format!(
        "{} {} {} (call $clear (i32.const 2) (i32.const 320)) {well}",
        echo_map("$read", 2),
        guest::write_back(2),
        guest::delete(2)
    );
    let run = Run::with(
        &Guest { prepare, start, handle, finish, ..Guest::default() },
        &streams(),
        &maps(),
        Answers { maps: Box::new(fake.clone()), ..Answers::none() },
    )
    .started();
    run.ring.emit([record(1)].into_iter());
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1, 1, 0));
    run.finish();
    let done = ["read 0", "write 0 true", "delete 0 true", "take 2", "read 2", "delete 2 true", "clear 2"];
    assert_eq!(*fake.0.lock().unwrap(), done);
    let read = [(7, 7, "b".to_owned()), (8, 8, "a".to_owned())];
    assert_eq!(*run.said.rows.lock().unwrap(), [&read[..], &read, &read].concat());
    assert_eq!(
        *run.said.lines.lock().unwrap(),
        [
            "maps and processes are there from `start` on",
            "the kernel says no",
            "there is no map 3; there are 3",
            "map \"counts\" holds what programs count; only a map of values can be written",
        ]
    );
}

/// A plugin that asks without end is stopped like one that loops.
#[test]
fn asks_without_end() {
    let run = Run::with(
        &Guest {
            handle: "(loop $again (call $clear (i32.const 0) (i32.const 320)) (br $again)) (unreachable)".into(),
            ..Guest::default()
        },
        &streams(),
        &maps(),
        Answers { maps: Box::new(FakeMaps::default()), ..Answers::none() },
    )
    .started();
    run.ring.emit([record(1)].into_iter());
    // On a busy machine its requests wait so long that the host's own clock is first.
    let error = run.failed().to_string();
    let ends = ["`handle` took longer than 300ms", "its worker did not answer `handle` within 2.3s and was killed"];
    assert!(ends.iter().any(|end| error == format!("plugin \"test\": {end}")), "{error}");
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1, 0, 1));
    run.finish();
}

#[derive(Debug)]
struct OneFunction;

impl Symbols for OneFunction {
    fn kernel(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        let frame = |&address: &u64| vec![Frame { address, function: Some(format!("f{address}")), ..Frame::default() }];
        addresses.iter().map(frame).collect()
    }

    fn user(&self, _: u32, addresses: &[u64]) -> Vec<Vec<Frame>> {
        self.kernel(addresses)
    }

    fn note_process(&self, _: u32) {}
}

/// Bytes and stacks are columns like others, and a stack's number leads to its frames.
#[test]
fn stacks_and_bytes() {
    let field = |name: &str, slot| Field { name: name.into(), ctype: String::new(), slot, naming: Naming::Plain };
    let mut streams = streams();
    streams[0].fields.push(field("stack", Slot::Stack { offset: 48, depth: 2 }));
    streams[0].fields.push(field("bytes", Slot::Bytes { offset: 72, capacity: 8 }));
    streams[0].size = 88;
    let mut record = record(3);
    record.resize(88, 0);
    record[48..52].copy_from_slice(&16_i32.to_ne_bytes());
    record[56..64].copy_from_slice(&5_u64.to_ne_bytes());
    record[64..72].copy_from_slice(&6_u64.to_ne_bytes());
    record[72..76].copy_from_slice(&8_u32.to_ne_bytes());
    record[80..88].copy_from_slice(b"the data");
    // The bytes are those of a list: where the text is that `print` shows.
    let print = "(call $print (i32.load offset=120 (i32.load offset=12 (local.get $rows)))
        (i32.load offset=124 (i32.load offset=12 (local.get $rows))))";
    let run = Run::with(
        &Guest {
            handle: ECHO.replacen("(local.set $columns", &format!("{RESOLVE} {print} (local.set $columns"), 1),
            ..Guest::default()
        },
        &streams,
        &[],
        Answers { names: Names::new(Arc::new(OneFunction)), ..Answers::none() },
    )
    .started();
    run.ring.emit([record].into_iter());
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1, 1, 0));
    run.finish();
    assert_eq!(*run.said.lines.lock().unwrap(), ["f5", "the data"]);
    assert_eq!(run.said.rows.lock().unwrap().len(), 1);
}
