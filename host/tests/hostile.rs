//! Plugins that mean harm, in real worker processes: each ends with a named error within its limits, its neighbour's counts are
//! exact, and the host's memory stays small.
//!
//! Cases are data in `hostile/*.cases`: the bodies of a plugin's functions in WAT, and behind a line of dashes what becomes of it.
//! `UPDATE_EXPECT=1` writes what comes out now.
//!
//! | key | meaning |
//! |---|---|
//! | `at CALL` | how far the plugin is taken: `load`, `configure`, ... `hand-over` |
//! | `configure`, `prepare`, `start`, `handle`, `tick`, `finish`, `hand-over`, `realloc`, `fields` | WAT; deeper lines go on with it |
//! | `pages N`, `wasi` | of its memory at the start; it imports a part of WASI |
//! | `memory`, `stack`, `table-elements`, `call` | its limits: MiB, KiB, as it is, ms |
//!
//! In WAT, `{68=65536}` stores a word and `WELL` returns a result without an error.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "support/guest.rs"]
mod guest;
#[path = "support/random.rs"]
mod random;
#[path = "support/run.rs"]
mod run;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use guest::{ECHO, Guest};
use portcullis::{
    columns,
    contract::Limits,
    output::clean,
    worker::{Answers, Cause, Command, Event, WorkerError, protocol::FaultKind},
};
use random::Random;
use run::{Run, Said, alive, counts, record, spawn_within, streams, text};

const LINE: &str = "----\n";
const PART: &str = "====\n";

/// How much of an error is looked at, in characters.
const LONG: usize = 400;

/// How many plugins live at a time.
const AT_A_TIME: usize = 4;

/// More memory than any of these may cost the process that is the host: what is handed over at once is 8 MiB, in which 100,000 names are
/// some times as large.
const HOST_MEMORY: u64 = 256 << 10;

/// The most memory that this process ever had, KiB.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A plugin beside which others do their harm.
struct Neighbour {
    run: Run,
    emitted: u64,
}

impl Neighbour {
    fn new() -> Neighbour {
        Neighbour { run: Run::new(&Guest { handle: ECHO.into(), ..Guest::default() }).started(), emitted: 0 }
    }

    fn emit(&mut self) {
        self.run.ring.emit((self.emitted..self.emitted + 100).map(record));
        self.emitted += 100;
    }

    /// It got every event, and every row that it appended arrived.
    fn check(self) {
        let Neighbour { run, emitted } = self;
        assert_eq!(counts(run.drain(Duration::from_secs(20))), (emitted, emitted, 0));
        run.finish();
        assert!(run.said.rows.lock().unwrap().iter().cloned().eq((0..emitted).map(|n| (1000 + n, n, text(n)))));
    }
}

/// Does something with each number, some at a time, beside a neighbour whose counts stay exact; then looks at the memory.
fn beside_a_neighbour(count: usize, body: impl Fn(usize) + Sync) {
    let neighbour = Mutex::new(Neighbour::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    neighbour.lock().unwrap().emit();
                    body(number);
                }
            });
        }
    });
    neighbour.into_inner().unwrap().check();
    let most = most_memory();
    assert!(most < HOST_MEMORY, "this process had {most} KiB");
}

/// A case's plugin and how far it is taken.
struct Case {
    guest: Guest,
    at: String,
    limits: Limits,
}

