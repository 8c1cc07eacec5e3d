//! Landlock (Linux 5.13): a rule set that handles every kind of access, without a rule but for doors that are open.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use super::{CageError, Layer, Missing, returned, step};
use crate::doors::Opened;

/// `struct landlock_ruleset_attr`, include/uapi/linux/landlock.h: what the rules are about. It grew with the versions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attributes {
    /// Kinds of access to the file system.
    fs: u64,
    /// Kinds of access to the network, since version 4: bind and connect TCP.
    net: u64,
    /// What stays within, since version 6: abstract Unix sockets and signals.
    scoped: u64,
}

impl Attributes {
    /// All there is in a version of the interface, and how many bytes that version knows of this.
    fn of(version: u32) -> (Attributes, usize) {
        let kinds = match version {
            1 => 13,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        let net = if version >= 4 { 0b11 } else { 0 };
        let scoped = if version >= 6 { 0b11 } else { 0 };
        let members = match version {
            ..=3 => 1,
            4 | 5 => 2,
            _ => 3,
        };
        (Attributes { fs: (1 << kinds) - 1, net, scoped }, members * size_of::<u64>())
    }

    /// What may be done below a directory that is granted: files and directories are opened, and made, removed and changed if it may be
    /// written to. Nothing is run, and no device, socket or pipe is made.
    fn below(self, write: bool) -> u64 {
        const WRITE_FILE: u64 = 1 << 1;
        const READ_FILE: u64 = 1 << 2;
        const READ_DIR: u64 = 1 << 3;
        const REMOVE_DIR: u64 = 1 << 4;
        const REMOVE_FILE: u64 = 1 << 5;
        const MAKE_DIR: u64 = 1 << 7;
        const MAKE_REG: u64 = 1 << 8;
        const MAKE_SYM: u64 = 1 << 12;
        const REFER: u64 = 1 << 13;
        const TRUNCATE: u64 = 1 << 14;
        let read = READ_FILE | READ_DIR;
        let changes = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE;
        self.fs & if write { read | changes } else { read }
    }
}

/// `LANDLOCK_RULE_PATH_BENEATH`
const BENEATH: libc::c_int = 1;

/// `LANDLOCK_RULE_NET_PORT`
const PORT: libc::c_int = 2;

/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`
const CONNECT: u64 = 1 << 1;

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct Beneath {
    access: u64,
    parent: RawFd,
}

/// `struct landlock_net_port_attr`
#[repr(C)]
struct Port {
    access: u64,
    port: u64,
}

/// The version of Landlock's interface, if this kernel has it.
pub fn version() -> Option<u32> {
    ask_version().ok()
}

fn ask_version() -> io::Result<u32> {
    // include/uapi/linux/landlock.h: LANDLOCK_CREATE_RULESET_VERSION.
    const VERSION: libc::c_ulong = 1;
    // SAFETY: without attributes, the call only returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0_usize, VERSION) };
    u32::try_from(returned(version)?).map_err(io::Error::other)
}

/// Leaves nothing within reach that Landlock can keep from a process, but for what these doors lead to.
pub(super) fn restrict(doors: &Opened, missing: &mut Vec<Missing>) -> Result<(), CageError> {
    let version = match ask_version() {
        Ok(version) => version,
        // Absent (ENOSYS), or not enabled (EOPNOTSUPP).
        Err(error) => {
            // A directory that is no mount of its own has all of the file system above it.
            if doors.directories.iter().any(|directory| !directory.own_mount) {
                let name = "Landlock (Linux 5.13), without which no directory can be granted where it can't be a mount of its own \
                            (Linux 5.12, CAP_SYS_ADMIN)";
                return step(name, Err(error));
            }
            missing.push(Missing::new(Layer::Landlock, &error));
            return Ok(());
        }
    };
    let (attributes, size) = Attributes::of(version);
    // SAFETY: the attributes are at least as long as is said.
    let rules = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0) };
    let rules = step("landlock_create_ruleset", returned(rules))?;
    let rules = step("landlock_create_ruleset", RawFd::try_from(rules).map_err(io::Error::other))?;
    // SAFETY: the descriptor was made above and belongs to nobody else.
    let rules = unsafe { OwnedFd::from_raw_fd(rules) };
    for directory in &doors.directories {
        let rule = Beneath { access: attributes.below(directory.write), parent: directory.fd.as_raw_fd() };
        // SAFETY: the rule is of the kind that is said.
        let added = unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), BENEATH, &raw const rule, 0) };
        step("landlock_add_rule", returned(added))?;
    }
    // Versions before 4 know nothing of ports, and hold none.
    for peers in doors.network.iter().filter(|_| attributes.net != 0) {
        let rule = Port { access: CONNECT, port: peers.port().into() };
        // SAFETY: the rule is of the kind that is said.
        let added = unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), PORT, &raw const rule, 0) };
        step("landlock_add_rule", returned(added))?;
    }
    // SAFETY: takes a descriptor and no flags.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    step("landlock_restrict_self", returned(result)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each version is asked for what it has, in as many bytes as it knows.
    #[test]
    fn versions() {
        let of = |version| {
            let (Attributes { fs, net, scoped }, size) = Attributes::of(version);
            (fs, net, scoped, size)
        };
        assert_eq!(of(1), (0x1fff, 0, 0, 8));
        assert_eq!(of(3), (0x7fff, 0, 0, 8));
        assert_eq!(of(4), (0x7fff, 3, 0, 16));
        assert_eq!(of(5), (0xffff, 3, 0, 16));
        assert_eq!(of(6), (0xffff, 3, 3, 24));
        assert_eq!(of(99), (0xffff, 3, 3, 24));
    }

    /// What is allowed below a directory is among what the version knows; nothing is run there, and no device is used.
    #[test]
    fn below_directories() {
        let of = |version, write| Attributes::of(version).0.below(write);
        assert_eq!((of(1, false), of(99, false)), (0b1100, 0b1100));
        assert_eq!((of(1, true), of(2, true), of(99, true)), (0x11be, 0x31be, 0x71be));
        assert_eq!(of(99, true) & (1 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 15), 0);
    }
}
