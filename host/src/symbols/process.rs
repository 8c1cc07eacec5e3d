//! Processes: what is mapped where, and the files behind it.

use std::{
    fs, io,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    sync::Arc,
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// Which file it is: device and inode, which nobody else gets while the file is open.
pub(super) type Key = (u64, u64);

/// Mappings of a process that are read: more than any program has that does not want to be a burden.
pub(super) const MAX_MAPPINGS: usize = 8192;

/// Which program a process id is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// When it was started, in clock ticks since boot.
    start: u64,
    /// The program that it runs: execve(2) keeps the time.
    program: Option<Key>,
}

impl Identity {
    /// `None` if there is no such process.
    pub(super) fn of(pid: u32) -> Option<Identity> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything. What follows begins with the state, field 3; the time is field 22
        // (proc_pid_stat(5)).
        let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
        let start = fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
        let program = fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()));
        Some(Identity { start, program })
    }

    /// It is the same process, with the program that it had; `now` may have none because it has ended and is not waited for yet.
    pub(super) fn is_still(self, now: Identity) -> bool {
        self.start == now.start && (now.program.is_none() || self.program == now.program)
    }
}

/// Executable memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Its first address.
    pub(super) start: u64,
    /// The one behind its last.
    pub(super) end: u64,
    /// Where in the file it begins, bytes.
    pub(super) offset: u64,
    /// The file's inode; 0 for memory without a file.
    inode: u64,
    /// The file's name as /proc/PID/maps has it, without the mark of deleted files; or "[vdso]" and such; "" for memory without
    /// a file.
    pub(super) path: Arc<str>,
    /// The file, once it was opened.
    pub(super) file: Option<Key>,
}

impl Mapping {
    /// It is the same of the same file.
    pub(super) fn is(&self, other: &Mapping) -> bool {
        let key = |mapping: &Mapping| (mapping.start, mapping.end, mapping.offset, mapping.inode);
        key(self) == key(other) && self.path == other.path
    }
}

/// What a process has mapped executable, by address, at most [`MAX_MAPPINGS`].
pub(super) fn mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    // The 65530 mappings that a process may have by default, with names of ordinary length.
    const LONGEST: u64 = 16 << 20;
    let mut text = Vec::new();
    fs::File::open(format!("/proc/{pid}/maps"))?.take(LONGEST).read_to_end(&mut text)?;
    let lines = text.split(|&byte| byte == b'\n');
    Ok(lines.filter_map(|line| parse(&String::from_utf8_lossy(line))).take(MAX_MAPPINGS).collect())
}

/// A line of /proc/PID/maps, if it is one of executable memory.
fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    if fields.next()?.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let offset = number(fields.next()?)?;
    let inode = fields.nth(1)?.parse().ok()?;
    let path = fields.next().unwrap_or("").trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path).replace("\\012", "\n");
    Some(Mapping { start, end, offset, inode, path: path.into(), file: None })
}

/// Opens the file behind a mapping of a living process: also a deleted one, and one in a container.
pub(super) fn open_mapped(pid: u32, mapping: &Mapping) -> io::Result<(OwnedFd, Key)> {
    // The mapping itself leads to the file, which takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    if let Ok(opened) = open_regular(Path::new(&link)) {
        return Ok(opened);
    }
    // Under its name there may be another by now.
    let (fd, key) = open_within(pid, Path::new(&*mapping.path))?;
    if key.1 == mapping.inode { Ok((fd, key)) } else { Err(io::Error::other("it was replaced")) }
}

/// Opens a file by the name that it has for a process.
pub(super) fn open_within(pid: u32, path: &Path) -> io::Result<(OwnedFd, Key)> {
    let root = rustix::fs::open(format!("/proc/{pid}/root"), OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
    use std::os::fd::AsRawFd as _;
    // What was found is looked at before it is opened: opening a device may do something.
    open_regular(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())))
}

/// Opens a regular file; nothing else is opened, not even for a moment.
pub(super) fn open_regular(path: &Path) -> io::Result<(OwnedFd, Key)> {
    open(path, OFlags::empty())
}

/// As [`open_regular`], if the path's last part is no symbolic link.
pub(super) fn open_unlinked(path: &Path) -> io::Result<(OwnedFd, Key)> {
    open(path, OFlags::NOFOLLOW)
}

