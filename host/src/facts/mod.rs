//! Facts about processes, for plugins that ask: what /proc tells of those that a grant does not keep from them.
//!
//! Everything of one process is read below one descriptor of its directory, which goes with that process: should another get its
//! number meanwhile, there is nothing to read (`proc_pid_task`, fs/proc/base.c: the task is found by the directory's own pid).

mod arguments;

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_ebpf::{
    Limit,
    spec::{Cgroup, Process},
};
use rustix::{
    fs::{Mode, OFlags},
    time::{ClockId, clock_gettime},
};

use self::arguments::Arguments;
use crate::{
    cgroups::{self, Mounts, Tree},
    clock,
    columns::escape,
    contract::ProcessFacts,
    proc_status, scope,
};

/// How much of a file is read: no file here is longer but a command line, and that is asked for apart.
const MAX_FILE: u64 = 64 << 10;

/// What one plugin may know about processes.
#[derive(Debug)]
pub struct Facts {
    /// All of these hold for those that it may know about; `None` where it may know nothing.
    granted: Option<Vec<Limit>>,
    arguments: Arguments,
    /// Where control groups are.
    cgroups: Option<PathBuf>,
}

impl Facts {
    /// Nothing.
    pub fn denied() -> Facts {
        Facts { granted: None, arguments: Arguments::default(), cgroups: None }
    }

    /// Facts about processes within all of these limits.
    pub fn within(granted: Vec<Limit>) -> Facts {
        let mounts = Mounts::read().unwrap_or_default();
        let cgroups = mounts.whole(Tree::Unified).map(Path::to_path_buf);
        Facts { granted: Some(granted), cgroups, ..Facts::denied() }
    }

    /// For each process what is known of it: nothing of one that is gone or not within the limits. The error is for the plugin.
    pub fn lookup(&mut self, pids: &[u32]) -> Result<Vec<Option<ProcessFacts>>, String> {
        if self.granted.is_none() {
            return Err("facts about processes are not granted (`read = [\"process\"]`)".into());
        }
        Ok(pids.iter().map(|pid| self.of(*pid)).collect())
    }

    fn of(&mut self, pid: u32) -> Option<ProcessFacts> {
        let directory = Directory::open(pid)?;
        let status = directory.text("status")?;
        let field = |name: &str| proc_status::number::<u32>(&status, name);
        let (uid, gid, parent) = (field("Uid")?, field("Gid")?, field("PPid")?);
        if field("Tgid")? != pid {
            return None;
        }
        let ticks = scope::started_in(&directory.text("stat")?)?;
        let cgroup = directory.text("cgroup").and_then(|text| cgroups::path_in(&text, Tree::Unified).map(str::to_owned));
        let within = |limit: &Limit| match limit {
            Limit::Process(Process { id, started }) => (*id, *started) == (pid, ticks),
            Limit::User(user) => *user == uid,
            Limit::Cgroup(group) => self.is_in(*group, cgroup.as_deref()).unwrap_or(false),
        };
        if !self.granted.as_ref()?.iter().all(within) {
            return None;
        }
        let comm = directory.read("comm", MAX_FILE).ok()?;
        Some(ProcessFacts {
            pid,
            parent,
            uid,
            gid,
            started: since_boot(ticks),
            comm: escaped(comm.strip_suffix(b"\n").unwrap_or(&comm)),
            executable: directory.link("exe").map(|path| escaped(&path)),
            arguments: self.arguments.of(directory).map(|bytes| words(&bytes)),
            cgroup: cgroup.map(|path| escaped(path.as_bytes())),
        })
    }

    /// Whether the control group at `path` is this one, or below it: its ancestor of the same level has the number.
    fn is_in(&self, group: Cgroup, path: Option<&str>) -> Option<bool> {
        let below = Path::new(path?.strip_prefix('/')?);
        let ancestor: PathBuf = below.components().take(group.level as usize).collect();
        Some(self.cgroups.as_ref()?.join(ancestor).metadata().ok()?.ino() == group.id)
    }
}

/// `/proc/PID`, open.
#[derive(Clone, Debug)]
struct Directory(Arc<OwnedFd>);

