//! A directory as the root of a mount of its own, which is nowhere to be found: above it there is nothing, so that no `..` leads out of
//! it, and what may not be changed can't be, by whatever call.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use super::returned;

/// `struct mount_attr`, include/uapi/linux/mount.h.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

/// Makes it (Linux 5.12, `CAP_SYS_ADMIN`). What is mounted below the directory is in it; what is mounted there later is not.
pub(crate) fn of_its_own(directory: impl AsFd, write: bool) -> io::Result<OwnedFd> {
    // include/uapi/linux/mount.h and fcntl.h
    const OPEN_TREE_CLONE: libc::c_int = 1;
    const AT_RECURSIVE: libc::c_int = 0x8000;
    const RDONLY: u64 = 1;
    const NOSUID: u64 = 2;
    const NODEV: u64 = 4;
    const NOEXEC: u64 = 8;
    let directory = directory.as_fd().as_raw_fd();
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::AT_EMPTY_PATH | libc::O_CLOEXEC;
    // SAFETY: the path is a string.
    let tree = returned(unsafe { libc::syscall(libc::SYS_open_tree, directory, c"".as_ptr(), flags) })?;
    // SAFETY: the descriptor was made above and belongs to nobody else.
    let tree = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(tree).map_err(io::Error::other)?) };
    let read_only = if write { 0 } else { RDONLY };
    let attributes = Attributes { set: read_only | NOSUID | NODEV | NOEXEC, clear: 0, propagation: libc::MS_PRIVATE, users: 0 };
    let (of_tree, flags) = (tree.as_raw_fd(), AT_RECURSIVE | libc::AT_EMPTY_PATH);
    // SAFETY: the path is a string, and the attributes are as long as is said.
    let set = unsafe {
        libc::syscall(libc::SYS_mount_setattr, of_tree, c"".as_ptr(), flags, &raw const attributes, size_of::<Attributes>())
    };
    returned(set)?;
    Ok(tree)
}
