//! `usdt:BINARY:PROVIDER:NAME`: probes that programs define themselves, one hook for each place that such a probe stands at.

use super::{
    Address, Argument, ArgumentValue, AttachError, ContextKind, Kind, Listed, Place, Site, Target, glob, number, uprobe,
};
use crate::{
    kernel::{Kernel, SourceError, UserProbe, btf::Int, registers},
    output::Hook,
};

pub(super) struct Usdt;

impl Kind for Usdt {
    fn names(&self) -> &'static [&'static str] {
        &["usdt", "U"]
    }

    fn notation(&self) -> &'static str {
        "usdt:BINARY:PROVIDER:NAME"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        uprobe::lacking(rest, kernel)
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let whole = 0..rest.len();
        let mut parts = rest.splitn(3, ':');
        let (binary, provider, name) = match (parts.next(), parts.next(), parts.next()) {
            (Some(binary), Some(provider), Some(name)) => (binary, provider, name),
            (Some(binary), Some(name), None) => (binary, "*", name),
            _ => ("", "", ""),
        };
        if binary.is_empty() || provider.is_empty() || name.is_empty() {
            return Err(AttachError::wrong(whole, "a program or library, a provider and a name belong here")
                .help("as in usdt:/usr/bin/python3:python:gc__start, or usdt:libc:setjmp"));
        }
        if glob::is_pattern(binary) {
            let message = "the program or library must be named whole: only providers and names have wildcards";
            return Err(AttachError::wrong(0..binary.len(), message));
        }
        let ask = |provider: &str, name: &str| {
            kernel.user_probes(binary, provider, name).map_err(|e| AttachError::no_binary(0..binary.len(), &e))
        };
        let found = ask(provider, name)?;
        if !found.is_empty() {
            return Ok(found.iter().map(|probe| target(probe, kernel)).collect());
        }
        let span = rest.len() - name.len()..rest.len();
        let of = if provider == "*" { String::new() } else { format!(" of `{provider}`") };
        if glob::is_pattern(name) {
            return Err(AttachError::missing(span, format!("no probe{of} in `{binary}` fits `{name}`")));
        }
        let error = AttachError::missing(span, format!("`{binary}` has no probe `{name}`{of}"));
        if let Some(other) = ask("*", name)?.first() {
            return Err(error.help(format!("it is of the provider `{}`", other.provider)));
        }
        Err(error.help_name(name, ask("*", "*")?.iter().map(|p| p.name.as_str())))
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        let mut found = uprobe::list(self, pattern, kernel)?;
        found.dedup();
        Ok(found)
    }
}

fn target(probe: &UserProbe, kernel: &dyn Kernel) -> Target {
    let UserProbe { path, provider, name, .. } = probe;
    let hook = Hook::Uprobe { path: path.clone(), offset: probe.offset, returns: false, semaphore: probe.semaphore, pid: None };
    let positional = arguments(&probe.arguments);
    let multi = kernel.features().uprobe_multi;
    let site = Site { positional, multi, ..Site::new(hook, ContextKind::Registers, name) };
    Target { point: format!("usdt:{path}:{provider}:{name}"), site, entry: None, key: None }
}

/// The arguments of a note, `-4@%eax 8@16(%rbp) 4@$5`: size, negative for a signed one, and where it is.
///
/// Source: the "Argument format" of <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>.
fn arguments(text: &str) -> Vec<Argument> {
    let each = text.split_ascii_whitespace().enumerate();
    each.map(|(i, text)| {
        let (ctype, value) = argument(text).unwrap_or_else(|| (text.to_owned(), ArgumentValue::Other));
        Argument { name: format!("arg{i}"), ctype, typ: None, value }
    })
    .collect()
}

/// `None` for what can't be read: floating-point numbers, vectors, and what a symbol's address would be needed for.
fn argument(text: &str) -> Option<(String, ArgumentValue)> {
    let (size, operand) = text.split_once('@')?;
    let (size, signed) = match size.strip_prefix('-') {
        Some(size) => (size, true),
        None => (size, false),
    };
    let size = size.parse::<u8>().ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
    let int = Int { size, signed };
    let ctype = format!("{}int{}_t", if signed { "" } else { "u" }, u32::from(size) * 8);
    Some((ctype, operand_value(operand, int)?))
}

