//! What a report says of a caged process.

use std::fs;

use super::Missing;
use crate::proc_status;

/// How one process was caged, and what it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The layers that its cage lacks.
    pub missing: Vec<Missing>,
    /// Its user; `None` if it is that of the host.
    pub uid: Option<u32>,
    /// Its memory.
    pub usage: Usage,
}

/// The resident memory of a process, bytes: all pages that it has mapped and that are there, those of the executable among them, which it
/// shares with its host and other workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When it was looked at (`VmRSS`).
    pub resident: Option<u64>,
    /// The most that it was until then (`VmHWM`).
    pub peak: Option<u64>,
}

impl Usage {
    /// That of a process now; nothing of one that has ended.
    pub fn of(pid: u32) -> Usage {
        fs::read_to_string(format!("/proc/{pid}/status")).map(|status| Usage::parse(&status)).unwrap_or_default()
    }

    /// Lines of proc_pid_status(5), which are of kB, that is of 1024 bytes.
    fn parse(status: &str) -> Usage {
        let field = |name: &str| proc_status::number::<u64>(status, name).map(|kilobytes| kilobytes << 10);
        Usage { resident: field("VmRSS"), peak: field("VmHWM") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process has memory, one that has ended has none to tell of.
    #[test]
    fn memory() {
        let status = "Name:\tx\nVmHWM:\t   12668 kB\nVmRSS:\t    9000 kB\n";
        assert_eq!(Usage::parse(status), Usage { resident: Some(9000 << 10), peak: Some(12668 << 10) });
        assert_eq!(Usage::parse("Name:\tx\nState:\tZ (zombie)\n"), Usage::default());
        let own = Usage::of(std::process::id());
        assert!(own.resident > Some(1 << 20) && own.resident <= own.peak, "{own:?}");
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }
}
