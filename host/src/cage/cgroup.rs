//! A cgroup for each caged process: what of its memory no limit of a process counts, counts here.
//!
//! `RLIMIT_DATA` knows nothing of what the kernel keeps for a process, its page tables above all. The memory controller of cgroups counts
//! it. The host makes the cgroup, puts the process in before it sends it anything, and removes it
//! when the process has ended. What a host left that was killed the next one removes.
//!
//! Where a cgroup can be made differs. In version 1 each controller has a tree of its own, and a cgroup may have processes and
//! children: the host's own gets one. In version 2 a cgroup with processes hands no controller to children (the rule of no internal
//! processes, Documentation/admin-guide/cgroup-v2.rst). That leaves, in this order:
//!
//! 1. the root of the tree, which the rule does not hold for, if the host is there;
//! 2. the host's own cgroup, if it was handed over for that (systemd's `Delegate=yes`) and nobody else is in it: the host moves to a
//!    child, and the others come beside it;
//! 3. the cgroup above the host's, if that hands the memory controller on: the others come beside the host's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::cgroups::{Own, Tree};

/// Names begin with this; the host's process id and a number follow.
const PREFIX: &str = "portcullis-";

/// Where memory is counted in version 1, and processes.
const MEMORY: Tree<'_> = Tree::Controller("memory");
const PIDS: Tree<'_> = Tree::Controller("pids");

/// How long a cgroup is waited for that still has what has just ended.
const REMOVALS: u32 = 50;

/// What a process may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) memory: u64,
    /// Threads.
    pub(super) threads: u64,
}

/// The cgroup of one process; removed when this is dropped.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// One, or one of each controller.
    directories: Vec<PathBuf>,
    /// The first of them is of version 2.
    unified: bool,
}

impl Cgroup {
    /// Makes one where this host can have them.
    pub(super) fn new(limits: Limits) -> Result<Cgroup, String> {
        Place::get().as_ref().map_err(Clone::clone)?.make(limits)
    }

    /// Makes one of version 2 that limits nothing.
    pub(super) fn plain() -> Result<Cgroup, String> {
        let parent = below_own().as_ref().map_err(Clone::clone)?;
        Ok(Cgroup { directories: vec![create(parent, &name())?], unified: true })
    }

    /// Its directory in the tree of version 2, if it has one there.
    pub(super) fn unified(&self) -> Option<&Path> {
        self.directories.first().filter(|_| self.unified).map(PathBuf::as_path)
    }

