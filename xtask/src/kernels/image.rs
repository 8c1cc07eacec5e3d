//! The initial file system of a machine: a cpio archive in the format `newc`, which the kernel unpacks into memory
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::process::{command, output};

/// What is in it by path, without the leading `/`. Everything is where it is on this machine.
#[derive(Default)]
pub(crate) struct Image {
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Directory,
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// `S_IFDIR`, `S_IFREG` and `S_IFLNK` with the permissions of executables (inode(7)).
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
/// The last entry's name.
const TRAILER: &str = "TRAILER!!!";

impl Image {
    /// Adds a program and the libraries that it needs.
    pub(crate) fn program(&mut self, path: &Path) -> Result<()> {
        self.copy(path)?;
        let directory = path.parent().context("a program without a directory")?;
        libraries(&output(command("ldd", directory).arg(path))?).iter().try_for_each(|library| self.copy(library))
    }

    /// Adds a file, or a directory and all that is in it.
    pub(crate) fn copy(&mut self, path: &Path) -> Result<()> {
        if !path.is_dir() {
            let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
            return self.file(path, bytes);
        }
        for entry in fs::read_dir(path).with_context(|| format!("can't list {}", path.display()))? {
            self.copy(&entry.with_context(|| format!("can't list {}", path.display()))?.path())?;
        }
        Ok(())
    }

    /// Adds a file with these bytes.
    pub(crate) fn file(&mut self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        self.add(path, Entry::File(bytes))
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &Path, to: &Path) -> Result<()> {
        self.add(path, Entry::Link(to.as_os_str().as_encoded_bytes().to_vec()))
    }

    fn add(&mut self, path: &Path, entry: Entry) -> Result<()> {
        let name = path.to_str().with_context(|| format!("{} is no text", path.display()))?.trim_start_matches('/');
        for (end, _) in name.match_indices('/') {
            self.entries.entry(name[..end].to_owned()).or_insert(Entry::Directory);
        }
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The archive. A directory comes before what is in it, by the order of paths.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, content)) in (1..).zip(&self.entries) {
            let (mode, bytes) = match content {
                Entry::Directory => (DIRECTORY, &[][..]),
                Entry::File(bytes) => (FILE, &bytes[..]),
                Entry::Link(to) => (LINK, &to[..]),
            };
            entry(&mut out, number, path, mode, bytes);
        }
        entry(&mut out, 0, TRAILER, 0, &[]);
        out
    }
}

/// A header of thirteen numbers of eight hexadecimal digits, the name and the bytes, each filled up to a multiple of four.
fn entry(out: &mut Vec<u8>, number: usize, name: &str, mode: u32, bytes: &[u8]) {
    out.extend(format!("070701{number:08X}{mode:08X}").bytes());
    // Owner, group, links, time.
    let links = 1;
    out.extend(format!("{:08X}{:08X}{links:08X}{:08X}{:08X}", 0, 0, 0, bytes.len()).bytes());
    // The device it is on, and the one that it is; the name's length with its zero; a checksum that this format has not.
    out.extend(format!("{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", 0, 0, 0, 0, name.len() + 1, 0).bytes());
    out.extend(name.bytes().chain([0]));
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The files in what ldd(1) prints.
fn libraries(ldd: &str) -> Vec<PathBuf> {
    ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Image, libraries};

    /// An archive as cpio(1) makes it: directories before what is in them, sizes right, everything at multiples of four.
    #[test]
    fn archive() -> anyhow::Result<()> {
        let mut image = Image::default();
        image.file(Path::new("/a/b/c"), b"hello".to_vec())?;
        image.link(Path::new("/l"), Path::new("/a"))?;
        let text = String::from_utf8_lossy(&image.bytes()).into_owned();
        let expect = [
            "07070100000001000041ED00000000000000000000000100000000000000000000000000000000000000000000000000000002",
            "00000000a\0",
            "07070100000002000041ED00000000000000000000000100000000000000000000000000000000000000000000000000000004",
            "00000000a/b\0\0\0",
            "07070100000003000081ED00000000000000000000000100000000000000050000000000000000000000000000000000000006",
            "00000000a/b/c\0hello\0\0\0",
            "070701000000040000A1FF00000000000000000000000100000000000000020000000000000000000000000000000000000002",
            "00000000l\0/a\0\0",
            "0707010000000000000000000000000000000000000001000000000000000000000000000000000000000000000000000000",
            "0B00000000TRAILER!!!\0\0\0\0",
        ];
        assert_eq!(text, expect.concat());
        Ok(())
    }

    /// Libraries, the loader, and what the kernel brings itself.
    #[test]
    fn needed() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(libraries(ldd), ["/lib/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(Path::new));
        assert_eq!(libraries("\tstatically linked\n"), [""; 0].map(Path::new));
    }
}
