//! The doors of WASI: what a plugin may reach outside of its cage. All are shut but those that its bundle opens.
//!
//! | where | what |
//! |---|---|
//! | here, [`Peers`] | what a manifest says |
//! | [`Doors::open`] | the host looks for it on this machine, before anything is loaded: [`Opened`] |
//! | [`pass`] | on its way to the worker |
//! | [`crate::cage`] | what the kernel lets the worker do with it |
//! | `worker/guest` | what its component sees of it |

mod open;
pub mod pass;
mod peers;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

pub use open::{DoorError, OpenDirectory, Opened};
pub use peers::Peers;
use serde::{Deserialize, Serialize};

/// How many directories a plugin can be granted: they come to its worker in one message (`SCM_MAX_FD`, include/net/scm.h, is 253).
pub const MAX_DIRECTORIES: usize = 64;

/// How many addresses a plugin can be granted.
pub const MAX_PEERS: usize = 256;

/// How long the variables can be that a plugin is granted, all names and values together, bytes.
pub const MAX_ENVIRONMENT: usize = 64 << 10;

/// A kind of door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// Variables of the host's environment.
    Environment,
    /// Connections by TCP.
    Network,
    /// Directories of the file system.
    Directories,
}

impl Door {
    /// All of them.
    pub const ALL: [Door; 3] = [Door::Environment, Door::Network, Door::Directories];

    /// Its name in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Door::Environment => "environment",
            Door::Network => "network",
            Door::Directories => "directories",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The doors that a bundle opens for one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Doors {
    /// Names of variables.
    pub environment: BTreeSet<String>,
    /// Whom it may connect to.
    pub network: BTreeSet<Peers>,
    /// What it may open.
    pub directories: Vec<Directory>,
}

/// A directory that is granted, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Directory {
    /// As the manifest names it.
    pub written: String,
    /// Where it is.
    pub path: PathBuf,
    /// What the plugin calls it.
    pub name: String,
    /// It may be changed, not only read.
    pub write: bool,
}

/// A directory as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    path: String,
    #[serde(rename = "as")]
    name: Option<String>,
    #[serde(default)]
    write: bool,
}

impl From<Written> for Directory {
    fn from(Written { path, name, write }: Written) -> Directory {
        Directory::new(path, name, write, Path::new(""))
    }
}

impl Directory {
    /// A directory that a file in the directory `base` names so.
    pub fn new(written: String, name: Option<String>, write: bool, base: &Path) -> Directory {
        Directory { path: base.join(&written), name: name.unwrap_or_else(|| written.clone()), written, write }
    }
}

impl Doors {
    /// All of them are shut.
    pub fn is_shut(&self) -> bool {
        self.environment.is_empty() && self.network.is_empty() && self.directories.is_empty()
    }

    /// Those that are left when these are shut.
    pub fn without(&self, denied: &BTreeSet<Door>) -> Doors {
        let mut doors = self.clone();
        for door in denied {
            match door {
                Door::Environment => doors.environment.clear(),
                Door::Network => doors.network.clear(),
                Door::Directories => doors.directories.clear(),
            }
        }
        doors
    }

    /// As they stand in the manifest, wherever that is.
    pub fn as_written(mut self) -> Doors {
        self.directories.iter_mut().for_each(|directory| directory.path = PathBuf::from(&directory.written));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is denied is shut, and the rest stays as it was.
    #[test]
    fn denied_doors_are_shut() {
        let doors = Doors {
            environment: BTreeSet::from(["LANG".to_owned()]),
            network: BTreeSet::new(),
            directories: vec![Directory::new("out".into(), None, true, Path::new("/bundle"))],
        };
        assert_eq!(doors.without(&BTreeSet::new()), doors);
        let left = doors.without(&BTreeSet::from([Door::Directories, Door::Network]));
        assert_eq!(left, Doors { environment: doors.environment.clone(), ..Doors::default() });
        assert!(doors.without(&BTreeSet::from(Door::ALL)).is_shut());
    }

    /// A relative path begins where its file is, and the plugin calls it by what is written.
    #[test]
    fn paths() {
        let directory = Directory::new("out".into(), None, false, Path::new("/bundle"));
        assert_eq!((directory.path.as_path(), directory.name.as_str()), (Path::new("/bundle/out"), "out"));
        let directory = Directory::new("/etc".into(), Some("/conf".into()), false, Path::new("/bundle"));
        assert_eq!((directory.path.as_path(), directory.name.as_str()), (Path::new("/etc"), "/conf"));
    }
}
