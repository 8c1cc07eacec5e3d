//! Watching the files of plugins, for `--watch`: a version that was built anew takes the place of the one that runs.
//!
//! A file is looked at when the kernel says that it was written and closed, or that another took its name (inotify(7)), and once nothing more has
//! come for a moment: compilers and copies write in pieces.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::digest::Digest;
use anyhow::Context as _;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

/// How long nothing has to come before a file counts as written.
const QUIET: Duration = Duration::from_millis(150);

/// The files of a run's plugins.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    /// By the number that inotify gave their directory.
    directories: BTreeMap<i32, PathBuf>,
    /// By path, what was in them when they were looked at last.
    files: BTreeMap<PathBuf, Digest>,
    /// Those that something has come for, and when.
    touched: BTreeMap<PathBuf, Instant>,
}

impl Watch {
    /// Watches files.
    ///
    /// # Errors
    /// If one can't be read, or the kernel watches no more.
    pub(super) fn new<'p>(mut files: impl Iterator<Item = &'p Path>) -> anyhow::Result<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context("can't watch files")?;
        let mut watch = Watch { inotify, directories: BTreeMap::new(), files: BTreeMap::new(), touched: BTreeMap::new() };
        files.try_for_each(|file| watch.add(file))?;
        Ok(watch)
    }

    /// Watches one more.
    ///
    /// # Errors
    /// As of [`Watch::new`].
    pub(super) fn add(&mut self, file: &Path) -> anyhow::Result<()> {
        // The directory is watched, since the name may come to mean another file.
        let directory = directory_of(file);
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let number = inotify::add_watch(&self.inotify, directory, flags)
            .with_context(|| format!("can't watch the directory {}", directory.display()))?;
        let digest = digest(file).with_context(|| format!("can't read {}", file.display()))?;
        self.directories.insert(number, directory.to_owned());
        self.files.insert(file.to_owned(), digest);
        Ok(())
    }

    /// The files that are other ones now.
    pub(super) fn changed(&mut self) -> Vec<PathBuf> {
        self.listen();
        let quiet = self.touched.iter().filter(|(_, at)| at.elapsed() >= QUIET).map(|(path, _)| path.clone()).collect::<Vec<_>>();
        let mut changed = Vec::new();
        for path in quiet {
            self.touched.remove(&path);
            // One that is gone comes back, or does not.
            if let Ok(now) = digest(&path)
                && self.files.insert(path.clone(), now) != Some(now)
            {
                changed.push(path);
            }
        }
        changed
    }

    /// How long until there is something to look at, if nothing more comes.
    pub(super) fn next(&self) -> Option<Duration> {
        self.touched.values().map(|at| QUIET.saturating_sub(at.elapsed())).min()
    }

    fn listen(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let Some(there) = self.directories.get(&event.wd()) else { continue };
            let Some(name) = event.file_name() else { continue };
            let name = OsString::from_vec(name.to_bytes().to_vec());
            let touched = self.files.keys().find(|file| directory_of(file) == there && file.file_name() == Some(&name));
            if let Some(file) = touched.cloned() {
                self.touched.insert(file, Instant::now());
            }
        }
    }
}

impl AsFd for Watch {
    /// Readable when something has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// As it was named: `x.wasm` is in `.`, though its path is without that.
fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

fn digest(file: &Path) -> io::Result<Digest> {
    Ok(Digest::of(&fs::read(file)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread::sleep;

    use super::*;

    /// A file that is written anew, or replaced, is told once, when it has come to rest; the same content and other files are not.
    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a.wasm"), directory.path().join("b.wasm"));
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::new([file.as_path()].into_iter()).unwrap();
        let mut check = |expect: bool| {
            assert_eq!(watch.changed(), Vec::<PathBuf>::new());
            sleep(QUIET * 2);
            assert_eq!(watch.changed(), if expect { vec![file.clone()] } else { vec![] });
            assert_eq!(watch.next(), None);
        };
        check(false);
        fs::write(&file, "2").unwrap();
        check(true);
        fs::write(&file, "2").unwrap();
        check(false);
        fs::write(&other, "3").unwrap();
        check(false);
        fs::rename(&other, &file).unwrap();
        check(true);
        fs::remove_file(&file).unwrap();
        check(false);
    }
}
