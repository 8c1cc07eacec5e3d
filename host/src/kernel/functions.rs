//! The functions of the kernel that can be traced.

use std::{
    collections::HashMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use portcullis_ebpf::{
    Kernel,
    kernel::{Function, SourceError, Types, btf::Named},
};

pub(super) const SYMBOLS: &str = "/proc/kallsyms";

/// The functions that ftrace lists, by name. Where it lists none, or not to us, those of the kernel's symbols that BTF describes.
pub(super) fn read(tracefs: &[PathBuf], kernel: &dyn Kernel) -> Result<Vec<Function>, SourceError> {
    let list = tracefs.iter().find_map(|mount| fs::read_to_string(mount.join("available_filter_functions")).ok());
    let mut functions = match list.filter(|text| !text.is_empty()) {
        Some(text) => listed(&text),
        None => {
            let text = fs::read_to_string(SYMBOLS).map_err(|e| symbols_error(&e))?;
            described(&text, kernel)
        }
    };
    functions.sort_unstable();
    Ok(functions)
}

fn symbols_error(error: &io::Error) -> SourceError {
    SourceError { what: Path::new(SYMBOLS).display().to_string(), reason: error.to_string() }
}

/// Lines `NAME` or `NAME [MODULE]`.
fn listed(text: &str) -> Vec<Function> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let module = words.next().map(|module| module.trim_matches(['[', ']']).to_owned());
        // Room that the linker left is listed like this: kernel/trace/ftrace.c.
        (!name.starts_with("__ftrace_invalid_address__")).then(|| Function { name: name.to_owned(), module })
    });
    lines.collect()
}

/// Lines `ADDRESS TYPE NAME` or `ADDRESS TYPE NAME\t[MODULE]`: functions are of type `t`, `T` or `W`.
fn described(text: &str, kernel: &dyn Kernel) -> Vec<Function> {
    let types = Types::new(kernel);
    let names = |module: &str| types.names(module, Named::Function, |_| true);
    let own = names("vmlinux");
    let mut of_modules: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some("t" | "T" | "W"), Some(name)) = (words.next(), words.next()) else { continue };
        let module = words.next().map(|module| module.trim_matches(['[', ']']));
        let described = match module {
            None => own.binary_search(&name).is_ok(),
            Some(module) => of_modules.entry(module).or_insert_with(|| names(module)).binary_search(&name).is_ok(),
        };
        if described {
            found.push(Function { name: name.to_owned(), module: module.map(str::to_owned) });
        }
    }
    found
}

/// The addresses from a symbol up to the next one, in lines `ADDRESS TYPE NAME [MODULE]` (proc_kallsyms(5)). Those of modules are
/// in no order.
pub(super) fn symbol(text: &str, name: &str) -> Option<Range<u64>> {
    let address = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok();
    let line = text.lines().find(|line| line.split_ascii_whitespace().nth(2) == Some(name))?;
    let start = address(line)?;
    let end = text.lines().filter_map(address).filter(|other| *other > start).min();
    Some(start..end.unwrap_or(start + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A symbol ends where the next one begins, wherever that is in the list.
    #[test]
    fn symbols() {
        let text = "ff00 T first\nff00 t alias\nff80 T third\nff10 t second\t[module]\n0 t hidden\n";
        let check = |name: &str, expect: Option<Range<u64>>| assert_eq!(symbol(text, name), expect, "{name}");
        check("first", Some(0xff00..0xff10));
        check("alias", Some(0xff00..0xff10));
        check("second", Some(0xff10..0xff80));
        check("third", Some(0xff80..0xff81));
        check("hidden", Some(0..0xff00));
        check("fourth", None);
    }

    /// Modules are told from the kernel, and what is no function is left out.
    #[test]
    fn lists() {
        let text = "vfs_read\nnf_hook [nf_tables]\n__ftrace_invalid_address___64\n\n";
        let function = |name: &str, module: Option<&str>| Function { name: name.to_owned(), module: module.map(str::to_owned) };
        assert_eq!(listed(text), [function("vfs_read", None), function("nf_hook", Some("nf_tables"))]);
    }
}
