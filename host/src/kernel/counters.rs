//! The counters of a plugin's programs, summed over the CPUs.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::atomic::Ordering,
};

use aya::maps::MapData;
use portcullis_ebpf::{
    MapRef, Probe,
    counters::{Counter, Layout, StreamCounter},
};

use super::map::{MapError, Mapping, create_mapped, name};
use crate::contract::{ProbeCounts, StreamCounts};

/// The counters of one plugin. Reading costs no system call and may be done at any time; the numbers are final after the close
/// and a grace period.
#[derive(Debug)]
pub struct Counters {
    map: MapData,
    mapping: Mapping,
    layout: Layout,
}

impl Counters {
    /// Makes the map, of `value_size` bytes as the compiler asks for it.
    pub fn create(layout: Layout, value_size: u32) -> Result<Counters, MapError> {
        if value_size < layout.value_size() {
            let error = io::Error::other("its layout is larger than the map: a bug of Portcullis, please report it");
            return Err(MapError { map: name(MapRef::Counters), action: "create", bytes: value_size.into(), error });
        }
        let (map, mapping) = create_mapped(&name(MapRef::Counters), value_size)?;
        Ok(Counters { map, mapping, layout })
    }

    /// The map, for programs.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// What was counted for the probe at position `index`, without `in_flight`, which no program counts.
    pub fn probe(&self, index: usize, probe: &Probe) -> ProbeCounts {
        let sum = |counter| self.sum(self.layout.probe(index, counter));
        ProbeCounts {
            name: probe.name.clone(),
            span: probe.span,
            hits: sum(Counter::Hits),
            hits_closed: sum(Counter::HitsClosed),
            unpaired: Some(sum(Counter::Unpaired)).filter(|unpaired| *unpaired > 0 || !probe.skips),
            filtered: sum(Counter::Filtered),
            shed: if self.layout.shed { sum(Counter::Shed) } else { 0 },
            completed: sum(Counter::Completed),
            entry_hits: sum(Counter::EntryHits),
            entry_hits_closed: sum(Counter::EntryHitsClosed),
            entered: sum(Counter::Entered),
            matched: sum(Counter::Matched),
            in_flight: 0,
            lost: sum(Counter::Lost),
            map_full: sum(Counter::MapFull),
            read_fault: sum(Counter::ReadFault),
            truncated: sum(Counter::Truncated),
        }
    }

    /// What was counted for the stream at position `index`.
    pub fn stream(&self, index: usize) -> StreamCounts {
        let sum = |counter| self.sum(self.layout.stream(index, counter));
        StreamCounts {
            attempted: sum(StreamCounter::Attempted),
            emitted: sum(StreamCounter::Emitted),
            ring_full: sum(StreamCounter::RingFull),
        }
    }

    /// The counter at `offset` of each CPU's block, summed.
    fn sum(&self, offset: u32) -> u64 {
        let (stride, offset) = (self.layout.stride() as usize, offset as usize);
        let words = (0..self.layout.cpus as usize).filter_map(|cpu| self.mapping.word(cpu * stride + offset));
        words.map(|word| word.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}
