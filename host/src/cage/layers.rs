//! The layers that a kernel, or the user of the host, may lack.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of the cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layer {
    /// It is a user of its own, whom nobody else on the machine is.
    User,
    /// All its memory counts, also what no limit of a process knows of.
    MemoryCgroup,
    /// No user of the machine exists in it.
    UserNamespace,
    /// Nothing is mounted in it but an empty root that can't be written to.
    MountNamespace,
    /// With a network door: it connects to what is granted, and to nothing else.
    Connections,
    /// No network device is up in it, and no abstract socket of others exists.
    NetNamespace,
    /// No System V object and no message queue of others exists in it.
    IpcNamespace,
    /// The host name is a copy.
    UtsNamespace,
    /// The tree of cgroups begins with its own.
    CgroupNamespace,
    /// No process but itself exists in it.
    PidNamespace,
    /// No path can be opened; on newer kernels no port, no signal to others.
    Landlock,
    /// The system calls that it needs, and no other.
    Seccomp,
}

impl Layer {
    /// All of them, from the outside in.
    pub const ALL: [Layer; 12] = [
        Layer::User,
        Layer::MemoryCgroup,
        Layer::PidNamespace,
        Layer::MountNamespace,
        Layer::NetNamespace,
        Layer::Connections,
        Layer::IpcNamespace,
        Layer::UtsNamespace,
        Layer::CgroupNamespace,
        Layer::UserNamespace,
        Layer::Landlock,
        Layer::Seccomp,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::User => "user of its own",
            Layer::MemoryCgroup => "memory cgroup",
            Layer::UserNamespace => "user namespace",
            Layer::MountNamespace => "mount namespace",
            Layer::NetNamespace => "network namespace",
            Layer::Connections => "connection filter",
            Layer::IpcNamespace => "IPC namespace",
            Layer::UtsNamespace => "UTS namespace",
            Layer::CgroupNamespace => "cgroup namespace",
            Layer::PidNamespace => "pid namespace",
            Layer::Landlock => "Landlock",
            Layer::Seccomp => "seccomp",
        }
    }

    /// What it holds, in words.
    pub fn holds(self) -> &'static str {
        match self {
            Layer::User => "nobody else on the machine is that user",
            Layer::MemoryCgroup => "all its memory is bounded, shared memory and page tables as well",
            Layer::UserNamespace => "no user of the machine exists in it",
            Layer::MountNamespace => "an empty root, read-only",
            Layer::NetNamespace => "no network, no abstract socket",
            Layer::Connections => "with a network door: the granted addresses, and no other",
            Layer::IpcNamespace => "no shared memory, semaphores or queues of others",
            Layer::UtsNamespace => "the host name is a copy",
            Layer::CgroupNamespace => "no cgroup of others",
            Layer::PidNamespace => "no process but itself",
            Layer::Landlock => "no path can be opened",
            Layer::Seccomp => "the system calls that it needs, no other",
        }
    }

    /// What to do where it is missing.
    pub fn way_out(self) -> &'static str {
        match self {
            Layer::User => {
                "run as root, in a user namespace that has the users 1879048192 to 2147483647; `sandbox = { uid = N }` names another"
            }
            Layer::MemoryCgroup => {
                "start it in a cgroup that is handed to it: systemd-run --scope -p Delegate=yes portcullis ...; without systemd: \
                 echo '+memory +pids' > /sys/fs/cgroup/cgroup.subtree_control"
            }
            Layer::PidNamespace => {
                "run as root, or give portcullis CAP_SYS_ADMIN; until then a worker sees the process ids of others"
            }
            Layer::Connections => {
                "run as root, or give portcullis CAP_BPF and CAP_NET_ADMIN and a cgroup of version 2 that it may make others in \
                 (mount -t cgroup2 none /sys/fs/cgroup); until then native code in a worker with a network door connects to the \
                 granted ports of every address"
            }
            Layer::UserNamespace => "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone",
            Layer::MountNamespace | Layer::NetNamespace | Layer::IpcNamespace | Layer::UtsNamespace | Layer::CgroupNamespace => {
                "run as root, or allow user namespaces with rights in them: sysctl user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns"
            }
            Layer::Landlock => {
                "take Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK=y, and `landlock` in the boot parameter `lsm=`"
            }
            Layer::Seccomp => {
                "take a kernel built with CONFIG_SECCOMP_FILTER=y; without it the symbolizer does not start, and user functions \
                 have no names"
            }
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A layer that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which.
    pub layer: Layer,
    /// What the kernel said.
    pub reason: String,
}

impl Missing {
    /// `error` is what the kernel said.
    pub fn new(layer: Layer, error: &impl ToString) -> Missing {
        Missing { layer, reason: error.to_string() }
    }
}

/// Adds to what a process says that its cage lacks what its host could not give it. Of a layer that both tell of the host knows why.
pub(crate) fn join(said: &mut Vec<Missing>, outside: &[Missing]) {
    said.retain(|missing| outside.iter().all(|other| other.layer != missing.layer));
    said.extend_from_slice(outside);
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.layer, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each layer is told of once, in the words of the host if it has some.
    #[test]
    fn joined() {
        let mut said = vec![Missing::new(Layer::Connections, &"not refused"), Missing::new(Layer::Landlock, &"old")];
        let outside = [Missing::new(Layer::MemoryCgroup, &"none"), Missing::new(Layer::Connections, &"no tree")];
        join(&mut said, &outside);
        let told: Vec<_> = said.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["Landlock (old)", "memory cgroup (none)", "connection filter (no tree)"]);
    }

    /// Each is there once, with its own name.
    #[test]
    fn names() {
        let names: std::collections::BTreeSet<_> = Layer::ALL.iter().map(|layer| layer.as_str()).collect();
        assert_eq!(names.len(), Layer::ALL.len());
    }
}
