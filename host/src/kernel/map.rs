//! Making maps, and memory that the host shares with programs.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU64},
};

use aya::maps::MapData;
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type};
use portcullis_ebpf::{MapKind, MapRef, MapSpec};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    process::{Resource, Rlimit, setrlimit},
};

use super::{PRIVILEGE, sys};

/// A map could not be made or mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the map `{map}` ({bytes} bytes): {error}{}", way_out(.error))]
pub struct MapError {
    /// Its name in the kernel.
    pub map: String,
    /// `create`, `fill` or `map`.
    pub action: &'static str,
    /// How large it would be.
    pub bytes: u64,
    /// Why not.
    pub error: io::Error,
}

fn way_out(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => format!("; this needs {PRIVILEGE}"),
        Some(libc::ENOMEM) => "; there is not enough memory, or RLIMIT_MEMLOCK is too low".to_owned(),
        Some(libc::E2BIG) => "; this kernel allows 4 MiB for one value: use fewer probes in one plugin".to_owned(),
        _ => String::new(),
    }
}

/// Lets this process lock as much memory as maps and programs need. Where this fails, making them says so.
pub(super) fn raise_memlock() {
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

/// Makes a map as the compiler asks for it. `ring` is the size of a ring in bytes.
pub fn create(spec: &MapSpec, ring: u32) -> Result<MapData, MapError> {
    let (kind, flags, entries) = match spec.kind {
        MapKind::MappedArray => (bpf_map_type::BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, spec.max_entries),
        MapKind::Array => (bpf_map_type::BPF_MAP_TYPE_ARRAY, 0, spec.max_entries),
        MapKind::PerCpuArray => (bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY, 0, spec.max_entries),
        MapKind::Hash => (bpf_map_type::BPF_MAP_TYPE_HASH, 0, spec.max_entries),
        MapKind::PerCpuHash => (bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH, 0, spec.max_entries),
        MapKind::LruHash => (bpf_map_type::BPF_MAP_TYPE_LRU_HASH, 0, spec.max_entries),
        MapKind::LruPerCpuHash => (bpf_map_type::BPF_MAP_TYPE_LRU_PERCPU_HASH, 0, spec.max_entries),
        MapKind::RingBuf => (bpf_map_type::BPF_MAP_TYPE_RINGBUF, 0, ring),
    };
    let map = aya_obj::Map::new_from_params(kind as u32, spec.key_size, spec.value_size, entries, flags);
    let name = name(spec.map);
    let made = make(&map, &name)?;
    if !spec.content.is_empty() {
        let filled = sys::map_update(made.fd().as_fd(), &0_u32.to_ne_bytes(), &spec.content);
        filled.map_err(|error| MapError {
            map: name,
            action: "fill",
            bytes: spec.content.len() as u64,
            error: io::Error::from(error.errno),
        })?;
    }
    Ok(made)
}

/// Makes an array of one element that programs reach by a direct pointer and the host through the mapping.
pub fn create_mapped(name: &str, value_size: u32) -> Result<(MapData, Mapping), MapError> {
    let map = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, value_size, 1, BPF_F_MMAPABLE);
    let data = make(&map, name)?;
    let mapping = Mapping::new(data.fd().as_fd(), value_size as usize, true);
    let mapping = mapping.map_err(|error| MapError { map: name.to_owned(), action: "map", bytes: value_size.into(), error })?;
    Ok((data, mapping))
}

fn make(map: &aya_obj::Map, name: &str) -> Result<MapData, MapError> {
    let attempt = || {
        MapData::create(map.clone(), name, None).map_err(|error| match error {
            aya::maps::MapError::CreateError { io_error, .. } => io_error,
            other => io::Error::other(other.to_string()),
        })
    };
    let made = match attempt() {
        // Before Linux 5.11 maps count against RLIMIT_MEMLOCK, and this says that it is reached. Only then, since COMMAND
        // inherits the limit.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            raise_memlock();
            attempt()
        }
        made => made,
    };
    made.map_err(|error| {
        let bytes = u64::from(map.max_entries()) * u64::from(map.key_size() + map.value_size()).max(1);
        MapError { map: name.to_owned(), action: "create", bytes, error }
    })
}

/// The name that a map has in the kernel: 15 bytes at most.
pub fn name(map: MapRef) -> String {
    match map {
        MapRef::Gate => "pc_gate".to_owned(),
        MapRef::Processes => "pc_processes".to_owned(),
        MapRef::Counters => "pc_counters".to_owned(),
        MapRef::Ring => "pc_ring".to_owned(),
        MapRef::Span(probe) => format!("pc_span{}", probe % 100_000_000),
        MapRef::Plugin(number) => format!("pc_map{}", number % 100_000_000),
        MapRef::Scratch => "pc_scratch".to_owned(),
        MapRef::Names => "pc_names".to_owned(),
        MapRef::Rates => "pc_rates".to_owned(),
    }
}

/// Memory shared with the kernel. Everything in it is read and written atomically, since programs may do the same at any time.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is reached through atomics alone and stays mapped until `self` is dropped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of what a map lets be mapped.
    pub fn new(fd: BorrowedFd<'_>, length: usize, writable: bool) -> io::Result<Mapping> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, length })
    }

    /// Its size in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The 64-bit word at a byte offset; `None` where it is not aligned or not within.
    pub fn word(&self, offset: usize) -> Option<&AtomicU64> {
        offset.checked_add(8).filter(|end| *end <= self.length && offset.is_multiple_of(8))?;
        // SAFETY: just checked to be within.
        let word = unsafe { self.start.add(offset) };
        // SAFETY: a mapping begins at a page, so the word is aligned; it is mapped as long as `self` lives.
        Some(unsafe { word.cast::<AtomicU64>().as_ref() })
    }

    /// The byte at an offset; `None` where it is not within.
    pub fn byte(&self, offset: usize) -> Option<&AtomicU8> {
        if offset >= self.length {
            return None;
        }
        // SAFETY: just checked to be within.
        let byte = unsafe { self.start.add(offset) };
        // SAFETY: mapped as long as `self` lives.
        Some(unsafe { byte.cast::<AtomicU8>().as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no reference outlives `self`. It cannot fail on a whole mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
