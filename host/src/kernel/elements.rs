//! The maps that a plugin's probes name: their elements, read by batches, merged over the CPUs, and written.
//!
//! Elements of a hash table can be removed, those of an array can't. What is taken from an array of what is only ever added to stays
//! there as a baseline that later reads subtract, so that nothing is lost or told twice; what is raised is set to zero.

mod batches;
mod taken;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd as _, OwnedFd};

use portcullis_ebpf::{MapKind, PluginMap, Slot};
use rustix::io::Errno;

use self::taken::{is_sum, subtract};
use super::{SysError, sys};
use crate::{
    columns::{self, RawElements},
    contract::{Column, Elements},
    names::Names,
    worker::Maps,
};

/// What one read may gather, bytes of keys and merged values: no more fits into a plugin with the memory that it has by default.
const MOST: usize = 64 << 20;

/// The maps of one plugin, by number.
#[derive(Debug)]
pub struct PluginMaps {
    maps: Vec<Open>,
}

/// A map in the kernel.
#[derive(Debug)]
pub struct Open {
    map: PluginMap,
    fd: OwnedFd,
    /// How many elements it can have.
    entries: u32,
    /// The number of possible CPUs.
    cpus: usize,
    /// Where stacks are in its keys.
    stacks: Vec<usize>,
    /// Where the next look for processes begins; `None` begins anew.
    place: Option<Vec<u8>>,
    /// Of an array, what was taken: the words of each element. Empty while nothing was.
    taken: Vec<u64>,
}

/// Why a map could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("{0}")]
    Sys(#[from] SysError),
    /// There are more elements than are read at once.
    #[error("it has more than {} MiB of elements, which is more than can be read at once; use `take`, or fewer keys", MOST >> 20)]
    Large,
}

impl PluginMaps {
    /// These maps, in the order of the schema.
    pub fn new(maps: Vec<Open>) -> PluginMaps {
        PluginMaps { maps }
    }

    fn map(&mut self, number: u32) -> Result<&mut Open, String> {
        let count = self.maps.len();
        self.maps.get_mut(number as usize).ok_or_else(|| format!("there is no map {number}; there are {count}"))
    }
}

impl Open {
    /// A map of `entries` elements at most.
    pub fn new(map: PluginMap, fd: OwnedFd, entries: u32) -> std::io::Result<Open> {
        let cpus = if map.kind.per_cpu() { aya::util::nr_cpus().map_err(|(_, error)| error)? } else { 1 };
        let stacks = map.keys.iter().filter_map(|field| match field.slot {
            Slot::Stack { offset, .. } => Some(offset as usize),
            _ => None,
        });
        let stacks = stacks.collect();
        Ok(Open { map, fd, entries, cpus, stacks, place: None, taken: Vec::new() })
    }

    fn is_array(&self) -> bool {
        matches!(self.map.kind, MapKind::Array | MapKind::MappedArray | MapKind::PerCpuArray)
    }

    fn key_size(&self) -> usize {
        self.map.key_size as usize
    }

    fn value_size(&self) -> usize {
        self.map.value_size as usize
    }

    /// A value as the kernel passes it: of each CPU, rounded up to words.
    fn stride(&self) -> usize {
        if self.map.kind.per_cpu() { self.value_size().next_multiple_of(8) * self.cpus } else { self.value_size() }
    }

    /// Subtracts what was taken, if anything was, from the values of all elements.
    fn since_taken(&self, values: &mut [u8]) {
        let words = (self.value_size() / 8).max(1);
        for (value, taken) in values.chunks_exact_mut(8 * words).zip(self.taken.chunks_exact(words)) {
            subtract(self.map.content, value, taken);
        }
    }

    fn read(&mut self) -> Result<RawElements, Error> {
        let mut all = self.gather(false)?;
        self.since_taken(&mut all.values);
        Ok(all)
    }

    fn take(&mut self) -> Result<RawElements, Error> {
        if !self.is_array() {
            return self.gather(true);
        }
        let mut all = self.gather(false)?;
        if is_sum(self.map.content) {
            let now = words(&all.values);
            self.since_taken(&mut all.values);
            self.taken = now;
        } else {
            self.zero()?;
        }
        Ok(all)
    }

