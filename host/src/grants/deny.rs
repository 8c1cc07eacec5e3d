//! What is denied, whatever is granted.
//!
//! A place has several names: a function of the kernel is `kprobe:F` and `fentry:F`, a system call a tracepoint and a span. A deny that
//! fits one of them denies them all, since it is about the place and not about how it is reached.

use std::collections::BTreeSet;

use portcullis_ebpf::{DataClass, attach::glob};
use serde::Deserialize;

use crate::doors::Door;

/// What one plugin may not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deny {
    /// Globs over the names of places.
    pub probes: Vec<String>,
    /// The data that it may not read.
    pub read: BTreeSet<DataClass>,
    /// The doors that stay shut.
    pub wasi: BTreeSet<Door>,
}

/// The kinds of attach points that reach a function of the kernel.
const FUNCTIONS: [&str; 6] = ["kprobe", "kretprobe", "fentry", "fexit", "span:kprobe", "span:kfunc"];
/// The same of a function of a program.
const USER_FUNCTIONS: [&str; 3] = ["uprobe", "uretprobe", "span:uprobe"];
/// The same of a system call, with what stands before its name.
const SYSCALLS: [&str; 3] = ["tracepoint:syscalls:sys_enter_", "tracepoint:syscalls:sys_exit_", "span:syscall:"];

impl Deny {
    /// Whether an attach point is denied.
    pub fn point(&self, point: &str) -> bool {
        // Another way to write what a span's key is makes it no other place.
        let point = point.split_once(" key ").map_or(point, |(point, _)| point);
        let names = names(point);
        self.probes.iter().any(|pattern| names.iter().any(|name| glob::matches(pattern, name)) || denies_raw(pattern, point))
    }

    /// Whether anything is denied.
    pub fn is_empty(&self) -> bool {
        self.probes.is_empty() && self.read.is_empty() && self.wasi.is_empty()
    }
}

/// A raw tracepoint does not say of which category it is: one that is denied of any is denied.
fn denies_raw(pattern: &str, point: &str) -> bool {
    let name = pattern.strip_prefix("tracepoint:").map(|rest| rest.split_once(':').map_or(rest, |(_, name)| name));
    name.zip(point.strip_prefix("rawtracepoint:")).is_some_and(|(pattern, name)| glob::matches(pattern, name))
}

/// All names of the places that an attach point has.
fn names(point: &str) -> Vec<String> {
    if let Some(ends) = point.strip_prefix("span:tracepoint:") {
        let ends = ends.split("..").map(|end| names(&format!("tracepoint:{end}")));
        return ends.flatten().chain([point.to_owned()]).collect();
    }
    for (kinds, after) in [(&FUNCTIONS[..], ":"), (&USER_FUNCTIONS, ":"), (&SYSCALLS, "")] {
        let target = kinds.iter().find_map(|kind| point.strip_prefix(kind)?.strip_prefix(after));
        if let Some(target) = target {
            return kinds.iter().map(|kind| format!("{kind}{after}{target}")).collect();
        }
    }
    let raw = point.strip_prefix("tracepoint:").and_then(|rest| rest.split_once(':'));
    [Some(point.to_owned()), raw.map(|(_, name)| format!("rawtracepoint:{name}"))].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place is denied by any of its names, and no other place is.
    #[test]
    fn by_any_name() {
        for (denied, point, expect) in [
            ("kprobe:vfs_read", "fentry:vfs_read", true),
            ("fexit:*", "span:kprobe:vfs_read", true),
            ("kprobe:vfs_read", "kprobe:vfs_readv", false),
            ("kprobe:*", "lsm:file_open", false),
            ("uprobe:/bin/a:f", "span:uprobe:/bin/a:f", true),
            ("uprobe:/bin/a:f", "uretprobe:/bin/b:f", false),
            ("span:syscall:execve", "tracepoint:syscalls:sys_exit_execve", true),
            ("tracepoint:syscalls:sys_enter_exec*", "span:syscall:execveat", true),
            ("tracepoint:sched:*", "span:tracepoint:sched:sched_wakeup..sched:sched_switch", true),
            ("tracepoint:sched:sched_switch", "rawtracepoint:sched_switch", true),
            ("tracepoint:sched:sched_switch", "rawtracepoint:sched_waking", false),
            ("rawtracepoint:sched_switch", "tracepoint:sched:sched_switch", true),
            ("tracepoint:*", "rawtracepoint:sched_switch", true),
            ("span:*", "tracepoint:sched:sched_switch", false),
            ("*", "begin", true),
        ] {
            let deny = Deny { probes: vec![denied.to_owned()], ..Deny::default() };
            assert_eq!(deny.point(point), expect, "{denied} {point}");
        }
        assert!(!Deny::default().point("begin"));
    }
}