impl Case {
    fn read(text: &str) -> Case {
        let mut guest = Guest::default();
        let mut limits = Limits { memory: 16 << 20, call: 500_000_000, ..Limits::default() };
        let mut at = String::new();
        let mut entries: Vec<String> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            match (line.starts_with(' '), entries.last_mut()) {
                (true, Some(entry)) => entry.push_str(line),
                _ => entries.push(line.to_owned()),
            }
        }
        for entry in &entries {
            let (key, value) = entry.split_once(' ').unwrap_or((entry, ""));
            let body = wat(value);
            match key {
                "at" => value.clone_into(&mut at),
                "configure" => guest.configure = body,
                "prepare" => guest.prepare = body,
                "start" => guest.start = body,
                "handle" => guest.handle = body,
                "tick" => guest.tick = body,
                "finish" => guest.finish = body,
                "hand-over" => guest.hand_over = body,
                "realloc" => guest.realloc = body,
                "fields" => guest.fields = body,
                "pages" => guest.pages = value.parse().unwrap(),
                "wasi" => guest.wasi = true,
                "stack" => limits.stack = value.parse::<u32>().unwrap() << 10,
                "table-elements" => limits.table_elements = value.parse().unwrap(),
                "memory" => limits.memory = value.parse::<u64>().unwrap() << 20,
                "call" => limits.call = value.parse::<u64>().unwrap() * 1_000_000,
                other => panic!("{other} is no key"),
            }
        }
        if at == "tick" {
            guest = guest.with_timers(&[1_000_000]);
        }
        Case { guest, at, limits }
    }

    /// What becomes of it: its lines, and how it ended.
    fn outcome(&self) -> String {
        let (said, start) = (Arc::new(Said::default()), Instant::now());
        let end = match self.run(&said) {
            Ok(()) => "well".to_owned(),
            Err(error) => clean::lines(&error.to_string()).into_owned(),
        };
        let took = start.elapsed().as_secs();
        let mut out = String::new();
        let lines = said.lines.lock().unwrap();
        if lines.len() == run::MAX_LINES {
            out.push_str("lines without end\n");
        } else {
            lines.iter().for_each(|line| out.push_str(&format!("line {line:?}\n")));
        }
        let logged = *said.logs.lock().unwrap();
        // What a second allows, at once and in each second since, and what the host says of it.
        match logged > self.limits.log_messages * (took + 2) + 1 {
            true => out.push_str("more messages than are allowed\n"),
            false if logged > 0 => out.push_str("messages\n"),
            false => {}
        }
        let end = match end.char_indices().nth(LONG) {
            Some((at, _)) => format!("{}... {} bytes", &end[..at], end.len()),
            None => end,
        };
        out + &end + "\n"
    }

    fn run(&self, said: &Arc<Said>) -> Result<(), WorkerError> {
        let mut worker = spawn_within(self.guest.component(), self.limits, said);
        let pid = worker.pid();
        let outcome = (|| {
            worker.loaded()?;
            if self.at == "load" {
                return Ok(());
            }
            worker.configure("{}")?;
            if self.at == "configure" {
                return Ok(());
            }
            worker.prepare(&columns::schema(&streams(), &[])).map(drop)
        })();
        if outcome.is_err() {
            assert!(!alive(pid));
            return outcome;
        }
        if ["load", "configure", "prepare"].contains(&self.at.as_str()) {
            return Ok(());
        }
        let run = Run::take(worker, said.clone(), &streams(), &[], Answers::none());
        match run.event() {
            Event::Failed(error) => return Err(error),
            event => assert!(matches!(event, Event::Started), "{event:?}"),
        }
        let mut failed = None;
        let mut note = |event: Event| match event {
            Event::Failed(error) => {
                failed = Some(error);
                None
            }
            Event::StopRequested { .. } => None,
            event => Some(event),
        };
        if self.at == "handle" {
            run.ring.emit([record(1)].into_iter());
        }
        if self.at == "tick" {
            std::thread::sleep(Duration::from_millis(100));
        }
        run.pump.send(Command::Drain { deadline: Instant::now() + Duration::from_secs(30) });
        while !matches!(note(run.event()), Some(Event::Drained(_))) {}
        run.pump.send(if self.at == "hand-over" { Command::HandOver } else { Command::Finish(Default::default()) });
        while !matches!(note(run.event()), Some(Event::Finished)) {}
        assert!(!alive(pid));
        failed.map_or(Ok(()), Err)
    }
}

/// WAT with the shorthands of the cases.
fn wat(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, behind) = after.split_once('}').unwrap();
        let (at, value) = inside.split_once('=').unwrap();
        out.push_str(&format!("{before}(i32.store (i32.const {at}) (i32.const {value}))"));
        rest = behind;
    }
    out.push_str(rest);
    out.replace("WELL", "(i32.store8 (i32.const 64) (i32.const 0)) (i32.const 64)")
}

/// Who is the first to see that a call takes too long, the worker or its host, is a matter of who has the CPU.
fn in_time(text: &str) -> String {
    text.replace("its worker did not answer `handle` within 2.5s and was killed", "`handle` took longer than 500ms")
}

