//! The guarantees of the gate, one file each. Each test that finds nothing has another beside it that takes the mechanism away and finds
//! by the same check what the mechanism is there for.
//!
//! `cargo test --release -p portcullis-tests --test guarantees -- --nocapture --test-threads 1` says what each has looked at.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod g1;
mod g10;
mod g2;
mod g3;
mod g4;
mod g5;
mod g6;
mod g7;
mod g8;
mod g9;
mod numbered;
mod spans;
