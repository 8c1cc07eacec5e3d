//! Workers that were taken over: native code in a worker's place, in the same cage (`tests/src/bin/hostile.rs`), tries what it can. It
//! hurts itself, and its host says what happened.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::VecDeque,
    fs, io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis::{
    cage::{self, Layer, Sandbox, User},
    columns,
    contract::{Column, Elements, Interval, Level, Limits, Opening, Table, TableRows, Values},
    doors::{Directory, Doors, OpenDirectory, Opened},
    names::Names,
    worker::{
        self, Answers, Maps, Output, Pump, Source, Worker,
        pump::{self, Event, Inbox},
    },
};
use portcullis_ebpf::{Field, MapKind, Naming, PluginMap, Slot, Stream, aggregate::Content};
use portcullis_tests::{
    note,
    watch::{self, is_alive, until},
};

/// Counts what is said.
#[derive(Debug, Default)]
struct Counted {
    said: AtomicU64,
}

impl Output for Counted {
    fn rows(&self, _: &str, _: &Table, _: &TableRows) -> io::Result<()> {
        panic!("no row of these fits its table");
    }

    fn line(&self, _: &str, _: &str) -> io::Result<()> {
        self.said.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn log(&self, _: &str, _: Level, _: &str) {
        self.said.fetch_add(1, Ordering::Relaxed);
    }

    fn metric(&self, _: &str, _: &str, _: f64) {}
}

/// A worker that will do this.
fn hostile_to(attack: &str, output: Arc<Counted>) -> Worker {
    hostile_with(attack, output, Opened::default())
}

/// The same with open doors.
fn hostile_with(attack: &str, output: Arc<Counted>, doors: Opened) -> Worker {
    let options = worker::Options {
        name: attack.into(),
        limits: Limits { memory: 16 << 20, call: 300_000_000, ..Limits::default() },
        output,
        executable: Some(env!("CARGO_BIN_EXE_hostile").into()),
        cache: None,
        sandbox: Sandbox::default(),
        doors,
    };
    Worker::spawn(b"a component".to_vec(), options).unwrap()
}

fn hostile(attack: &str) -> Worker {
    hostile_to(attack, Arc::default())
}

// ---- What it tries of the kernel ----

/// What came of what was tried: names and error numbers.
fn tried(attack: &str) -> Vec<(String, i32)> {
    tried_with(attack, Opened::default())
}

fn tried_with(attack: &str, doors: Opened) -> Vec<(String, i32)> {
    let mut worker = hostile_with(attack, Arc::default(), doors);
    let pid = worker.pid();
    let error = worker.loaded().unwrap_err();
    assert!(!is_alive(pid));
    let Some(_) = error.cause.fault() else { panic!("{error}") };
    let text = error.cause.to_string();
    let line = |line: &str| line.split_once(' ').map(|(name, error)| (name.to_owned(), error.parse().unwrap()));
    text.lines().map(|text| line(text).unwrap()).collect()
}

/// All of at least so many trials are refused with EPERM, but for these.
#[track_caller]
fn refused(attack: &str, at_least: usize, but: &[(&str, i32)]) {
    let tried = tried(attack);
    assert!(tried.len() >= at_least, "{tried:?}");
    for (name, error) in &tried {
        let expect = but.iter().find(|(other, _)| other == name).map_or(libc::EPERM, |(_, error)| *error);
        assert_eq!(*error, expect, "{name}");
    }
}

/// No path is opened, made, removed or looked at, by whatever call.
#[test]
fn files() {
    refused("files", 15, &[]);
}

/// There is no socket but its own, and that one neither connects nor passes descriptors along.
#[test]
fn network() {
    refused("network", 15, &[]);
}

/// There is no other process, whichever way one is asked for, and no other program.
#[test]
fn processes() {
    refused("processes", 7, &[("clone3", libc::ENOSYS)]);
}

/// The host, given by its number, is neither traced nor read nor looked at.
#[test]
fn the_host_is_out_of_reach() {
    refused(&format!("others:{}", std::process::id()), 13, &[]);
}

/// Nobody is sent a signal, the host least of all.
#[test]
fn signals() {
    refused(&format!("signals:{}", std::process::id()), 11, &[]);
}

/// No BPF, perf or other object of the kernel's is made or found by its number.
#[test]
fn objects_of_the_kernel() {
    refused("objects", 20, &[]);
}

/// The memory in which events come can be read and nothing else, also while the host has it mapped to write to.
#[test]
fn columns_are_read_only() {
    let but = [("mprotect", libc::EACCES), ("madvise:remove", libc::EACCES), ("sendto", libc::ENOTSOCK)];
    refused("columns", 11, &but);
}

/// With directories granted it has what is in them, and nothing else of the file system; what it may only read it can't change, by
/// whatever call.
#[test]
fn directories() {
    let place = tempfile::tempdir().unwrap();
    let below = |name: &str| place.path().join(name);
    for directory in ["read", "change"] {
        fs::create_dir(below(directory)).unwrap();
        fs::write(below(directory).join("file"), "contents").unwrap();
        fs::write(below(directory).join("program"), vec![0; 4096]).unwrap();
        for path in [below(directory), below(directory).join("file")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    fs::write(below("secret"), "secret").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink(below("secret"), below("read").join("absolute")).unwrap();
    let directory = |name: &str, write| Directory::new(below(name).to_str().unwrap().into(), None, write, Path::new(""));
    let doors = Doors { directories: vec![directory("read", false), directory("change", true)], ..Doors::default() };
    let opened = doors.open().unwrap();
    // Where the host may make no mounts, Landlock alone holds.
    let plain = |at: usize| {
        let path = &doors.directories[at].path;
        let fd =
            OwnedFd::from(fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path).unwrap());
        OpenDirectory { fd: Arc::new(fd), own_mount: false, ..opened.directories[at].clone() }
    };
    let by_landlock = Opened { directories: vec![plain(0), plain(1)], ..Opened::default() };
    let own_mount = opened.directories[0].own_mount;
    if cage::landlock_version().is_none() {
        // Kernels before 5.12 have neither.
        let error = hostile_with("directories", Arc::default(), by_landlock).loaded().unwrap_err().cause.to_string();
        assert!(error.contains("Landlock (Linux 5.13), without which no directory can be granted"), "{error}");
        return;
    }
    assert_eq!(own_mount, rustix::process::geteuid().is_root());
    for (doors, own_mount) in [(opened, own_mount), (by_landlock, false)] {
        let tried = tried_with("directories", doors);
        assert!(tried.len() >= 35, "{tried:?}");
        for (name, error) in tried {
            let expect: &[i32] = match name.split_once(':').map_or(name.as_str(), |(what, _)| what) {
                "may" => &[0],
                "never" => &[libc::EPERM],
                // Above a mount of its own there is the mount again; where it has none, there is Landlock.
                "inside" if own_mount => &[0],
                "up" | "up-far" if own_mount => &[libc::ENOENT],
                "change" | "truncate" | "create" | "unnamed" | "openat2" | "mkdir" | "unlink" if own_mount => &[libc::EROFS],
                "rename" | "hard-link" => &[libc::EXDEV, libc::EACCES, libc::EROFS],
                "code" if own_mount => &[libc::EPERM],
                "code" => &[0, libc::EPERM],
                // There is nothing at that path, or it is not within reach.
                _ => &[libc::ENOENT, libc::EACCES],
            };
            assert!(expect.contains(&error), "{name}: {error}, {own_mount}");
        }
        for made in ["made", "out", "secret-made"] {
            let _ = fs::remove_file(below("change").join(made));
        }
    }
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(place.path()), ["change", "read", "secret"]);
    assert_eq!(names(&below("read")), ["absolute", "file", "program"]);
    assert_eq!(fs::read_to_string(below("read").join("file")).unwrap(), "contents");
}

/// With a port granted it connects to that port by TCP; it has no other protocol, does not listen, and finds no way round Landlock.
#[test]
fn peers() {
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (granted, other) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let network = [format!("127.0.0.1:{}", port(&granted)).parse().unwrap()].into();
    let doors = Doors { network, ..Doors::default() }.open().unwrap();
    let tried = tried_with(&format!("peers:{}", u32::from(port(&granted)) << 16 | u32::from(port(&other))), doors);
    assert!(tried.len() >= 24, "{tried:?}");
    // TCP is known from version 4 on.
    let held = cage::landlock_version().is_some_and(|version| version >= 4);
    for (name, error) in tried {
        let expect = match name.as_str() {
            name if name.contains("may:") => 0,
            "landlock:connect" => {
                if held {
                    libc::EACCES
                } else {
                    0
                }
            }
            _ => libc::EPERM,
        };
        assert_eq!(error, expect, "{name}");
    }
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.accept().is_err(), held);
}

