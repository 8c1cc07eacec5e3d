//! How often the kernel itself says that the programs of this process ran.

use std::{collections::BTreeMap, fs};

/// `run_cnt` of each program that this process holds, in the order in which they were loaded; counted while the kernel counts
/// (BPF_ENABLE_STATS). Read where the kernel shows what a descriptor is, not by bpf(2).
pub fn of_this_process() -> Vec<u64> {
    let mut runs = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").expect("there is procfs").flatten() {
        // A descriptor may be gone by now: another thread's, or that of the directory.
        let Ok(what) = fs::read_link(entry.path()) else { continue };
        if what.as_os_str() != "anon_inode:bpf-prog" {
            continue;
        }
        let path = format!("/proc/self/fdinfo/{}", entry.file_name().to_string_lossy());
        let text = fs::read_to_string(path).unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line?.trim().parse().ok()
        };
        // Numbers of programs rise.
        if let (Some(id), Some(count)) = (number("prog_id"), number("run_cnt")) {
            runs.insert(id, count);
        }
    }
    runs.into_values().collect()
}
