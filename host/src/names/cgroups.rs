//! The paths of cgroups by number.
//!
//! The number that a program sees is the inode number of the cgroup's directory (both are the id of its kernfs node, 64 bits since
//! Linux 5.5). So one walk through the hierarchy tells all of them; a number that it did not see makes another walk, since the
//! cgroup may be new.

use std::{
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use crate::cgroups::{self, Mounts, Tree};

/// Between two walks.
const REST: Duration = Duration::from_millis(200);

/// Cgroups that are remembered. A machine with more has some that are shown as numbers.
const MOST: usize = 65_536;

/// The cgroups as they were at the last walk.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    paths: HashMap<u64, Box<str>>,
    walked: Option<Instant>,
}

impl Cgroups {
    /// The path of a cgroup below the root of the hierarchy: `/system.slice/cron.service`, `/` for the root itself. `None` for one
    /// that is not there.
    pub(super) fn path(&mut self, number: u64) -> Option<String> {
        if !self.paths.contains_key(&number) && self.walked.is_none_or(|then| then.elapsed() >= REST) {
            self.walk();
        }
        self.paths.get(&number).map(ToString::to_string)
    }

    fn walk(&mut self) {
        self.walked = Some(Instant::now());
        let Some((root, path)) = root() else { return };
        if self.paths.len() >= MOST {
            self.paths.clear();
        }
        if let Ok(metadata) = root.metadata() {
            self.paths.insert(metadata.ino(), path.to_string_lossy().into());
        }
        let mut left = vec![(root, path)];
        while let Some((directory, path)) = left.pop() {
            // One that is gone meanwhile has nothing to tell.
            let Ok(entries) = directory.read_dir() else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if self.paths.len() >= MOST {
                    return;
                }
                let below = path.join(entry.file_name());
                self.paths.insert(entry.ino(), below.to_string_lossy().into());
                left.push((entry.path(), below));
            }
        }
    }
}

/// Where the unified hierarchy is, and the path of the cgroup that is shown there.
fn root() -> Option<(PathBuf, PathBuf)> {
    let mounts = Mounts::read().ok()?;
    // Another mount may have covered one; every cgroup but those of version 1 has this file.
    let seen = |point: &Path| point.join("cgroup.controllers").exists();
    let whole = mounts.whole(Tree::Unified).filter(|point| seen(point));
    whole.map(|point| (point.to_owned(), PathBuf::from("/"))).or_else(|| {
        let part = mounts.of(Tree::Unified).find(|mount| seen(&mount.point))?;
        // What lies above this process's cgroup namespace has no name here.
        let path = if cgroups::leads_out(&part.root) { PathBuf::from("/") } else { part.root.clone() };
        Some((part.point.clone(), path))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The root and every directory below it have their paths; a number that no cgroup has has none.
    #[test]
    fn paths() {
        let Some((root, top)) = root() else { return };
        let mut cgroups = Cgroups::default();
        assert_eq!(cgroups.path(root.metadata().unwrap().ino()).as_deref(), top.to_str());
        let below = root.read_dir().unwrap().flatten().find(|entry| entry.path().is_dir());
        if let Some(below) = below {
            let path = top.join(below.file_name()).to_string_lossy().into_owned();
            assert_eq!(cgroups.path(below.metadata().unwrap().ino()), Some(path));
        }
        assert_eq!(cgroups.path(u64::MAX), None);
    }
}
