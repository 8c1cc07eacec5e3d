//! The symbolizer as a process: one that ends, hangs or lies, and its cage.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portcullis::{
    cage::User,
    symbols::{Frame, Options, Started, Symbols, SymbolsError},
};

use super::{libc, options, programs::run, symbols};

/// A symbolizer that is killed is started again, and whoever asked to be told is told.
#[test]
fn killed() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let started = Started(Arc::new(move |pid| tell.lock().unwrap().push(pid)));
    let symbols = Symbols::new(&Options { started: Some(started), ..options() });
    let path = libc();
    let first = symbols.start().unwrap();
    let expect = symbols.functions(&path, None, "getppid").unwrap();
    let process = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    // Until the socket is closed, which is before it can be waited for.
    while fs::read_to_string(format!("/proc/{first}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(symbols.functions(&path, None, "getppid").unwrap(), expect);
    let second = symbols.pid().unwrap();
    assert_eq!(*told.lock().unwrap(), [first, second]);
    assert!(!Path::new(&format!("/proc/{first}")).exists());
}

/// An executable that is started in place of the symbolizer; its socket is descriptor 0.
fn instead(directory: &Path, script: &str) -> Options {
    let program = directory.join("instead");
    fs::write(&program, script).unwrap();
    run("chmod +x $1", &[&program]);
    Options {
        executable: Some(program),
        starting: Duration::from_millis(300),
        timeout: Duration::from_millis(300),
        ..Options::default()
    }
}

/// The greeting of a symbolizer whose cage lacks nothing, a frame of two bytes, as a shell says it.
const READY: &str = "#!/bin/sh\nprintf '\\002\\000\\000\\000\\000\\000' >&0\n";

/// A symbolizer that can't be started is given up; addresses stay.
#[test]
fn useless() {
    let directory = tempfile::tempdir().unwrap();
    for script in
        ["#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\necho nonsense >&0\nexec sleep 60", "#!/bin/sh\n", "#!/bin/sh\nkill -SEGV $$\n"]
    {
        let symbols = Symbols::new(&instead(directory.path(), script));
        let path = libc();
        let begin = Instant::now();
        let error = symbols.functions(&path, None, "getppid").unwrap_err();
        assert!(error.to_string().contains("can't be started: "), "{error}");
        for _ in 0..10 {
            let error = symbols.functions(&path, None, "getppid").unwrap_err();
            assert!(error.to_string().contains("failed too often"), "{error}");
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert_eq!(symbols.user(std::process::id(), &[5]), [[Frame { address: 5, ..Frame::default() }]]);
        let marked = useless as fn() as usize as u64;
        let frame = &symbols.user(std::process::id(), &[marked])[0][0];
        assert!(frame.function.is_none() && frame.module.is_some(), "{frame:?}");
        assert_eq!(symbols.pid(), None);
        assert!(symbols.start().is_err());
    }
}

/// A request that takes too long ends the symbolizer, and after a few the file is given up; so it is with answers that can't be.
#[test]
fn hangs_and_lies() {
    let directory = tempfile::tempdir().unwrap();
    for (what, expect) in [
        ("exec sleep 60", "did not answer in time"),
        ("exit", "it ended"),
        ("head -c 4 <&0 >/dev/null; printf '\\001\\000\\000\\000\\003' >&0; exec sleep 60", "an answer to something else"),
        ("head -c 4 <&0 >/dev/null; printf '\\377\\377\\377\\377' >&0; exec sleep 60", ""),
        ("head -c 4 <&0 >/dev/null; printf '\\002\\000\\000\\000\\003\\003\\003' >&0; exec sleep 60", ""),
    ] {
        let symbols = Symbols::new(&instead(directory.path(), &format!("{READY}{what}\n")));
        let path = libc();
        let begin = Instant::now();
        let error = symbols.functions(&path, None, "getppid").unwrap_err();
        assert!(matches!(error, SymbolsError::Parse { .. }) && error.to_string().contains(expect), "{what}: {error}");
        // It is not tried again.
        let again = symbols.functions(&path, None, "getpid").unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(symbols.pid(), None);
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
}

/// Nobody who only notes a process waits for the symbolizer.
#[test]
fn noting_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { timeout: Duration::from_secs(1), ..instead(directory.path(), &format!("{READY}exec sleep 60\n")) };
    let symbols = Symbols::new(&options);
    symbols.start().unwrap();
    let path = libc();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| symbols.functions(&path, None, "getppid"));
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        symbols.note_process(other.id());
        symbols.note_process(std::process::id());
        assert!(begin.elapsed() < Duration::from_millis(300), "{:?}", begin.elapsed());
        assert!(!asks.is_finished());
    });
    other.kill().unwrap();
    other.wait().unwrap();
}

/// What the cage leaves: a user of its own, no capabilities, filtered system calls, its socket and nothing else.
#[test]
fn cage() {
    let symbols = symbols();
    let pid = symbols.start().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Seccomp:"), ["2"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("Threads:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    if rustix::process::geteuid().is_root() {
        let uid: u32 = field("Uid:")[0].parse().unwrap();
        assert!(field("Uid:") == vec![uid.to_string(); 4] && (User { uid, gid: uid }).is_own(), "{uid}");
        assert_eq!(field("Groups:"), [""; 0]);
    }
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(descriptors(pid), 4);
    // Files that were parsed are not held open, and what it opens itself it can't have opened.
    let path = libc();
    symbols.functions(&path, None, "getppid").unwrap();
    assert_eq!(descriptors(pid), 4);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "1000");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("5"));
    drop(symbols);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
