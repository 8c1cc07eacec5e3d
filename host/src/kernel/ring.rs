//! A ring: the records of one plugin's programs, from all CPUs in the order in which they were reserved.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::Ordering,
};

use aya::maps::{Map, MapData, RingBuf};
use portcullis_ebpf::{MapKind, MapRef, MapSpec};

use super::map::{self, MapError, Mapping};

/// A ring and the reader's place in it.
pub struct Ring {
    ring: RingBuf<MapData>,
    /// The pages of the consumer's and of the producer's position.
    positions: Mapping,
    page: usize,
}

impl Ring {
    /// Makes a ring of `size` bytes, a power of two and a multiple of the page size.
    pub fn create(size: u32) -> Result<Ring, MapError> {
        let spec = MapSpec {
            map: MapRef::Ring,
            kind: MapKind::RingBuf,
            key_size: 0,
            value_size: 0,
            max_entries: size,
            content: Vec::new(),
        };
        let data = map::create(&spec, size)?;
        let fail = |error: io::Error| MapError { map: "pc_ring".to_owned(), action: "map", bytes: size.into(), error };
        let page = rustix::param::page_size();
        let positions = Mapping::new(data.fd().as_fd(), 2 * page, false).map_err(fail)?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|error| fail(io::Error::other(error.to_string())))?;
        Ok(Ring { ring, positions, page })
    }

    /// Hands over up to `limit` records, oldest first, and returns how many there were. Stops at a record that a program is still
    /// writing.
    pub fn read(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < limit {
            let Some(record) = self.ring.next() else { break };
            each(&record);
            count += 1;
        }
        count
    }

    /// The bytes between what was read and what programs have reserved: 0 after the close and a grace period says that nothing
    /// is left and nothing will come.
    pub fn waiting(&self) -> u64 {
        // The layout of the pages is that of the ring buffer, kernel/bpf/ringbuf.c: consumer's page, producer's page, data.
        let position = |at| self.positions.word(at).map_or(0, |word| word.load(Ordering::Acquire));
        let consumer = position(0);
        position(self.page).wrapping_sub(consumer)
    }

    /// Everything up to the producer's position was read.
    pub fn is_drained(&self) -> bool {
        self.waiting() == 0
    }
}

impl AsFd for Ring {
    /// For polling: readable when a program forced a wake-up. Also the map, for programs.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("waiting", &self.waiting()).finish()
    }
}