    /// Puts a process in.
    pub(super) fn admit(&self, pid: u32) -> Result<(), String> {
        self.directories.iter().try_for_each(|directory| write(&directory.join("cgroup.procs"), pid))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            for _ in 0..REMOVALS {
                // A process that has ended may be there for a moment yet.
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Has the kernel ready to take a process in, on a thread of its own. Before the first it waits until every CPU has come by (RCU), which
/// takes it 8 to 16 ms and holds up whoever starts a process; for a moment afterwards it does not wait again. So this is asked when there
/// is nothing to be held up yet.
pub fn prepare() {
    let ask = || {
        let (Ok(_), Ok(own)) = (Place::get(), Own::read()) else { return };
        if let Some(own) = own.directory(MEMORY).or_else(|| own.directory(Tree::Unified)) {
            // It stays where it is.
            let _ = write(&own.join("cgroup.procs"), std::process::id());
        }
    };
    // Without it a start takes longer.
    let _ = std::thread::Builder::new().name("cgroups".into()).spawn(ask);
}

/// Where cgroups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A cgroup of each controller's tree.
    Trees { memory: PathBuf, pids: Option<PathBuf> },
    /// A cgroup of the one tree.
    Unified { parent: PathBuf, pids: bool },
}

impl Place {
    /// That of this process, found and swept once.
    fn get() -> &'static Result<Place, String> {
        static PLACE: OnceLock<Result<Place, String>> = OnceLock::new();
        PLACE.get_or_init(|| {
            // What others left there goes as well, whether or not this host needs it.
            let _ = below_own();
            let place = Place::of_this_host(&own()?)?;
            place.parents().for_each(|parent| sweep(parent, is_alive));
            Ok(place)
        })
    }

    fn of_this_host(own: &Own) -> Result<Place, String> {
        if let Some(memory) = own.directory(MEMORY) {
            return Ok(Place::Trees { memory, pids: own.directory(PIDS) });
        }
        let own = own.directory(Tree::Unified).ok_or("no tree of cgroups with a memory controller is mounted")?;
        Place::unified(&own, std::process::id(), is_delegated)
    }

    /// In the tree of version 2, for a host whose cgroup is `own`.
    fn unified(own: &Path, host: u32, is_delegated: impl Fn(&Path) -> bool) -> Result<Place, String> {
        let handed_on = |cgroup: &Path| words(&cgroup.join("cgroup.subtree_control"));
        let has = |words: &[String], controller: &str| words.iter().any(|word| word == controller);
        let at = |parent: &Path, controllers: &[String]| Place::Unified { parent: parent.into(), pids: has(controllers, "pids") };
        // All but the root have a type.
        let is_root = !own.join("cgroup.type").exists();
        if is_root {
            let on = handed_on(own);
            return match has(&on, "memory") {
                true => Ok(at(own, &on)),
                false => Err(format!("{} does not hand the memory controller on", own.display())),
            };
        }
        let controllers = words(&own.join("cgroup.controllers"));
        if has(&controllers, "memory") && words(&own.join("cgroup.procs")) == [host.to_string()] && is_delegated(own) {
            match move_down(own, host, has(&controllers, "pids")) {
                Ok(()) => return Ok(at(own, &controllers)),
                // Then beside it.
                Err(_) => _ = fs::remove_dir(own.join(format!("{PREFIX}{host}"))),
            }
        }
        let parent = own.parent().ok_or("this process is in no cgroup")?;
        let on = handed_on(parent);
        match has(&on, "memory") {
            true => Ok(at(parent, &on)),
            false => Err(format!(
                "{} was not handed to this process alone, and what is above it does not hand the memory controller on",
                own.display()
            )),
        }
    }

    /// Makes a cgroup that has these limits.
    fn make(&self, limits: Limits) -> Result<Cgroup, String> {
        let name = name();
        let mut made = Cgroup { directories: Vec::new(), unified: matches!(self, Place::Unified { .. }) };
        let mut directory = |parent: &Path| {
            let directory = create(parent, &name)?;
            made.directories.push(directory.clone());
            Ok::<_, String>(directory)
        };
        match self {
            Place::Unified { parent, pids } => {
                let own = directory(parent)?;
                write(&own.join("memory.max"), limits.memory)?;
                // Not there where the kernel does not count swap; then nobody is limited.
                let _ = write(&own.join("memory.swap.max"), 0);
                let _ = write(&own.join("memory.oom.group"), 1);
                if *pids {
                    write(&own.join("pids.max"), limits.threads)?;
                }
            }
            Place::Trees { memory, pids } => {
                let own = directory(memory)?;
                write(&own.join("memory.limit_in_bytes"), limits.memory)?;
                // Memory and swap together, where the kernel counts swap.
                let _ = write(&own.join("memory.memsw.limit_in_bytes"), limits.memory);
                let _ = write(&own.join("memory.swappiness"), 0);
                if let Some(pids) = pids
                    && let Ok(own) = directory(pids)
                {
                    // RLIMIT_NPROC says the same.
                    let _ = write(&own.join("pids.max"), limits.threads);
                }
            }
        }
        Ok(made)
    }

    /// The cgroups below which they are made.
    fn parents(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Place::Unified { parent, .. } => (parent, None),
            Place::Trees { memory, pids } => (memory, pids.as_ref()),
        };
        std::iter::once(first).chain(second).map(PathBuf::as_path)
    }
}

/// Where cgroups of version 2 are made that limit nothing: below that of this process, which no rule forbids as long as no controller is
/// handed on. Found and swept once.
fn below_own() -> &'static Result<PathBuf, String> {
    static BELOW: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BELOW.get_or_init(|| {
        let own = own()?.directory(Tree::Unified).ok_or("no tree of cgroups of version 2 is mounted that has this process")?;
        sweep(&own, is_alive);
        Ok(own)
    })
}

fn own() -> Result<Own, String> {
    Own::read().map_err(|error| error.to_string())
}

fn create(parent: &Path, name: &str) -> Result<PathBuf, String> {
    let directory = parent.join(name);
    // One of this name is of a host that had this process id before, and it is empty.
    let create = || fs::create_dir(&directory);
    let created = create().or_else(|error| fs::remove_dir(&directory).map_or(Err(error), |()| create()));
    created.map_err(|error| format!("can't make {}: {error}", directory.display()))?;
    Ok(directory)
}

