//! Needs against grants: what a plugin's programs do, as the compiler found it, and what its bundle lets them do.
//!
//! A need that is not granted refuses the run before anything is loaded, and the refusal says what to write to grant it. The
//! identity of the running task (pid, tid, uid, gid, comm, cpu, times) needs no grant.

pub mod consent;
mod deny;
mod doors;
mod globs;
mod refused;
mod risk;
mod widened;
mod words;

use std::{collections::BTreeSet, fmt::Write};

pub use deny::Deny;
use portcullis_ebpf::{DataClass, Needs, attach::glob};
pub use refused::{Refusals, Refused};
pub use risk::Risk;
use serde::{Deserialize, Deserializer, de};

pub(crate) use self::words::class_text;
pub use self::{
    doors::sentences as doors_in_words,
    widened::widened,
    words::{Sentence, describe},
};
use crate::{doors::Doors, manifest::quantity, output::clean, scope};

/// What one plugin may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Globs over the whole text of an attach point, `KIND:TARGET`: `*` is any text, `?` any one character.
    pub probes: Vec<String>,
    /// The data that it may read.
    pub read: BTreeSet<DataClass>,
    /// What it may not do, whatever is granted.
    pub deny: Deny,
    /// The memory of the kernel that the maps of its probes may take, bytes; `None` leaves that to its limits.
    #[serde(deserialize_with = "size")]
    pub maps: Option<u64>,
    /// The tasks whose hits it gets.
    pub scope: scope::Granted,
    /// What it may reach outside of its cage.
    pub wasi: Doors,
    /// Who says so, and therefore where more can be granted.
    #[serde(skip)]
    pub by: GrantedBy,
}

/// Where grants are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantedBy {
    /// In the bundle's manifest.
    #[default]
    Manifest,
    /// As flags of the command line, for a plugin that is run alone.
    CommandLine,
    /// Nowhere: who runs the probes has written them, and what they need is granted.
    Author,
}

impl Grants {
    /// A manifest's grants where it says nothing.
    pub fn none() -> Grants {
        Grants::default()
    }

    /// The doors that are open: those that are granted and not denied.
    pub fn doors(&self) -> Doors {
        self.wasi.without(&self.deny.wasi)
    }

    /// The lines that a manifest has below `[plugin.grants]`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.probes.is_empty() {
            lines.push(format!("probes = {}", list(self.probes.iter().map(String::as_str))));
        }
        if !self.read.is_empty() {
            lines.push(format!("read = {}", list(self.read.iter().map(|class| class.as_str()))));
        }
        let denied = [
            (!self.deny.probes.is_empty()).then(|| format!("probes = {}", list(self.deny.probes.iter().map(String::as_str)))),
            (!self.deny.read.is_empty()).then(|| format!("read = {}", list(self.deny.read.iter().map(|class| class.as_str())))),
            (!self.deny.wasi.is_empty()).then(|| format!("wasi = {}", list(self.deny.wasi.iter().map(|door| door.as_str())))),
        ];
        if !self.deny.is_empty() {
            lines.push(format!("deny = {{ {} }}", denied.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        }
        if let Some(maps) = self.maps {
            lines.push(format!("maps = \"{}\"", quantity::shown(maps)));
        }
        let scope::Granted { pid, uid, cgroup } = &self.scope;
        let number = |uid: &str| uid.parse::<u32>().map_or_else(|_| text(uid), |uid| uid.to_string());
        let keys = [
            pid.map(|pid| format!("pid = {pid}")),
            uid.as_deref().map(|uid| format!("uid = {}", number(uid))),
            cgroup.as_deref().map(|cgroup| format!("cgroup = {}", text(cgroup))),
        ];
        if !self.scope.is_everything() {
            lines.push(format!("scope = {{ {} }}", keys.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        }
        lines.extend(doors::line(&self.wasi));
        lines
    }

    /// It may read data of this class.
    pub fn may_read(&self, class: DataClass) -> bool {
        self.read.contains(&class) && !self.deny.read.contains(&class)
    }

    fn allow_point(&self, point: &str) -> bool {
        self.probes.iter().any(|pattern| glob::matches(pattern, point))
    }
}

/// A size as files have it.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    quantity::size(&text).map(Some).map_err(de::Error::custom)
}

/// Whether everything that `plugin` needs is granted.
pub fn check(plugin: &str, needs: &Needs, grants: &Grants) -> Result<(), Refused> {
    if grants.by == GrantedBy::Author {
        return Ok(());
    }
    let (denied_points, points) = needs.attach.iter().cloned().partition::<Vec<_>, _>(|need| grants.deny.point(&need.point));
    let (denied_data, data) = needs.data.iter().cloned().partition::<Vec<_>, _>(|need| grants.deny.read.contains(&need.class));
    let denied = Needs { attach: denied_points, data: denied_data };
    let points: Vec<_> = points.into_iter().filter(|need| !grants.allow_point(&need.point)).collect();
    let data: Vec<_> = data.into_iter().filter(|need| !grants.may_read(need.class)).collect();
    if points.is_empty() && data.is_empty() && denied == Needs::default() {
        return Ok(());
    }
    Err(Refused { plugin: plugin.into(), points, data, denied, grants: Box::new(grants.clone()) })
}

/// [`check`] over all plugins of a bundle, so that one refusal names everything.
pub fn check_all<'a>(plugins: impl IntoIterator<Item = (&'a str, &'a Needs, &'a Grants)>) -> Result<(), Refusals> {
    let refused: Vec<_> = plugins.into_iter().filter_map(|(plugin, needs, grants)| check(plugin, needs, grants).err()).collect();
    if refused.is_empty() { Ok(()) } else { Err(Refusals(refused)) }
}

