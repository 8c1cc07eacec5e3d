//! The open spans of a probe: entries that have not seen their exit.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::MapData;
use portcullis_ebpf::{MapSpec, output::SpanEntry};

use super::{
    map::{self, MapError},
    sys,
};

/// A span that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSpan {
    /// The thread.
    pub tid: u32,
    /// The generation of its plugin when it began.
    pub generation: u64,
    /// When it began, CLOCK_MONOTONIC ns.
    pub time: u64,
}

/// The span map of one probe.
#[derive(Debug)]
pub struct Spans {
    map: MapData,
    spec: MapSpec,
}

impl Spans {
    /// Makes the map.
    pub fn create(spec: &MapSpec) -> Result<Spans, MapError> {
        Ok(Spans { map: map::create(spec, 0)?, spec: spec.clone() })
    }

    /// The map, for programs.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// The spans that are open, by age. While programs run this is no snapshot.
    pub fn open(&self) -> sys::Result<Vec<OpenSpan>> {
        let (key_size, value_size) = (self.spec.key_size as usize, self.spec.value_size as usize);
        let (keys, values) = sys::map_elements(self.fd(), key_size, value_size, self.spec.max_entries)?;
        let entries = keys.chunks_exact(key_size.max(1)).zip(values.chunks_exact(value_size.max(1)));
        let mut spans: Vec<OpenSpan> = entries.filter_map(|(_, value)| span(value)).collect();
        spans.sort_by_key(|span| (span.time, span.tid));
        Ok(spans)
    }
}

/// A value begins with a [`SpanEntry`].
fn span(value: &[u8]) -> Option<OpenSpan> {
    let word = |at: usize| value.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
    Some(OpenSpan {
        tid: u32::try_from(word(std::mem::offset_of!(SpanEntry, thread))?).ok()?,
        generation: word(std::mem::offset_of!(SpanEntry, generation))?,
        time: word(std::mem::offset_of!(SpanEntry, time))?,
    })
}
