//! Whose processes are traced, on the command line of every subcommand that traces.

use clap::Args;

use super::UsageError;
use crate::scope::{self, Limits};

/// `--pid`, `--uid`, `--cgroup`: all that are given hold at once.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Trace one process, as the host numbers it, and end with it.
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pub pid: Option<u32>,

    /// Trace what runs as this user: a number or a name.
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,

    /// Trace what runs in a control group and those below it: a path, a systemd unit, or a container's id.
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Option<String>,
}

impl Scope {
    /// What the names mean.
    pub(super) fn limits(&self) -> anyhow::Result<Limits> {
        if self.pid == Some(0) {
            return Err(UsageError("--pid 0 is no process".into()).into());
        }
        Ok(Limits {
            pid: self.pid,
            uid: self.uid.as_deref().map(scope::user).transpose()?,
            cgroup: self.cgroup.as_deref().map(scope::cgroup).transpose()?,
        })
    }
}