impl Directory {
    fn open(pid: u32) -> Option<Directory> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Some(Directory(Arc::new(rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).ok()?)))
    }

    fn read(&self, file: &str, most: u64) -> io::Result<Vec<u8>> {
        let file = rustix::fs::openat(self.0.as_fd(), file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&self, file: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.read(file, MAX_FILE).ok()?).into_owned())
    }

    fn link(&self, file: &str) -> Option<Vec<u8>> {
        Some(rustix::fs::readlinkat(self.0.as_fd(), file, Vec::new()).ok()?.into_bytes())
    }
}

/// The words of a command line, each of which ends with a zero (proc_pid_cmdline(5)).
fn words(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { bytes.split(|byte| *byte == 0).map(escaped).collect() }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    escape(bytes, &mut out);
    out
}

/// A time in ticks since the machine booted as ns of CLOCK_MONOTONIC, which does not count what it slept.
fn since_boot(ticks: u64) -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    let boot = boot.tv_sec.unsigned_abs() * 1_000_000_000 + boot.tv_nsec.unsigned_abs();
    let slept = boot.saturating_sub(clock::now());
    (ticks * Process::TICK).saturating_sub(slept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// This process, a child of it, one that is gone, a thread, and the number of none.
    #[test]
    fn what_is_there() {
        let before = clock::now();
        let child = Killed(Command::new("cat").args(["-", ""]).stdin(Stdio::piped()).spawn().unwrap());
        let mut gone = Command::new("true").spawn().unwrap();
        let gone_pid = gone.id();
        gone.wait().unwrap();
        let (own, thread) = (std::process::id(), rustix::thread::gettid().as_raw_nonzero().get() as u32);
        assert_ne!(own, thread, "tests run on threads of their own");
        let found = Facts::within(Vec::new()).lookup(&[own, child.0.id(), gone_pid, thread, u32::MAX]).unwrap();
        let [Some(me), Some(it), None, None, None] = &found[..] else { unreachable!("{found:?}") };
        assert_eq!((me.pid, it.pid, it.parent), (own, child.0.id(), own));
        assert_eq!(me.executable.as_deref(), std::env::current_exe().unwrap().to_str());
        assert_eq!((it.comm.as_str(), it.uid), ("cat", rustix::process::getuid().as_raw()));
        assert_eq!(it.arguments.as_deref().unwrap(), ["cat", "-", ""]);
        // A tick is 10 ms.
        assert!((before - 10_000_000..clock::now()).contains(&it.started) && me.started <= it.started, "{it:?}");
    }

    /// Limits hold all at once, and a process whose number was given out again is another.
    #[test]
    fn limits() {
        let own = scope::process(std::process::id()).unwrap();
        let uid = rustix::process::getuid().as_raw();
        let knows = |limits: &[Limit]| Facts::within(limits.to_vec()).lookup(&[own.id]).unwrap()[0].is_some();
        assert!(knows(&[]) && knows(&[Limit::Process(own), Limit::User(uid)]));
        assert!(!knows(&[Limit::Process(own), Limit::User(uid + 1)]));
        assert!(!knows(&[Limit::Process(Process { started: own.started + 1, ..own })]));
        assert!(Facts::denied().lookup(&[own.id]).is_err());
    }

    /// A control group has those below it; one that is gone, or the number of another, has none.
    #[test]
    fn control_groups() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        let facts = Facts { cgroups: Some(root.path().into()), ..Facts::denied() };
        let id = root.path().join("a").metadata().unwrap().ino();
        let a = Cgroup { id, level: 1 };
        for (path, expect) in [
            (Some("/a"), Some(true)),
            (Some("/a/b"), Some(true)),
            (Some("/"), Some(false)),
            (Some("/gone"), None),
            (Some("a"), None),
            (None, None),
        ] {
            assert_eq!(facts.is_in(a, path), expect, "{path:?}");
        }
    }

    /// Command lines as processes have them.
    #[test]
    fn command_lines() {
        for (bytes, expect) in [
            (&b""[..], &[][..]),
            (b"a\0", &["a"]),
            (b"a\0\0b c\0", &["a", "", "b c"]),
            (b"cut", &["cut"]),
            (b"\xff\0", &["\\xff"]),
        ] {
            assert_eq!(words(bytes), expect, "{bytes:?}");
        }
    }
}
