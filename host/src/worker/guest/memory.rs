//! The memory that a component may have, all its memories and tables together, and the elements of these tables.

use wasmtime::ResourceLimiter;

use super::error::Stopped;
use crate::contract::Limits;

/// A table element in the worker's memory, bytes.
const TABLE_ELEMENT: usize = 16;

/// What a resource is limited to, and what is used of it.
#[derive(Debug)]
struct Budget {
    limit: u64,
    used: u64,
}

impl Budget {
    fn new(limit: u64) -> Budget {
        Budget { limit, used: 0 }
    }

    /// Uses so much more, or says that it is over.
    fn grow(&mut self, by: usize, over: Stopped) -> wasmtime::Result<()> {
        let used = self.used.saturating_add(by as u64);
        if used > self.limit {
            return Err(over.into());
        }
        self.used = used;
        Ok(())
    }
}

/// The limits and what is used of them.
#[derive(Debug)]
pub(super) struct Memory {
    bytes: Budget,
    elements: Budget,
}

impl Memory {
    pub(super) fn new(limits: &Limits) -> Memory {
        Memory { bytes: Budget::new(limits.memory), elements: Budget::new(limits.table_elements) }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        // An error stops the plugin here, with the reason, rather than at the `unreachable` behind a failed allocation.
        self.bytes.grow(desired.saturating_sub(current), Stopped::Memory).map(|()| true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = desired.saturating_sub(current);
        self.elements.grow(elements, Stopped::Table)?;
        self.bytes.grow(elements.saturating_mul(TABLE_ELEMENT), Stopped::Memory).map(|()| true)
    }
}
