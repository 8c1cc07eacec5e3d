//! `uprobe:BINARY:FUNCTION[+OFFSET]`, `uprobe:BINARY:0xOFFSET`, `uretprobe:BINARY:FUNCTION`: functions of programs and libraries.

use super::{AttachError, ContextKind, Kind, Listed, Place, Site, Target, function, glob, listed_targets, number};
use crate::{
    kernel::{Kernel, SourceError, UserFunction, registers},
    output::Hook,
};

pub(super) struct Uprobe;
pub(super) struct Uretprobe;

impl Kind for Uprobe {
    fn names(&self) -> &'static [&'static str] {
        &["uprobe", "u"]
    }

    fn notation(&self) -> &'static str {
        "uprobe:BINARY:FUNCTION[+OFFSET]"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel)
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let (binary, name) = parts(rest)?;
        if let Some(offset) = name.strip_prefix("0x").and_then(|_| number(name)) {
            let span = 0..binary.len();
            let path = kernel.user_binary(binary).map_err(|e| AttachError::no_binary(span, &e))?;
            let hook = Hook::Uprobe { path: path.clone(), offset, returns: false, semaphore: 0, pid: None };
            // What stands there is not known, so no register is an argument.
            let multi = kernel.features().uprobe_multi;
            let site = Site { multi, ..Site::new(hook, ContextKind::Registers, "") };
            return Ok(vec![Target { point: format!("uprobe:{path}:{offset:#x}"), site, entry: None, key: None }]);
        }
        // `operator+` has no offset.
        let (name, offset) = match name.rsplit_once('+').and_then(|(name, offset)| Some((name, number(offset)?))) {
            Some((name, offset)) if !name.is_empty() => (name, offset),
            _ => (name, 0),
        };
        let found = find(binary, name, kernel)?;
        let target = |f: &UserFunction| {
            let mut site = entry(f, kernel);
            let mut point = format!("uprobe:{}:{}", f.path, f.name);
            if offset > 0 {
                point.push_str(&format!("+{offset}"));
                site.hook = hook(f, f.offset.saturating_add(offset), false);
                // Within a function its registers hold anything.
                site.positional.clear();
            }
            Target { point, site, entry: None, key: None }
        };
        Ok(found.iter().map(target).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        list(self, pattern, kernel)
    }
}

impl Kind for Uretprobe {
    fn names(&self) -> &'static [&'static str] {
        &["uretprobe", "ur"]
    }

    fn notation(&self) -> &'static str {
        "uretprobe:BINARY:FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel)
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let (binary, name) = parts(rest)?;
        let found = find(binary, name, kernel)?;
        let point = |f: &UserFunction| format!("uretprobe:{}:{}", f.path, f.name);
        Ok(found.iter().map(|f| Target { point: point(f), site: exit(f, kernel), entry: None, key: None }).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        list(self, pattern, kernel)
    }
}

/// What attach points in programs lack on this kernel.
pub(super) fn lacking(rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
    let message = "this kernel has no uprobes (CONFIG_UPROBES and CONFIG_UPROBE_EVENTS)";
    (!kernel.features().uprobe).then(|| AttachError::missing(0..rest.len(), message))
}

/// What can be listed is in a file, so a pattern has to name one.
pub(super) fn list(kind: &dyn Kind, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
    let (binary, name) = pattern.split_once(':').unwrap_or((pattern, "*"));
    if binary.is_empty() || glob::is_pattern(binary) {
        return Ok(Vec::new());
    }
    listed_targets(kind, binary, name, kernel)
}

/// Binary and function.
pub(super) fn parts(rest: &str) -> Result<(&str, &str), AttachError> {
    let whole = 0..rest.len();
    let example = "as in uprobe:/usr/bin/bash:readline, or uprobe:libc:malloc";
    let (binary, name) = rest
        .split_once(':')
        .ok_or_else(|| AttachError::wrong(whole.clone(), "a program or library and a function belong here").help(example))?;
    if binary.is_empty() || name.is_empty() {
        return Err(AttachError::wrong(whole, "a program or library and a function belong here").help(example));
    }
    if glob::is_pattern(binary) {
        let message = "the program or library must be named whole: only functions have wildcards";
        return Err(AttachError::wrong(0..binary.len(), message));
    }
    Ok((binary, name))
}

/// The functions of a binary that a name or pattern fits, each place once.
pub(super) fn find(binary: &str, name: &str, kernel: &dyn Kernel) -> Result<Vec<UserFunction>, AttachError> {
    let span = binary.len() + 1..binary.len() + 1 + name.len();
    let mut found = kernel.user_functions(binary, name).map_err(|e| AttachError::no_binary(0..binary.len(), &e))?;
    let mut seen = std::collections::HashSet::new();
    // One function may have several names: a hit of it is one hit.
    found.retain(|f| seen.insert((f.path.clone(), f.offset)));
    if !found.is_empty() {
        return Ok(found);
    }
    if glob::is_pattern(name) {
        return Err(AttachError::missing(span, format!("no function of `{binary}` fits `{name}`")));
    }
    let error = AttachError::missing(span, format!("`{binary}` has no function `{name}`"));
    // Names that are like it are looked for only now, as a file may have a hundred thousand of them.
    let start: String = name.chars().take(1).collect();
    let alike = kernel.user_functions(binary, &format!("{start}*")).unwrap_or_default();
    Err(error.help_name(name, alike.iter().map(|f| f.name.as_str())))
}

/// Where a function begins.
pub(super) fn entry(function: &UserFunction, kernel: &dyn Kernel) -> Site {
    let hook = hook(function, begin(function), false);
    let multi = kernel.features().uprobe_multi;
    Site { positional: function::register_arguments(), multi, ..Site::new(hook, ContextKind::Registers, &function.name) }
}

/// Where it returns.
pub(super) fn exit(function: &UserFunction, kernel: &dyn Kernel) -> Site {
    let retval = Some(function::word("retval", Place::Context(registers::RETURN_OFFSET)));
    let multi = kernel.features().uprobe_multi;
    Site { retval, multi, ..Site::new(hook(function, begin(function), true), ContextKind::Registers, &function.name) }
}

/// Behind the landing pad, which the kernel would execute step by step at twenty times the cost.
fn begin(function: &UserFunction) -> u64 {
    function.offset.saturating_add(if function.endbr { registers::LANDING_PAD } else { 0 })
}

fn hook(function: &UserFunction, offset: u64, returns: bool) -> Hook {
    Hook::Uprobe { path: function.path.clone(), offset, returns, semaphore: 0, pid: None }
}
