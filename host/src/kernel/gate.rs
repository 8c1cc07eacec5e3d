//! The gate: one word with a bit per plugin, in a map that programs read by a direct pointer and only this module writes.
//!
//! # Why one store is enough
//!
//! This is the whole argument for guarantees G1 to G4 as far as it is about memory, on x86-64; the functions named are Linux's. The tests
//! in `tests/tests/guarantees` look for what it says can't be.
//!
//! **A run has one outcome.** The first instructions of a program load the word, once, and keep it in a register (`dispatcher`,
//! host-ebpf/src/generate/mod.rs). So the order of one store and one load decides over the whole run: a run that loaded before the store
//! does not see it, one that loaded after it does, and there is no third case. Before the load a program changes no memory.
//!
//! **The load is whole and is not left out.** The word is 8 bytes at the start of the value of an array map that can be mapped, which
//! begins at a page (`array_map_alloc`, kernel/bpf/arraymap.c); programs have its address as a constant (BPF_PSEUDO_MAP_VALUE), and
//! BPF_LDX of 8 bytes is one `mov` of the JIT compiler (`emit_ldx`, arch/x86/net/bpf_jit_comp.c), or one C assignment of the
//! interpreter. An aligned load of 8 bytes is atomic on x86-64 (Intel SDM, volume 3, "Guaranteed Atomic Operations"). Nothing merges or
//! moves it as a C compiler may, for which the kernel has READ_ONCE(): instructions are translated one by one. The verifier takes loads
//! for constants only from maps that programs can't write and that are frozen (`bpf_map_is_rdonly`, kernel/bpf/verifier.c), and this map
//! is neither. The host's mapping is of the same pages (`array_map_mmap`), so caches keep the two coherent.
//!
//! **The store is one, and takes what it needs with it.** Opening and closing are atomic read-modify-writes in sequentially consistent
//! order, locked instructions here: two threads of the host can change different bits, and no store is lost. What a run needs beside
//! the word (its plugin's generation, when it opened, the process table) is stored before the word. x86-64 keeps the order of stores
//! and that of loads, so a run that sees the bit sees these, too. The other way round: a generation is changed only while its bit is
//! closed and after a grace period, so no run has the old word and the new generation.
//!
//! **The interval holds the store.** The clock before it is read by an RDTSC that has retired before a locked instruction can be seen,
//! and a locked instruction has reached every CPU before the fence in front of the next RDTSC lets that begin (`rdtsc_ordered`, in the
//! vDSO). A plain store could wait in the CPU's store buffer past the second reading, and the published interval would be too short.
//! Programs ask bpf_ktime_get_ns(), which is the same clock, read without a lock (`ktime_get_mono_fast_ns`): after its load, so a record
//! bears no time before the interval of the opening. It may bear one after that of the close, by what passes between the load and that
//! call.
//!
//! **A closed word says nothing of the runs that loaded it open.** For those the host waits: see [`crate::kernel::grace`]. After that
//! wait every store of theirs is visible to the host, since the end of an RCU grace period orders all that readers did before all that
//! comes after it; counters are then simply read. A record is written before its length is (`bpf_ringbuf_commit`, an `xchg`), and a ring's
//! position before that (`__bpf_ringbuf_reserve`, a store with release); the reader loads both with acquire. After the grace period
//! nothing is left that is reserved and not committed, so what is up to the producer's position is all there is.
//!
//! **Two plugins are two runs.** Programs on one hook run one after the other, each with a load of its own, and a store may fall between:
//! then those before see the old word and those after the new one. On a CPU there is one hit of a hook at a time, so it is at most one
//! hit per CPU and hook.
//!
//! On other architectures the load would have to be ordered before those of the generation and the process table; a dependency or an
//! acquire would do. There is none in the programs today.

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
