//! What is granted, looked for on this machine.

use std::{env, io, net::SocketAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{Directory, Doors, MAX_ENVIRONMENT, Peers};
use crate::cage::{Layer, mounts};

/// Doors that are open: what a worker is handed.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Variables that are set, and their values.
    pub environment: Vec<(String, String)>,
    /// Whom it may connect to.
    pub network: Vec<Peers>,
    /// What it may open.
    pub directories: Vec<OpenDirectory>,
}

/// A directory that is open.
#[derive(Clone, Debug)]
pub struct OpenDirectory {
    /// The directory.
    pub fd: Arc<OwnedFd>,
    /// What the plugin calls it.
    pub name: String,
    /// It may be changed, not only read.
    pub write: bool,
    /// It is the root of a mount of its own, above which there is nothing.
    pub own_mount: bool,
}

/// A door that can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// There is no such directory, or it can't be looked at.
    #[error("`grants.wasi.directories`: can't open {path}: {error}")]
    Directory {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A directory whose files are no files.
    #[error("`grants.wasi.directories`: {0} is /proc, and what is in there are processes, not files; it can't be granted")]
    Processes(PathBuf),
    /// WASI has text only.
    #[error("`grants.wasi.environment`: the value of {0} is not UTF-8 text, and a plugin can have no other")]
    NotText(String),
    /// More than a worker is handed.
    #[error("`grants.wasi.environment`: the variables have {0} bytes, and {MAX_ENVIRONMENT} are the most that can be granted")]
    TooLong(usize),
}

impl Doors {
    /// Looks for all of it: a directory that is not there is an error, and a variable that is not set is none.
    pub fn open(&self) -> Result<Opened, DoorError> {
        let mut environment = Vec::new();
        for name in &self.environment {
            match env::var(name) {
                Ok(value) => environment.push((name.clone(), value)),
                Err(env::VarError::NotPresent) => {}
                Err(env::VarError::NotUnicode(_)) => return Err(DoorError::NotText(name.clone())),
            }
        }
        let length = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
        if length > MAX_ENVIRONMENT {
            return Err(DoorError::TooLong(length));
        }
        let directories = self.directories.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Opened { environment, network: self.network.iter().copied().collect(), directories })
    }
}

fn open(directory: &Directory) -> Result<OpenDirectory, DoorError> {
    let Directory { path, name, write, .. } = directory;
    let failed = |error: Errno| DoorError::Directory { path: path.clone(), error: error.into() };
    let plain = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let kind = rustix::fs::fstatfs(&plain).map_err(failed)?;
    // PROC_SUPER_MAGIC, include/uapi/linux/magic.h. The links in there lead to wherever processes are.
    if kind.f_type == 0x9fa0 {
        return Err(DoorError::Processes(path.clone()));
    }
    let own = mounts::of_its_own(&plain, *write);
    let (own_mount, fd) = (own.is_ok(), own.unwrap_or(plain));
    Ok(OpenDirectory { fd: Arc::new(fd), name: name.clone(), write: *write, own_mount })
}

impl Opened {
    /// All of them are shut.
    pub fn is_shut(&self) -> bool {
        self.environment.is_empty() && !self.has_waits()
    }

    /// Behind one of them is something that can be waited for.
    pub fn has_waits(&self) -> bool {
        !self.network.is_empty() || !self.directories.is_empty()
    }

    /// Some directory may be changed.
    pub fn has_writes(&self) -> bool {
        self.directories.iter().any(|directory| directory.write)
    }

    /// Whether it may connect to this.
    pub fn may_connect(&self, peer: SocketAddr) -> bool {
        self.network.iter().any(|peers| peers.contain(peer))
    }

    /// The layers of the cage that such a door leaves out, by what was granted and not for want of a kernel.
    pub fn layers(&self) -> &'static [Layer] {
        if self.network.is_empty() { &[] } else { &[Layer::NetNamespace] }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn directories(path: &Path) -> Doors {
        let directory = Directory::new(path.to_str().unwrap().into(), None, false, Path::new(""));
        Doors { directories: vec![directory], ..Doors::default() }
    }

    /// What is not there, or is no directory of files, is refused with its name.
    #[test]
    fn what_can_not_be_opened() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, expect) in [
            (place.path().join("none"), "No such file or directory"),
            (file, "Not a directory"),
            (PathBuf::from("/proc"), "is /proc, and what is in there are processes"),
        ] {
            let error = directories(&path).open().unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains(expect), "{error}");
        }
        let opened = directories(place.path()).open().unwrap();
        assert_eq!((opened.directories.len(), opened.has_waits(), opened.has_writes()), (1, true, false));
    }

    /// Of the environment comes what is named and set.
    #[test]
    fn named_variables() {
        let environment = BTreeSet::from(["PATH".to_owned(), "PORTCULLIS_TEST_IS_NOT_SET".to_owned()]);
        let opened = Doors { environment, ..Doors::default() }.open().unwrap();
        assert_eq!(opened.environment, [("PATH".to_owned(), env::var("PATH").unwrap())]);
        assert!(!opened.is_shut() && !opened.has_waits() && Opened::default().is_shut());
    }
}
