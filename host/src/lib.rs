//! The Portcullis host: everything that touches the kernel, WebAssembly, the file system or the terminal.
//!
//! `docs/architecture.md` is the map.

pub mod bundle;
pub mod cage;
pub mod cli;
pub mod clock;
pub mod columns;
pub mod command;
pub mod contract;
pub mod doctor;
pub mod grants;
pub mod kernel;
pub mod manifest;
pub mod names;
pub mod output;
pub mod report;
pub mod run;
pub mod scope;
pub mod session;
pub mod shipped;
pub mod symbols;
pub mod trace;
pub mod worker;
