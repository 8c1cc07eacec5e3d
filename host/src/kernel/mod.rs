//! The running kernel: what it says of itself, the objects made in it, and the one gate.
//!
//! | room | what |
//! |---|---|
//! | [`sys`] | the one door for bpf(2) and perf_event_open(2) calls that aya does not make |
//! | [`running`] | the kernel's types, tracepoints, functions and CPUs, and what it can do |
//! | `features`, `functions`, `binaries` | what it can do, which functions it has, which file a name means |
//! | [`map`] | making maps, and memory shared with programs |
//! | [`gate`], [`grace`] | opening and closing; waiting for programs in flight |
//! | [`tai`] | the clock that several machines share |
//! | [`processes`], [`counters`], [`spans`], [`ring`] | the maps that the host reads and writes |
//! | [`tai`] | the clock that several machines share |
//! | [`elements`] | reading and writing the maps that plugins' probes name |
//! | `connections` | programs that trace nothing: whom the processes of a cgroup may connect to |
//! | [`program`], [`attach`], [`closer`] | loading and attaching, and detaching what is slow to detach |

pub mod attach;
mod binaries;
pub mod closer;
pub(crate) mod connections;
pub mod counters;
pub mod elements;
mod features;
mod functions;
pub mod gate;
pub mod grace;
pub mod map;
pub mod processes;
pub mod program;
pub mod ring;
pub mod running;
pub mod spans;
pub mod sys;
pub mod tai;

/// The way out of EPERM.
pub(crate) const PRIVILEGE: &str =
    "root, or the capabilities CAP_BPF and CAP_PERFMON; `portcullis doctor` says what this user may do";

#[cfg(test)]
pub(crate) mod testing;

pub use closer::Attaching;
pub use counters::Counters;
pub use elements::PluginMaps;
pub(crate) use features::FUNCTIONS as TRIED_FUNCTIONS;
pub use gate::Gate;
pub use grace::{Departure, Grace};
pub use map::MapError;
pub use processes::Processes;
pub use program::LoadError;
pub use ring::Ring;
pub use running::{Mechanism, RunningKernel};
pub use sys::SysError;
