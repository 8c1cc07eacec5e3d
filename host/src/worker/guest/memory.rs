//! The memory that a component may have, all its memories and tables together.

use wasmtime::ResourceLimiter;

use super::error::Stopped;

/// A table element in the worker's memory, bytes.
const TABLE_ELEMENT: usize = 16;

/// The limit and what is used of it.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    used: usize,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Memory {
        Memory { limit: usize::try_from(limit).unwrap_or(usize::MAX), used: 0 }
    }

    fn grow(&mut self, by: usize) -> wasmtime::Result<()> {
        let used = self.used.saturating_add(by);
        if used > self.limit {
            return Err(Stopped::Memory.into());
        }
        self.used = used;
        Ok(())
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        // An error stops the plugin here, with the reason, rather than at the `unreachable` behind a failed allocation.
        self.grow(desired.saturating_sub(current)).map(|()| true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT)).map(|()| true)
    }
}