/// Removes what hosts left here that are gone: by name, and only what is empty, since the kernel removes nothing else.
fn sweep(parent: &Path, is_alive: impl Fn(u32) -> bool) {
    for entry in parent.read_dir().ok().into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(host_of).is_some_and(|host| !is_alive(host)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn is_alive(host: u32) -> bool {
    Path::new(&format!("/proc/{host}")).exists()
}

/// Moves the host from its own cgroup to a child, so that children can have controllers.
fn move_down(own: &Path, host: u32, pids: bool) -> Result<(), String> {
    let child = own.join(format!("{PREFIX}{host}"));
    fs::create_dir(&child).map_err(|error| format!("can't make {}: {error}", child.display()))?;
    write(&child.join("cgroup.procs"), host)?;
    let control = own.join("cgroup.subtree_control");
    if let Err(error) = write(&control, "+memory") {
        // Back, as if nothing had been.
        let _ = write(&own.join("cgroup.procs"), host);
        return Err(error);
    }
    // Not having it is no reason to go without the other.
    if pids {
        let _ = write(&control, "+pids");
    }
    Ok(())
}

/// A name that no other cgroup of this host has.
fn name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The host that a cgroup of this name is of.
fn host_of(name: &str) -> Option<u32> {
    let (host, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    host.parse().ok()
}

/// systemd marks what it hands over (docs/CGROUP_DELEGATION.md of systemd).
fn is_delegated(cgroup: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0; 1];
        rustix::fs::getxattr(cgroup, name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    };
    marked("trusted.delegate") || marked("user.delegate")
}

fn words(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn write(path: &Path, value: impl std::fmt::Display) -> Result<(), String> {
    fs::write(path, value.to_string()).map_err(|error| format!("can't write to {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const OWN: u32 = 4711;

    /// A tree of version 2 as files: paths with what is in them. Directories come with them.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    /// A host in the root, where that hands the controllers on, makes cgroups there.
    #[test]
    fn at_the_root() {
        let root = tree(&[("cgroup.subtree_control", "cpu memory pids\n"), ("cgroup.procs", "1\n4711\n")]);
        let place = Place::unified(root.path(), OWN, |_| false).unwrap();
        assert_eq!(place, Place::Unified { parent: root.path().into(), pids: true });
        let root = tree(&[("cgroup.subtree_control", "cpu\n")]);
        let error = Place::unified(root.path(), OWN, |_| true).unwrap_err();
        assert_eq!(error, format!("{} does not hand the memory controller on", root.path().display()));
    }

    /// A host that has a cgroup to itself moves to a child of it, and the others come beside that.
    #[test]
    fn in_a_cgroup_that_was_handed_over() {
        let files = [
            ("a/cgroup.type", "domain\n"),
            ("a/cgroup.controllers", "memory pids\n"),
            ("a/cgroup.procs", "4711\n"),
            ("a/cgroup.subtree_control", ""),
            ("cgroup.subtree_control", "memory\n"),
        ];
        let root = tree(&files);
        let own = root.path().join("a");
        let place = Place::unified(&own, OWN, |path| path == own).unwrap();
        assert_eq!(place, Place::Unified { parent: own.clone(), pids: true });
        assert_eq!(fs::read_to_string(own.join("portcullis-4711/cgroup.procs")).unwrap(), "4711");
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "+pids");
        // Whoever is not alone, or was handed nothing, stays, and has them beside its own cgroup.
        let beside = |root: &Path| Ok(Place::Unified { parent: root.into(), pids: false });
        let root = tree(&files);
        assert_eq!(Place::unified(&root.path().join("a"), OWN, |_| false), beside(root.path()));
        fs::write(root.path().join("a/cgroup.procs"), "4711\n4712\n").unwrap();
        assert_eq!(Place::unified(&root.path().join("a"), OWN, |_| true), beside(root.path()));
        assert!(!root.path().join("a/portcullis-4711").exists());
        // Nor is there anything above it that could give them room.
        fs::write(root.path().join("cgroup.subtree_control"), "cpu\n").unwrap();
        let error = Place::unified(&root.path().join("a"), OWN, |_| false).unwrap_err();
        assert!(error.contains("was not handed to this process alone"), "{error}");
    }

    /// A cgroup gets its limits in the words of its version, is entered, and is gone afterwards.
    #[test]
    fn limits() {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        let limits = Limits { memory: 1 << 30, threads: 18 };
        let root = tempfile::tempdir().unwrap();
        let made = Place::Unified { parent: root.path().into(), pids: true }.make(limits).unwrap();
        made.admit(17).unwrap();
        let [own] = made.directories.as_slice() else { panic!("{made:?}") };
        let expect = [
            ("memory.max", "1073741824"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", "18"),
            ("cgroup.procs", "17"),
        ];
        expect.iter().for_each(|(file, text)| assert_eq!(read(own.join(file)), *text, "{file}"));

        let (memory, pids) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = Place::Trees { memory: memory.path().into(), pids: Some(pids.path().into()) };
        let made = place.make(limits).unwrap();
        made.admit(17).unwrap();
        let [own, other] = made.directories.as_slice() else { panic!("{made:?}") };
        assert_eq!(own.file_name(), other.file_name());
        assert_eq!(read(own.join("memory.limit_in_bytes")), "1073741824");
        assert_eq!(read(other.join("pids.max")), "18");
        assert_eq!((read(own.join("cgroup.procs")), read(other.join("cgroup.procs"))), ("17".into(), "17".into()));
    }

    /// What dead hosts left is removed, and nothing else.
    #[test]
    fn sweeping() {
        let root = tempfile::tempdir().unwrap();
        let names = ["portcullis-1-0", "portcullis-2-0", "portcullis-2-1", "portcullis-x-0", "portcullis-2", "other-2-0"];
        names.iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
        // It has a process.
        fs::create_dir(root.path().join("portcullis-2-2")).unwrap();
        fs::write(root.path().join("portcullis-2-2/x"), "").unwrap();
        sweep(root.path(), |host| host == 1);
        let mut left: Vec<String> =
            root.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort_unstable();
        assert_eq!(left, ["other-2-0", "portcullis-1-0", "portcullis-2", "portcullis-2-2", "portcullis-x-0"]);
    }
}
