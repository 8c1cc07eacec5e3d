//! The kernel's own functions: /proc/kallsyms, whose text is the kernel's and is parsed in the host.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use super::{Frame, Kind};

/// A function is not longer than this, bytes: an address farther from the last symbol is in none.
const LONGEST: u64 = 1 << 20;

/// How often the list is read again for an address that it does not explain: modules and eBPF programs come and go.
const REFRESH: Duration = Duration::from_secs(5);

/// The functions of the kernel, its modules and loaded eBPF programs.
#[derive(Debug, Default)]
pub(super) struct KernelSymbols {
    table: Table,
    read: Option<Instant>,
}

#[derive(Debug, Default)]
struct Table {
    /// The whole file.
    text: String,
    /// By address.
    symbols: Vec<Symbol>,
}

#[derive(Debug)]
struct Symbol {
    address: u64,
    /// Where in the text its name begins, and how long it is.
    name: u32,
    length: u16,
    /// The same of the module with its brackets; 0 long for the kernel itself.
    module_length: u16,
}

impl KernelSymbols {
    /// A frame for each address; without a function where the kernel does not tell.
    pub(super) fn frames(&mut self, addresses: &[u64], kind: Kind) -> Vec<Frame> {
        let due = self.read.is_none_or(|read| read.elapsed() >= REFRESH);
        let known = |table: &Table| (0..addresses.len()).all(|at| table.find(kind.sought(addresses, at)).is_some());
        if due && !known(&self.table) {
            // Without privilege the file lists zeroes, which is an empty table.
            self.table = fs::read_to_string("/proc/kallsyms").and_then(Table::parse).unwrap_or_default();
            self.read = Some(Instant::now());
        }
        let frame = |at: usize| {
            let address = addresses[at];
            let Some((start, name, module)) = self.table.find(kind.sought(addresses, at)) else { return Frame::plain(address) };
            let module = Some(module).filter(|module| !module.is_empty()).map(str::to_owned);
            Frame { function: Some(name.to_owned()), offset: address - start, module, ..Frame::plain(address) }
        };
        (0..addresses.len()).map(frame).collect()
    }
}

impl Table {
    fn parse(text: String) -> io::Result<Table> {
        if u32::try_from(text.len()).is_err() {
            return Err(io::Error::other("/proc/kallsyms is too long"));
        }
        let mut symbols = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            symbols.extend(Symbol::parse(line, start));
            start += line.len();
        }
        // Stable: of several names for an address the first is shown.
        symbols.sort_by_key(|symbol| symbol.address);
        symbols.dedup_by_key(|symbol| symbol.address);
        Ok(Table { text, symbols })
    }

    /// Start, name and module of the function that an address is in.
    fn find(&self, address: u64) -> Option<(u64, &str, &str)> {
        let end = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = self.symbols.get(end.checked_sub(1)?)?;
        if address - symbol.address >= LONGEST {
            return None;
        }
        let name = symbol.name as usize;
        let behind = name + usize::from(symbol.length);
        // A tab between.
        let module = behind + 1..behind + 1 + usize::from(symbol.module_length);
        Some((symbol.address, self.text.get(name..behind)?, self.text.get(module).unwrap_or("")))
    }
}

impl Symbol {
    /// A line `ADDRESS TYPE NAME`, perhaps with a tab and `[MODULE]`, that begins at `start` in the text.
    fn parse(line: &str, start: usize) -> Option<Symbol> {
        let line = line.trim_end();
        let (address, rest) = line.split_once(' ')?;
        let (kind, rest) = rest.split_once(' ')?;
        let address = u64::from_str_radix(address, 16).ok().filter(|&address| address != 0)?;
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return None;
        }
        let (name, module) = rest.split_once('\t').unwrap_or((rest, ""));
        Some(Symbol {
            address,
            name: u32::try_from(start + line.len() - rest.len()).ok()?,
            length: u16::try_from(name.len()).ok()?,
            module_length: u16::try_from(module.len()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Addresses are in the function that begins before them.
    #[test]
    fn finds_functions() {
        let text = "ffffffff81000100 T second\nffffffff81000000 t first\nffffffff81000100 T alias\nffffffff81000050 D data\n\
                    ffffffffc0000000 t probe\t[ext4]\n0000000000000000 T hidden\nbroken line\n";
        let table = Table::parse(text.to_owned()).unwrap();
        let check = |address, expect: Option<(u64, &str, &str)>| assert_eq!(table.find(address), expect, "{address:x}");
        let base = 0xffff_ffff_8100_0000;
        check(base - 1, None);
        check(base, Some((base, "first", "")));
        check(base + 0x60, Some((base, "first", "")));
        check(base + 0x100, Some((base + 0x100, "second", "")));
        check(0xffff_ffff_c000_0010, Some((0xffff_ffff_c000_0000, "probe", "[ext4]")));
        check(0xffff_ffff_d000_0010, None);
        check(0, None);
    }
}
