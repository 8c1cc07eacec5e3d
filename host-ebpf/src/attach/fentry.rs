//! `fentry:FUNCTION`, `fexit:FUNCTION`: functions of the kernel by a trampoline, with typed arguments. bpftrace's older names for
//! them are `kfunc` and `kretfunc`.

use super::{
    AttachError, ContextKind, Kind, Listed, Place, Site, Target,
    function::{self, Named},
    kprobe, listed,
};
use crate::{
    kernel::{Kernel, SourceError},
    output::Hook,
};

/// How many arguments, in 8-byte places, every kernel with trampolines passes on: those in registers.
const MOST_SLOTS: u32 = 6;

pub(super) struct Fentry;
pub(super) struct Fexit;

impl Kind for Fentry {
    fn names(&self) -> &'static [&'static str] {
        &["fentry", "kfunc", "f"]
    }

    fn notation(&self) -> &'static str {
        "fentry:[MODULE:]FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel, "kprobe")
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let found = function::find(rest, kernel, |f| usable(f, false, kernel))?;
        Ok(found.iter().filter_map(|f| target("fentry", f, entry(f, kernel)?)).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

impl Kind for Fexit {
    fn names(&self) -> &'static [&'static str] {
        &["fexit", "kretfunc", "fr"]
    }

    fn notation(&self) -> &'static str {
        "fexit:[MODULE:]FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel, "kretprobe")
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let found = function::find(rest, kernel, |f| usable(f, true, kernel))?;
        Ok(found.iter().filter_map(|f| target("fexit", f, exit(f, kernel)?)).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

/// What an attach point by trampoline lacks on this kernel. `other`: the kind that does without.
pub(super) fn lacking(rest: &str, kernel: &dyn Kernel, other: &str) -> Option<AttachError> {
    let features = kernel.features();
    if features.fentry {
        return None;
    }
    let message = "this kernel has no BPF trampolines (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)";
    let error = AttachError::missing(0..rest.len(), message);
    Some(if features.kprobe && !rest.is_empty() { error.help(format!("`{other}:{rest}` would do")) } else { error })
}

fn target(kind: &str, function: &Named, site: Site) -> Option<Target> {
    Some(Target { point: format!("{kind}:{}", function.point()), site, entry: None, key: None })
}

/// Whether a trampoline can be put there; why not.
pub(super) fn usable(function: &Named, exit: bool, kernel: &dyn Kernel) -> Result<(), String> {
    let name = &function.name;
    let Some(signature) = &function.signature else {
        return Err(format!("the kernel does not describe what `{name}` takes: `kprobe:{name}` may do"));
    };
    if signature.variadic {
        return Err(format!("`{name}` takes any number of arguments, which a trampoline can't pass on: `kprobe:{name}` may do"));
    }
    if function::arguments(signature, kernel, |_| None).slots > MOST_SLOTS {
        return Err(format!("`{name}` takes more than {MOST_SLOTS} arguments: `kprobe:{name}` may do"));
    }
    if function::returns_struct(signature, kernel) {
        return Err(format!("`{name}` returns a struct, for which trampolines have no place: `kprobe:{name}` may do"));
    }
    if exit { kprobe::returns(function) } else { Ok(()) }
}

/// Where a function begins; `None` for one that the kernel does not describe.
pub(super) fn entry(function: &Named, kernel: &dyn Kernel) -> Option<Site> {
    let arguments = function::arguments(function.signature.as_ref()?, kernel, |slot| Some(Place::Slot(slot))).named;
    let site = Site::new(hook(function, false), ContextKind::Slots, &function.name);
    Some(Site { positional: arguments.clone(), arguments, ..site })
}

/// Where it returns: the return value stands behind the arguments.
pub(super) fn exit(function: &Named, kernel: &dyn Kernel) -> Option<Site> {
    let signature = function.signature.as_ref()?;
    let arguments = function::arguments(signature, kernel, |slot| Some(Place::Slot(slot)));
    let retval = function::retval(signature, kernel, Place::Slot(arguments.slots));
    let site = Site::new(hook(function, true), ContextKind::Slots, &function.name);
    Some(Site { positional: arguments.named.clone(), arguments: arguments.named, retval, ..site })
}

fn hook(function: &Named, returns: bool) -> Hook {
    Hook::Fentry { module: function.module.clone(), function: function.name.clone(), returns }
}