/// A list of TOML strings.
fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(text).collect::<Vec<_>>().join(", "))
}

/// A TOML string that shows no more than it says.
pub(crate) fn text(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            // Writing to a String does not fail.
            c if clean::is_hidden(c) => _ = write!(text, "\\U{:08x}", c as u32),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portcullis_ebpf::needs::{AttachNeed, DataNeed};

    use super::*;

    pub(super) fn needs(points: &[(&str, &str)], data: &[(DataClass, &str, &str)]) -> Needs {
        Needs {
            attach: points
                .iter()
                .map(|(probe, point)| AttachNeed { point: point.to_string(), probe: probe.to_string() })
                .collect(),
            data: data
                .iter()
                .map(|(class, probe, text)| DataNeed { class: *class, probe: Some(probe.to_string()), text: text.to_string() })
                .collect(),
        }
    }

    pub(super) fn granted(probes: &[&str], read: &[DataClass], by: GrantedBy) -> Grants {
        Grants {
            probes: probes.iter().map(ToString::to_string).collect(),
            read: read.iter().copied().collect(),
            by,
            ..Grants::none()
        }
    }

    /// Globs fit whole texts, kind and all.
    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, expect) in [
            ("*", "tracepoint:sched:sched_switch", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("span:syscall:open*", "span:syscall:openat", true),
            ("span:syscall:open*", "span:syscall:reopen", false),
            ("span:syscall:open", "span:syscall:openat", false),
            ("tracepoint:*:sched_*", "tracepoint:sched:sched_switch", true),
            ("tracepoint:*:*_exit", "tracepoint:sched:sched_process_exit", true),
            ("tracepoint:*:*_exit", "tracepoint:sched:sched_exit_tp", false),
            ("tracepoint:syscalls:sys_e????_read", "tracepoint:syscalls:sys_enter_read", true),
            ("tracepoint:syscalls:sys_e????_read", "tracepoint:syscalls:sys_exit_read", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("?", "ü", true),
            ("[a-z]", "a", false),
        ] {
            assert_eq!(glob::matches(pattern, text), expect, "{pattern} on {text}");
        }
    }

    /// What is granted passes, and identity needs nothing.
    #[test]
    fn what_is_granted_passes() {
        let opens = needs(&[("opens", "span:syscall:openat")], &[(DataClass::Arguments, "opens", "retval")]);
        check("opens", &opens, &granted(&["span:*"], &[DataClass::Arguments], GrantedBy::Manifest)).unwrap();
        let identity = needs(&[("opens", "span:syscall:openat")], &[]);
        check("opens", &identity, &granted(&["*"], &[], GrantedBy::Manifest)).unwrap();
    }

    /// What a list of TOML strings holds comes back from a TOML reader.
    #[test]
    fn lists_are_toml() {
        let texts = ["plain*", "quo\"te", "back\\slash", "esc\x1b", "bidi\u{202e}"];
        let toml: toml::Table = format!("a = {}", list(texts.into_iter())).parse().unwrap();
        let back: Vec<_> = toml["a"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(back, texts);
    }
}
