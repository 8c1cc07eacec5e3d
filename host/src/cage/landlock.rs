//! Landlock (Linux 5.13): a rule set that handles every kind of access, without a rule.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use super::{CageError, Layer, Missing, returned, step};

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

/// Leaves nothing within reach that Landlock can keep from a process.
pub(super) fn restrict(missing: &mut Vec<Missing>) -> Result<(), CageError> {
    let version = match ask_version() {
        Ok(version) => version,
        // Absent (ENOSYS), or not enabled (EOPNOTSUPP).
        Err(error) => {
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
}
