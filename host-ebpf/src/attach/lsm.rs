//! `lsm:HOOK`: where the kernel asks its security modules, of which BPF is one. The program has nothing against anything.

use super::{
    AttachError, ContextKind, Kind, Listed, Place, Site, Target, fentry,
    function::{self, KERNEL, Named},
    glob, listed, select,
};
use crate::{
    kernel::{Kernel, SourceError, btf::Types},
    output::Hook,
};

/// Hooks of which newer kernels take no program, since what one returns there is no yes or no: a pattern leaves them out. To a program that
/// names one, such a kernel says no.
///
/// Source: `bpf_lsm_disabled_hooks`, kernel/bpf/bpf_lsm.c, since Linux 6.12.
const DISABLED: [&str; 12] = [
    "audit_rule_match",
    "file_alloc_security",
    "getprocattr",
    "getselfattr",
    "inode_copy_up_xattr",
    "inode_getsecurity",
    "inode_listsecurity",
    "inode_need_killpriv",
    "ismaclabel",
    "key_getsecurity",
    "setprocattr",
    "vm_enough_memory",
];

pub(super) struct Lsm;

impl Kind for Lsm {
    fn names(&self) -> &'static [&'static str] {
        &["lsm"]
    }

    fn notation(&self) -> &'static str {
        "lsm:HOOK"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        let features = kernel.features();
        if features.lsm {
            return None;
        }
        let message = "this kernel asks no BPF program at its security hooks: it lacks CONFIG_BPF_LSM or BPF trampolines, or was booted \
                       without `bpf` in the list `lsm=` of its command line";
        let error = AttachError::missing(0..rest.len(), message);
        let boot = "boot it with `lsm=...,bpf`, the list in /sys/kernel/security/lsm and `bpf` behind it";
        let other = [("fentry", features.fentry), ("kprobe", features.kprobe)].into_iter().find(|(_, there)| *there);
        Some(match other {
            Some((kind, _)) if !rest.is_empty() => error.help(format!("`{kind}:security_{rest}` would do, or {boot}")),
            _ => error.help(boot),
        })
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let types = Types::new(kernel);
        // The kernel has other functions with such names, but no hook that is no member of this.
        let hooks = types.find_type("union security_list_options").map(|of| types.members(of.base)).unwrap_or_default();
        let function = |hook: &str| {
            let name = format!("bpf_lsm_{hook}");
            let signature = types.function_in(KERNEL, &name)?.signature;
            Some(Named { module: None, name, signature: Some(signature) })
        };
        let names: Vec<&str> = hooks.iter().map(|(name, _)| *name).filter(|name| function(name).is_some()).collect();
        let pattern = glob::is_pattern(rest);
        let mut targets = Vec::new();
        for hook in select(rest, "security hook", "", 0, names.iter().copied())? {
            let Some(function) = function(hook) else { continue };
            match fentry::usable(&function, false, kernel) {
                Ok(()) if pattern && DISABLED.contains(&hook) => {}
                Ok(()) => targets.extend(target(hook, &function, kernel)),
                Err(_) if pattern => {}
                Err(message) => return Err(AttachError::missing(0..rest.len(), message)),
            }
        }
        match targets.is_empty() {
            true => Err(AttachError::missing(0..rest.len(), format!("no security hook that takes a program fits `{rest}`"))),
            false => Ok(targets),
        }
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

fn target(hook: &str, function: &Named, kernel: &dyn Kernel) -> Option<Target> {
    let arguments = function::arguments(function.signature.as_ref()?, kernel, |slot| Some(Place::Slot(slot))).named;
    let site = Site::new(Hook::Lsm { hook: hook.to_owned() }, ContextKind::Slots, hook);
    let site = Site { positional: arguments.clone(), arguments, ..site };
    Some(Target { point: format!("lsm:{hook}"), site, entry: None, key: None })
}
