//! How much a need gives away, for people who are asked to grant it: by the class of data, and by the kind of attach point.

use std::fmt;

use portcullis_ebpf::DataClass;
use serde::Serialize;

/// How much is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Who does what, and when.
    Low,
    /// What is passed to calls and to programs, and how these are built; or code that is rewritten.
    Medium,
    /// Contents: passwords, keys and all else that is in memory.
    High,
}

impl Risk {
    /// Of reading a class of data.
    pub fn of_class(class: DataClass) -> Risk {
        match class {
            DataClass::Arguments | DataClass::Stacks | DataClass::Process => Risk::Medium,
            DataClass::UserMemory | DataClass::KernelMemory => Risk::High,
        }
    }

    /// Of attaching: events that the kernel has anyway, or places in code that are patched.
    pub fn of_point(point: &str) -> Risk {
        let kind = point.strip_prefix("span:").unwrap_or(point).split(':').next().unwrap_or_default();
        match kind {
            "tracepoint" | "rawtracepoint" | "syscall" | "profile" | "interval" | "software" | "hardware" | "iter" | "begin"
            | "end" => Risk::Low,
            _ => Risk::Medium,
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contents are more than arguments, and code that is patched is more than events.
    #[test]
    fn classes() {
        assert!(Risk::of_class(DataClass::UserMemory) > Risk::of_class(DataClass::Arguments));
        for (point, risk) in [
            ("span:syscall:openat", Risk::Low),
            ("span:tracepoint:a:b..c:d", Risk::Low),
            ("tracepoint:sched:sched_switch", Risk::Low),
            ("begin", Risk::Low),
            ("span:kprobe:vfs_read", Risk::Medium),
            ("uprobe:/bin/bash:readline", Risk::Medium),
            ("lsm:file_open", Risk::Medium),
        ] {
            assert_eq!(Risk::of_point(point), risk, "{point}");
        }
    }
}
