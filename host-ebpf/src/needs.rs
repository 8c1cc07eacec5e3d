//! What a plugin's programs need, computed from what they do: the compiler's word, never the plugin's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a program reads, beyond the identity of the running task (pid, tid, uid, gid, comm, cpu, times, duration), which needs
/// no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataClass {
    /// The arguments of attach points, and what they return.
    Arguments,
    /// Memory of the traced process, through a pointer.
    UserMemory,
    /// Memory of the kernel, through a pointer.
    KernelMemory,
    /// Call stacks, of traced processes and of the kernel.
    Stacks,
    /// Facts about processes, which no program reads: a plugin asks its host for them.
    Process,
}

impl DataClass {
    /// All there are.
    pub const ALL: [DataClass; 5] =
        [DataClass::Arguments, DataClass::UserMemory, DataClass::KernelMemory, DataClass::Stacks, DataClass::Process];

    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            DataClass::Arguments => "arguments",
            DataClass::UserMemory => "user-memory",
            DataClass::KernelMemory => "kernel-memory",
            DataClass::Stacks => "stacks",
            DataClass::Process => "process",
        }
    }
}

impl fmt::Display for DataClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one plugin needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Attach points after wildcard expansion, as `KIND:TARGET`, each with the probe that has it; in the order of the probes.
    pub attach: Vec<AttachNeed>,
    /// The data classes, each with the first place that needs it, in the order of [`DataClass`].
    pub data: Vec<DataNeed>,
}

/// One attach point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachNeed {
    /// `tracepoint:sched:sched_switch`, `span:syscall:openat`.
    pub point: String,
    /// The name of the probe.
    pub probe: String,
}

/// One data class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataNeed {
    /// The class.
    pub class: DataClass,
    /// The name of the probe that needs it first; none where it is the component itself that asks.
    pub probe: Option<String>,
    /// The expression that needs it, as the spec has it, or what the component imports.
    pub text: String,
}
