//! Every thread of every worker, as the kernel has it: a user of its own, nothing allowed, nothing held but the way to the host, nothing of the
//! machine in sight; while it compiles and while events flow. What native code can do in there is in `takeover/`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use portcullis::cage::User;
use portcullis_tests::{
    Bundle, adhoc, assert_no_programs, component, foreign, lock, manifest, portcullis,
    watch::{Watched, assert_gone, descriptors, facts, is_alive, state, threads, until},
    workload,
};
use rustix::process::Signal;

/// What a worker is called when it has locked itself in: the last step of that (host/src/cage/mod.rs).
const CAGED: &str = "portcullis-work";

/// What a sample of a worker has shown.
#[derive(Debug, Default)]
struct Seen {
    samples: u32,
    threads: BTreeSet<usize>,
}

/// Takes a sample of a worker that has locked itself in; false if it has ended.
fn sample(pid: u32, seen: &mut Seen) -> bool {
    let threads = threads(pid);
    let fds = descriptors(pid);
    if !is_alive(pid) || threads.is_empty() {
        return false;
    }
    for thread in &threads {
        let is = |name: &str, value: &str| assert_eq!(thread[name], value, "{name}: {thread:?}");
        let uid: u32 = thread["Uid"].split(' ').next().unwrap().parse().unwrap();
        assert!((User { uid, gid: uid }).is_own(), "{thread:?}");
        is("Uid", &format!("{uid} {uid} {uid} {uid}"));
        is("Gid", &thread["Uid"]);
        is("Groups", "");
        is("NoNewPrivs", "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            is(set, "0000000000000000");
        }
        // A filter, and not more than one.
        is("Seccomp", "2");
        is("Seccomp_filters", "1");
        // The numbers that it has in the namespaces of pids: in its own, the main thread has the first.
        let numbers: Vec<&str> = thread["NSpid"].split(' ').collect();
        assert!(numbers.len() >= 2 && (thread["Pid"] != thread["Tgid"] || numbers.last() == Some(&"1")), "{thread:?}");
    }
    // A worker that ends in between has fewer, and is no worker any more in a moment.
    if fds.len() < 5
        && until("its descriptors or its end", || (!is_alive(pid) || descriptors(pid).len() == 5).then(|| !is_alive(pid)))
    {
        return false;
    }
    let fds = if fds.len() < 5 { descriptors(pid) } else { fds };
    if fds.is_empty() {
        return is_alive(pid);
    }
    let fds: Vec<(u32, &str)> = fds.iter().map(|(fd, what)| (*fd, what.split(":[").next().unwrap())).collect();
    let columns = "/memfd:portcullis-columns (deleted)";
    assert_eq!(fds, [(0, "/dev/null"), (1, "/dev/null"), (2, "/dev/null"), (3, "socket"), (4, columns)]);
    seen.samples += 1;
    seen.threads.insert(threads.len());
    true
}

/// The namespaces of a worker are its own, its root is empty, its user namespace knows nobody, and its limits are tight.
fn assert_apart(pid: u32) {
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup", "pid"] {
        assert_ne!(namespace(&pid.to_string(), kind), namespace("self", kind), "{kind}");
    }
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root/")).unwrap().count(), 0);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.lines().count() == 1 && mounts.contains(" / ro,nosuid,nodev,noexec"), "{mounts}");
    for map in ["uid_map", "gid_map"] {
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/{map}")).unwrap(), "", "{map}");
    }
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "1000\n");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let cpus = thread::available_parallelism().unwrap().get() as u64;
    for (name, limit) in [
        ("Max file size", 0),
        ("Max core file size", 0),
        ("Max open files", 5),
        ("Max processes", 16 + cpus),
        // The component may have 64 MiB, unless the manifest says otherwise.
        ("Max data size", (2 << 30) + (64 << 20)),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let values: Vec<&str> = line.split_whitespace().take(2).collect();
        assert_eq!(values, [limit.to_string(), limit.to_string()], "{name}");
    }
}

/// Waits until a worker has locked itself in. Until then it is a process of the host's user with one thread.
fn caged(pid: u32) {
    until("the cage", || {
        let main = facts(&format!("/proc/{pid}"))?;
        if main["Name"] == CAGED {
            return Some(());
        }
        assert_eq!(main["Threads"], "1", "{main:?}");
        None
    });
}

/// Before it has locked itself in a worker reads nothing: what was sent to it waits in the socket.
#[test]
fn nothing_is_read_outside_the_cage() {
    if lock().is_none() {
        return;
    }
    let mut outside = 0;
    for _ in 0..20 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let memory = rustix::fs::memfd_create("columns", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, 1 << 20).unwrap();
        // Whatever a host sends first.
        (&ours).write_all(&[0x55; 4096]).unwrap();
        let sent = unread(&ours);
        assert!(sent > 0);
        let mut worker = Command::new(portcullis())
            .args(["worker", "test"])
            .stdin(OwnedFd::from(theirs))
            .stdout(memory)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the cage or the end", || {
            // In this order: what stands outside the cage after the first look stood outside at it.
            let unread = unread(&ours);
            let facts = facts(&format!("/proc/{}", worker.id()))?;
            if facts["Name"] != CAGED && facts["State"] != "Z (zombie)" {
                assert_eq!(unread, sent, "{facts:?}");
                outside += 1;
                return None;
            }
            Some(())
        });
        drop(ours);
        worker.wait().unwrap();
    }
    assert!(outside > 20, "seldom was a worker met outside its cage: {outside}");
}