/// It holds five descriptors, of those that there could be, and gets no further one.
#[test]
fn descriptors() {
    let five: Vec<String> = (0..5).map(|descriptor| descriptor.to_string()).collect();
    let none: Vec<String> = (5..1100).map(|descriptor| descriptor.to_string()).collect();
    let five = five.iter().map(|name| (name.as_str(), 0));
    let none = none.iter().map(|name| (name.as_str(), libc::EBADF));
    refused("descriptors", 1104, &five.chain(none).collect::<Vec<_>>());
}

/// No limit is raised, no user, capability or namespace comes back, and nothing of the cage is taken down.
#[test]
fn the_cage_stays() {
    refused("loosen", 17, &[]);
}

/// Threads are bounded.
#[test]
fn a_thread_bomb() {
    let tried = tried("threads");
    let cpus = thread::available_parallelism().unwrap().get();
    let [(count, libc::EAGAIN)] = tried.as_slice() else { panic!("{tried:?}") };
    // Where the host is not root there is no such bound, and this test no sense.
    let bound = if rustix::process::geteuid().is_root() { 16 + cpus } else { usize::MAX };
    assert!(count.parse::<usize>().unwrap() <= bound, "{count}");
}

/// Memory is bounded: that of its component, and 2 GiB for the compiler.
#[test]
fn a_memory_bomb() {
    let tried = tried("memory");
    let [(mebibytes, libc::ENOMEM)] = tried.as_slice() else { panic!("{tried:?}") };
    assert!((1900..=2064).contains(&mebibytes.parse::<u64>().unwrap()), "{mebibytes}");
}

