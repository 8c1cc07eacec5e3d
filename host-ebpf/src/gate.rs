//! The layout of the gate map, the one thing that programs and host share about the gate.
//!
//! The map is an array of one element, so that programs reach it by a direct map value pointer. Only the host writes to it.
//! The word stands alone on its cache line; the generations begin on the next.

/// Bits in the gate word, and so plugins in a session.
pub const BITS: usize = 64;

/// The byte at which the gate word stands: one `u64`, bit *n* open for plugin *n*.
pub const WORD: u32 = 0;

/// The size of the map's one value.
pub const VALUE_SIZE: u32 = opened(BITS as u8);

/// The byte at which the generation of plugin `bit` stands, a `u64`: how often its bit has been opened. It changes only while
/// the bit is closed and no program of the plugin runs.
pub const fn generation(bit: u8) -> u32 {
    64 + 8 * bit as u32
}

/// The byte at which the time stands at which plugin `bit` was opened first, a `u64`: CLOCK_MONOTONIC ns, taken just before the store
/// that opens.
pub const fn opened(bit: u8) -> u32 {
    generation(BITS as u8) + 8 * bit as u32
}
