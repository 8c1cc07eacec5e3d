//! Worker processes: where plugins live.
//!
//! A plugin's component is compiled and run in a process of its own, started from the host's executable, that holds nothing but a
//! socket and memory to read events from. The two sides:
//!
//! | host | worker |
//! |---|---|
//! | [`process`] starts it, asks it for its program and tables, ends it | [`cage`] locks itself in |
//! | [`pump`] moves events to it and rows back, a thread a plugin | [`serve`] answers calls |
//! | [`conversation`], [`check`]: what it may say | `guest`: the component |
//!
//! Between them: [`protocol`] and [`memory`].

pub mod cage;
pub mod check;
pub mod conversation;
mod guest;
pub mod memory;
pub mod protocol;
pub mod serve;

pub use serve::main;
