//! Where the sockets of runs are: a directory of the user's own, a socket for each run by its process id.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// The directory for sockets can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the directory for sockets, {}, can't be used: {error}", path.display())]
pub struct PlaceError {
    path: PathBuf,
    error: io::Error,
}

/// The directory: below what the system keeps for such things (file-hierarchy(7)), or, where it keeps nothing for this user, below the one for
/// temporary files.
pub(super) fn directory() -> PathBuf {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/portcullis");
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute());
    runtime.map_or_else(
        || std::env::temp_dir().join(format!("portcullis-{}", uid.as_raw())),
        |runtime| PathBuf::from(runtime).join("portcullis"),
    )
}

/// Makes the directory, or sees to it that the one that is there is this user's and nobody else's.
pub(super) fn make(path: &Path) -> Result<(), PlaceError> {
    let fail = |error| PlaceError { path: path.into(), error };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error)),
    }
    // A link that somebody put there is none of ours.
    let there = fs::symlink_metadata(path).map_err(fail)?;
    if !there.is_dir() || there.uid() != rustix::process::geteuid().as_raw() || there.mode() & 0o077 != 0 {
        return Err(fail(io::Error::other(
            "others than its user can reach it; remove it, or make it that user's with mode 0700",
        )));
    }
    Ok(())
}

/// The socket of a run.
pub(super) fn socket(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}.sock"))
}

/// The sockets that are there, with the process ids of their runs.
pub(super) fn sockets(directory: &Path) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((name.to_str()?.strip_suffix(".sock")?.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory that others can reach is not used, nor is what is no directory.
    #[test]
    fn strangers() {
        let there = tempfile::tempdir().unwrap();
        let path = there.path().join("runs");
        make(&path).unwrap();
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make(&path).unwrap_err().to_string().contains("others than its user can reach it"));
        let link = there.path().join("link");
        std::os::unix::fs::symlink(there.path(), &link).unwrap();
        assert!(make(&link).is_err());
    }

    /// What is no socket of a run is left alone.
    #[test]
    fn names() {
        let there = tempfile::tempdir().unwrap();
        for name in ["12.sock", "7.sock", "x.sock", "9.txt"] {
            fs::write(there.path().join(name), "").unwrap();
        }
        let pids: Vec<u32> = sockets(there.path()).into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [7, 12]);
        assert_eq!(sockets(&there.path().join("none")), []);
    }
}
