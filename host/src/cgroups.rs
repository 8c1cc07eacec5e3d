//! The trees of cgroups: where they are mounted, and where in them a process is.
//!
//! Version 1 has a tree for each controller, or for several together; version 2 has one for all. A machine may have trees of both. A
//! mount may show a part of its tree, as in containers; in a cgroup namespace paths begin at the root of that namespace, and what lies
//! outside of it is written with `..`.

use std::{
    ffi::OsString,
    fmt, fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Component, Path, PathBuf},
};

/// Where this process's mounts are told: proc_pid_mountinfo(5).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Where its cgroups are told: cgroups(7).
const CGROUPS: &str = "/proc/self/cgroup";

/// One of the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tree<'a> {
    /// That of version 2.
    Unified,
    /// That of version 1 which has this controller.
    Controller(&'a str),
}

/// A tree, or a part of one, mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The cgroup that is shown at `point`.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
    /// Of version 1 the controllers, among other words; `None` for version 2.
    controllers: Option<Vec<String>>,
}

impl Mount {
    /// That of a line; `None` if nothing of cgroups is mounted there.
    fn parse(line: &str) -> Option<Mount> {
        let (about, of) = line.split_once(" - ")?;
        let mut about = about.split(' ').skip(3);
        let mut of = of.split(' ');
        let (root, point) = (unescaped(about.next()?), unescaped(about.next()?));
        let controllers = match of.next()? {
            "cgroup" => Some(of.nth(1)?.split(',').map(str::to_owned).collect()),
            "cgroup2" => None,
            _ => return None,
        };
        Some(Mount { root, point, controllers })
    }

    fn is_of(&self, tree: Tree<'_>) -> bool {
        match (tree, &self.controllers) {
            (Tree::Unified, None) => true,
            (Tree::Controller(wanted), Some(controllers)) => controllers.iter().any(|one| one == wanted),
            _ => false,
        }
    }

    /// The whole tree is shown, as far as this process's cgroup namespace has it.
    fn is_whole(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where the cgroup at this path of the tree is.
    fn directory(&self, path: &Path) -> Option<PathBuf> {
        // A path that leads out of the cgroup namespace (`/../x`) is nobody's.
        let below = path.strip_prefix(&self.root).ok().filter(|below| !leads_out(below))?;
        Some(self.point.components().chain(below.components()).collect())
    }
}

/// All mounts of cgroups, in the order in which the kernel tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those that this process has.
    pub(crate) fn read() -> Result<Mounts, ReadError> {
        read(MOUNTS).map(|text| Mounts::parse(&text))
    }

    /// Those of these lines.
    pub(crate) fn parse(text: &str) -> Mounts {
        Mounts(text.lines().filter_map(Mount::parse).collect())
    }

    /// Those of a tree.
    pub(crate) fn of(&self, tree: Tree<'_>) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(move |mount| mount.is_of(tree))
    }

    /// Where the whole of a tree is.
    pub(crate) fn whole(&self, tree: Tree<'_>) -> Option<&Path> {
        self.of(tree).find(|mount| mount.is_whole()).map(|mount| mount.point.as_path())
    }

    /// Where the cgroup at this path of a tree is, as /proc/PID/cgroup writes paths.
    pub(crate) fn directory(&self, tree: Tree<'_>, path: &str) -> Option<PathBuf> {
        self.of(tree).find_map(|mount| mount.directory(Path::new(path)))
    }
}

/// Where this process is: the directories of its cgroups.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    mounts: Mounts,
    cgroups: String,
}

impl Own {
    /// As the kernel has it now.
    pub(crate) fn read() -> Result<Own, ReadError> {
        Ok(Own { mounts: Mounts::read()?, cgroups: read(CGROUPS)? })
    }

    /// The directory of its cgroup in a tree; `None` where that is not mounted, or its part of it is not.
    pub(crate) fn directory(&self, tree: Tree<'_>) -> Option<PathBuf> {
        self.mounts.directory(tree, path_in(&self.cgroups, tree)?)
    }

    #[cfg(test)]
    pub(crate) fn parse(mounts: &str, cgroups: &str) -> Own {
        Own { mounts: Mounts::parse(mounts), cgroups: cgroups.into() }
    }
}

/// The path of a process's cgroup in a tree, by the lines of /proc/PID/cgroup: `NUMBER:CONTROLLERS:PATH`.
pub(crate) fn path_in<'t>(cgroups: &'t str, tree: Tree<'_>) -> Option<&'t str> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let right = match tree {
            Tree::Unified => number == "0" && controllers.is_empty(),
            Tree::Controller(wanted) => controllers.split(',').any(|one| one == wanted),
        };
        right.then_some(path)
    })
}

/// It leads out of where it begins.
pub(crate) fn leads_out(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// A file of /proc that can't be read.
#[derive(Debug)]
pub(crate) struct ReadError {
    /// The file.
    pub(crate) file: &'static str,
    /// Why not.
    pub(crate) error: io::Error,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't read {}: {}", self.file, self.error)
    }
}

