//! The doors of WASI: what a plugin reaches of the environment, the file system and the network when its bundle grants it, and what it
//! does not. Plugins run in real workers, no probe is loaded.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use portcullis::{
    cage::Sandbox,
    contract::{Level, Limits, Table, TableRows},
    doors::{Directory, Doors, OpenDirectory, Opened},
    worker::{self, Output, Worker, WorkerError},
};
use portcullis_tests::{component, portcullis};
use rustix::fs::{Mode, OFlags};

/// The lines that a plugin printed.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl Output for Lines {
    fn rows(&self, _: &str, _: &Table, _: &TableRows) -> io::Result<()> {
        Ok(())
    }

    fn line(&self, _: &str, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push(text.to_owned());
        Ok(())
    }

    fn log(&self, _: &str, _: Level, _: &str) {}

    fn metric(&self, _: &str, _: &str, _: f64) {}
}

/// What came of trying all this, a line each, with these doors open; and how the call that tried it ended.
fn attempt(doors: Opened, call: Duration, tries: &[String]) -> (Vec<String>, Result<(), WorkerError>) {
    let lines = Arc::new(Lines::default());
    let options = worker::Options {
        name: "faulty".into(),
        limits: Limits { call: call.as_nanos() as u64, ..Limits::default() },
        output: lines.clone(),
        executable: Some(portcullis()),
        cache: None,
        sandbox: Sandbox::default(),
        doors,
    };
    let mut worker = Worker::spawn(fs::read(component("plugins", "faulty")).unwrap(), options).unwrap();
    let config = serde_json::json!({ "tries": tries });
    let ended = worker.configure(&config.to_string()).map(drop);
    drop(worker);
    let lines = std::mem::take(&mut *lines.0.lock().unwrap());
    (lines, ended)
}

/// Each of these is tried, and this comes of it.
#[track_caller]
fn check(doors: &Doors, expect: &[(&str, &str)]) {
    check_opened(doors.open().unwrap(), expect);
}

#[track_caller]
fn check_opened(doors: Opened, expect: &[(&str, &str)]) {
    let tries: Vec<String> = expect.iter().map(|(words, _)| (*words).to_owned()).collect();
    let (lines, ended) = attempt(doors, Duration::from_secs(10), &tries);
    ended.unwrap();
    let expect: Vec<String> = expect.iter().map(|(words, outcome)| format!("{words}: {outcome}")).collect();
    assert_eq!(lines, expect);
}

/// A directory that the worker's user may use, with a file and a directory in it, and a file beside it.
struct Place {
    outer: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { outer: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.inner().join("deep/er")).unwrap();
        fs::write(place.inner().join("file"), "contents").unwrap();
        fs::write(place.inner().join("deep/er/file"), "deep").unwrap();
        fs::write(place.outer.path().join("secret"), "secret").unwrap();
        for path in [place.outer.path().to_owned(), place.inner(), place.inner().join("deep"), place.inner().join("deep/er")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(place.inner().join("file"), fs::Permissions::from_mode(0o666)).unwrap();
        place
    }

    fn inner(&self) -> PathBuf {
        self.outer.path().join("inner")
    }

    /// It, as `/data`.
    fn doors(&self, write: bool) -> Doors {
        let inner = self.inner().to_str().unwrap().to_owned();
        let directory = Directory::new(inner, Some("/data".into()), write, Path::new(""));
        Doors { directories: vec![directory], ..Doors::default() }
    }
}

/// Without a grant every door is shut, in WASI's own words; and waiting is the end, as it always was.
#[test]
fn shut() {
    check(
        &Doors::default(),
        &[
            ("env", "ok "),
            ("env PATH", "ok is not set"),
            ("read /etc/passwd", "NotFound"),
            ("write /x", "NotFound"),
            ("tcp 127.0.0.1:1", "PermissionDenied"),
            ("udp 127.0.0.1:1", "PermissionDenied"),
            ("listen 127.0.0.1:0", "PermissionDenied"),
        ],
    );
    let (_, ended) = attempt(Opened::default(), Duration::from_secs(10), &["sleep 1".into()]);
    assert!(ended.unwrap_err().to_string().ends_with("a plugin must not sleep or wait"));
}

/// Of the environment the plugin has what is named, and nothing else; a door like this opens no other.
#[test]
fn environment() {
    let doors = Doors { environment: ["PATH".to_owned(), "PORTCULLIS_NOT_SET".to_owned()].into(), ..Doors::default() };
    let path = format!("ok {}", std::env::var("PATH").unwrap());
    check(&doors, &[("env", "ok PATH"), ("env PATH", &path), ("env HOME", "ok is not set"), ("read /etc/passwd", "NotFound")]);
}

/// What is in a directory can be read, however deep, and can't be changed in any way.
#[test]
fn a_directory_to_read() {
    let place = Place::new();
    check(
        &place.doors(false),
        &[
            ("list /data", "ok deep file"),
            ("read /data/file", "ok contents"),
            ("read /data/deep/er/file", "ok deep"),
            ("read /data/none", "NotFound"),
            ("write /data/file", "PermissionDenied"),
            ("write /data/new", "PermissionDenied"),
            ("mkdir /data/new", "PermissionDenied"),
            ("remove /data/file", "PermissionDenied"),
            ("rename /data/file /data/new", "PermissionDenied"),
            ("link /data/file /data/new", "PermissionDenied"),
            ("read /etc/passwd", "NotFound"),
            ("env", "ok "),
            ("tcp 127.0.0.1:1", "PermissionDenied"),
            ("sleep 1", "ok "),
        ],
    );
    assert_eq!(fs::read_to_string(place.inner().join("file")).unwrap(), "contents");
}

