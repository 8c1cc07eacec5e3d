//! Grace periods: waiting for every program that was running.
//!
//! Programs on tracepoints run within RCU read sections. An update of a map of maps returns only after `synchronize_rcu()`
//! (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c), so that nobody still uses the inner map that was replaced. Here the same
//! inner map replaces itself in a map that no program knows, only for the wait. Sleepable programs are not waited for, and
//! Portcullis loads none.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::MapData;

use super::{
    map::{MapError, create_mapped},
    sys,
};
use crate::clock;

/// What it takes to wait.
#[derive(Debug)]
pub struct Grace {
    outer: OwnedFd,
    inner: MapData,
}

impl Grace {
    /// Makes the two maps.
    pub fn create() -> Result<Grace, MapError> {
        let (inner, _) = create_mapped("pc_grace", 8)?;
        let outer = sys::create_array_of_maps(inner.fd().as_fd());
        let outer = outer.map_err(|error| MapError {
            map: "pc_grace".to_owned(),
            action: "create",
            bytes: 4,
            error: error.errno.into(),
        })?;
        Ok(Grace { outer, inner })
    }

    /// Waits until every program that was running at the call has returned. The time after that, CLOCK_MONOTONIC ns. Takes some
    /// 10 ms.
    pub fn wait(&self) -> sys::Result<u64> {
        sys::set_array_of_maps(self.outer.as_fd(), self.inner.fd().as_fd())?;
        Ok(clock::now())
    }
}