// ---- What it tries of its neighbours ----

/// A worker that goes along, loaded.
fn peaceful() -> Worker {
    let mut worker = hostile("peaceful");
    worker.loaded().unwrap();
    worker
}

/// The user of a process.
fn user_of(pid: u32) -> u32 {
    let uids = &watch::facts(&format!("/proc/{pid}")).unwrap()["Uid"];
    let uid = uids.split(' ').next().unwrap();
    assert_eq!(*uids, format!("{uid} {uid} {uid} {uid}"));
    uid.parse().unwrap()
}

/// A shell that is nothing but this user: what it is refused, the user alone refuses.
fn may(user: u32, command: &str) -> bool {
    let mut shell = Command::new("/bin/sh");
    let quiet = || Stdio::null();
    let status = shell.args(["-c", command]).uid(user).gid(user).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    status.unwrap().success()
}

/// Each of two workers is a user of its own, who can't signal the other or look into it, whatever else of its cage falls; and as they are
/// they can't either.
#[test]
fn neighbours() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let workers = [peaceful(), peaceful()];
    let [one, other] = workers.each_ref().map(Worker::pid);
    assert_ne!(user_of(one), user_of(other));
    for (user, pid) in [(user_of(one), other), (user_of(other), one)] {
        assert!((User { uid: user, gid: user }).is_own());
        assert!(may(user, "true") && may(user, &format!("test -d /proc/{pid}")));
        // Its own user could, which shows that it is the user that holds.
        assert!(!may(user, &format!("kill -0 {pid}")) && may(user_of(pid), &format!("kill -0 {pid}")));
        for file in ["environ", "maps", "mem", "fd/3", "root/", "stack"] {
            assert!(!may(user, &format!("test -e /proc/{pid}/{file} && cat /proc/{pid}/{file}")), "{file}");
        }
        refused(&format!("others:{pid}"), 13, &[]);
        refused(&format!("signals:{pid}"), 11, &[]);
    }
    assert!(is_alive(one) && is_alive(other));
    // Who is gone leaves its place to the next.
    let before = user_of(other);
    drop(workers);
    assert!([user_of(peaceful().pid()), user_of(peaceful().pid())].iter().all(|user| *user <= before));
}

