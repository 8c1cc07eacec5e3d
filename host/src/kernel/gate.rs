//! The gate: one word with a bit per plugin, in a map that programs read by a direct pointer and only this module writes.
//!
//! # Why one store is enough
//!
//! A program loads the word once per run, before it does anything that leaves a trace, and keeps what it saw. So the order of the
//! store and of that one load decides over the whole run: a run that loaded before the store does not see it, one that loaded
//! after it does, and there is no third case. What the programs need beside the word (their generation, the process table) is
//! written before the word is, and the store releases it.
//!
//! Opening and closing are atomic read-modify-writes in sequentially consistent order: so two threads of the host can change
//! different bits, and the store has reached every CPU before the clock is read after it. A plain store may wait in the CPU's
//! store buffer past that reading, and the published interval would then be too short.
//!
//! A closed word says nothing of the runs that loaded it open: see [`crate::kernel::grace`].

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use portcullis_ebpf::{MapRef, gate};

use super::map::{MapError, Mapping, create_mapped, name};
use crate::{clock, contract::Interval};

/// The gate of a session.
#[derive(Debug)]
pub struct Gate {
    map: MapData,
    mapping: Mapping,
}

impl Gate {
    /// Makes a gate with every bit closed and every generation 0. What runs without a gate counts the time from here on.
    pub fn create() -> Result<Gate, MapError> {
        let (map, mapping) = create_mapped(&name(MapRef::Gate), gate::VALUE_SIZE)?;
        let gate = Gate { map, mapping };
        gate.begin(u64::MAX);
        Ok(gate)
    }

    /// The map, for programs.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// Opens the bits of `mask` by one store.
    pub fn open(&self, mask: u64) -> Interval {
        self.store(|word| word.fetch_or(mask, Ordering::SeqCst))
    }

    /// Closes the bits of `mask` by one store. Runs that loaded the word before go on until a grace period has passed.
    pub fn close(&self, mask: u64) -> Interval {
        self.store(|word| word.fetch_and(!mask, Ordering::SeqCst))
    }

    /// The bits that are open.
    pub fn word(&self) -> u64 {
        self.at(gate::WORD).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Begins a new generation of a plugin, so that spans begun in an earlier one never pair. To be called only while the bit is
    /// closed and after a grace period since it was open: a run reads the word and then the generation, and must not see the old
    /// word with the new generation.
    pub fn renew(&self, bit: u8) {
        if let Some(generation) = self.at(gate::generation(bit)) {
            generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The generation of a plugin.
    pub fn generation(&self, bit: u8) -> u64 {
        self.at(gate::generation(bit)).map_or(0, |generation| generation.load(Ordering::SeqCst))
    }

    /// Has the plugins of `mask` count their time from now on. To be called before they are opened for the first time.
    pub fn begin(&self, mask: u64) {
        let now = clock::now();
        for bit in (0..gate::BITS as u8).filter(|bit| mask >> bit & 1 == 1) {
            if let Some(opened) = self.at(gate::opened(bit)) {
                opened.store(now, Ordering::Relaxed);
            }
        }
    }

    fn store(&self, store: impl FnOnce(&AtomicU64) -> u64) -> Interval {
        let word = self.at(gate::WORD);
        let earliest = clock::now();
        word.map(store);
        Interval { earliest, latest: clock::now() }
    }

    /// Always there for offsets of [`gate`] with a bit below [`gate::BITS`].
    fn at(&self, offset: u32) -> Option<&AtomicU64> {
        self.mapping.word(offset as usize)
    }
}
