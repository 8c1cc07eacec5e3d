//! Iterators: the host runs them, and what is said of the running task elsewhere is said of the task that the iterator is at.

use std::ops::Range;

use super::{Checker, Half, Result, types::Typed};
use crate::{
    attach::{Iterated, Whose},
    kernel::{Kernel, Types},
    spec::Options,
    syntax::{
        ast::{Expr, ExprKind},
        parse_when,
    },
};

/// Names of facts of a task, and where they stand in it. Its ids the program has from the beginning.
const FACTS: [(&str, &[&str]); 4] = [
    ("comm", &["comm"]),
    ("uid", &["real_cred", "uid", "val"]),
    ("gid", &["real_cred", "gid", "val"]),
    ("cgroup", &["cgroups", "dfl_cgrp", "kn", "id"]),
];

/// What is asked of the task where the run is limited to a user or a control group. Of the running task helpers tell it.
pub(crate) fn limits(options: &Options, kernel: &dyn Kernel) -> Option<Expr> {
    let mut all = Vec::new();
    if let Some(uid) = options.uid {
        all.push(format!("uid == {uid}"));
    }
    if let Some(group) = options.cgroup {
        let types = Types::new(kernel);
        // Before Linux 6.1 a group knew the numbers of those above it, and since then themselves.
        let has_pointers = types.find_type("struct cgroup").is_some_and(|of| types.member_of(of.base, "ancestors").is_some());
        let above =
            if has_pointers { format!("ancestors[{}]->kn->id", group.level) } else { format!("ancestor_ids[{}]", group.level) };
        let own = "curtask->cgroups->dfl_cgrp";
        all.push(format!("{own}->level >= {} && {own}->{above} == {}", group.level, group.id));
    }
    parse_when(&all.join(" && ")).ok()
}

impl Checker<'_> {
    /// Where the task is, if this is an iterator.
    pub(super) fn iterated(&self) -> Option<Iterated> {
        match self.target.site.whose {
            Whose::Iterated(at) => Some(at),
            Whose::Running | Whose::Nobody => None,
        }
    }

    /// A builtin that means the task; `None` for others, and where there is no iterator.
    pub(super) fn iterated_fact(&mut self, name: &str, span: &Range<usize>) -> Option<Result<Typed>> {
        self.iterated()?;
        let (_, path) = FACTS.iter().find(|(fact, _)| *fact == name)?;
        Some(self.task_member(path, span))
    }

    /// Whether it is what bpftrace calls the arguments of an iterator.
    pub(super) fn is_context(&self, base: &Expr, half: Half) -> bool {
        half == Half::Here && self.iterated().is_some() && matches!(&base.kind, ExprKind::Name(name) if name == "ctx")
    }
}