/// The directories of a worker's own cgroups, as the kernel has it: of the memory controller, and of others.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let paths = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (controllers, path) = (fields.nth(1)?, fields.next()?);
        let root = Path::new("/sys/fs/cgroup").join(controllers);
        path.rsplit('/').next()?.starts_with("portcullis-").then(|| root.join(path.trim_start_matches('/')))
    });
    paths.collect()
}

/// Memory that no limit of a process counts, page tables, counts in the worker's cgroup: who takes too much of it is ended, its neighbour
/// does not notice, and the cgroups go with the workers.
#[test]
fn memory_that_only_the_cgroup_counts() {
    let (mut eater, mut neighbour) = (hostile("configure-tables"), peaceful());
    if eater.account().unwrap().missing.iter().any(|missing| missing.layer == Layer::MemoryCgroup) {
        note("skipped: there is no memory cgroup to be had");
        return;
    }
    let own = cgroups(eater.pid());
    assert!(!own.is_empty() && cgroups(neighbour.pid()) != own, "{own:?}");
    let limit = |name: &str| own.iter().map(|directory| directory.join(name)).find(|file| file.exists());
    let limit = limit("memory.max").or_else(|| limit("memory.limit_in_bytes")).unwrap();
    assert_eq!(fs::read_to_string(&limit).unwrap().trim(), ((2_u64 << 30) + (16 << 20)).to_string());
    // The test need not take two gigabytes of the machine's.
    fs::write(&limit, (64 << 20).to_string()).unwrap();
    let error = eater.configure("{}").unwrap_err().cause.to_string();
    assert_eq!(error, "its worker process ended unexpectedly (killed by signal 9)");
    assert!(neighbour.configure("{}").is_ok());
    drop(eater);
    assert!(own.iter().all(|directory| !directory.exists()), "{own:?}");
    let own = cgroups(neighbour.pid());
    assert!(own.iter().all(|directory| directory.exists()));
    drop(neighbour);
    assert!(own.iter().all(|directory| !directory.exists()), "{own:?}");
}

/// System calls of another architecture, with other numbers, end it: with SIGSYS, or SIGSEGV where the kernel has none.
#[test]
#[cfg(target_arch = "x86_64")]
fn system_calls_of_32_bit() {
    let error = hostile("compat").loaded().unwrap_err().cause.to_string();
    let ended = |signal| format!("its worker process ended unexpectedly (killed by signal {signal})");
    assert!([31, 11].map(ended).contains(&error), "{error}");
}

// ---- What it does to its host before events flow ----

/// What the host says of a worker that does this while it loads, or while it configures.
fn ends(attack: &str) -> String {
    let mut worker = hostile(attack);
    let pid = worker.pid();
    let outcome = worker.loaded().map(drop).and_then(|()| worker.configure("{}")).map(drop);
    assert!(!is_alive(pid), "{attack}");
    outcome.unwrap_err().cause.to_string()
}

#[track_caller]
fn check(attack: &str, expect: &str) {
    assert_eq!(ends(attack), expect, "{attack}");
}

const BROKE: &str = "its worker broke the protocol and was killed: ";

/// Bytes that are no message, a message that is too long, and the end in the midst of everything.
#[test]
fn no_messages() {
    let garbage = ends("load-garbage");
    assert!(garbage.starts_with(&format!("{BROKE}a message that can't be read (")), "{garbage}");
    check("load-long", &format!("{BROKE}a message of 4294967295 bytes, where 8388608 are allowed"));
    check("load-exit", "its worker process ended unexpectedly (exit status: 0)");
    let aborted = ends("load-abort");
    // The first process of a pid namespace can't send itself SIGABRT; the instruction after that ends it.
    let ended = |signal| format!("its worker process ended unexpectedly (killed by signal {signal})");
    assert!([4, 6, 11].map(ended).contains(&aborted), "{aborted}");
}

/// Messages out of their order.
#[test]
fn out_of_order() {
    check("uncaged", &format!("{BROKE}it spoke before it was locked in"));
    check("load-caged", &format!("{BROKE}it was locked in once more"));
    check("load-finish", &format!("{BROKE}`finish` returned while `load` was running"));
    check("configure-ask", &format!("{BROKE}it asked for something while `configure` was running"));
    // Two returns of one call: the second comes before the next call or after it.
    let twice = ends("load-twice");
    let expect = ["`load` returned, and was not called", "`load` returned while `configure` was running"];
    assert!(expect.iter().any(|what| twice == format!("{BROKE}{what}")), "{twice}");
}

