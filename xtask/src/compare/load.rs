//! What is traced: a program that makes system calls as fast as it can, for as long as it is wanted.

use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use crate::{place::Place, process::command};

/// A process that is killed when it is no longer wanted.
pub(super) struct Load(Child);

impl Load {
    /// Threads that read from /dev/zero, a byte at a time.
    pub(super) fn reads(place: &Place, threads: usize) -> Result<Load> {
        Load::start(place, &["reads-until-told", "0", &threads.to_string()])
    }

    /// One thread that makes numbered calls: lseek(2) to 1, 2, 3 and so on, whose offset is the number at the entry, and whose
    /// result is it at the exit.
    pub(super) fn seeks(place: &Place) -> Result<Load> {
        Load::start(place, &["seeks"])
    }

    fn start(place: &Place, arguments: &[&str]) -> Result<Load> {
        let mut command = command(place.target.join("release/workload"), &place.root);
        command.args(arguments).stdin(Stdio::piped());
        Ok(Load(command.spawn().context("can't start the workload")?))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
