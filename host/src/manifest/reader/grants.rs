//! `plugin.grants`: what a plugin may do, and what it may not.

use std::{collections::BTreeSet, path::Path};

use portcullis_ebpf::DataClass;

use super::{
    Reader,
    values::{Section, did_you_mean, integer},
};
use crate::{
    grants::{Deny, GrantedBy, Grants},
    scope::Granted,
};

impl Reader {
    pub(super) fn grants(&mut self, section: &Section<'_, '_>, path: &Path) -> Grants {
        self.keys(section, &["probes", "read", "deny", "maps", "scope", "wasi"]);
        let (probes, read) = self.points_and_classes(section);
        let deny = self.table(section, "deny").map(|section| self.deny(&section)).unwrap_or_default();
        let maps = self.size(section, "maps").map(|(size, _)| size);
        let scope = self.table(section, "scope").map(|scope| self.scope(&scope)).unwrap_or_default();
        let wasi = self.table(section, "wasi").map(|wasi| self.doors(&wasi, path)).unwrap_or_default();
        Grants { probes, read, deny, maps, scope, wasi, by: GrantedBy::Manifest }
    }

    fn deny(&mut self, section: &Section<'_, '_>) -> Deny {
        self.keys(section, &["probes", "read", "wasi"]);
        let (probes, read) = self.points_and_classes(section);
        Deny { probes, read, wasi: self.denied_doors(section) }
    }

    /// The keys `probes` and `read`.
    fn points_and_classes(&mut self, section: &Section<'_, '_>) -> (Vec<String>, BTreeSet<DataClass>) {
        let mut probes = Vec::new();
        for (glob, span) in self.strings(section, "probes") {
            if !glob.contains([':', '*']) {
                self.problem(
                    span,
                    format!("`{}`: `{glob}` fits no attach point", section.path("probes")),
                    Some("attach points are KIND:TARGET, as `span:syscall:openat` or `tracepoint:sched:*`; `*` is all".into()),
                );
            }
            probes.push(glob.to_owned());
        }
        let mut read = BTreeSet::new();
        for (name, span) in self.strings(section, "read") {
            match DataClass::ALL.into_iter().find(|class| class.as_str() == name) {
                Some(class) => _ = read.insert(class),
                None => {
                    let help = match name {
                        "identity" if section.name.ends_with(".deny") => {
                            "pid, tid, uid, comm, cpu and times can't be denied".into()
                        }
                        "identity" => "pid, tid, uid, comm, cpu and times need no grant".into(),
                        _ => did_you_mean(name, &DataClass::ALL.map(DataClass::as_str)),
                    };
                    self.problem(span, format!("`{}`: there is no class `{name}`", section.path("read")), Some(help));
                }
            }
        }
        (probes, read)
    }

    /// `grants.scope`; what the names mean is found out when it runs.
    fn scope(&mut self, section: &Section<'_, '_>) -> Granted {
        self.keys(section, &["pid", "uid", "cgroup"]);
        if section.table.is_empty() {
            let help = "leave it out, or write { pid = 4711 }, { uid = \"www-data\" } or { cgroup = \"ssh.service\" }";
            self.problem(section.span.clone(), "`plugin.grants.scope` is empty", Some(help.into()));
        }
        let pid = self.number(section, "pid").and_then(|(pid, span)| {
            let found = u32::try_from(pid).ok().filter(|pid| *pid > 0);
            if found.is_none() {
                self.problem(span, "`plugin.grants.scope.pid` is no process", None);
            }
            found
        });
        let uid = section.get("uid").and_then(|value| match (integer(value.get_ref()), value.get_ref().as_str()) {
            (Some(uid), _) if u32::try_from(uid).is_ok() => Some(uid.to_string()),
            (None, Some(name)) if !name.is_empty() => Some(name.to_owned()),
            (Some(_), _) | (None, Some(_)) => {
                self.problem(value.span(), "`plugin.grants.scope.uid` is no user", None);
                None
            }
            (None, None) => {
                self.wrong_type(value, "plugin.grants.scope.uid", "a number or a string");
                None
            }
        });
        let cgroup = self.string(section, "cgroup").map(|(name, _)| name.to_owned());
        Granted { pid, uid, cgroup }
    }
}
