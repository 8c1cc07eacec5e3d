//! Worker processes: real ones, with components that do right and wrong.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/guest.rs"]
mod guest;
#[path = "support/run.rs"]
mod run;

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use guest::{ECHO, Guest, PRINT, RESOLVE, RESULT, echo_map, foreign};
use portcullis::{
    cage::{Layer, Layers, Missing, Sandbox, User},
    columns,
    contract::{Column, Elements, Frame, Values},
    doors::Opened,
    names::{Names, Symbols},
    worker::{Answers, Event, Maps, Options, Worker},
};
use portcullis_ebpf::{Field, MapKind, Naming, PluginMap, Slot, aggregate::Content};
use run::{Run, Said, alive, counts, limits, record, spawn, streams, text, within};

fn looping() -> String {
    "(loop $again (br $again)) (unreachable)".into()
}

// ---- The ordinary way ----

/// Events arrive as columns, rows come back as the plugin appended them, all of them and in order, and the worker is gone afterwards.
#[test]
fn events_arrive_and_rows_come_back() {
    let run = Run::new(&Guest {
        handle: ECHO.into(),
        finish: format!("{PRINT} (i32.store8 {RESULT} (i32.const 0)) {RESULT}"),
        ..Guest::default()
    })
    .started();
    for part in 0..10 {
        run.ring.emit((part * 5000..(part + 1) * 5000).map(record));
        std::thread::sleep(Duration::from_millis(5));
    }
    let drained = run.drain(Duration::from_secs(5));
    assert_eq!(counts(drained), (50_000, 50_000, 0));
    run.finish();
    let rows = run.said.rows.lock().unwrap();
    assert!(rows.iter().cloned().eq((0..50_000).map(|n| (1000 + n, n, text(n)))));
    assert_eq!(*run.said.lines.lock().unwrap(), ["the text"]);
}

/// A ring that asks for its reader is read before its time, and a malformed record is undelivered.
#[test]
fn malformed_records_are_counted() {
    let run = Run::new(&Guest { handle: ECHO.into(), ..Guest::default() }).started();
    run.ring.emit([record(1), vec![0; 10], record(2)].into_iter());
    rustix::io::write(&*run.ring.wake, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (3, 2, 1));
    run.finish();
}

/// Timers tick, those of one timer never pile up, and none ticks after the drain.
#[test]
fn timers_tick() {
    let run = Run::new(
        &Guest { tick: format!("{PRINT} (i32.store8 {RESULT} (i32.const 0)) {RESULT}"), ..Guest::default() }
            .with_timers(&[5_000_000]),
    )
    .started();
    std::thread::sleep(Duration::from_millis(200));
    run.drain(Duration::from_secs(5));
    let ticks = run.said.lines.lock().unwrap().len();
    assert!((10..=45).contains(&ticks), "{ticks}");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(run.said.lines.lock().unwrap().len(), ticks);
    run.finish();
}

/// A plugin may ask to end the run; the session is told once.
#[test]
fn stop_is_passed_on() {
    let stop = format!("(call $stop (i32.const 1040) (i32.const 8)) (i32.store8 {RESULT} (i32.const 0)) {RESULT}");
    let run = Run::new(&Guest { handle: stop, ..Guest::default() }).started();
    run.ring.emit([record(1)].into_iter());
    assert!(matches!(run.event(), Event::StopRequested { reason } if reason == "the text"));
    run.ring.emit([record(2)].into_iter());
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (2, 2, 0));
    run.finish();
}

/// A plugin that is slow keeps what it took; what it has not taken by the deadline is undelivered, to the last record.
#[test]
fn a_slow_plugin_loses_its_own_events() {
    // Some 20 ms a batch, and there are 25.
    let slow = format!(
        "(local $n i32) (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if $l (i32.lt_u (local.get $n) (i32.const 40000000)))) (i32.store8 {RESULT} (i32.const 0)) {RESULT}"
    );
    let run = Run::new(&Guest { handle: slow, ..Guest::default() }).started();
    run.ring.emit((0..100_000).map(record));
    let start = Instant::now();
    let drained = run.drain(Duration::from_millis(100));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(drained.read, 100_000);
    assert_eq!(drained.delivered + drained.undelivered, 100_000);
    assert!(drained.delivered > 0 && drained.undelivered > 0, "{drained:?}");
    run.finish();
}

// ---- What a plugin asks for ----

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

// ---- What goes wrong before the opening ----

#[track_caller]
fn check_load(wasm: Vec<u8>, expect: &str) {
    let mut worker = spawn(wasm, &Arc::default());
    let pid = worker.pid();
    assert_eq!(worker.loaded().unwrap_err().to_string(), expect);
    assert!(!alive(pid));
}

