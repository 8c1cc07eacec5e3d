//! Maps in the kernel, read, taken from and written.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::fd::AsFd as _;

use aya::maps::MapData;
use portcullis_ebpf::{
    Field, MapKind, MapRef, MapSpec, Naming, PluginMap, Slot,
    aggregate::{Content, encode_max},
};

use super::{Open, PluginMaps};
use crate::{
    contract::{Column, Elements, Values},
    kernel::{map, sys, testing::lock},
    names::Names,
    worker::Maps as _,
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
    assert!(full.starts_with("can't write the map `@m`: bpf(BPF_MAP_UPDATE_ELEM)") && full.ends_with("; it is full"), "{full}");
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
