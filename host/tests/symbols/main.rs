//! The symbolizer as a real process: programs that are compiled here, damaged files, and what the cage holds.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damaged;
mod files;
mod process;
mod programs;
mod stacks;

use std::{fs, path::PathBuf};

use portcullis::symbols::{Frame, Options, Symbols};

fn options() -> Options {
    Options { executable: Some(env!("CARGO_BIN_EXE_portcullis").into()), ..Options::default() }
}

fn symbols() -> Symbols {
    Symbols::new(&options())
}

/// The C library that this process uses.
fn libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    path.expect("the tests are linked with the system's C library").into()
}

/// Functions of a stack, each with its line and whether it is inlined.
fn names(frames: &[Vec<Frame>]) -> Vec<(&str, Option<u32>, bool)> {
    frames.iter().flatten().map(|frame| (frame.function.as_deref().unwrap_or("?"), frame.line, frame.inlined)).collect()
}
