//! Who the process is: somebody else than the host, who may do nothing.

use rustix::{
    process::{Gid, Uid},
    thread::{CapabilitySet, CapabilitySets},
};

use super::{CageError, User, step};

/// Becomes this user, with its group and no others, where the host is root; false where it is not. Another user stays who it is: it can
/// become nobody else.
pub(super) fn become_user(user: User) -> Result<bool, CageError> {
    // Before the user goes, and with it the right to do this; a user namespace brings a full set back, which goes later.
    drop_bounding_set()?;
    let root = rustix::process::geteuid().is_root();
    if root {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        step("setgroups", rustix::thread::set_thread_groups(&[]))?;
        step("setresgid", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
        step("setresuid", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    }
    Ok(root)
}

/// Leaves no capability in any set.
pub(super) fn drop_capabilities() -> Result<(), CageError> {
    drop_bounding_set()?;
    let none = CapabilitySet::empty();
    step("PR_CAP_AMBIENT", rustix::thread::clear_ambient_capability_set())?;
    step("capset", rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }))
}

/// Empties the bounding set. That is itself privileged; without the privilege there is nothing that the set could give back, given
/// PR_SET_NO_NEW_PRIVS.
fn drop_bounding_set() -> Result<(), CageError> {
    let capabilities = step("capget", rustix::thread::capabilities(None))?;
    if !capabilities.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // EINVAL ends the list of those that this kernel knows.
        let Ok(there) = rustix::thread::capability_is_in_bounding_set(capability) else { break };
        if there {
            step("PR_CAPBSET_DROP", rustix::thread::remove_capability_from_bounding_set(capability))?;
        }
    }
    Ok(())
}
