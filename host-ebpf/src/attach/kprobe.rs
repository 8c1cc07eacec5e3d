//! `kprobe:FUNCTION`, `kprobe:FUNCTION+OFFSET`, `kretprobe:FUNCTION`: functions of the kernel by a breakpoint.

use super::{
    AttachError, ContextKind, Kind, Listed, Place, Site, Target,
    function::{self, Named},
    listed, number,
};
use crate::{
    kernel::{Kernel, SourceError, registers},
    output::Hook,
};

pub(super) struct Kprobe;
pub(super) struct Kretprobe;

impl Kind for Kprobe {
    fn names(&self) -> &'static [&'static str] {
        &["kprobe", "k"]
    }

    fn notation(&self) -> &'static str {
        "kprobe:FUNCTION[+OFFSET]"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel, "fentry")
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let (name, offset) = match rest.rsplit_once('+') {
            None => (rest, 0),
            Some((name, text)) => {
                let span = name.len() + 1..rest.len();
                let offset = number(text).ok_or_else(|| {
                    AttachError::wrong(span, "an offset in bytes belongs here").help("as in `vfs_read+5` or `vfs_read+0x5`")
                })?;
                (name, offset)
            }
        };
        let found = function::find(name, kernel, |_| Ok(()))?;
        Ok(found.iter().map(|f| target(f, offset, kernel)).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

impl Kind for Kretprobe {
    fn names(&self) -> &'static [&'static str] {
        &["kretprobe", "kr"]
    }

    fn notation(&self) -> &'static str {
        "kretprobe:FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel, "fexit")
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let found = function::find(rest, kernel, returns)?;
        let target = |f: &Named| {
            let point = format!("kretprobe:{}", f.point());
            Target { point, site: exit(f, kernel), entry: None, key: None }
        };
        Ok(found.iter().map(target).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

/// What an attach point by kprobe lacks on this kernel. `other`: the kind that does without.
pub(super) fn lacking(rest: &str, kernel: &dyn Kernel, other: &str) -> Option<AttachError> {
    let features = kernel.features();
    if features.kprobe {
        return None;
    }
    let error = AttachError::missing(0..rest.len(), "this kernel has no kprobes (CONFIG_KPROBES and CONFIG_KPROBE_EVENTS)");
    let name = rest.split_once('+').map_or(rest, |(name, _)| name);
    Some(if features.fentry && !name.is_empty() { error.help(format!("`{other}:{name}` would do")) } else { error })
}

pub(super) fn returns(function: &Named) -> Result<(), String> {
    if function::never_returns(&function.name) {
        return Err(format!("the function `{}` never returns", function.name));
    }
    Ok(())
}

fn target(function: &Named, offset: u64, kernel: &dyn Kernel) -> Target {
    let mut point = format!("kprobe:{}", function.point());
    let mut site = entry(function, kernel);
    if offset > 0 {
        point.push_str(&format!("+{offset}"));
        site.hook = Hook::Kprobe { function: function.name.clone(), offset, returns: false };
        site.multi = false;
        // Within a function its registers hold anything.
        site.arguments.clear();
        site.positional.clear();
    }
    Target { point, site, entry: None, key: None }
}

/// Where a function begins.
pub(super) fn entry(function: &Named, kernel: &dyn Kernel) -> Site {
    let place = |slot: u32| registers::argument_offset(slot as usize).map(Place::Context);
    let arguments = function.signature.as_ref().map(|s| function::arguments(s, kernel, place).named).unwrap_or_default();
    Site {
        arguments,
        positional: function::register_arguments(),
        multi: multi(function, kernel),
        ..Site::new(
            Hook::Kprobe { function: function.name.clone(), offset: 0, returns: false },
            ContextKind::Registers,
            &function.name,
        )
    }
}

/// Where it returns.
pub(super) fn exit(function: &Named, kernel: &dyn Kernel) -> Site {
    let place = Place::Context(registers::RETURN_OFFSET);
    let retval = match &function.signature {
        Some(signature) => function::retval(signature, kernel, place),
        None => Some(function::word("retval", place)),
    };
    let hook = Hook::Kprobe { function: function.name.clone(), offset: 0, returns: true };
    Site { retval, multi: multi(function, kernel), ..Site::new(hook, ContextKind::Registers, &function.name) }
}

/// Linux finds functions of modules for such links since 6.2 (ftrace_lookup_symbols(), kernel/trace/ftrace.c), and which kernel does
/// can't be told by trying.
fn multi(function: &Named, kernel: &dyn Kernel) -> bool {
    kernel.features().kprobe_multi && function.module.is_none()
}
