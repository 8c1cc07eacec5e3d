//! What it tries of other workers: to signal them, to look into them, and to take their memory.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use portcullis::{
    cage::{Layer, User},
    worker::Worker,
};
use portcullis_tests::{
    note,
    watch::{self, is_alive},
};

use super::{hostile, refused};

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