fn open(path: &Path, more: OFlags) -> io::Result<(OwnedFd, Key)> {
    let regular = |stat: &rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let not_regular = || io::Error::other("it is no regular file");
    if !regular(&rustix::fs::stat(path)?) {
        return Err(not_regular());
    }
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | more, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if !regular(&stat) {
        return Err(not_regular());
    }
    Ok((fd, (stat.st_dev, stat.st_ino)))
}

/// The vDSO, which the kernel maps into every process, as a file. It is the same for all 64-bit processes.
pub(super) fn vdso() -> io::Result<OwnedFd> {
    use std::os::unix::fs::FileExt as _;
    let own = mappings(std::process::id())?.into_iter().find(|mapping| &*mapping.path == "[vdso]");
    let own = own.ok_or_else(|| io::Error::other("there is no vDSO"))?;
    // A few pages.
    let mut bytes = vec![0; usize::try_from(own.end - own.start).unwrap_or(0).min(1 << 20)];
    fs::File::open("/proc/self/mem")?.read_exact_at(&mut bytes, own.start)?;
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let fd = rustix::fs::memfd_create(c"vdso", flags | rustix::fs::MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(c"vdso", flags))?;
    let file = fs::File::from(fd);
    file.write_all_at(&bytes, 0)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Lines of executable memory are read, others are not.
    #[test]
    fn lines_of_maps() {
        let check = |line, expect: Option<(u64, u64, u64, u64, &str)>| {
            let mapping = parse(line);
            assert_eq!(mapping.as_ref().map(|m| (m.start, m.end, m.offset, m.inode, &*m.path)), expect, "{line}");
        };
        check(
            "55d0-55e0 r-xp 00001000 fe:01 1234                       /usr/bin/cat",
            Some((0x55d0, 0x55e0, 0x1000, 1234, "/usr/bin/cat")),
        );
        check("55d0-55e0 r--p 00001000 fe:01 1234                       /usr/bin/cat", None);
        check("55d0-55e0 r-xp 00000000 fe:01 1234 /tmp/a b (deleted)", Some((0x55d0, 0x55e0, 0, 1234, "/tmp/a b")));
        check("55d0-55e0 rwxp 00000000 00:00 0 ", Some((0x55d0, 0x55e0, 0, 0, "")));
        check("55d0-55e0 rwxp 00000000 00:00 0", Some((0x55d0, 0x55e0, 0, 0, "")));
        check("7ff0-8000 r-xp 00000000 00:00 0                          [vdso]", Some((0x7ff0, 0x8000, 0, 0, "[vdso]")));
        check(
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]",
            Some((u64::MAX - 0x9f_ffff, u64::MAX - 0x9f_efff, 0, 0, "[vsyscall]")),
        );
        check("nonsense", None);
        check("", None);
    }

    /// A process is the same until it ends, and one that isn't there has no identity.
    #[test]
    fn identities() {
        let own = std::process::id();
        assert!(Identity::of(own).is_some());
        assert_eq!(Identity::of(own), Identity::of(own));
        assert_eq!(Identity::of(u32::MAX), None);
        assert!(!mappings(own).unwrap().is_empty());
    }

    /// A process that has ended is what it was; another program in it, or another process, is not.
    #[test]
    fn same_identities() {
        let check = |before: (u64, Option<u64>), now: (u64, Option<u64>), expect| {
            let identity = |(start, program): (u64, Option<u64>)| Identity { start, program: program.map(|inode| (0, inode)) };
            assert_eq!(identity(before).is_still(identity(now)), expect, "{before:?} {now:?}");
        };
        check((1, Some(5)), (1, Some(5)), true);
        check((1, Some(5)), (1, None), true);
        check((1, None), (1, None), true);
        check((1, None), (1, Some(5)), false);
        check((1, Some(5)), (1, Some(6)), false);
        check((1, Some(5)), (2, Some(5)), false);
        check((1, Some(5)), (2, None), false);
    }

    /// Only regular files are opened, and without links where links are not to be trusted.
    #[test]
    fn opens_regular_files() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(open_regular(&file).unwrap().1, open_regular(&link).unwrap().1);
        assert!(open_unlinked(&file).is_ok());
        assert!(open_unlinked(&link).is_err());
        assert!(open_regular(Path::new("/dev/null")).is_err());
        assert!(open_regular(directory.path()).is_err());
    }
}
