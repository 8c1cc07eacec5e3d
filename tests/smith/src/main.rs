//! Writes WebAssembly modules made at random by wasm-smith to the standard output: each behind its length, 4 bytes, the low one first.
//! The same numbers give the same modules.
//!
//! They are valid, import nothing, and use what a plugin's own code may use; some begin to run when they are instantiated, and every
//! sixteenth of these is not sure to end.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use arbitrary::Unstructured;
use wasm_smith::{Config, Module};

/// What a module is made of, bytes.
const CHOICES: usize = 4096;

/// How many rounds of loops and calls a module has that ends.
const FUEL: u32 = 1000;

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    let [first, count] = numbers[..] else {
        eprintln!("usage: portcullis-test-smith FIRST COUNT");
        return ExitCode::from(2);
    };
    match write(first, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(first: usize, count: usize) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for number in first..first.saturating_add(count) {
        let module = module(number);
        out.write_all(&(module.len() as u32).to_le_bytes())?;
        out.write_all(&module)?;
    }
    out.flush()
}

/// What a module may be.
fn config(random: &mut Random) -> Config {
    Config {
        max_imports: 0,
        min_funcs: 1,
        max_funcs: 20,
        max_instructions: 400,
        max_memories: 2,
        max_memory32_bytes: 64 << 20,
        max_tables: 4,
        max_table_elements: 1_000_000,
        allow_start_export: true,
        // As the worker's engine has them.
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        simd_enabled: random.next().is_multiple_of(2),
        relaxed_simd_enabled: random.next().is_multiple_of(8),
        tail_call_enabled: random.next().is_multiple_of(2),
        memory64_enabled: random.next().is_multiple_of(8),
        // It refuses these: it is built without garbage collection, of which references to the outside are a part.
        reference_types_enabled: random.next().is_multiple_of(16),
        threads_enabled: random.next().is_multiple_of(16),
        exceptions_enabled: random.next().is_multiple_of(16),
        gc_enabled: random.next().is_multiple_of(16),
        ..Config::default()
    }
}

fn module(number: usize) -> Vec<u8> {
    let mut random = Random::new(number as u64);
    // Some choices lead nowhere; the next ones do.
    loop {
        let config = config(&mut random);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(CHOICES).collect();
        let Ok(mut module) = Module::new(config, &mut Unstructured::new(&bytes)) else { continue };
        if !number.is_multiple_of(16) && module.ensure_termination(FUEL).is_err() {
            continue;
        }
        return module.to_bytes();
    }
}

/// Numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
