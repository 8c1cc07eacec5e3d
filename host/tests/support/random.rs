//! Numbers and WebAssembly modules at random.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

use std::{path::Path, process::Command};

/// Numbers from a seed (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }
}

/// Modules `first..first + count` of `tests/smith`, which is built for it.
pub fn modules(first: usize, count: usize) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--release", "--locked", "--manifest-path"]).arg(root.join("tests/smith/Cargo.toml"));
    command.arg("--target-dir").arg(root.join("target/smith")).arg("--").args([first, count].map(|number| number.to_string()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = &output.stdout[..];
    let mut modules = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (module, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        modules.push(module.to_vec());
        rest = behind;
    }
    assert_eq!(modules.len(), count);
    modules
}

/// A plugin's component with one module more, which is instantiated after its own (Binary.md of the component model).
pub fn beside(component: &[u8], module: &[u8]) -> Vec<u8> {
    const MODULE: u8 = 1;
    const INSTANCE: u8 = 2;
    let mut out = component.to_vec();
    let modules = sections(component).filter(|id| *id == MODULE).count();
    section(&mut out, MODULE, module);
    // One instance: of that module, with nothing to import.
    let mut instance = vec![1, 0];
    leb(&mut instance, modules);
    instance.push(0);
    section(&mut out, INSTANCE, &instance);
    out
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    leb(out, content.len());
    out.extend_from_slice(content);
}

fn leb(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The kinds of a component's sections, in order.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = &component[8..];
    std::iter::from_fn(move || {
        let (&id, mut behind) = rest.split_first()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let (&byte, more) = behind.split_first().unwrap();
            behind = more;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = &behind[length..];
        Some(id)
    })
}