fn operand_value(operand: &str, int: Int) -> Option<ArgumentValue> {
    if let Some(constant) = operand.strip_prefix('$') {
        return Some(ArgumentValue::Constant(signed_number(constant)?, int));
    }
    if let Some(register) = operand.strip_prefix('%') {
        // As wide as the note says, whatever name the register goes by.
        let (offset, _) = registers::assembler_register(register)?;
        return Some(ArgumentValue::Int(Place::Context(offset), int));
    }
    let (displacement, rest) = operand.split_once('(')?;
    let displacement = if displacement.is_empty() { 0 } else { signed_number(displacement)? };
    let mut parts = rest.strip_suffix(')')?.split(',').map(str::trim);
    let register = |text: &str| match registers::assembler_register(text.strip_prefix('%')?) {
        Some((offset, 8)) => Some(offset),
        _ => None,
    };
    let base = match parts.next()? {
        "" => None,
        text => Some(register(text)?),
    };
    let index = match (parts.next(), parts.next()) {
        (None, _) => None,
        (Some(index), scale) => {
            let scale = scale.map_or(Some(1), |scale| scale.parse().ok()).filter(|scale| matches!(scale, 1 | 2 | 4 | 8))?;
            Some((register(index)?, scale))
        }
    };
    if parts.next().is_some() || base.is_none() && index.is_none() {
        return None;
    }
    Some(ArgumentValue::Memory(Address { base, index, displacement }, int))
}

fn signed_number(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(text) => 0_i64.checked_sub_unsigned(number(text)?),
        // Assemblers write the upper half of 64 bits as it is.
        None => number(text).map(u64::cast_signed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of operand that assemblers write, and those that can't be read.
    #[test]
    fn operands() {
        let int = |size, signed| Int { size, signed };
        let memory = |base, index, displacement, int| Some(ArgumentValue::Memory(Address { base, index, displacement }, int));
        let check = |text: &str, expect: Option<ArgumentValue>| assert_eq!(argument(text).map(|(_, v)| v), expect, "{text}");
        check("-4@%eax", Some(ArgumentValue::Int(Place::Context(80), int(4, true))));
        check("8@%rdi", Some(ArgumentValue::Int(Place::Context(112), int(8, false))));
        check("-4@$5", Some(ArgumentValue::Constant(5, int(4, true))));
        check("-4@$-5", Some(ArgumentValue::Constant(-5, int(4, true))));
        check("8@$0xffffffffffffffff", Some(ArgumentValue::Constant(-1, int(8, false))));
        check("8@16(%rbp)", memory(Some(32), None, 16, int(8, false)));
        check("-1@-0x14(%rsp)", memory(Some(152), None, -20, int(1, true)));
        check("2@(%rax)", memory(Some(80), None, 0, int(2, false)));
        check("8@8(%rsp,%rcx,4)", memory(Some(152), Some((88, 4)), 8, int(8, false)));
        check("8@8(,%rcx,8)", memory(None, Some((88, 8)), 8, int(8, false)));
        for text in [
            "",
            "4",
            "4@",
            "3@%eax",
            "8f@%xmm0",
            "8@%xmm0",
            "8@sym(%rip)",
            "8@sym+8(%rip)",
            "8@(%rax",
            "8@()",
            "8@(%rax,%rcx,3)",
            "8@(%eax)",
            "8@$",
            "8@8(%rax,%rcx,1,1)",
            "-@%eax",
            "16@%rax",
        ] {
            check(text, None);
        }
    }

    /// An argument that can't be read is there, with the note's text in place of a type.
    #[test]
    fn unreadable() {
        let found = arguments("8@%rdi 8f@%xmm0");
        let found: Vec<_> = found.iter().map(|a| (a.name.as_str(), a.ctype.as_str(), a.value)).collect();
        let first = ArgumentValue::Int(Place::Context(112), Int { size: 8, signed: false });
        assert_eq!(found, [("arg0", "uint64_t", first), ("arg1", "8f@%xmm0", ArgumentValue::Other)]);
    }
}
