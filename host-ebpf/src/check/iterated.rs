//! Iterators: the host runs them, and what is said of the running task elsewhere is said of the task that the iterator is at.

use std::ops::Range;

use super::{Checker, Half, Result, types::Typed};
use crate::{
    attach::{Iterated, Whose},
    syntax::ast::{Expr, ExprKind},
};

/// Names of facts of a task, and where they stand in it. Its ids the program has from the beginning.
const FACTS: [(&str, &[&str]); 4] = [
    ("comm", &["comm"]),
    ("uid", &["real_cred", "uid", "val"]),
    ("gid", &["real_cred", "gid", "val"]),
    ("cgroup", &["cgroups", "dfl_cgrp", "kn", "id"]),
];

impl Checker<'_> {
    /// Where the task is, if this is an iterator.
    pub(super) fn iterated(&self) -> Option<Iterated> {
        match self.target.site.whose {
            Whose::Iterated(at) => Some(at),
            Whose::Running | Whose::Nobody | Whose::Host => None,
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
