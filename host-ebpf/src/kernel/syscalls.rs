//! System calls: their numbers, and where the kernel keeps a call's number and arguments.
//!
//! A call goes by the name of its tracepoint (`sys_enter_NAME`), which is not always the manual's: stat(2) is `newstat`. What
//! differs between architectures is in one file for each.

use std::{collections::HashMap, sync::LazyLock};

#[cfg(target_arch = "x86_64")]
#[path = "syscalls/x86_64.rs"]
mod arch;
#[cfg(not(target_arch = "x86_64"))]
compile_error!("the system call table of this architecture is missing: see host-ebpf/src/kernel/syscalls/");

/// The offset in `struct pt_regs` of the system call's number.
pub const NUMBER_OFFSET: u32 = arch::NUMBER_OFFSET;

/// Set in the number of a call made through the x32 ABI. It arrives at the same tracepoints, under a number of another table.
pub const X32_BIT: u32 = arch::X32_BIT;

/// The bit of `task_struct.thread_info.status` that says that the task is in a 32-bit call. It arrives at the same tracepoints,
/// under a number of another table.
pub const TS_COMPAT: u32 = arch::TS_COMPAT;

/// The number of a system call by the name that its tracepoints have (`newstat`, `umount`); `None` for a name the table lacks.
pub fn number(name: &str) -> Option<u32> {
    static BY_NAME: LazyLock<HashMap<&str, u32>> = LazyLock::new(|| arch::NUMBERS.iter().copied().collect());
    BY_NAME.get(name).copied()
}

/// The name that its tracepoints have, by number.
pub fn name(number: u32) -> Option<&'static str> {
    let position = arch::NUMBERS.binary_search_by_key(&number, |(_, n)| *n).ok()?;
    arch::NUMBERS.get(position).map(|(name, _)| *name)
}

/// The name that its tracepoints have of a call that the manual calls `manual`, where that is another: `stat` is `newstat`.
pub fn tracepoint_name(manual: &str) -> Option<&'static str> {
    arch::ALIASES.iter().find(|(m, _)| *m == manual).map(|(_, name)| *name)
}

/// Every system call of the table as (tracepoint name, number), by number.
pub fn all() -> impl Iterator<Item = (&'static str, u32)> {
    arch::NUMBERS.iter().copied()
}

/// The offset in `struct pt_regs` of argument `index`, 0 to 5.
///
/// # Panics
/// If `index` is above 5: no system call has a seventh argument.
pub fn argument_offset(index: usize) -> u32 {
    arch::ARGUMENT_OFFSETS[index]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The table is what `name` needs: by number, no number and no name twice.
    #[test]
    fn table_is_sorted_and_unique() {
        assert!(all().zip(all().skip(1)).all(|((_, a), (_, b))| a < b));
        let mut names: Vec<_> = all().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }

    /// Names are those of tracepoints; the manual's lead to them.
    #[test]
    fn names_and_numbers() {
        let check = |name: &str, expect: Option<u32>| assert_eq!(number(name), expect, "{name}");
        check("openat", Some(257));
        check("read", Some(0));
        check("newstat", Some(4));
        check("umount", Some(166));
        check("sendfile64", Some(40));
        check("stat", None);
        check("no_such_call", None);
        assert_eq!(name(257), Some("openat"));
        assert_eq!(name(999), None);
        assert_eq!(tracepoint_name("stat"), Some("newstat"));
        assert_eq!(tracepoint_name("openat"), None);
        for (_, name) in arch::ALIASES {
            assert!(number(name).is_some(), "{name}");
        }
    }

    /// The table has every system call that has a tracepoint on the running kernel.
    #[test]
    fn complete_for_this_kernel() {
        let Ok(events) = std::fs::read_dir("/sys/kernel/tracing/events/syscalls") else { return };
        let events = events.map(|e| e.unwrap().file_name().into_string().unwrap());
        let unknown: Vec<_> =
            events.filter(|e| e.strip_prefix("sys_enter_").is_some_and(|name| number(name).is_none())).collect();
        assert_eq!(unknown, Vec::<String>::new());
    }
}
