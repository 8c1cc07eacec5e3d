//! Who runs this, and with which capabilities.

use rustix::thread::{CapabilitySet, capabilities};

use super::Finding;

const GROUP: &str = "user";

/// The capabilities that the host makes use of (capabilities(7)): name, bit, and for what. The last one alone can't be given
/// without giving all.
const CAPABILITIES: [(&str, CapabilitySet, &str); 7] = [
    ("CAP_BPF", CapabilitySet::BPF, "programs and maps"),
    ("CAP_PERFMON", CapabilitySet::PERFMON, "programs that trace, and perf events"),
    ("CAP_DAC_READ_SEARCH", CapabilitySet::DAC_READ_SEARCH, "tracefs, and files of other users' programs"),
    ("CAP_SYSLOG", CapabilitySet::SYSLOG, "the addresses and names of kernel functions"),
    ("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE, "the names of functions in other users' processes"),
    ("CAP_CHECKPOINT_RESTORE", CapabilitySet::CHECKPOINT_RESTORE, "programs whose files were replaced or are in containers"),
    ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN, "probes in programs: uprobe, uretprobe, usdt"),
];

/// The effective user.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    uid: u32,
    effective: CapabilitySet,
}

impl User {
    /// Who runs this process.
    pub(super) fn this() -> User {
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        User { uid: rustix::process::geteuid().as_raw(), effective }
    }

    #[cfg(test)]
    pub(super) fn with(effective: CapabilitySet) -> User {
        User { uid: 1000, effective }
    }

    /// CAP_SYS_ADMIN stands for those that were once part of it.
    pub(super) fn can(&self, capability: CapabilitySet) -> bool {
        let of_admin = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYSLOG | CapabilitySet::CHECKPOINT_RESTORE;
        self.effective.contains(capability)
            || (of_admin.contains(capability) && self.effective.contains(CapabilitySet::SYS_ADMIN))
    }

    /// What every probe takes.
    pub(super) fn privileged(&self) -> bool {
        self.can(CapabilitySet::BPF) && self.can(CapabilitySet::PERFMON)
    }

    /// A line for each capability.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |&(name, capability, what): &(&str, CapabilitySet, &str)| {
            let way_out = if capability == CapabilitySet::SYS_ADMIN { "run it as root".to_owned() } else { privilege() };
            match self.can(capability) {
                true => Finding::yes(GROUP, name, what),
                false => Finding::no(GROUP, name, format!("user {} has it not; it is for {what}", self.uid), way_out),
            }
        };
        CAPABILITIES.iter().map(finding).collect()
    }
}

/// How privilege is had.
pub(super) fn privilege() -> String {
    let executable = std::env::current_exe().map_or_else(|_| "portcullis".to_owned(), |path| path.display().to_string());
    let names: Vec<String> = CAPABILITIES[..6].iter().map(|(name, ..)| name.to_ascii_lowercase()).collect();
    format!("run it as root, or: setcap {}+ep {executable}", names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The old capability stands for the new ones, and for no other.
    #[test]
    fn capabilities_by_the_old_one() {
        let check = |effective: CapabilitySet, privileged: bool, yes: usize| {
            let user = User::with(effective);
            let found = user.findings().iter().filter(|finding| finding.ok).count();
            assert_eq!((user.privileged(), found), (privileged, yes), "{effective:?}");
        };
        check(CapabilitySet::empty(), false, 0);
        check(CapabilitySet::BPF, false, 1);
        check(CapabilitySet::BPF | CapabilitySet::PERFMON, true, 2);
        check(CapabilitySet::SYS_ADMIN, true, 5);
        check(CapabilitySet::all(), true, 7);
    }
}