/// Files that are no plugins: one sentence each.
#[test]
fn files_that_are_no_plugins() {
    check_load(vec![], "plugin \"test\": its file is empty");
    check_load(b"#!/bin/sh\n".to_vec(), "plugin \"test\": its file is not WebAssembly");
    check_load(
        Guest::default().core_module(),
        "plugin \"test\": it is a core WebAssembly module, not a component; `wasm-tools component new` makes one of it",
    );
    let mut broken = Guest::default().component();
    broken.truncate(100);
    check_load(broken, "plugin \"test\": it is not a valid component: unexpected end-of-file");
    check_load(
        foreign("", &["run"]),
        "plugin \"test\": it does not export `configure`, so it is not a plugin of portcullis:plugin@0.1.0",
    );
    let exports = ["configure", "prepare", "start", "handle", "tick", "finish", "hand-over"];
    check_load(
        foreign(r#"(import "other:thing/door" (instance (export "open" (func))))"#, &exports),
        "plugin \"test\": it imports `other:thing/door`, which this host does not offer in that form",
    );
    check_load(
        foreign(r#"(import "portcullis:plugin/log@0.2.0" (instance (export "log" (func))))"#, &["run"]),
        "plugin \"test\": it is made for portcullis:plugin@0.2.0, and this host offers portcullis:plugin@0.1.0",
    );
    check_load(
        foreign("", &exports),
        "plugin \"test\": its exports are not those of portcullis:plugin@0.1.0: \
         type-checking export func `configure`: expected 1-tuple, found 0-tuple",
    );
}

/// Components that fail while they are instantiated.
#[test]
fn instantiation_fails() {
    check_load(
        Guest { pages: 1000, ..Guest::default() }.component(),
        "plugin \"test\": its instantiation needed more than 16 MiB of memory",
    );
    check_load(
        Guest { fields: "(func $boom (unreachable)) (start $boom)".into(), ..Guest::default() }.component(),
        "plugin \"test\": its instantiation trapped in `boom`: wasm `unreachable` instruction executed",
    );
}

#[track_caller]
fn check_configure(guest: &Guest, expect: &str) {
    let mut worker = spawn(guest.component(), &Arc::default());
    let pid = worker.pid();
    assert_eq!(worker.configure("{}").unwrap_err().to_string(), expect);
    assert!(!alive(pid));
    // Whoever goes on nevertheless gets an error, not a hang.
    assert!(worker.prepare(&columns::schema(&streams(), &[])).is_err());
}

/// What `configure` can do wrong.
#[test]
fn configure_fails() {
    let configure = |body: &str| Guest { configure: body.into(), ..Guest::default() };
    check_configure(&configure(&guest::fails()), "plugin \"test\": `configure` returned an error: the text");
    check_configure(&configure("(unreachable)"), "plugin \"test\": `configure` trapped: wasm `unreachable` instruction executed");
    check_configure(&configure(&looping()), "plugin \"test\": `configure` took longer than 300ms");
    check_configure(
        &Guest::default().with_timers(&[10]),
        "plugin \"test\": `configure` returned what can't be used: timer 0 has a period of 10 ns; the shortest is 1000000 ns (1 ms)",
    );
}

/// A plugin hears that it appended to a table that there is not yet.
#[test]
fn append_before_prepare() {
    let append = format!(
        "(call $append (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 320))
         (call $print (i32.load (i32.const 324)) (i32.load (i32.const 328)))
         (memory.fill {RESULT} (i32.const 0) (i32.const 32)) {RESULT}"
    );
    let said = Arc::new(Said::default());
    let mut worker = spawn(Guest { configure: append, ..Guest::default() }.component(), &said);
    worker.configure("{}").unwrap();
    assert_eq!(*said.lines.lock().unwrap(), ["there is no table 0; there are 0"]);
}

// ---- What goes wrong while events flow ----

#[track_caller]
fn check_handle(body: &str, expect: &str) {
    let run =
        Run::new(&Guest { handle: body.into(), wasi: body.contains("$stderr") || body.contains("$block"), ..Guest::default() })
            .started();
    run.ring.emit((0..10).map(record));
    assert_eq!(run.failed().to_string(), expect);
    assert!(!alive(run.pump.pid()));
    // Its ring is still read, so that the numbers add up.
    run.ring.emit((0..1000).map(record));
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1010, 0, 1010));
    run.finish();
}

