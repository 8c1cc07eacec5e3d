//! The maps that a plugin's probes name: their elements, read by batches, merged over the CPUs, and written.
//!
//! Elements of a hash table can be removed, those of an array can't. What is taken from an array of what is only ever added to stays
//! there as a baseline that later reads subtract, so that nothing is lost or told twice; what is raised is set to zero.

use std::os::fd::{AsFd as _, OwnedFd};

use portcullis_ebpf::{
    MapKind, PluginMap, Slot,
    aggregate::{Content, SeriesOf},
};
use rustix::io::Errno;

use super::{
    SysError,
    sys::{self, Batch},
};
use crate::{
    columns::{self, RawElements},
    contract::{Column, Elements},
    names::Names,
    worker::Maps,
};

/// What one call to the kernel may fill, bytes.
const BATCH: usize = 1 << 20;

/// What one look for processes may fill, bytes.
const LOOK: usize = 256 << 10;

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

    /// All elements, merged over the CPUs. With `remove` they are taken out of a hash table.
    fn gather(&self, remove: bool) -> Result<RawElements, Error> {
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
    fn note_processes(&mut self, names: &mut Names) {
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

fn lacks_call(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::OPNOTSUPP) || errno.raw_os_error() == sys::NOT_SUPPORTED
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

/// Programs only ever add to the words of such a content, so that what was there can be subtracted.
fn is_sum(content: Content) -> bool {
    match content {
        Content::Count | Content::Sum | Content::Avg | Content::Stats | Content::Hist { .. } | Content::LinearHist { .. } => true,
        Content::TimeSeries { of, .. } => matches!(of, SeriesOf::Sum | SeriesOf::Avg),
        Content::Value | Content::Min | Content::Max => false,
    }
}

/// Subtracts what was taken from the words of a value.
fn subtract(content: Content, value: &mut [u8], taken: &[u64]) {
    let mut now = words(value);
    let Some((&first, &taken_first)) = now.first().zip(taken.first()) else { return };
    if matches!(content, Content::TimeSeries { .. }) {
        // Another interval is none that was taken.
        if first != taken_first {
            return;
        }
        let rest = now.iter_mut().zip(taken).skip(1);
        rest.for_each(|(now, taken)| *now = now.wrapping_sub(*taken));
        if now.iter().skip(1).all(|word| *word == 0) {
            // Nothing has come since.
            now.fill(0);
        }
    } else if content == Content::Sum || first >= taken_first {
        now.iter_mut().zip(taken).for_each(|(now, taken)| *now = now.wrapping_sub(*taken));
    }
    for (bytes, word) in value.chunks_exact_mut(8).zip(now) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use aya::maps::MapData;
    use portcullis_ebpf::{Field, MapRef, MapSpec, Naming, aggregate::encode_max};

    use super::*;
    use crate::{
        contract::Values,
        kernel::{map, testing::lock},
    };

    fn int(offset: u32, size: u8) -> Slot {
        Slot::Int { offset, size, signed: false }
    }

    /// A map in the kernel, with a number of 8 bytes as its key unless it is an array.
    fn open(kind: MapKind, content: Content, entries: u32) -> (Open, MapData) {
        let field = |name: &str, slot| Field { name: name.into(), ctype: String::new(), slot, naming: Naming::Plain };
        let array = matches!(kind, MapKind::Array | MapKind::PerCpuArray);
        let buckets = content.buckets().is_some();
        let (keys, bucket, key_size) = match (array, buckets) {
            (true, _) => (vec![], buckets.then_some(int(0, 4)), 4),
            (false, false) => (vec![field("k", int(0, 8))], None, 8),
            (false, true) => (vec![field("k", int(0, 8))], Some(int(8, 8)), 16),
        };
        let value_size = 8 * content.words().max(1);
        let value = field("", int(0, 8));
        let map = PluginMap { name: "m".into(), content, kind, keys, bucket, value, key_size, value_size };
        let spec = MapSpec { map: MapRef::Plugin(0), kind, key_size, value_size, max_entries: entries, content: Vec::new() };
        let data = map::create(&spec, 0).unwrap();
        let fd = data.fd().as_fd().try_clone_to_owned().unwrap();
        (Open::new(map, fd, entries).unwrap(), data)
    }

    /// As programs on the first and the last CPU would.
    fn set(open: &Open, key: &[u64], first: &[u64], last: &[u64]) {
        let key: Vec<u8> = if open.is_array() {
            (key[0] as u32).to_ne_bytes().to_vec()
        } else {
            key.iter().flat_map(|part| part.to_ne_bytes()).collect()
        };
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let mut value = vec![0; open.stride()];
        let at = open.stride() - open.value_size();
        value[at..].copy_from_slice(&bytes(last));
        value[..open.value_size()].copy_from_slice(&bytes(first));
        sys::map_update(open.fd.as_fd(), &key, &value).unwrap();
    }

    fn numbers(columns: &[Column]) -> Vec<Vec<i64>> {
        let numbers = |column: &Column| match &column.values {
            Values::U64(values) => values.iter().map(|value| *value as i64).collect(),
            Values::S64(values) => values.clone(),
            other => panic!("{other:?}"),
        };
        columns.iter().map(numbers).collect()
    }

    fn all(elements: &Elements) -> Vec<Vec<i64>> {
        let mut all = numbers(&elements.keys);
        all.extend(numbers(&elements.values));
        all
    }

    fn maps(open: Open) -> (PluginMaps, Names) {
        (PluginMaps::new(vec![open]), Names::default())
    }

    /// Words of all CPUs are merged, elements sorted; what was taken is not there the next time.
    #[test]
    fn hash_of_counts() {
        let Some(_lock) = lock() else { return };
        for kind in [MapKind::PerCpuHash, MapKind::LruPerCpuHash] {
            let (open, _data) = open(kind, Content::Avg, 1000);
            let cpus = open.cpus;
            set(&open, &[7], &[2, 10], &[1, 5]);
            set(&open, &[3], &[1, 4], &[0, 0]);
            let (mut maps, mut names) = maps(open);
            if cpus > 1 {
                let expect = [vec![3, 7], vec![1, 3], vec![4, 5], vec![4, 15]];
                assert_eq!(all(&maps.read(0, &mut names).unwrap()), expect);
                assert_eq!(all(&maps.take(0, &mut names).unwrap()), expect);
            }
            maps.take(0, &mut names).unwrap();
            assert_eq!(all(&maps.read(0, &mut names).unwrap()), [vec![0_i64; 0], vec![], vec![], vec![]]);
            assert_eq!(maps.read(1, &mut names).unwrap_err(), "there is no map 1; there are 1");
        }
    }

    /// More elements than go into one batch are all read, each once, and all taken.
    #[test]
    fn many_elements() {
        let Some(_lock) = lock() else { return };
        for kind in [MapKind::PerCpuHash, MapKind::Hash] {
            let content = if kind == MapKind::Hash { Content::Value } else { Content::Count };
            let (open, _data) = open(kind, content, 100_000);
            let count = 90_000;
            for key in 0..count {
                set(&open, &[key], &[key], &[key]);
            }
            let sum = if open.cpus > 1 { 2 } else { 1 };
            let (mut maps, mut names) = maps(open);
            let expect: Vec<i64> = (0..count as i64).collect();
            for elements in [maps.read(0, &mut names).unwrap(), maps.take(0, &mut names).unwrap()] {
                let all = all(&elements);
                assert_eq!(all[0], expect);
                assert_eq!(all[1], expect.iter().map(|value| sum * value).collect::<Vec<_>>());
            }
            assert_eq!(all(&maps.take(0, &mut names).unwrap()), [vec![0_i64; 0], vec![]]);
        }
    }

    /// What is taken from an array is subtracted from then on, exactly; what was raised begins from nothing.
    #[test]
    fn arrays() {
        let Some(_lock) = lock() else { return };
        let (count, _data) = open(MapKind::PerCpuArray, Content::Count, 1);
        let fd = count.fd.try_clone().unwrap();
        let (mut maps_of, mut names) = maps(count);
        let cpus = maps_of.maps[0].cpus as u64;
        let add = |value: u64| {
            let values: Vec<u8> = (0..cpus).flat_map(|_| value.to_ne_bytes()).collect();
            sys::map_update(fd.as_fd(), &0_u32.to_ne_bytes(), &values).unwrap();
        };
        let cpus = cpus as i64;
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[0]]);
        add(5);
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[5 * cpus]]);
        assert_eq!(all(&maps_of.take(0, &mut names).unwrap()), [[5 * cpus]]);
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[0]]);
        add(8);
        assert_eq!(all(&maps_of.take(0, &mut names).unwrap()), [[3 * cpus]]);
        assert_eq!(all(&maps_of.take(0, &mut names).unwrap()), [[0]]);
        // A program began anew.
        add(1);
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[cpus]]);
        maps_of.clear(0).unwrap();
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[0]]);

        let (max, _data) = open(MapKind::PerCpuArray, Content::Max, 1);
        set(&max, &[0], &[encode_max(3, false)], &[encode_max(9, false)]);
        let (mut maps_of, mut names) = maps(max);
        assert_eq!(all(&maps_of.take(0, &mut names).unwrap()), [[if cpus > 1 { 9 } else { 3 }]]);
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [vec![0_i64; 0]]);
    }

    /// The buckets of a histogram, without keys and with.
    #[test]
    fn histograms() {
        let Some(_lock) = lock() else { return };
        let content = Content::LinearHist { min: 0, max: 100, step: 10 };
        let (hist, _data) = open(MapKind::PerCpuArray, content, content.buckets().unwrap());
        set(&hist, &[1], &[4], &[4]);
        set(&hist, &[11], &[2], &[2]);
        let (mut maps_of, mut names) = maps(hist);
        let columns = all(&maps_of.take(0, &mut names).unwrap());
        assert_eq!(columns[..2], [vec![0, 100], vec![10, i64::MAX]]);
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap())[2], [0_i64; 0]);

        let (hist, _data) = open(MapKind::PerCpuHash, Content::Hist { bits: 0 }, 100);
        for (key, bucket) in [(9, 5), (9, 0), (2, 3), (9, 4)] {
            set(&hist, &[key, bucket], &[1], &[1]);
        }
        let (mut maps_of, mut names) = maps(hist);
        let columns = all(&maps_of.read(0, &mut names).unwrap());
        assert_eq!(columns[..3], [vec![2, 9, 9, 9], vec![2, i64::MIN, 4, 8], vec![4, 0, 8, 16]]);
        let key = Column { values: Values::U64(vec![9, 77]), absent: vec![], cut: vec![] };
        maps_of.delete(0, &[key], &[], &names).unwrap();
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap())[0], [2]);
    }

    /// A plugin's values are written, changed and deleted; a full map and a map without keys say so.
    #[test]
    fn values() {
        let Some(_lock) = lock() else { return };
        let (hash, _data) = open(MapKind::Hash, Content::Value, 2);
        let (mut maps_of, mut names) = maps(hash);
        let column = |values: &[u64]| Column { values: Values::U64(values.to_vec()), absent: vec![], cut: vec![] };
        let elements =
            |keys: &[u64], values: &[u64]| Elements { keys: vec![column(keys)], values: vec![column(values)], strings: vec![] };
        maps_of.write(0, &elements(&[1, 2], &[10, 20]), &names).unwrap();
        maps_of.write(0, &elements(&[2], &[21]), &names).unwrap();
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[1, 2], [10, 21]]);
        let full = maps_of.write(0, &elements(&[3], &[30]), &names).unwrap_err();
        assert!(
            full.starts_with("can't write the map `@m`: bpf(BPF_MAP_UPDATE_ELEM)") && full.ends_with("; it is full"),
            "{full}"
        );
        maps_of.delete(0, &[column(&[1, 5])], &[], &names).unwrap();
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[2], [21]]);
        maps_of.clear(0).unwrap();
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[0_i64; 0]; 2]);

        let (array, _data) = open(MapKind::Array, Content::Value, 1);
        let (mut maps_of, mut names) = maps(array);
        let one = Elements { keys: vec![], values: vec![column(&[7])], strings: vec![] };
        maps_of.write(0, &one, &names).unwrap();
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[7]]);
        assert_eq!(maps_of.delete(0, &[], &[], &names).unwrap_err(), "map \"m\" has no keys; `clear` empties it");
        let two = Elements { keys: vec![], values: vec![column(&[7, 8])], strings: vec![] };
        assert!(maps_of.write(0, &two, &names).is_err());
        assert_eq!(all(&maps_of.take(0, &mut names).unwrap()), [[7]]);
        assert_eq!(all(&maps_of.read(0, &mut names).unwrap()), [[0]]);
    }

    /// Of a time series the same interval is subtracted, another one is not.
    #[test]
    fn time_series() {
        let content = Content::TimeSeries { interval: 10, buckets: 2, of: SeriesOf::Avg };
        let check = |now: [u64; 3], taken: [u64; 3], expect: [u64; 3]| {
            let mut value: Vec<u8> = now.iter().flat_map(|word| word.to_ne_bytes()).collect();
            subtract(content, &mut value, &taken);
            assert_eq!(words(&value), expect);
        };
        check([5, 3, 30], [5, 1, 10], [5, 2, 20]);
        check([7, 3, 30], [5, 1, 10], [7, 3, 30]);
        check([5, 1, 10], [5, 1, 10], [0, 0, 0]);
        check([0, 0, 0], [0, 0, 0], [0, 0, 0]);
    }
}
