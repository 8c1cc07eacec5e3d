//! `iter:task`, `iter:task_file`: what there is at the opening. The host walks through it once.

use super::{
    AttachError, ContextKind, Kind, Listed, Place, Site, Target, Whose,
    function::{self, KERNEL},
    listed, select,
};
use crate::{
    kernel::{
        Kernel, SourceError,
        btf::{Signature, Types},
    },
    output::Hook,
};

/// Those that are at a task, whose process is in scope or not. Each has a function `bpf_iter_NAME`, whose arguments are those of the body.
const ITERATORS: [&str; 2] = ["task", "task_file"];

pub(super) struct Iter;

/// Where the program of an iterator finds what it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Iterated {
    /// The slot of the task; null behind the last one.
    pub(crate) task: u32,
    /// The slot of what it is at: the task, or something that the task has; null behind the last one.
    pub(crate) object: u32,
    /// The offsets of members of `struct task_struct`.
    pub(crate) tgid: u32,
    pub(crate) pid: u32,
}

impl Kind for Iter {
    fn names(&self) -> &'static [&'static str] {
        &["iter", "it"]
    }

    fn notation(&self) -> &'static str {
        "iter:NAME"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        let message = "this kernel has no iterators for programs (BPF_TRACE_ITER, since Linux 5.8)";
        (!kernel.features().iter).then(|| AttachError::missing(0..rest.len(), message))
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let (name, more) = rest.split_once(':').map_or((rest, None), |(name, more)| (name, Some(more)));
        if let Some(more) = more {
            let message =
                "an iterator has nothing behind its name: it is not pinned to a file, its rows come as those of other probes";
            return Err(AttachError::wrong(rest.len() - more.len()..rest.len(), message).help(format!("just `iter:{name}`")));
        }
        let found = ITERATORS.iter().filter_map(|name| Some((*name, target(name, kernel)?)));
        let found: Vec<(&str, Target)> = found.collect();
        let names = select(name, "BPF iterator", "", 0, found.iter().map(|(name, _)| *name))?;
        Ok(found.iter().filter(|(name, _)| names.contains(name)).map(|(_, target)| target.clone()).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

/// `None` if the kernel does not describe it.
fn target(name: &str, kernel: &dyn Kernel) -> Option<Target> {
    let signature = Types::new(kernel).function_in(KERNEL, &format!("bpf_iter_{name}"))?.signature;
    let whose = Whose::Iterated(iterated(&signature, kernel)?);
    // The first, which all have, says how far it is.
    let arguments = function::arguments(&signature, kernel, |slot| Some(Place::Slot(slot))).named;
    let site = Site::new(Hook::Iter { name: name.to_owned() }, ContextKind::Slots, "");
    let site = Site { arguments, whose, ..site };
    Some(Target { point: format!("iter:{name}"), site, entry: None, key: None })
}

fn iterated(signature: &Signature, kernel: &dyn Kernel) -> Option<Iterated> {
    let offset = |member| Some(kernel.btf().member("task_struct", member)?.0);
    let task = signature.parameters.iter().position(|parameter| parameter.name == "task")?;
    // Each takes one slot.
    let object = signature.parameters.len().checked_sub(1)?;
    Some(Iterated { task: task as u32, object: object as u32, tgid: offset("tgid")?, pid: offset("pid")? })
}
