//! Compiled components, kept between runs.
//!
//! What a worker made of a component is native code, and is believed as little as anything else that a worker says: it is kept under
//! the digest of the component, which the host takes itself, and only ever given to a worker that runs this component, in the same
//! cage. A plugin that broke out of its component could spoil its own entry, and nobody else's.

use std::{
    fs::{self, DirBuilder, File, FileTimes},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::SystemTime,
};

use crate::digest::Digest;

/// How many components are kept; the one that was not used for longest goes first.
const ENTRIES: usize = 64;

/// Where compiled components are.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// That of this user: below `XDG_CACHE_HOME`, else below `.cache` of `HOME`. `None` if there is neither, or if it is not this user's
    /// alone to write to.
    pub fn of_user() -> Option<Cache> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Cache::at(caches.join("portcullis"))
    }

    /// In a directory, which is made if it is not there; `None` if others than this user can write to it.
    pub fn at(directory: PathBuf) -> Option<Cache> {
        // One that is there already is looked at below.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        let of_directory = fs::symlink_metadata(&directory).ok()?;
        let own = of_directory.uid() == rustix::process::geteuid().as_raw() && of_directory.mode() & 0o022 == 0;
        (of_directory.is_dir() && own).then_some(Cache { directory })
    }

    fn path(&self, component: Digest) -> PathBuf {
        self.directory.join(component.hex())
    }

    /// What a worker made of this component before, if it is there.
    pub(super) fn load(&self, component: Digest) -> Option<Vec<u8>> {
        let path = self.path(component);
        let compiled = fs::read(&path).ok()?;
        // That it was used now matters to nobody but `trim`.
        let _ = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_times(FileTimes::new().set_modified(SystemTime::now())));
        Some(compiled)
    }

    /// Keeps what a worker made of this component. Where that fails, the next run compiles again.
    pub(super) fn store(&self, component: Digest, compiled: &[u8]) {
        let path = self.path(component);
        let new = self.directory.join(format!(".{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(compiled)?;
            fs::rename(&new, &path)
        };
        if write().is_err() {
            let _ = fs::remove_file(&new);
        }
        self.trim();
    }

    fn trim(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        let mut entries: Vec<_> =
            entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        entries.sort();
        let surplus = entries.len().saturating_sub(ENTRIES);
        for (_, path) in entries.into_iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What was kept of a component is found by its bytes, and those that were not used for longest go.
    #[test]
    fn keeps() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("a/portcullis")).unwrap();
        assert_eq!(cache.load(Digest::of(b"component")), None);
        cache.store(Digest::of(b"component"), b"code");
        cache.store(Digest::of(b"other"), b"");
        assert_eq!(cache.load(Digest::of(b"component")).as_deref(), Some(&b"code"[..]));
        for n in 0..ENTRIES {
            cache.store(Digest::of(format!("{n}").as_bytes()), b"x");
            cache.load(Digest::of(b"component"));
        }
        assert_eq!(cache.load(Digest::of(b"component")).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.load(Digest::of(b"other")), None);
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), ENTRIES);
    }

    /// A directory that others can write to is none.
    #[test]
    fn others() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::at(directory.path().to_owned()).is_none());
        assert!(Cache::at(directory.path().join("file/none")).is_some());
        fs::write(directory.path().join("file.txt"), "").unwrap();
        assert!(Cache::at(directory.path().join("file.txt")).is_none());
    }
}
