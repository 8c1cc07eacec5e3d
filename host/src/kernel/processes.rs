//! The process table: which processes are the host's own, and which are in scope.

use std::{
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    sync::atomic::Ordering,
};

use aya::maps::MapData;
use portcullis_ebpf::{MapRef, processes};

use super::map::{MapError, Mapping, create_mapped, name};

/// The number of the initial pid namespace in /proc: `PROC_PID_INIT_INO`, include/linux/proc_ns.h.
const INITIAL_NAMESPACE: u64 = 0xefff_fffc;

/// Process ids here are those that programs see, which is so in the initial pid namespace alone. True where /proc does not tell.
pub fn initial_namespace() -> bool {
    std::fs::metadata("/proc/self/ns/pid").map_or(true, |file| file.ino() == INITIAL_NAMESPACE)
}

/// The process table of a session ([`portcullis_ebpf::processes`]).
#[derive(Debug)]
pub struct Processes {
    map: MapData,
    mapping: Mapping,
}

impl Processes {
    /// Makes a table without marks.
    pub fn create() -> Result<Processes, MapError> {
        let (map, mapping) = create_mapped(&name(MapRef::Processes), processes::SIZE)?;
        Ok(Processes { map, mapping })
    }

    /// The map, for programs.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// Marks a process with [`processes::OWN`] or [`processes::IN_SCOPE`]. Programs that start later see it; so mark before the
    /// gate opens, or before the process runs. A `pid` that no kernel gives out is ignored.
    pub fn mark(&self, pid: u32, mark: u8) {
        if let Some(byte) = self.mapping.byte(pid as usize) {
            byte.fetch_or(mark, Ordering::Release);
        }
    }

    /// Takes a mark from a process, once it is gone: its number may be given out again.
    pub fn unmark(&self, pid: u32, mark: u8) {
        if let Some(byte) = self.mapping.byte(pid as usize) {
            byte.fetch_and(!mark, Ordering::Release);
        }
    }

    /// The marks of a process.
    pub fn marks(&self, pid: u32) -> u8 {
        self.mapping.byte(pid as usize).map_or(0, |byte| byte.load(Ordering::Acquire))
    }
}