/// A flood of lines or messages, half a message, and a worker that does not read what it is sent: each ends when the call's time is
/// over, and costs the host nothing that stays.
#[test]
fn floods_and_silence() {
    let stalled = "its worker did not answer `configure` within 2.3s and was killed";
    for attack in ["configure-flood", "configure-logs"] {
        let output = Arc::new(Counted::default());
        let mut worker = hostile_to(attack, output.clone());
        worker.loaded().unwrap();
        let start = Instant::now();
        assert_eq!(worker.configure("{}").unwrap_err().cause.to_string(), stalled);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(output.said.load(Ordering::Relaxed) > 100);
    }
    check("configure-half", stalled);
    let mut worker = hostile("configure-deaf");
    worker.loaded().unwrap();
    // Far more than the socket holds.
    assert_eq!(worker.configure(&" ".repeat(16 << 20)).unwrap_err().cause.to_string(), stalled);
}

/// A frame as long as can be of texts without a byte is what takes most memory to read: it ends in an error, and the memory is given
/// back.
#[test]
fn eight_million_texts() {
    check("configure-texts", &format!("{BROKE}rows for table 0, and there are 0"));
}

// ---- What it does while events flow ----

struct Ring(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Source for Ring {
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize {
        let mut records = self.0.lock().unwrap();
        let count = max.min(records.len());
        records.drain(..count).for_each(|record| f(&record));
        count
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// A map whose elements are a megabyte.
struct Large;

impl Maps for Large {
    fn read(&mut self, _: u32, _: &mut Names) -> Result<Elements, String> {
        let column = |values| Column { values, absent: Vec::new(), cut: Vec::new() };
        let numbers = || column(Values::U64(vec![u64::MAX; 60_000]));
        Ok(Elements { keys: vec![numbers()], values: vec![numbers()], strings: Vec::new() })
    }

    fn take(&mut self, map: u32, names: &mut Names) -> Result<Elements, String> {
        self.read(map, names)
    }

    fn write(&mut self, _: u32, _: &Elements, _: &Names) -> Result<(), String> {
        Ok(())
    }

    fn delete(&mut self, _: u32, _: &[Column], _: &[String], _: &Names) -> Result<(), String> {
        Ok(())
    }

    fn clear(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
}

/// A worker whose gate is open.
struct Run {
    pump: Pump,
    ring: Arc<Mutex<VecDeque<Vec<u8>>>>,
    inbox: Inbox,
}

fn run(attack: &str) -> Run {
    let int = |offset| Slot::Int { offset, size: 8, signed: false };
    let field = |name: &str, slot| Field { name: name.into(), ctype: String::new(), slot, naming: Naming::Plain };
    let streams = vec![Stream { name: "events".into(), fields: vec![field("n", int(24))], size: 32 }];
    let maps = vec![PluginMap {
        name: "large".into(),
        content: Content::Value,
        kind: MapKind::Hash,
        keys: vec![field("k", int(0))],
        bucket: None,
        value: field("", int(0)),
        key_size: 8,
        value_size: 8,
    }];
    let mut worker = hostile(attack);
    worker.configure("{}").unwrap();
    worker.prepare(&columns::schema(&streams, &maps)).unwrap();
    let (sender, inbox) = pump::notices().unwrap();
    let ring: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
    let answers = Answers { maps: Box::new(Large), ..Answers::none() };
    let pump = Pump::start(worker, 0, (&streams, &maps), Box::new(Ring(ring.clone())), answers, sender).unwrap();
    let gate = Some(Interval { earliest: 1, latest: 2 });
    let kernel = "6.18".into();
    pump.send(pump::Command::Start(Opening { gate, realtime_offset: 0, kernel, cpus: 2, handed_over: None }));
    Run { pump, ring, inbox }
}

impl Run {
    fn event(&self) -> Event {
        self.inbox.recv().unwrap().event
    }

    fn emit(&self, count: usize) {
        self.ring.lock().unwrap().extend((0..count).map(|_| vec![0; 32]));
    }

    /// Waits for its end: the error, and what of all events was read, delivered and undelivered.
    fn failed(self) -> (String, (u64, u64, u64)) {
        let error = loop {
            match self.event() {
                Event::Failed(error) => break error,
                Event::Started => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(!is_alive(self.pump.pid()));
        self.emit(1000);
        self.pump.send(pump::Command::Drain { deadline: Instant::now() + Duration::from_secs(5) });
        match self.event() {
            Event::Drained(drained) => (error.cause.to_string(), (drained.read, drained.delivered, drained.undelivered)),
            other => panic!("{other:?}"),
        }
    }
}

/// After ten events, with a thousand more afterwards that nobody takes.
#[track_caller]
fn check_flow(attack: &str, expect: &[&str], delivered: u64) {
    let run = run(attack);
    assert!(matches!(run.event(), Event::Started));
    run.emit(10);
    let (error, counts) = run.failed();
    assert!(expect.iter().any(|expect| error == format!("{BROKE}{expect}")), "{attack}: {error}");
    assert_eq!(counts, (1010, delivered, 1010 - delivered), "{attack}");
}

/// It claims more deliveries than there were: the one that there was counts, and the rest ends it.
#[test]
fn claims_deliveries() {
    check_flow("handle-claims", &["`handle` returned, and was not called"], 10);
    // Before there was any.
    let expect = format!("{BROKE}`handle` returned, and was not called");
    assert_eq!(run("start-claims").failed(), (expect, (1000, 0, 1000)));
}

/// It replies out of order, forges ids, and appends rows of a wrong shape.
#[test]
fn forges() {
    check_flow("handle-finish", &["`finish` returned while `handle` was running"], 0);
    check_flow("handle-table", &["rows for table 7, and there are 1"], 0);
    check_flow("handle-rows", &["table \"t\", column \"n\" has 1 cells, and there are 2 times"], 0);
    check_flow("handle-processes", &["a request for 257 processes, where 256 are allowed"], 0);
    check_flow("handle-map", &["a request for map 9, and there are 1"], 0);
}

/// It asks for facts about processes, of which its host was never told that it would: they are not granted, so there are none.
#[test]
fn asks_for_what_is_not_granted() {
    let run = run("handle-lookup");
    assert!(matches!(run.event(), Event::Started));
    run.emit(10);
    let (error, _) = run.failed();
    assert!(error.contains("Processes(Err(\"facts about processes are not granted"), "{error}");
}

/// It asks without reading the answers, a megabyte each: the host does not keep them for it.
#[test]
fn asks_and_does_not_read() {
    check_flow("handle-asks", &["it spoke while it was to wait for an answer"], 0);
    check_flow("handle-impatient", &["it spoke while it was to wait for an answer"], 0);
}

/// It takes a batch and is not heard of any more.
#[test]
fn keeps_a_batch() {
    for attack in ["handle-deaf", "handle-loop"] {
        let run = run(attack);
        assert!(matches!(run.event(), Event::Started));
        run.emit(10);
        let stalled = "its worker did not answer `handle` within 2.3s and was killed";
        assert_eq!(run.failed(), (stalled.to_owned(), (1010, 0, 1010)));
    }
}

// ---- What it does when its host is gone ----

/// Not a test: the host of [`outlives_its_host`], which is killed.
#[test]
fn host_to_be_killed() {
    let Ok(path) = std::env::var("PORTCULLIS_TEST_PID_FILE") else { return };
    let run = run("handle-loop");
    run.emit(10);
    thread::sleep(Duration::from_millis(100));
    fs::write(path, run.pump.pid().to_string()).unwrap();
    thread::sleep(Duration::from_secs(60));
}

/// It loops for ever and does not care for its socket: the kernel ends it with its host.
#[test]
fn outlives_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host_to_be_killed"])
        .env("PORTCULLIS_TEST_PID_FILE", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid: u32 = until("the worker", || fs::read_to_string(&path).ok()?.parse().ok());
    assert!(is_alive(pid) && Path::new(&format!("/proc/{pid}")).exists());
    host.kill().unwrap();
    host.wait().unwrap();
    until("the end of the worker", || (!is_alive(pid)).then_some(()));
}
