//! Whose processes a run sees, as users name them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use portcullis_ebpf::{
    Limit,
    spec::{Cgroup, Process},
};
use serde::{Deserialize, Deserializer};

use crate::{
    cgroups::{self, Mounts, Tree},
    proc_status,
};

/// The number of the initial cgroup namespace in /proc: `PROC_CGROUP_INIT_INO`, include/linux/proc_ns.h.
const INITIAL_NAMESPACE: u64 = 0xefff_fffb;
/// How deep control groups are looked through.
const DEPTH: u32 = 16;
/// The shortest part of a container's id that is looked for, as `docker ps` shows it.
const SHORTEST_ID: usize = 12;

/// What limits a run besides COMMAND; everything that is there holds at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// One process, with which the run ends.
    pub pid: Option<u32>,
    /// One user.
    pub uid: Option<u32>,
    /// One control group, with those below it.
    pub cgroup: Option<Cgroup>,
}

impl Limits {
    /// What programs ask of a task. The process is marked in the process table instead, since the run ends with it.
    pub fn of_tasks(&self) -> Vec<Limit> {
        self.uid.map(Limit::User).into_iter().chain(self.cgroup.map(Limit::Cgroup)).collect()
    }
}

/// Whose hits a plugin is granted, by name; everything that is there holds at once, and beside whatever limits the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Granted {
    /// One process, without its children.
    pub pid: Option<u32>,
    /// One user, by number or name.
    #[serde(deserialize_with = "number_or_name")]
    pub uid: Option<String>,
    /// One control group, with those below it.
    pub cgroup: Option<String>,
}

/// A user as files have it: a number or a name.
fn number_or_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum User {
        Number(u32),
        Name(String),
    }
    Ok(Some(match User::deserialize(deserializer)? {
        User::Number(uid) => uid.to_string(),
        User::Name(name) => name,
    }))
}

impl Granted {
    /// Nothing is limited.
    pub fn is_everything(&self) -> bool {
        *self == Granted::default()
    }

    /// What the names mean now.
    pub fn limits(&self) -> Result<Vec<Limit>, ScopeError> {
        let process = self.pid.map(process).transpose()?.map(Limit::Process);
        let user = self.uid.as_deref().map(user).transpose()?.map(Limit::User);
        let cgroup = self.cgroup.as_deref().map(cgroup).transpose()?.map(Limit::Cgroup);
        Ok([process, user, cgroup].into_iter().flatten().collect())
    }
}

/// What was named is not there, or not one.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// No such process.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// A thread that is not the first of its process.
    #[error("{0} is a thread; its process is the `Tgid` in /proc/{0}/status")]
    Thread(u32),
    /// No such user.
    #[error("there is no user `{0}` in /etc/passwd; a number would do")]
    NoUser(String),
    /// What a name means could not be read.
    #[error("{what}: {error}")]
    Read {
        /// The file.
        what: String,
        /// Why not.
        error: io::Error,
    },
    /// The unified hierarchy, the only one that programs know, is not there.
    #[error("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")]
    NotMounted,
    /// A part of it is, and nothing else.
    #[error(
        "of the tree of control groups only {} is mounted, at {}; the whole of it: mount -t cgroup2 none /sys/fs/cgroup", .root.display(), .point.display()
    )]
    Part {
        /// The part.
        root: PathBuf,
        /// Where.
        point: PathBuf,
    },
    /// Levels of control groups can't be told.
    #[error(
        "this process is in a cgroup namespace of its own, where the levels of control groups are not those that the kernel's probes see; run Portcullis in the host's (docker run --cgroupns=host)"
    )]
    Namespace,
    /// No such control group.
    #[error(
        "there is no control group `{name}` below {root}: a path, the name of a systemd unit, or the id of a container ({SHORTEST_ID} digits or more) would do"
    )]
    NoCgroup {
        /// What was asked for.
        name: String,
        /// Where the hierarchy is mounted.
        root: String,
    },
    /// Several control groups have the name.
    #[error("`{name}` may be any of these control groups: {}", .found.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their paths.
        found: Vec<String>,
    },
}

