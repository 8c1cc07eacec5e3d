//! The Portcullis host: everything that touches the kernel, WebAssembly, the file system or the terminal.
//!
//! `docs/architecture.md` is the map.
// Whole reports stand in tests as JSON.
#![cfg_attr(test, recursion_limit = "256")]

pub mod bundle;
pub mod cage;
mod cgroups;
pub mod cli;
pub mod clock;
pub mod columns;
pub mod command;
pub mod contract;
pub mod control;
pub mod digest;
pub mod doctor;
pub mod doors;
pub mod facts;
pub mod grants;
pub mod kernel;
pub mod lock;
pub mod manifest;
pub mod names;
pub mod output;
mod proc_status;
pub mod ready;
pub mod report;
pub mod run;
pub mod scope;
pub mod session;
pub mod shipped;
pub mod signals;
pub mod symbols;
pub mod trace;
pub mod worker;
