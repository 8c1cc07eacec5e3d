//! The cage of a worker: what it holds, when, and that nobody outlives its host.

use std::{fs, sync::Arc, time::Duration};

use portcullis::{
    cage::{Layer, Layers, Missing, Sandbox, User},
    doors::Opened,
    worker::{Options, Worker},
};

use crate::{
    guest::{ECHO, Guest},
    looping,
    run::{Run, Said, alive, counts, limits, record, spawn, within},
};

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
        .args(["--exact", "cage::host_to_be_killed"])
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
pub(super) fn check_cage(pid: u32) {
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