/// A trap ends the plugin with a sentence; what it wrote to its tables before is shown.
#[test]
fn handle_traps() {
    check_handle("(unreachable)", "plugin \"test\": `handle` trapped in `handle`: wasm `unreachable` instruction executed");
}

/// Of a panic, the place and the text are shown, which the plugin wrote to its standard error.
#[test]
fn handle_panics() {
    check_handle(guest::PANIC, "plugin \"test\": `handle` panicked at src/lib.rs:42:9: index out of bounds");
}

/// A plugin that sleeps ends at once, however short it sleeps: the clock of its deadline does not reach into host calls.
#[test]
fn handle_sleeps() {
    check_handle(
        &format!("{} (unreachable)", guest::sleep(60_000_000_000)),
        "plugin \"test\": `handle` blocked in a host call; a plugin must not sleep or wait",
    );
}

/// Waiting for nothing is not waiting: runtimes do that.
#[test]
fn zero_timeouts_are_no_waiting() {
    let handle = format!("{} (i32.store8 {RESULT} (i32.const 0)) {RESULT}", guest::sleep(0));
    let run = Run::new(&Guest { handle, wasi: true, ..Guest::default() }).started();
    run.ring.emit([record(1)].into_iter());
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (1, 1, 0));
    check_cage(run.pump.pid());
    run.finish();
}

/// An error that the plugin returns ends it.
#[test]
fn handle_returns_an_error() {
    check_handle(&guest::fails(), "plugin \"test\": `handle` returned an error: the text");
}

/// An endless loop is interrupted.
#[test]
fn handle_loops() {
    check_handle(&looping(), "plugin \"test\": `handle` took longer than 300ms");
}

/// A loop that keeps talking to the host is interrupted as well.
#[test]
fn handle_loops_and_prints() {
    check_handle(&format!("(loop $again {PRINT} (br $again)) (unreachable)"), "plugin \"test\": `handle` took longer than 300ms");
}

/// A plugin that eats memory is stopped.
#[test]
fn handle_eats_memory() {
    check_handle(
        "(loop $again (drop (memory.grow (i32.const 16))) (br $again)) (unreachable)",
        "plugin \"test\": `handle` needed more than 16 MiB of memory",
    );
}

/// So is one that recurses without end.
#[test]
fn handle_recurses() {
    check_handle(
        "(call $handle (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5))",
        "plugin \"test\": `handle` trapped in `handle`: call stack exhausted",
    );
}

/// A worker that is killed in the middle of a batch: reported with its plugin's name, and nothing hangs.
#[test]
fn worker_killed() {
    let run = Run::new(&Guest { handle: looping(), ..Guest::default() }).started();
    run.ring.emit((0..10).map(record));
    std::thread::sleep(Duration::from_millis(50));
    signal(run.pump.pid(), rustix::process::Signal::KILL);
    assert_eq!(run.failed().to_string(), "plugin \"test\": its worker process ended unexpectedly (killed by signal 9)");
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (10, 0, 10));
    run.finish();
}

/// A worker that does not run any more is noticed by the host's own clock.
#[test]
fn worker_stopped() {
    let run = Run::new(&Guest { handle: ECHO.into(), ..Guest::default() }).started();
    signal(run.pump.pid(), rustix::process::Signal::STOP);
    run.ring.emit((0..10).map(record));
    assert_eq!(run.failed().to_string(), "plugin \"test\": its worker did not answer `handle` within 2.3s and was killed");
    assert!(!alive(run.pump.pid()));
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (10, 0, 10));
    run.finish();
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Dropping a pump or a worker in any state leaves no process behind.
#[test]
fn nothing_is_left_behind() {
    let run = Run::new(&Guest { handle: looping(), ..Guest::default() }).started();
    run.ring.emit((0..10).map(record));
    std::thread::sleep(Duration::from_millis(20));
    let pid = run.pump.pid();
    drop(run);
    assert!(!alive(pid));

    let worker = spawn(Guest::default().component(), &Arc::default());
    let pid = worker.pid();
    drop(worker);
    assert!(!alive(pid));
}

// ---- The cage ----