/// What is no text in it is of mounts that are none of ours.
fn read(file: &'static str) -> Result<String, ReadError> {
    let bytes = fs::read(file).map_err(|error| ReadError { file, error })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A path in which the kernel wrote blanks, tabs, newlines and backslashes as `\ooo`.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let octal = |rest: &[u8]| {
        let digits = std::str::from_utf8(rest.strip_prefix(b"\\")?.get(..3)?).ok()?;
        u8::from_str_radix(digits, 8).ok()
    };
    while let Some((first, others)) = rest.split_first() {
        let escaped = octal(rest);
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { rest.get(4..).unwrap_or_default() } else { others };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A machine of today: one tree.
    const PURE: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                        24 23 0:21 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// Controllers in trees of version 1, and that of version 2 beside them.
    const HYBRID: &str = "29 1 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                          30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                          31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          32 29 0:28 / /sys/fs/cgroup/cpu,pids rw - cgroup cgroup rw,cpu,pids\n\
                          33 29 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";

    /// Version 1 alone.
    const OLD: &str = "31 29 0:27 / /cgroup/memory rw - cgroup none rw,memory\n";

    /// A container of version 1, which sees the part of the tree that is its own.
    const PART: &str = "31 29 0:27 /docker/1f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    /// The same of version 2, beside a mount of the whole.
    const PARTS: &str = "40 1 0:21 /docker/1f /inner rw - cgroup2 cgroup2 rw\n\
                         41 1 0:21 / /outer\\040tree rw - cgroup2 cgroup2 rw\n";

    /// A cgroup namespace that was entered, and its mount from before.
    const OUTSIDE: &str = "24 23 0:21 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    const MEMORY: Tree<'_> = Tree::Controller("memory");

    /// Where the whole of each tree is: nowhere, if parts of it are mounted alone.
    #[test]
    fn whole_trees() {
        let check = |text: &str, tree, expect: Option<&str>| {
            assert_eq!(Mounts::parse(text).whole(tree), expect.map(Path::new), "{text}");
        };
        check(PURE, Tree::Unified, Some("/sys/fs/cgroup"));
        check(PURE, MEMORY, None);
        check(HYBRID, Tree::Unified, Some("/sys/fs/cgroup/unified"));
        check(HYBRID, MEMORY, Some("/sys/fs/cgroup/memory"));
        check(HYBRID, Tree::Controller("pids"), Some("/sys/fs/cgroup/cpu,pids"));
        check(HYBRID, Tree::Controller("name=systemd"), Some("/sys/fs/cgroup/systemd"));
        check(OLD, Tree::Unified, None);
        check(OLD, MEMORY, Some("/cgroup/memory"));
        check(PART, MEMORY, None);
        check(PARTS, Tree::Unified, Some("/outer tree"));
        check(OUTSIDE, Tree::Unified, None);
        check("", Tree::Unified, None);
        check("24 23 0:21 / /sys/fs/cgroup rw\n24 - cgroup2\nno line\n", Tree::Unified, None);
    }

    /// A process's own cgroup is found in trees of version 1, of version 2, of both, in containers, and nowhere.
    #[test]
    fn own_cgroups() {
        let check = |mounts: &str, cgroups: &str, tree, expect: Option<&str>| {
            let found = Own::parse(mounts, cgroups).directory(tree);
            // As text, since a path is the same with a slash behind.
            assert_eq!(found.as_deref().map(|path| path.to_str().unwrap()), expect, "{mounts}{cgroups}");
        };
        let session = "0::/user.slice/user-0.slice/session-3.scope\n";
        check(PURE, session, Tree::Unified, Some("/sys/fs/cgroup/user.slice/user-0.slice/session-3.scope"));
        check(PURE, session, MEMORY, None);
        let both = "5:cpu,pids:/x\n4:memory:/system.slice/a.service\n1:name=systemd:/\n0::/b\n";
        check(HYBRID, both, MEMORY, Some("/sys/fs/cgroup/memory/system.slice/a.service"));
        check(HYBRID, both, Tree::Controller("pids"), Some("/sys/fs/cgroup/cpu,pids/x"));
        check(HYBRID, both, Tree::Unified, Some("/sys/fs/cgroup/unified/b"));
        check(OLD, "2:memory:/a:b\n", MEMORY, Some("/cgroup/memory/a:b"));
        check(OLD, "2:memory:/a\n", Tree::Unified, None);
        check(PART, "4:memory:/docker/1f/x\n", MEMORY, Some("/sys/fs/cgroup/memory/x"));
        check(PART, "4:memory:/docker/2e\n", MEMORY, None);
        // By the first mount that has it.
        check(PARTS, "0::/docker/1f/x\n", Tree::Unified, Some("/inner/x"));
        check(PARTS, "0::/docker/2e\n", Tree::Unified, Some("/outer tree/docker/2e"));
        // Outside of the namespace.
        check(PURE, "0::/../other\n", Tree::Unified, None);
        check(OUTSIDE, "0::/x\n", Tree::Unified, None);
        check("", "", Tree::Unified, None);
        // Its root, without a slash behind.
        check(PURE, "0::/\n", Tree::Unified, Some("/sys/fs/cgroup"));
    }

    /// What the kernel escaped is what it was; what only looks like it stays.
    #[test]
    fn escapes() {
        let check = |text: &str, expect: &str| assert_eq!(unescaped(text), Path::new(expect), "{text}");
        check("/a\\040b\\011\\134", "/a b\t\\");
        check("/a\\04", "/a\\04");
        check("/a\\999", "/a\\999");
        check("", "");
    }

    /// This process's own are read.
    #[test]
    fn this_process() {
        let own = Own::read().unwrap();
        for mount in own.mounts.0.iter().filter(|mount| mount.controllers.is_none()) {
            assert!(mount.point.is_absolute(), "{mount:?}");
        }
        let error = ReadError { file: "/proc/x", error: io::Error::other("no") };
        assert_eq!(error.to_string(), "can't read /proc/x: no");
    }
}