/// A process that is there. Its start tells it from another that gets its number.
pub fn process(id: u32) -> Result<Process, ScopeError> {
    let gone = |what: String| {
        move |error: io::Error| match error.raw_os_error() {
            // It may end between the opening of the file and the reading.
            Some(libc::ENOENT | libc::ESRCH) => ScopeError::NoProcess(id),
            _ => ScopeError::Read { what, error },
        }
    };
    let at = |file: &str| format!("/proc/{id}/{file}");
    let status = fs::read_to_string(at("status")).map_err(gone(at("status")))?;
    let field = |name: &str| proc_status::number::<u32>(&status, name);
    if field("Tgid") != field("Pid") {
        return Err(ScopeError::Thread(id));
    }
    let stat = fs::read_to_string(at("stat")).map_err(gone(at("stat")))?;
    let started = started_in(&stat).ok_or_else(|| {
        let error = io::Error::other("there is no time of its start");
        ScopeError::Read { what: at("stat"), error }
    })?;
    Ok(Process { id, started })
}

/// The field `starttime` of proc_pid_stat(5), the 22nd; the second, the name, may hold blanks and brackets.
pub(crate) fn started_in(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// The number of a user, who may be given by name.
pub fn user(name: &str) -> Result<u32, ScopeError> {
    match name.parse() {
        Ok(uid) => Ok(uid),
        Err(_) => {
            let users = read("/etc/passwd")?;
            user_in(&users, name).ok_or_else(|| ScopeError::NoUser(name.to_owned()))
        }
    }
}

/// Lines of passwd(5): `name:password:uid:...`.
fn user_in(users: &str, name: &str) -> Option<u32> {
    let line = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))?;
    line.get(2)?.parse().ok()
}

/// A control group by its path, below the hierarchy's root or absolute, by a systemd unit, or by a container's id.
pub fn cgroup(name: &str) -> Result<Cgroup, ScopeError> {
    if fs::metadata("/proc/self/ns/cgroup").is_ok_and(|file| file.ino() != INITIAL_NAMESPACE) {
        return Err(ScopeError::Namespace);
    }
    let mounts = Mounts::read().map_err(|cgroups::ReadError { file, error }| ScopeError::Read { what: file.into(), error })?;
    cgroup_in(root_of(&mounts)?, name)
}

fn read(path: &str) -> Result<String, ScopeError> {
    fs::read_to_string(path).map_err(|error| ScopeError::Read { what: path.to_owned(), error })
}

/// Where the whole of the unified hierarchy is: levels are counted from its root.
fn root_of(mounts: &Mounts) -> Result<&Path, ScopeError> {
    mounts.whole(Tree::Unified).ok_or_else(|| match mounts.of(Tree::Unified).next() {
        Some(part) => ScopeError::Part { root: part.root.clone(), point: part.point.clone() },
        None => ScopeError::NotMounted,
    })
}

fn cgroup_in(root: &Path, name: &str) -> Result<Cgroup, ScopeError> {
    let none = || ScopeError::NoCgroup { name: name.to_owned(), root: root.display().to_string() };
    let path = if Path::new(name).starts_with(root) { PathBuf::from(name) } else { root.join(name.trim_start_matches('/')) };
    let inside = !name.is_empty() && !cgroups::leads_out(&path);
    let path = if inside && path.is_dir() {
        path
    } else {
        let mut found = Vec::new();
        if !name.is_empty() && !name.contains('/') {
            look(root, name, DEPTH, &mut found);
        }
        match found.as_slice() {
            [] => return Err(none()),
            [one] => one.clone(),
            several => {
                let found = several.iter().map(|path| path.display().to_string()).collect();
                return Err(ScopeError::Ambiguous { name: name.to_owned(), found });
            }
        }
    };
    let id = fs::metadata(&path).map_err(|error| ScopeError::Read { what: path.display().to_string(), error })?.ino();
    let below = path.strip_prefix(root).map_err(|_| none())?;
    Ok(Cgroup { id, level: below.components().count() as u32 })
}

