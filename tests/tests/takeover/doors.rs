//! What it tries with doors open: beyond the directories and the peers that it was granted there is nothing.

use std::{
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
    sync::Arc,
    thread,
};

use portcullis::{
    cage::{self, Layer},
    doors::{Directory, Doors, MAX_PEERS, OpenDirectory, Opened},
};
use portcullis_tests::{lock, note};

use super::{hostile_with, tried_with};

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
    let _lock = rustix::process::geteuid().is_root().then(lock);
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (granted, other) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let network = [format!("127.0.0.1:{}", port(&granted)).parse().unwrap()].into();
    let doors = Doors { network, ..Doors::default() }.open().unwrap();
    let tried = tried_with(&format!("peers:{}", u32::from(port(&granted)) << 16 | u32::from(port(&other))), doors);
    assert!(tried.len() >= 24, "{tried:?}");
    // TCP is known from version 4 on; the filter of connections knows ports as well.
    let by_landlock = cage::landlock_version().is_some_and(|version| version >= 4);
    let held = by_landlock || connections_are_filtered();
    for (name, error) in tried {
        let expect = match name.as_str() {
            name if name.contains("may:") => 0,
            "landlock:connect" => {
                if by_landlock {
                    libc::EACCES
                } else if held {
                    libc::EPERM
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

/// Whether a worker that may connect has the layer that keeps it to addresses. Where this test can make a cgroup, its host can.
fn connections_are_filtered() -> bool {
    let network = ["127.0.0.1:1".parse().unwrap()].into();
    let doors = Doors { network, ..Doors::default() }.open().unwrap();
    let missing = hostile_with("peaceful", Arc::default(), doors).account().unwrap().missing;
    let missing = missing.into_iter().find(|missing| missing.layer == Layer::Connections);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2");
    let group = root
        .map(|fields| Path::new(fields[1]).join(format!("portcullis-test-{}-{:?}", std::process::id(), thread::current().id())));
    let can_make = group.is_some_and(|group| fs::create_dir(&group).and_then(|()| fs::remove_dir(&group)).is_ok());
    assert!(missing.is_none() || !can_make || !rustix::process::geteuid().is_root(), "{missing:?}");
    missing.inspect(|missing| note(&format!("addresses of connections are not filtered here: {missing}"))).is_none()
}

/// With an address granted it connects to that, however it writes it, and to the same port of no other, which is open all the same.
#[test]
fn addresses() {
    let _lock = rustix::process::geteuid().is_root().then(lock);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // As many as there can be, which the kernel has to take.
    let others = (1..MAX_PEERS).map(|other| format!("[fd00:{other:x}::/127]:{port}"));
    let network = others.chain([format!("127.0.0.1:{port}")]).map(|peers| peers.parse().unwrap()).collect();
    let doors = Doors { network, ..Doors::default() }.open().unwrap();
    let tried = tried_with(&format!("addresses:{port}"), doors);
    let held = connections_are_filtered();
    assert!(tried.len() >= 6, "{tried:?}");
    for (name, error) in tried {
        match name.split_once(':').unwrap() {
            ("may", _) => assert_eq!(error, 0, "{name}"),
            ("open", _) => assert_eq!(error, if held { libc::EPERM } else { 0 }, "{name}"),
            // Nobody listens there.
            _ => assert_eq!(error == libc::EPERM, held, "{name}: {error}"),
        }
    }
}
