//! The layout of the process table: one byte per process, in an array map of one element that programs index by thread group id.
//!
//! A whole table costs 4 MiB and one load a hit, is exact and can't be full; a hash costs 30 ns a hit.

/// The number of bytes: one more than the largest process id a 64-bit kernel gives out (`PID_MAX_LIMIT`, include/linux/threads.h).
pub const SIZE: u32 = 4 << 20;

/// The host itself or one of its workers, which no probe sees.
pub const OWN: u8 = 1;

/// In the scope of a run whose [`crate::Scope`] is `Marked`.
pub const IN_SCOPE: u8 = 2;