/// The control groups that have the name; what is below one of them is of it.
fn look(directory: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
    // One that can't be read, or that goes away meanwhile, is not there.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if means(name, &entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        } else if depth > 0 {
            look(&entry.path(), name, depth - 1, found);
        }
    }
}

/// Whether a name means a control group: its own, or a container's id, which stands alone or as in `docker-ID.scope`.
fn means(name: &str, group: &str) -> bool {
    let is_id = name.len() >= SHORTEST_ID && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let stem = group.strip_suffix(".scope").unwrap_or(group);
    let id = stem.rsplit('-').next().unwrap_or(stem);
    name == group || is_id && id.starts_with(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Users by the lines of passwd(5).
    #[test]
    fn users() {
        let users = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nbroken\n";
        assert_eq!(user_in(users, "www-data"), Some(33));
        assert_eq!(user_in(users, "nobody"), None);
        assert_eq!(user_in(users, "broken"), None);
        assert_eq!(user("1000").unwrap(), 1000);
        assert!(user("no such user").unwrap_err().to_string().contains("a number would do"));
    }

    /// A process and when it started; threads and numbers without a process are none.
    #[test]
    fn processes() {
        let (own, ticks) = (process(std::process::id()).unwrap(), |stat: &str| started_in(stat));
        assert_eq!(own, process(own.id).unwrap());
        assert!(own.started > 0);
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 1";
        assert_eq!((ticks(line), ticks("7 (x) S 1"), ticks("")), (Some(4711), None, None));
        assert!(process(u32::MAX).unwrap_err().to_string().starts_with("there is no process"));
        let (sender, receiver) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).unwrap();
            let _ = wait.recv();
        });
        let error = process(receiver.recv().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is a thread; its process is"), "{error}");
        drop(done);
        thread.join().unwrap();
    }

    /// The hierarchy is needed as a whole; what is mounted instead is told.
    #[test]
    fn mounts() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let mounts = Mounts::parse(text);
            let root = root_of(&mounts).map_err(|error| error.to_string());
            assert_eq!(root, expect.map(Path::new).map_err(str::to_owned), "{text}");
        };
        let part = "40 1 0:21 /docker/1f /inner rw - cgroup2 cgroup2 rw\n";
        check(&format!("{part}41 1 0:21 / /outer rw - cgroup2 none rw\n"), Ok("/outer"));
        let whole = "the whole of it: mount -t cgroup2 none /sys/fs/cgroup";
        check(part, Err(&format!("of the tree of control groups only /docker/1f is mounted, at /inner; {whole}")));
        let none = "no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup";
        check("31 29 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", Err(none));
    }

    /// Control groups by path, unit and container; what is not there and what is not one is told.
    #[test]
    fn control_groups() {
        const ID: &str = "0123456789abcdef0123456789abcdef";
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["system.slice/ssh.service", "system.slice/getty@1.service", "user.slice/getty@1.service"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let container = root.join(format!("system.slice/docker-{ID}.scope/inner"));
        fs::create_dir_all(&container).unwrap();
        let check = |name: &str, path: &str, level| {
            let id = fs::metadata(root.join(path)).unwrap().ino();
            assert_eq!(cgroup_in(root, name).unwrap(), Cgroup { id, level }, "{name}");
        };
        check("system.slice", "system.slice", 1);
        check("/system.slice/ssh.service", "system.slice/ssh.service", 2);
        check("/", "", 0);
        check("ssh.service", "system.slice/ssh.service", 2);
        check(&ID[..12], &format!("system.slice/docker-{ID}.scope"), 2);
        check(ID, &format!("system.slice/docker-{ID}.scope"), 2);
        check(root.join("system.slice").to_str().unwrap(), "system.slice", 1);
        let wrong = |name: &str| cgroup_in(root, name).unwrap_err().to_string();
        assert!(wrong(&ID[..8]).starts_with("there is no control group `01234567` below "));
        assert!(wrong("../etc").starts_with("there is no control group"));
        assert!(wrong("").starts_with("there is no control group"));
        assert!(wrong("getty@1.service").contains("any of these control groups"));
    }
}
