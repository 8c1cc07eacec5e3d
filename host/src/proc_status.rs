//! Lines of `/proc/PID/status` (proc_pid_status(5)): a name, a colon, and words.

use std::str::FromStr;

/// The first word of the line of this name, if it is there and is such a number.
pub(crate) fn number<T: FromStr>(status: &str, name: &str) -> Option<T> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    /// The name is the whole name, and of several numbers the first counts.
    #[test]
    fn numbers() {
        let status = "Name:\tUid: 3\nTgid:\t7\nUid:\t1000\t0\t0\t0\nVmRSS:\t    9000 kB\n";
        for (name, expect) in [("Tgid", Some(7)), ("Uid", Some(1000)), ("VmRSS", Some(9000)), ("Ui", None), ("Name", None)] {
            assert_eq!(number::<u32>(status, name), expect, "{name}");
        }
    }
}
