//! What numbers mean that have a name: system calls, signals, errors, addresses, cgroups, call stacks.
//!
//! Programs record the number ([`Naming`]); the host says the name when it makes columns, for records and for elements of maps
//! alike. Each plugin has [`Names`] of its own, on the thread of its pump.

mod cgroups;
mod errno;
mod signals;
mod stacks;

use std::{
    fmt::{self, Debug, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use cgroups::Cgroups;
use hashbrown::HashMap;
use portcullis_ebpf::{Naming, kernel::syscalls};
pub use stacks::{MAX_STACKS, Stack, Stacks};

use crate::{contract::Frame, symbols};

/// A name is at most this long, bytes; what is longer is cut. Names of C++ functions can be any length.
pub const MAX_NAME: usize = 1024;

/// Names that are remembered; past that all are forgotten and looked up anew.
const REMEMBERED: usize = 16_384;

/// Addresses to functions. Called from the threads of several plugins at a time.
pub trait Symbols: Send + Sync + Debug {
    /// What stands at these addresses of the kernel: for each address its frames, the innermost inlined function first, at least
    /// one.
    fn kernel(&self, addresses: &[u64]) -> Vec<Vec<Frame>>;

    /// What stands at these addresses of a process's stack, as above.
    fn user(&self, pid: u32, addresses: &[u64]) -> Vec<Vec<Frame>>;

    /// The function that an address of a process is in, if it is known.
    fn user_function(&self, pid: u32, address: u64) -> Option<String> {
        function_of(self.user(pid, &[address]))
    }

    /// A process was seen whose addresses will be asked for, perhaps when it is no more.
    fn note_process(&self, pid: u32);
}

/// Symbols where there are none: every frame is its address.
#[derive(Debug)]
pub struct NoSymbols;

impl Symbols for NoSymbols {
    fn kernel(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        addresses.iter().map(|&address| vec![Frame { address, ..Frame::default() }]).collect()
    }

    fn user(&self, _: u32, addresses: &[u64]) -> Vec<Vec<Frame>> {
        self.kernel(addresses)
    }

    fn note_process(&self, _: u32) {}
}

impl Symbols for symbols::Symbols {
    fn kernel(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        self.kernel(addresses)
    }

    fn user(&self, pid: u32, addresses: &[u64]) -> Vec<Vec<Frame>> {
        self.user(pid, addresses)
    }

    fn user_function(&self, pid: u32, address: u64) -> Option<String> {
        // Without source lines.
        self.user_symbols(pid, &[address]).pop().and_then(|frame| frame.function)
    }

    fn note_process(&self, pid: u32) {
        self.note_process(pid);
    }
}

/// A number that has a name, as a program recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// An integer, widened.
    Int(u64),
    /// Up to 16 bytes.
    Bytes {
        /// The bytes, then zeros.
        bytes: [u8; 16],
        /// How many.
        length: u8,
    },
    /// An address in a process.
    User {
        /// The process.
        pid: u32,
        /// The address.
        address: u64,
    },
}

impl Value {
    /// Of bytes; those past the sixteenth have no name and are left out.
    pub fn of_bytes(from: &[u8]) -> Value {
        let mut bytes = [0; 16];
        let length = from.len().min(bytes.len());
        bytes[..length].copy_from_slice(&from[..length]);
        Value::Bytes { bytes, length: length as u8 }
    }
}

/// The names that one plugin's numbers have.
#[derive(Debug)]
pub struct Names {
    symbols: Arc<dyn Symbols>,
    cgroups: Cgroups,
    /// The call stacks that it has been given numbers for.
    pub stacks: Stacks,
    /// Names that are dear to find and stay what they are.
    known: HashMap<(Naming, u64), Box<str>>,
    /// The last process that was noted: most stacks that follow each other are of one.
    noted: u32,
    scratch: String,
}

impl Default for Names {
    /// Names without symbols.
    fn default() -> Names {
        Names::new(Arc::new(NoSymbols))
    }
}

impl Names {
    /// Names with these symbols.
    pub fn new(symbols: Arc<dyn Symbols>) -> Names {
        Names {
            symbols,
            cgroups: Cgroups::default(),
            stacks: Stacks::default(),
            known: HashMap::new(),
            noted: 0,
            scratch: String::new(),
        }
    }

    /// The name of a value, at most [`MAX_NAME`] bytes. What has none is shown as the number that it is.
    pub fn name(&mut self, naming: Naming, value: Value) -> &str {
        let slow = matches!(naming, Naming::KernelSymbol | Naming::Cgroup);
        if let (true, Value::Int(number)) = (slow, value) {
            let key = (naming, number);
            if !self.known.contains_key(&key) {
                let found = match naming {
                    Naming::Cgroup => self.cgroups.path(number),
                    _ => function_of(self.symbols.kernel(&[number])),
                };
                // What has no name may have one later: a container that has just begun, a module that is loaded.
                if let Some(mut name) = found.filter(|name| !name.is_empty()) {
                    cut(&mut name);
                    if self.known.len() >= REMEMBERED {
                        self.known.clear();
                    }
                    self.known.insert(key, name.into());
                }
            }
            if self.known.contains_key(&key) {
                return self.known.get(&key).map_or("", |name| name);
            }
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        self.write(naming, value, &mut text);
        cut(&mut text);
        self.scratch = text;
        &self.scratch
    }

    fn write(&mut self, naming: Naming, value: Value, out: &mut String) {
        // Writing to a String does not fail.
        let _ = match (naming, value) {
            (Naming::Syscall, Value::Int(number)) => {
                let name = u32::try_from(number).ok().and_then(syscalls::name);
                or_number(name, &number, out)
            }
            (Naming::Signal, Value::Int(number)) => signals::write(number, out),
            (Naming::Errno, Value::Int(number)) => {
                let number = number.cast_signed();
                or_number(errno::name(number), &number, out)
            }
            (Naming::Inet, Value::Bytes { bytes, length: 4 }) => {
                write!(out, "{}", Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
            }
            (Naming::Inet, Value::Bytes { bytes, length: 16 }) => write!(out, "{}", IpAddr::V6(Ipv6Addr::from(bytes))),
            (_, Value::Bytes { bytes, length }) => {
                let mut bytes = bytes.iter().take(length.into()).enumerate();
                bytes.try_for_each(|(at, byte)| write!(out, "{}{byte:02x}", if at == 0 { "" } else { ":" }))
            }
            (_, Value::User { pid, address }) => {
                self.note(pid);
                out.write_str(&or_address(self.symbols.user_function(pid, address), address))
            }
            (Naming::KernelSymbol, Value::Int(address)) => write!(out, "{address:#x}"),
            (_, Value::Int(number)) => write!(out, "{number}"),
        };
    }

    /// The number of a stack; `pid` is 0 for one of the kernel.
    #[inline]
    pub fn stack(&mut self, pid: u32, addresses: &[u64]) -> u64 {
        self.note(pid);
        self.stacks.number(pid, addresses)
    }

    /// A process was seen whose addresses may be asked for later; 0 is the kernel.
    pub fn note(&mut self, pid: u32) {
        if pid != 0 && pid != self.noted {
            self.noted = pid;
            self.symbols.note_process(pid);
        }
    }

    /// The frames of stacks by their numbers, the innermost first. A number that was not given out has none.
    pub fn resolve(&self, stacks: &[u64]) -> Vec<Vec<Frame>> {
        let frames = |number: &u64| {
            let Some(Stack { pid, addresses }) = self.stacks.get(*number) else { return Vec::new() };
            let frames = if pid == 0 { self.symbols.kernel(addresses) } else { self.symbols.user(pid, addresses) };
            frames.into_iter().flatten().collect()
        };
        stacks.iter().map(frames).collect()
    }
}

/// The innermost function of an address.
fn function_of(frames: Vec<Vec<Frame>>) -> Option<String> {
    frames.into_iter().flatten().next().and_then(|frame| frame.function)
}

/// What an address is shown as.
fn or_address(function: Option<String>, address: u64) -> String {
    function.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("{address:#x}"))
}

fn or_number(name: Option<&str>, number: &dyn fmt::Display, out: &mut String) -> fmt::Result {
    match name {
        Some(name) => out.write_str(name),
        None => write!(out, "{number}"),
    }
}

fn cut(name: &mut String) {
    if name.len() > MAX_NAME {
        let end = (0..=MAX_NAME).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        name.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    /// Symbols of a small kernel, and the processes that were noted.
    #[derive(Debug, Default)]
    struct Few(Mutex<Vec<u32>>);

    impl Symbols for Few {
        fn kernel(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
            let frame =
                |&address: &u64| Frame { address, function: (address < 10).then(|| "f".repeat(2000)), ..Frame::default() };
            addresses.iter().map(|address| vec![frame(address)]).collect()
        }

        fn user(&self, pid: u32, addresses: &[u64]) -> Vec<Vec<Frame>> {
            let frame = |&address: &u64| Frame { address, function: Some(format!("main{pid}")), ..Frame::default() };
            let inlined = |address: &u64| Frame { function: Some("inner".into()), inlined: true, ..frame(address) };
            addresses.iter().map(|address| vec![inlined(address), frame(address)]).collect()
        }

        fn note_process(&self, pid: u32) {
            self.0.lock().unwrap().push(pid);
        }
    }

    /// Every kind of name, and what is shown where there is none.
    #[test]
    fn names() {
        let mut names = Names::default();
        let mut check = |naming, value, expect: &str| assert_eq!(names.name(naming, value), expect);
        let bytes = Value::of_bytes;
        check(Naming::Syscall, Value::Int(257), "openat");
        check(Naming::Syscall, Value::Int(99_999), "99999");
        check(Naming::Syscall, Value::Int(u64::MAX), "18446744073709551615");
        check(Naming::Signal, Value::Int(15), "SIGTERM");
        check(Naming::Signal, Value::Int(0), "0");
        check(Naming::Errno, Value::Int(2), "ENOENT");
        check(Naming::Errno, Value::Int(-2_i64 as u64), "ENOENT");
        check(Naming::Errno, Value::Int(0), "0");
        check(Naming::Errno, Value::Int(i64::MIN as u64), "-9223372036854775808");
        check(Naming::Inet, bytes(&[127, 0, 0, 1]), "127.0.0.1");
        check(Naming::Inet, bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "::1");
        check(Naming::Inet, bytes(&[1, 2]), "01:02");
        check(Naming::Inet, bytes(&[]), "");
        check(Naming::Mac, bytes(&[0, 0x16, 0x3e, 0x5e, 0x6c, 0]), "00:16:3e:5e:6c:00");
        check(Naming::KernelSymbol, Value::Int(0xffff_8000), "0xffff8000");
        check(Naming::UserSymbol, Value::User { pid: 1, address: 0x10 }, "0x10");
        check(Naming::Cgroup, Value::Int(u64::MAX), "18446744073709551615");
    }

    /// Symbols come from where they are to come from, are cut, and processes are noted when they are first seen.
    #[test]
    fn symbols() {
        let few = Arc::new(Few::default());
        let mut names = Names::new(few.clone());
        assert_eq!(names.name(Naming::KernelSymbol, Value::Int(5)).len(), MAX_NAME);
        assert_eq!(names.name(Naming::KernelSymbol, Value::Int(50)), "0x32");
        assert_eq!(names.name(Naming::UserSymbol, Value::User { pid: 7, address: 1 }), "inner");
        let stacks = [names.stack(7, &[1, 2]), names.stack(8, &[1]), names.stack(0, &[1])];
        assert_eq!(*few.0.lock().unwrap(), [7, 8]);
        let frames = names.resolve(&[stacks[0], stacks[1], stacks[2], 99, 0]);
        let shape: Vec<Vec<(u64, bool)>> =
            frames.iter().map(|stack| stack.iter().map(|frame| (frame.address, frame.inlined)).collect()).collect();
        assert_eq!(
            shape,
            [vec![(1, true), (1, false), (2, true), (2, false)], vec![(1, true), (1, false)], vec![(1, false)], vec![], vec![]]
        );
    }
}