/// What was sent and nobody has read, in the kernel's measure (SIOCOUTQ, unix(7)).
fn unread(socket: &UnixStream) -> i32 {
    use std::os::fd::AsRawFd;
    let mut count = 0;
    // SAFETY: the call writes an int, for which there is room.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    assert_eq!(result, 0);
    count
}

fn plugin(name: &str, source: &str, config: &str) -> String {
    format!("[[plugin]]\nname = {name:?}\nsource = {source:?}\nconfig = {{ {config} }}\ngrants = {{ probes = [\"*\"] }}\n")
}

/// While components compile, on threads of the compiler's own, and to the end of a worker whose component is no plugin.
#[test]
fn while_compiling() {
    let Some(_lock) = lock() else { return };
    let plugins = [plugin("large", "large.wasm", ""), plugin("larger", "large.wasm", "")];
    let bundle = Bundle::new(&manifest(&plugins)).file("large.wasm", &foreign::large(250));
    let run = Watched::start(&bundle, &["--", "true"]);
    let workers = [run.worker("large"), run.worker("larger")];
    workers.iter().for_each(|pid| caged(*pid));
    let mut seen = [Seen::default(), Seen::default()];
    loop {
        let alive: Vec<bool> = workers.iter().zip(&mut seen).map(|(pid, seen)| sample(*pid, seen)).collect();
        if !alive.contains(&true) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    for seen in seen {
        // The main thread, the one that reads the socket, and those that compile.
        assert!(seen.samples >= 20 && seen.threads.last() > Some(&2), "{seen:?}");
    }
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_gone(&workers);
    assert_no_programs();
}

/// From the cage on, through all calls before the opening, while events flow, and until the run is over.
#[test]
fn while_events_flow() {
    let Some(_lock) = lock() else { return };
    let faulty = component("plugins", "faulty");
    let calls = [("calls", "tracepoint:syscalls:sys_enter_getppid", None, "emit s { pid, comm }")];
    let plugins = [
        plugin("flow", faulty.to_str().unwrap(), "announce = true"),
        plugin("loop", faulty.to_str().unwrap(), "at = \"finish\", how = \"slow\""),
        adhoc("rows", "8MiB", &calls),
    ];
    let bundle = Bundle::new(&manifest(&plugins));
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", "1000000000"]);
    let workers: Vec<u32> = ["flow", "loop", "rows"].iter().map(|name| run.worker(name)).collect();
    workers.iter().for_each(|pid| caged(*pid));
    workers.iter().for_each(|pid| assert_apart(*pid));
    let mut seen = Seen::default();
    while !run.said().contains("flow: events flow\n") {
        assert!(is_alive(run.pid()), "{}", run.said());
        workers.iter().for_each(|pid| assert!(sample(*pid, &mut seen)));
    }
    assert!(seen.samples >= 20, "{seen:?}");
    let mut seen = Seen::default();
    for _ in 0..50 {
        workers.iter().for_each(|pid| assert!(sample(*pid, &mut seen)));
        thread::sleep(Duration::from_millis(2));
    }
    // The main thread, the one that reads the socket, the one that watches the clock.
    assert!(seen.samples == 150 && seen.threads.last() >= Some(&3), "{seen:?}");
    run.signal(Signal::INT);
    while workers.iter().any(|pid| sample(*pid, &mut seen)) {}
    let outcome = run.finish();
    outcome.good();
    assert_no_programs();
}

/// The host, by contrast, is what holds things: the same eyes see them there.
#[test]
fn what_the_host_holds() {
    let Some(_lock) = lock() else { return };
    let faulty = component("plugins", "faulty");
    let bundle = Bundle::new(&manifest(&[plugin("flow", faulty.to_str().unwrap(), "announce = true")]));
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", "1000000000"]);
    run.wait_for("events flow\n");
    let held: BTreeSet<String> = descriptors(run.pid()).into_iter().map(|(_, what)| what).collect();
    for what in ["anon_inode:bpf-map", "anon_inode:bpf-prog"] {
        assert!(held.contains(what), "{what} is not in {held:?}");
    }
    assert!(threads(run.pid()).iter().all(|thread| thread["Uid"] == "0 0 0 0" && thread["CapEff"] != "0000000000000000"));
    // COMMAND got none of it. What whoever runs the tests left open for all their children is theirs.
    let commands = run.commands();
    assert_eq!(commands.len(), 1);
    let held = descriptors(commands[0]);
    let ours = |what: &str| what.contains("bpf") || what.contains("perf") || what.contains("memfd") || what.starts_with("socket");
    assert!(held.iter().all(|(_, what)| !ours(what)), "{held:?}");
    assert!(matches!(state(commands[0]), Some('R' | 'S')));
    run.signal(Signal::INT);
    run.finish().good();
    assert_no_programs();
}

/// `portcullis worker`, typed by a person, says what it is and does nothing.
#[test]
fn by_hand() {
    let output = Command::new(portcullis()).args(["worker", "x"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = "`portcullis worker` is for portcullis itself; see `portcullis --help`\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
}
