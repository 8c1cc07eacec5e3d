//! What is asked of a task before its hit is one, as far as it is asked in the language: helpers tell the user and the control group of
//! the running task, and nothing but the task itself tells those of another, or when a process started.

use crate::{
    attach::Whose,
    kernel::{Kernel, Types},
    spec::{Limit, Options, Process},
    syntax::{ast::Expr, parse_when},
};

/// Conditions, for targets of two kinds.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    iterated: Option<Expr>,
    running: Option<Expr>,
}

impl Limits {
    pub(crate) fn new(options: &Options, kernel: &dyn Kernel) -> Limits {
        let all = || options.limits.iter().chain(&options.granted);
        let iterated: Vec<String> = all().map(|limit| of_task(*limit, kernel)).collect();
        let processes = all().filter(|limit| matches!(limit, Limit::Process(_)));
        let running: Vec<String> = processes.map(|limit| of_task(*limit, kernel)).collect();
        Limits { iterated: parse_when(&iterated.join(" && ")).ok(), running: parse_when(&running.join(" && ")).ok() }
    }

    /// What is asked where the hit is that of such a task.
    pub(crate) fn of(&self, whose: Whose) -> Option<&Expr> {
        match whose {
            Whose::Host => None,
            Whose::Iterated(_) => self.iterated.as_ref(),
            Whose::Running | Whose::Nobody => self.running.as_ref(),
        }
    }
}

fn of_task(limit: Limit, kernel: &dyn Kernel) -> String {
    match limit {
        Limit::Process(Process { id, started }) => {
            format!("pid == {id} && curtask->group_leader->start_boottime / {} == {started}", Process::TICK)
        }
        Limit::User(uid) => format!("uid == {uid}"),
        Limit::Cgroup(group) => {
            let types = Types::new(kernel);
            // Before Linux 6.1 a group knew the numbers of those above it, and since then themselves.
            let has_pointers = types.find_type("struct cgroup").is_some_and(|of| types.member_of(of.base, "ancestors").is_some());
            let above = if has_pointers {
                format!("ancestors[{}]->kn->id", group.level)
            } else {
                format!("ancestor_ids[{}]", group.level)
            };
            let own = "curtask->cgroups->dfl_cgrp";
            format!("{own}->level >= {} && {own}->{above} == {}", group.level, group.id)
        }
    }
}
