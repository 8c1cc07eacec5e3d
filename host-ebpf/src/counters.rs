//! The counters that programs keep, one block per CPU, and where each stands.
//!
//! They live in an array map of one element, mapped by the host, `cpus` blocks of [`Layout::stride`] bytes. Every counter is
//! bumped where that happens which it tells of and none is computed from others, so that the equations of G6 can fail.

/// What is counted per probe. For a span, those without `Entry` in the name tell of its exit half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Counter {
    /// The probe fired for its target, in scope, with the gate open.
    Hits,
    /// The same with the gate closed: what a tool without a gate would have seen.
    HitsClosed,
    /// Span exits whose entry was not seen since the opening.
    Unpaired,
    /// `when` was false.
    Filtered,
    /// The body ran, whatever path it took.
    Completed,
    /// `Hits` of a span's entry half.
    EntryHits,
    /// `HitsClosed` of a span's entry half.
    EntryHitsClosed,
    /// Span entries that went past scope and gate.
    Entered,
    /// Span exits that found their entry.
    Matched,
    /// Span entries that can no longer be matched: there was no room, or the same thread entered again.
    Lost,
    /// Map elements for which there was no room, and runs that found no room for what is larger than the stack.
    MapFull,
    /// Reads of memory that was not there.
    ReadFault,
    /// Texts longer than what was kept, and loops that were left at their limit before they had ended by themselves.
    Truncated,
    /// A rate limit kept the hit from the body. Not there without one ([`Layout::shed`]), and so the last.
    Shed,
}

impl Counter {
    /// All of them, in the order of their slots.
    pub const ALL: [Counter; 14] = [
        Counter::Hits,
        Counter::HitsClosed,
        Counter::Unpaired,
        Counter::Filtered,
        Counter::Completed,
        Counter::EntryHits,
        Counter::EntryHitsClosed,
        Counter::Entered,
        Counter::Matched,
        Counter::Lost,
        Counter::MapFull,
        Counter::ReadFault,
        Counter::Truncated,
        Counter::Shed,
    ];
}

/// What is counted per stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamCounter {
    /// An `emit` was reached.
    Attempted,
    /// Its record was written.
    Emitted,
    /// There was no room in the ring.
    RingFull,
}

impl StreamCounter {
    /// All of them, in the order of their slots.
    pub const ALL: [StreamCounter; 3] = [StreamCounter::Attempted, StreamCounter::Emitted, StreamCounter::RingFull];
}

/// Where the counters of one plugin stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number of blocks: CPUs that can ever be online.
    pub cpus: u32,
    /// The number of probes.
    pub probes: u32,
    /// The number of streams.
    pub streams: u32,
    /// Probes have a rate limit, and a counter of what it sheds.
    pub shed: bool,
}

impl Layout {
    /// The byte at which a counter of probe `probe` stands within a CPU's block.
    pub fn probe(&self, probe: usize, counter: Counter) -> u32 {
        8 * (probe as u32 * self.of_a_probe() + counter as u32)
    }

    /// The byte at which a counter of stream `stream` stands within a CPU's block.
    pub fn stream(&self, stream: usize, counter: StreamCounter) -> u32 {
        8 * (self.probes * self.of_a_probe() + stream as u32 * StreamCounter::ALL.len() as u32 + counter as u32)
    }

    /// How many counters each probe has.
    fn of_a_probe(&self) -> u32 {
        Counter::ALL.len() as u32 - u32::from(!self.shed)
    }

    /// The size of a CPU's block: whole cache lines, two at a time since the prefetcher takes pairs.
    pub fn stride(&self) -> u32 {
        self.stream(self.streams as usize, StreamCounter::Attempted).next_multiple_of(128)
    }

    /// The size of the map's one value.
    pub fn value_size(&self) -> u32 {
        self.cpus * self.stride()
    }
}
