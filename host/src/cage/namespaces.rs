//! Namespaces in which nothing is but this process.
//!
//! The pid namespace is not here: it begins with a child, so the host makes it ([`super::spawn`]).

use std::{ffi::CStr, io, ptr};

use super::{Layer, Missing, returned};
use crate::doors::Opened;

/// Those that a privileged process makes at once, and another makes in a user namespace.
const AROUND: [(Layer, libc::c_int); 5] = [
    (Layer::MountNamespace, libc::CLONE_NEWNS),
    (Layer::NetNamespace, libc::CLONE_NEWNET),
    (Layer::IpcNamespace, libc::CLONE_NEWIPC),
    (Layer::UtsNamespace, libc::CLONE_NEWUTS),
    (Layer::CgroupNamespace, libc::CLONE_NEWCGROUP),
];

/// What an open door leaves out stays the host's.
fn around(doors: &Opened) -> Vec<(Layer, libc::c_int)> {
    AROUND.into_iter().filter(|(layer, _)| !doors.layers().contains(layer)).collect()
}

/// Enters all but the user namespace, if this process may; false if it may not.
pub(super) fn enter_privileged(doors: &Opened, missing: &mut Vec<Missing>) -> bool {
    let around = around(doors);
    let entered = unshare(around[0].1);
    if entered.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
        return false;
    }
    mounts(entered, missing);
    enter(&around[1..], missing);
    true
}

/// Enters a user namespace, and the others if that was not done before. It is empty: nobody is given a number in it.
pub(super) fn enter_users(others: bool, doors: &Opened, missing: &mut Vec<Missing>) {
    let around = around(doors);
    let users = unshare(libc::CLONE_NEWUSER);
    if !others {
        match &users {
            Ok(()) => {
                mounts(unshare(around[0].1), missing);
                enter(&around[1..], missing);
            }
            Err(error) => missing.extend(around.iter().map(|(layer, _)| Missing::new(*layer, error))),
        }
    }
    if let Err(error) = users {
        missing.push(Missing::new(Layer::UserNamespace, &error));
    }
}

/// Enters these, together where that goes.
fn enter(these: &[(Layer, libc::c_int)], missing: &mut Vec<Missing>) {
    if unshare(these.iter().fold(0, |all, (_, flag)| all | flag)).is_err() {
        for (layer, flag) in these {
            if let Err(error) = unshare(*flag) {
                missing.push(Missing::new(*layer, &error));
            }
        }
    }
}

/// Empties the mount namespace that was `entered`.
fn mounts(entered: io::Result<()>, missing: &mut Vec<Missing>) {
    if let Err(error) = entered.and_then(|()| empty_root()) {
        missing.push(Missing::new(Layer::MountNamespace, &error));
    }
}

/// Makes an empty file system, which nobody can write to, the root, and lets go of everything else that is mounted.
fn empty_root() -> io::Result<()> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // What is mounted here shall not show outside.
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    // Any directory will do that is always there. It is covered in this namespace alone.
    let place = c"/dev";
    mount(Some(c"none"), place, Some(c"tmpfs"), flags | libc::MS_RDONLY, Some(c"size=4k,nr_inodes=2,mode=555"))?;
    rustix::process::chdir(place)?;
    // The new root on top of the old at the same place (pivot_root(2)), and then away with the old one.
    // SAFETY: both arguments are strings.
    returned(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the argument is a string.
    returned(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
    rustix::process::chdir(c"/")?;
    Ok(())
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: each argument is a string, or null where none is asked for.
    let result = unsafe { libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast()) };
    returned(result.into()).map(drop)
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: none of the flags has an effect on memory or on descriptors.
    returned(unsafe { libc::unshare(flags) }.into()).map(drop)
}