/// Every case of a file ends as the file says.
fn check_file(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile").join(name);
    let content = fs::read_to_string(&path).unwrap();
    let cases: Vec<(&str, &str)> = content.split(PART).map(|case| case.split_once(LINE).unwrap()).collect();
    let found: Vec<Mutex<String>> = cases.iter().map(|_| Mutex::default()).collect();
    beside_a_neighbour(cases.len(), |number| {
        let start = Instant::now();
        *found[number].lock().unwrap() = Case::read(cases[number].0).outcome();
        let took = start.elapsed();
        // Limits, the host's patience with each, and the time that a busy machine takes for all that.
        assert!(took < Duration::from_secs(40), "{took:?}:\n{}", cases[number].0);
    });
    let found: Vec<String> = found.into_iter().map(|found| found.into_inner().unwrap()).collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let all: Vec<String> = cases.iter().zip(&found).map(|((input, _), found)| format!("{input}{LINE}{found}")).collect();
        fs::write(path, all.join(PART)).unwrap();
        return;
    }
    for ((input, expected), found) in cases.iter().zip(&found) {
        assert_eq!(in_time(found), in_time(expected), "{input}");
    }
}

/// Endless loops, recursion, waiting, memory and tables without end, in every function of a plugin.
#[test]
fn time_and_memory() {
    check_file("resources.cases");
}

/// Pointers, lengths, texts and numbers that lead nowhere, and calls at the wrong moment.
#[test]
fn forged_values() {
    check_file("values.cases");
}

/// Whether an error says what was wrong with the plugin, rather than that its worker broke.
fn is_named(error: &WorkerError) -> bool {
    use FaultKind::{Blocked, Memory, NotAPlugin, TooLong, Trap};
    match &error.cause {
        Cause::Fault(fault) => matches!(fault.kind, NotAPlugin | Trap | TooLong | Memory | Blocked),
        Cause::Returned { .. } | Cause::Unusable { .. } => true,
        _ => false,
    }
}

/// Takes a component as far as it goes before there are events.
fn try_component(wasm: Vec<u8>) -> Result<(), WorkerError> {
    let limits = Limits { memory: 16 << 20, call: 500_000_000, ..Limits::default() };
    let mut worker = spawn_within(wasm, limits, &Arc::default());
    worker.loaded()?;
    worker.configure("{}")?;
    worker.prepare(&columns::schema(&streams(), &[]))?;
    let run = Run::take(worker, Arc::default(), &streams(), &[], Answers::none());
    match run.event() {
        Event::Failed(error) => return Err(error),
        event => assert!(matches!(event, Event::Started), "{event:?}"),
    }
    Ok(())
}

/// How many there are to be: a few hundred unless the environment says more.
fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// Tries components by number, and notes what became of how many.
fn check_components(what: &str, count: usize, make: impl Fn(usize) -> Vec<u8> + Sync) {
    let (ends, wrong) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    beside_a_neighbour(count, |number| {
        let end = match try_component(make(number)) {
            Ok(()) => "started".to_owned(),
            Err(error) if is_named(&error) => error.cause.fault().map_or("its own error".into(), |kind| format!("{kind:?}")),
            Err(error) => return wrong.lock().unwrap().push(format!("{what} {number}: {error}")),
        };
        *ends.lock().unwrap().entry(end).or_insert(0) += 1;
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{count} times a {what}: {:?}", ends.into_inner().unwrap());
}

/// Components that are cut off, or in which bits are turned: a named error, or they are as good as before. `PORTCULLIS_DAMAGED=1000`
/// has more of them.
#[test]
fn damaged_components() {
    let whole = Guest { handle: ECHO.into(), wasi: true, ..Guest::default() }.component();
    check_components("damaged component", count("PORTCULLIS_DAMAGED", 200), |number| {
        let mut random = Random::new(number as u64);
        let mut wasm = whole.clone();
        if number % 4 == 0 {
            wasm.truncate(random.below(whole.len()));
            return wasm;
        }
        for _ in 0..=random.below(3) {
            let at = random.below(wasm.len());
            wasm[at] ^= 1 << random.below(8);
        }
        wasm
    });
}

/// Modules that wasm-smith makes at random run when a plugin starts, which holds each beside its own code. `PORTCULLIS_MODULES=10000`
/// has more of them.
#[test]
fn random_modules() {
    let whole = Guest { handle: ECHO.into(), ..Guest::default() }.component();
    let modules = random::modules(0, count("PORTCULLIS_MODULES", 400));
    check_components("random module", modules.len(), |number| random::beside(&whole, &modules[number]));
}
