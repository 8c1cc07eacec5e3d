//! The probe compiler: probe specs and kernel types in, eBPF programs, record layouts and needs out.
//!
//! Nothing here makes a system call: what the compiler asks of the kernel it asks through [`Kernel`], so every line is testable on
//! any machine. The passes stand in the order of the data, each in its own room:
//!
//! | pass | room | from | to |
//! |---|---|---|---|
//! | parse | [`syntax`] | text | syntax trees |
//! | resolve | `attach` | attach points with wildcards | targets with typed arguments |
//! | check | `check` | syntax trees, targets | typed trees, data classes |
//! | plan | `plan` | typed trees | hooks, record layouts, counters, maps |
//! | group | `group` | hooks | programs, and the places that each serves |
//! | generate | `generate` | the plan | instructions with labels |
//! | assemble | `assemble` | labels | instructions |
//!
//! [`compile`] runs them all.

pub mod aggregate;
mod assemble;
pub mod attach;
mod broken;
mod check;
mod compile;
pub mod connections;
pub mod counters;
pub mod diagnostic;
mod disassemble;
pub mod functions;
pub mod gate;
mod generate;
mod group;
pub mod kernel;
pub mod needs;
pub mod output;
mod plan;
pub mod processes;
pub mod record;
pub mod scope;
pub mod spec;
pub mod syntax;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

#[doc(hidden)]
pub use broken::Broken;
pub use compile::compile;
pub use diagnostic::{Diagnostic, Part};
pub use kernel::Kernel;
#[cfg(feature = "fixture")]
#[doc(hidden)]
pub use kernel::fixture;
pub use needs::{DataClass, Needs};
pub use output::{Compiled, Hook, MapKind, MapRef, MapSpec, Missing, PluginMap, Probe, Program};
pub use record::{Field, FieldKind, Naming, Slot, Stream};
pub use spec::{Limit, Options, ProbeSpec, Rate, Scope};
