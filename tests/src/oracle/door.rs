//! Programs of `begin` in the kernel: loaded, run by BPF_PROG_TEST_RUN as often as wanted, and what they leave in maps and ring.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::maps::MapData;
use portcullis::{
    contract::ProbeCounts,
    kernel::{
        Counters, Ring, RunningKernel, map,
        program::{self, LoadedProgram},
    },
};
use portcullis_ebpf::{Compiled, Hook, MapRef, Options, PluginMap, ProbeSpec, Slot, output::Moment, record};

use crate::kernel::compile;

/// Commands of bpf(2) (`enum bpf_cmd`, include/uapi/linux/bpf.h).
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;

/// What those on maps are asked with.
#[repr(C)]
struct OfElement {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The program of `begin` of one probe, and its plugin's maps.
#[derive(Debug)]
pub struct Door {
    compiled: Compiled,
    program: LoadedProgram,
    counters: Counters,
    ring: Option<Ring>,
    maps: BTreeMap<MapRef, MapData>,
}

/// The name of the probe that runs.
pub const PROBE: &str = "oracle";

/// What was emitted: the stream's name, and its fields.
pub type Row = (String, Vec<Field>);

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Integer(i128),
    Text(String),
}

impl Door {
    /// Compiles probes and loads the program of [`PROBE`], which is one of `begin`. Others may say what their maps are.
    ///
    /// # Errors
    /// What the kernel says against the program.
    pub fn open(kernel: &RunningKernel, specs: &[ProbeSpec]) -> Result<Door, String> {
        let compiled = compile(kernel, specs, &Options { gate: None, ..Options::default() });
        let (mut counters, mut ring, mut maps) = (None, None, BTreeMap::new());
        for spec in &compiled.maps {
            match spec.map {
                MapRef::Counters => {
                    counters = Some(Counters::create(compiled.counters, spec.value_size).map_err(|e| e.to_string())?);
                }
                MapRef::Ring => ring = Some(Ring::create(1 << 16).map_err(|e| e.to_string())?),
                _ => {
                    maps.insert(spec.map, map::create(spec, 0).map_err(|e| e.to_string())?);
                }
            }
        }
        let counters = counters.ok_or("there are no counters")?;
        let begin = compiled.programs.iter().find(|program| program.hook == Hook::Host(Moment::Begin));
        let program = program::load(begin.ok_or("no probe is of `begin`")?, kernel, |wanted| match wanted {
            MapRef::Counters => Some(counters.fd()),
            MapRef::Ring => ring.as_ref().map(|ring| ring.as_fd()),
            other => maps.get(&other).map(|map| map.fd().as_fd()),
        });
        let program = program.map_err(|e| e.to_string())?;
        Ok(Door { compiled, program, counters, ring, maps })
    }

    /// Runs the program once, on this thread.
    pub fn run(&self) {
        self.program.run().expect("the kernel runs it");
    }

    /// What was emitted since the last call.
    pub fn rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        let streams = &self.compiled.streams;
        if let Some(ring) = &mut self.ring {
            ring.read(usize::MAX, |bytes| {
                let stream = &streams[u32::from_ne_bytes(at(bytes, record::STREAM)) as usize];
                let fields = stream.fields.iter().map(|field| field_of(bytes, field.slot)).collect();
                rows.push((stream.name.clone(), fields));
            });
        }
        rows
    }

    /// What was counted for the probe.
    pub fn counts(&self) -> ProbeCounts {
        let number = self.compiled.probes.iter().position(|probe| probe.name == PROBE).expect("it was compiled");
        self.counters.probe(number, &self.compiled.probes[number])
    }

    /// A map of the probes, and its descriptor.
    pub fn map(&self, name: &str) -> (&PluginMap, BorrowedFd<'_>) {
        let number = self.compiled.plugin_maps.iter().position(|map| map.name == name).expect("the probes name the map");
        (&self.compiled.plugin_maps[number], self.maps[&MapRef::Plugin(number)].fd().as_fd())
    }

    /// Sets an element.
    pub fn set(&self, name: &str, key: &[u8], value: &[u8]) {
        let (map, fd) = self.map(name);
        let (mut key, mut value) = (key.to_vec(), value.to_vec());
        key.resize(map.key_size as usize, 0);
        value.resize(map.value_size as usize, 0);
        element(MAP_UPDATE_ELEM, fd, key.as_ptr(), value.as_mut_ptr()).expect("the map takes the element");
    }

    /// Makes a hash map empty.
    pub fn clear(&self, name: &str) {
        let (_, fd) = self.map(name);
        for (key, _) in self.elements(name) {
            element(MAP_DELETE_ELEM, fd, key.as_ptr(), std::ptr::null_mut()).expect("the element is there");
        }
    }

    /// All elements, keys and values; the values of all CPUs one after the other.
    pub fn elements(&self, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (map, fd) = self.map(name);
        let cpus = if map.kind.per_cpu() { self.compiled.counters.cpus as usize } else { 1 };
        let mut out: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut next = vec![0; map.key_size as usize];
        loop {
            let before = out.last().map_or(std::ptr::null(), |(key, _)| key.as_ptr());
            if element(MAP_GET_NEXT_KEY, fd, before, next.as_mut_ptr()).is_err() {
                return out;
            }
            let mut value = vec![0; cpus * map.value_size as usize];
            element(MAP_LOOKUP_ELEM, fd, next.as_ptr(), value.as_mut_ptr()).expect("the element is there");
            out.push((next.clone(), value));
        }
    }
}

/// A call on an element. Buffers have the sizes that the map has.
fn element(command: u32, map: BorrowedFd<'_>, key: *const u8, value: *mut u8) -> io::Result<()> {
    let map = map.as_raw_fd().cast_unsigned();
    let mut attr = OfElement { map, unused: 0, key: key as u64, value: value as u64, flags: 0 };
    // SAFETY: the callers' buffers are as large as the map's keys and values, on all CPUs.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<OfElement>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn at<const N: usize>(bytes: &[u8], offset: u32) -> [u8; N] {
    bytes[offset as usize..offset as usize + N].try_into().expect("so many bytes")
}

/// A field, decoded here by the published layout.
fn field_of(bytes: &[u8], slot: Slot) -> Field {
    match slot {
        Slot::Int { offset, size, signed } => Field::Integer(match (size, signed) {
            (1, false) => u8::from_ne_bytes(at(bytes, offset)).into(),
            (1, true) => i8::from_ne_bytes(at(bytes, offset)).into(),
            (2, false) => u16::from_ne_bytes(at(bytes, offset)).into(),
            (2, true) => i16::from_ne_bytes(at(bytes, offset)).into(),
            (4, false) => u32::from_ne_bytes(at(bytes, offset)).into(),
            (4, true) => i32::from_ne_bytes(at(bytes, offset)).into(),
            (_, false) => u64::from_ne_bytes(at(bytes, offset)).into(),
            (_, true) => i64::from_ne_bytes(at(bytes, offset)).into(),
        }),
        Slot::Text { offset, capacity } => {
            let text = &bytes[offset as usize..(offset + capacity) as usize];
            let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
            Field::Text(String::from_utf8_lossy(&text[..end]).into_owned())
        }
        other => panic!("no expression gives {other:?}"),
    }
}