    /// Sets every element of an array to zero, on every CPU.
    fn zero(&self) -> Result<(), Error> {
        let zeros = vec![0; self.stride()];
        for index in 0..self.entries {
            sys::map_update(self.fd.as_fd(), &index.to_ne_bytes(), &zeros)?;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Error> {
        if self.is_array() {
            return self.take().map(drop);
        }
        // What is taken at once has a limit.
        loop {
            let taken = self.gather(true)?;
            if taken.keys.len() + taken.values.len() <= MOST {
                return Ok(());
            }
        }
    }

    fn write(&mut self, raw: &RawElements) -> Result<(), Error> {
        let values = raw.values.chunks_exact(self.value_size().max(1));
        for (key, value) in raw.keys.chunks_exact(self.key_size().max(1)).zip(values) {
            // Maps of values are not per CPU.
            sys::map_update(self.fd.as_fd(), key, value)?;
        }
        Ok(())
    }

    fn delete(&mut self, keys: &[u8]) -> Result<(), Error> {
        let remove = |key: &[u8]| match sys::map_delete(self.fd.as_fd(), key) {
            Ok(()) | Err(SysError { errno: Errno::NOENT, .. }) => Ok(()),
            Err(error) => Err(Error::from(error)),
        };
        for key in keys.chunks_exact(self.key_size().max(1)) {
            let (Some(Slot::Int { offset, size, .. }), Some(buckets)) = (self.map.bucket, self.map.content.buckets()) else {
                remove(key)?;
                continue;
            };
            let mut key = key.to_vec();
            let place = offset as usize..offset as usize + usize::from(size).min(8);
            for bucket in 0..u64::from(buckets) {
                let bytes = bucket.to_le_bytes();
                if let (Some(place), Some(bytes)) = (key.get_mut(place.clone()), bytes.get(..place.len())) {
                    place.copy_from_slice(bytes);
                }
                remove(&key)?;
            }
        }
        Ok(())
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

impl Maps for PluginMaps {
    fn read(&mut self, map: u32, names: &mut Names) -> Result<Elements, String> {
        let open = self.map(map)?;
        let raw = open.read().map_err(|error| say("read", &open.map, &error))?;
        Ok(columns::to_columns(&open.map, &raw, names))
    }

    fn take(&mut self, map: u32, names: &mut Names) -> Result<Elements, String> {
        let open = self.map(map)?;
        let raw = open.take().map_err(|error| say("take", &open.map, &error))?;
        Ok(columns::to_columns(&open.map, &raw, names))
    }

    fn write(&mut self, map: u32, elements: &Elements, names: &Names) -> Result<(), String> {
        let open = self.map(map)?;
        let raw = columns::from_elements(&open.map, elements, names)?;
        open.write(&raw).map_err(|error| say("write", &open.map, &error))
    }

    fn delete(&mut self, map: u32, keys: &[Column], strings: &[String], names: &Names) -> Result<(), String> {
        let open = self.map(map)?;
        if open.map.keys.is_empty() {
            return Err(format!("map \"{}\" has no keys; `clear` empties it", open.map.name));
        }
        let keys = columns::from_keys(&open.map, keys, strings, names)?;
        open.delete(&keys).map_err(|error| say("delete from", &open.map, &error))
    }

    fn clear(&mut self, map: u32) -> Result<(), String> {
        let open = self.map(map)?;
        open.clear().map_err(|error| say("clear", &open.map, &error))
    }

    fn have_stacks(&self) -> bool {
        self.maps.iter().any(|map| !map.stacks.is_empty())
    }

    fn note_processes(&mut self, names: &mut Names) {
        self.maps.iter_mut().filter(|map| !map.stacks.is_empty()).for_each(|map| map.note_processes(names));
    }
}

fn say(what: &str, map: &PluginMap, error: &Error) -> String {
    let way_out = match error {
        Error::Sys(SysError { errno: Errno::TOOBIG, .. }) => "; it is full",
        _ => "",
    };
    format!("can't {what} the map `@{}`: {error}{way_out}", map.name)
}