/// What is in a directory that may be written to is made, changed, named anew and removed, as the worker's own user; a file may become a
/// gibibyte long, and 64 may be open at a time.
#[test]
fn a_directory_to_write() {
    let place = Place::new();
    check(
        &place.doors(true),
        &[
            ("write /data/new", "ok "),
            ("append /data/new", "ok "),
            ("read /data/new", "ok written more"),
            ("write /data/file", "ok "),
            ("mkdir /data/made", "ok "),
            ("rename /data/new /data/made/new", "ok "),
            ("link /data/made/new /data/second", "ok "),
            ("remove /data/second", "ok "),
            ("list /data/made", "ok new"),
            ("fill /data/large 1024", "ok "),
            ("fill /data/larger 1025", "FileTooLarge"),
            ("open /data/file 60", "ok 60"),
            ("open /data/file 70", "Uncategorized"),
        ],
    );
    assert_eq!(fs::read_to_string(place.inner().join("file")).unwrap(), "written");
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt as _;
        let made = fs::metadata(place.inner().join("made/new")).unwrap();
        assert_ne!(made.uid(), 0);
    }
}

/// Neither `..` nor links lead out of a directory, also where its user could follow them; links within do what they should.
#[test]
fn no_way_out() {
    let place = Place::new();
    let link = |to: &Path, name: &str| symlink(to, place.inner().join(name)).unwrap();
    link(Path::new("file"), "within");
    link(Path::new("../secret"), "up");
    link(&place.outer.path().join("secret"), "absolute");
    link(Path::new("/"), "root");
    link(Path::new("/proc/self/root"), "magic");
    let expect = [
        ("read /data/within", "ok contents"),
        ("read /data/deep/../file", "ok contents"),
        ("read /data/up", "PermissionDenied"),
        ("read /data/absolute", "PermissionDenied"),
        ("read /data/root/etc/passwd", "PermissionDenied"),
        ("read /data/magic/etc/passwd", "PermissionDenied"),
        ("read /data/../secret", "PermissionDenied"),
        ("write /data/up", "PermissionDenied"),
    ];
    let opened = place.doors(true).open().unwrap();
    let directory = File::from(rustix::fs::open(place.inner(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap());
    // As it is where the host may make no mount.
    let plain = OpenDirectory { fd: Arc::new(directory.into()), own_mount: false, ..opened.directories[0].clone() };
    for doors in [opened, Opened { directories: vec![plain], ..Opened::default() }] {
        check_opened(doors, &expect);
    }
    assert_eq!(fs::read_to_string(place.outer.path().join("secret")).unwrap(), "secret");
}

/// Someone who answers each connection with what was said.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).unwrap();
            stream.write_all(&said.map(|byte| byte.to_ascii_uppercase())).unwrap();
        }
    });
    address
}

fn network(peers: &str) -> Doors {
    Doors { network: [peers.parse().unwrap()].into(), ..Doors::default() }
}

/// The plugin connects to what is granted, and to nothing else; it neither listens nor sends datagrams nor opens files.
#[test]
fn connections() {
    let (granted, other) = (echo(), echo());
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut doors = network(&granted.to_string());
    doors.network.insert(refused.to_string().parse().unwrap());
    check(
        &doors,
        &[
            (&format!("tcp {granted}"), "ok HELLO"),
            (&format!("tcp {granted}"), "ok HELLO"),
            (&format!("tcp {refused}"), "ConnectionRefused"),
            (&format!("tcp {other}"), "PermissionDenied"),
            (&format!("tcp 127.0.0.2:{}", granted.port()), "PermissionDenied"),
            (&format!("udp {granted}"), "PermissionDenied"),
            ("listen 127.0.0.1:0", "PermissionDenied"),
            ("tcp localhost:80", "Uncategorized"),
            ("read /etc/passwd", "NotFound"),
            ("sleep 1", "ok "),
        ],
    );
    check(&network(&format!("127.0.0.0/8:{}", granted.port())), &[(&format!("tcp {granted}"), "ok HELLO")]);
}

/// Whatever it waits for, a call ends when its time is over, and says so: a peer that is silent, one that takes nothing, and sleep.
#[test]
fn waiting_has_an_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for tries in [format!("tcp {address}"), format!("flood {address}"), "sleep 60000".to_owned()] {
        let doors = network(&address.to_string()).open().unwrap();
        let start = Instant::now();
        let (lines, ended) = attempt(doors, Duration::from_millis(300), std::slice::from_ref(&tries));
        assert_eq!(ended.unwrap_err().to_string(), "plugin \"faulty\": `configure` took longer than 300ms", "{tries}");
        assert!(lines.is_empty() && start.elapsed() > Duration::from_millis(300), "{lines:?}");
    }
    let place = Place::new();
    let (_, ended) = attempt(place.doors(false).open().unwrap(), Duration::from_millis(300), &["sleep 60000".into()]);
    assert_eq!(ended.unwrap_err().to_string(), "plugin \"faulty\": `configure` took longer than 300ms");
}

/// A file that never answers, as a slow file system has them, costs the worker: the host ends it soon after the call's time is over.
#[test]
fn a_file_that_never_answers() {
    let place = Place::new();
    let fifo = place.inner().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let (_, ended) = attempt(place.doors(false).open().unwrap(), Duration::from_millis(300), &["read /data/fifo".into()]);
    let expect = "plugin \"faulty\": its worker did not answer `configure` within 2.3s and was killed";
    assert_eq!(ended.unwrap_err().to_string(), expect);
}
