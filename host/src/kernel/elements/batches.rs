//! Elements by batches, as many as one call to the kernel fills.

use std::os::fd::AsFd as _;

use rustix::io::Errno;

use super::{Error, MOST, Open, words};
use crate::{
    columns::RawElements,
    kernel::{
        SysError,
        sys::{self, Batch},
    },
    names::Names,
};

/// What one call to the kernel may fill, bytes.
const BATCH: usize = 1 << 20;

/// What one look for processes may fill, bytes.
const LOOK: usize = 256 << 10;

impl Open {
    /// All elements, merged over the CPUs. With `remove` they are taken out of a hash table.
    pub(super) fn gather(&self, remove: bool) -> Result<RawElements, Error> {
        let (key_size, stride, entries) = (self.key_size(), self.stride(), self.entries.max(1));
        let mut count = u32::try_from(BATCH / (key_size + stride)).unwrap_or(u32::MAX).max(16).min(entries);
        // A hash table tells its place in 4 bytes, an array by a key.
        let place = key_size.max(4);
        let (mut from, mut next) = (vec![0; place], vec![0; place]);
        let mut began = false;
        let mut all = RawElements::default();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        loop {
            keys.resize(key_size * count as usize, 0);
            values.resize(stride * count as usize, 0);
            let batch = Batch { from: began.then_some(&from[..]), next: &mut next, keys: &mut keys, values: &mut values, count };
            let read =
                if remove { sys::map_take_batch(self.fd.as_fd(), batch) } else { sys::map_lookup_batch(self.fd.as_fd(), batch) };
            let (found, last) = match read {
                Ok(found) => found,
                Err(SysError { errno: Errno::NOSPC, .. }) if count < entries => {
                    count = count.saturating_mul(2).min(entries);
                    continue;
                }
                Err(SysError { errno: Errno::INTR | Errno::AGAIN, .. }) => continue,
                Err(SysError { errno, .. }) if self.is_array() && !began && lacks_call(errno) => return self.gather_singly(),
                // What was taken out already is told; the rest is still there.
                Err(_) if remove && !all.keys.is_empty() => return Ok(all),
                Err(error) => return Err(error.into()),
            };
            self.merge(&keys, &values, found as usize, &mut all);
            if last {
                return Ok(all);
            }
            if all.keys.len() + all.values.len() > MOST {
                // What was taken out can't be put back; the rest is there for the next time.
                return if remove { Ok(all) } else { Err(Error::Large) };
            }
            std::mem::swap(&mut from, &mut next);
            began = true;
        }
    }

    /// Notes the processes of the stacks in some keys, the next ones with each call.
    pub(super) fn note_processes(&mut self, names: &mut Names) {
        let (key_size, stride) = (self.key_size(), self.stride());
        let mut count = u32::try_from(LOOK / (key_size + stride)).unwrap_or(u32::MAX).max(16).min(self.entries.max(1));
        let mut next = vec![0; key_size.max(4)];
        loop {
            let (mut keys, mut values) = (vec![0; key_size * count as usize], vec![0; stride * count as usize]);
            let from = self.place.as_deref();
            let batch = Batch { from, next: &mut next, keys: &mut keys, values: &mut values, count };
            match sys::map_lookup_batch(self.fd.as_fd(), batch) {
                Ok((found, last)) => {
                    for key in keys.chunks_exact(key_size.max(1)).take(found as usize) {
                        let pids = self.stacks.iter().filter_map(|offset| key.get(offset + 4..)?.first_chunk().copied());
                        pids.for_each(|pid| names.note(u32::from_ne_bytes(pid)));
                    }
                    self.place = if last { None } else { Some(next) };
                    return;
                }
                Err(SysError { errno: Errno::NOSPC, .. }) if count < self.entries => {
                    count = count.saturating_mul(2).min(self.entries);
                }
                // Another time. Names are what it may cost.
                Err(_) => {
                    self.place = None;
                    return;
                }
            }
        }
    }

    /// The elements of an array, one by one: for kernels that have no batches of its type.
    fn gather_singly(&self) -> Result<RawElements, Error> {
        let mut all = RawElements::default();
        let mut value = vec![0; self.stride()];
        for index in 0..self.entries {
            let key = index.to_ne_bytes();
            sys::map_lookup(self.fd.as_fd(), &key, &mut value)?;
            self.merge(&key, &value, 1, &mut all);
            if all.keys.len() + all.values.len() > MOST {
                return Err(Error::Large);
            }
        }
        Ok(all)
    }

    fn merge(&self, keys: &[u8], values: &[u8], count: usize, all: &mut RawElements) {
        let (key_size, value_size, stride) = (self.key_size(), self.value_size(), self.stride());
        all.keys.extend_from_slice(keys.get(..key_size * count).unwrap_or_default());
        if !self.map.kind.per_cpu() {
            all.values.extend_from_slice(values.get(..stride * count).unwrap_or_default());
            return;
        }
        let words = words(values.get(..stride * count).unwrap_or_default());
        let mut merged = vec![0; value_size / 8];
        for value in words.chunks_exact((stride / 8).max(1)) {
            merged.fill(0);
            for cpu in value.chunks_exact(merged.len().max(1)) {
                self.map.content.merge(&mut merged, cpu);
            }
            all.values.extend(merged.iter().flat_map(|word| word.to_ne_bytes()));
        }
    }
}

fn lacks_call(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::OPNOTSUPP) || errno.raw_os_error() == sys::NOT_SUPPORTED
}