/// Not a test: the host of [`host_gone`], which is killed.
#[test]
fn host_to_be_killed() {
    let Ok(path) = std::env::var("PORTCULLIS_TEST_PID_FILE") else { return };
    let run = Run::new(&Guest { handle: looping(), ..Guest::default() }).started();
    run.ring.emit((0..10).map(record));
    fs::write(path, run.pump.pid().to_string()).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

/// The kill -9 of a host ends its worker, also while its plugin loops.
#[test]
fn host_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host_to_be_killed"])
        .env("PORTCULLIS_TEST_PID_FILE", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(within(Duration::from_secs(20), || fs::read(&path).is_ok_and(|pid| !pid.is_empty())));
    let pid: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
    assert!(alive(pid));
    host.kill().unwrap();
    host.wait().unwrap();
    // An orphan that has ended may wait for init to collect it.
    let gone = || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(within(Duration::from_secs(2), gone));
}

/// What each thread of a worker may be: a user of its own. What the worker may hold: null, its socket, its memory.
fn check_cage(pid: u32) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        if rustix::process::geteuid().is_root() {
            let uid: u32 = field("Uid:").split('\t').next().unwrap().parse().unwrap();
            assert!((User { uid, gid: uid }).is_own(), "{uid}");
            assert_eq!(field("Uid:"), [uid.to_string(), uid.to_string(), uid.to_string(), uid.to_string()].join("\t"));
            assert_eq!(field("Gid:"), field("Uid:"));
            assert_eq!(field("Groups:"), "");
            assert_eq!(field("CapBnd:"), "0000000000000000");
        }
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        // The filter is the last thing before the name, and before anything is read.
        if field("Name:") != "portcullis" {
            assert_eq!(field("Seccomp:"), "2");
        }
    }
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_str().unwrap();
        match number {
            0..=2 => assert_eq!(target, "/dev/null"),
            3 => assert!(target.starts_with("socket:"), "{target}"),
            4 => assert!(target.starts_with("/memfd:portcullis-columns"), "{target}"),
            _ => panic!("descriptor {number} is {target}"),
        }
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max open files"), "5");
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max file size"), "0");
    assert_eq!(limit("Max data size"), ((2_u64 << 30) + (16 << 20)).to_string());
}

/// A worker says how far it is locked in, and one whose cage must be whole gets its plugin only if it is.
#[test]
fn the_cage_is_whole() {
    let options = || Options {
        name: "test".into(),
        limits: limits(),
        output: Arc::new(Said::default()),
        executable: Some(env!("CARGO_BIN_EXE_portcullis").into()),
        cache: None,
        sandbox: Sandbox { layers: Layers::Required, user: None },
        doors: Opened::default(),
    };
    let account = Worker::try_cage(options()).unwrap();
    let mut worker = Worker::spawn(Guest::default().component(), options()).unwrap();
    match worker.account() {
        Ok(same) => assert!(same.missing.is_empty() && account.missing.is_empty(), "{account:?}"),
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.starts_with("plugin \"test\": it was not given to its worker: `sandbox` requires every layer"),
                "{text}"
            );
            for missing in &account.missing {
                assert!(text.contains(&format!("\n  {missing}: {}", missing.layer.way_out())), "{text}");
            }
            assert!(!account.missing.is_empty());
        }
    }
    // Whoever runs this as root has all but, perhaps, Landlock and a cgroup.
    if rustix::process::geteuid().is_root() {
        let may_lack = |missing: &Missing| matches!(missing.layer, Layer::Landlock | Layer::MemoryCgroup);
        assert!(account.missing.iter().all(may_lack), "{account:?}");
    }
}

/// The cage holds while the component is compiled.
#[test]
fn caged_while_compiling() {
    // Enough functions to compile for a while.
    let body = "(drop (i32.mul (i32.load (i32.const 0)) (i32.const 3)))".repeat(200);
    let fields = (0..400).map(|n| format!("(func (export \"f{n}\") {body})")).collect();
    let mut worker = spawn(Guest { fields, ..Guest::default() }.component(), &Arc::default());
    let pid = worker.pid();
    // It locks itself in before it reads the component.
    let caged = || {
        fs::read_to_string(format!("/proc/{pid}/limits")).is_ok_and(|limits| {
            limits.lines().any(|line| line.starts_with("Max open files") && line.split_whitespace().nth(3) == Some("5"))
        })
    };
    assert!(within(Duration::from_secs(5), caged));
    let loading = std::thread::spawn(move || {
        worker.loaded().unwrap();
        worker
    });
    let mut looks = 0;
    while !loading.is_finished() {
        check_cage(pid);
        looks += 1;
    }
    assert!(looks > 3, "{looks}");
    drop(loading.join().unwrap());
}

/// The cage holds while events flow.
#[test]
fn caged_while_events_flow() {
    let run = Run::new(&Guest { handle: ECHO.into(), ..Guest::default() }).started();
    for part in 0..50 {
        run.ring.emit((part * 1000..(part + 1) * 1000).map(record));
        check_cage(run.pump.pid());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(counts(run.drain(Duration::from_secs(5))), (50_000, 50_000, 0));
    run.finish();
}
