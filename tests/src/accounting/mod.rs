//! Sessions made at random, and what their counters must say: known from the workloads, not from the programs.

pub mod case;
pub mod generate;
pub mod model;
pub mod runs;
