//! Needs against grants: what a plugin's programs do, as the compiler found it, and what its bundle lets them do.
//!
//! A need that is not granted refuses the run before anything is loaded, and the refusal says what to write to grant it. The
//! identity of the running task (pid, tid, uid, gid, comm, cpu, times) needs no grant.

pub mod consent;
mod deny;
mod doors;
mod risk;
mod widened;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
};

pub use deny::Deny;
use portcullis_ebpf::{
    DataClass, Needs,
    attach::glob,
    needs::{AttachNeed, DataNeed},
};
pub use risk::Risk;
use serde::{Deserialize, Deserializer, de};

pub use self::{doors::sentences as doors_in_words, widened::widened};
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

/// A plugin needs what it is not granted. Its `Display` says what and why, and then what to write to grant it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The plugin's name.
    pub plugin: String,
    /// The attach points that no grant covers.
    pub points: Vec<AttachNeed>,
    /// The data that no grant covers.
    pub data: Vec<DataNeed>,
    /// What is denied, whatever is granted.
    pub denied: Needs,
    /// What is granted.
    pub grants: Box<Grants>,
}

/// Several plugins need what they are not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
pub struct Refusals(pub Vec<Refused>);

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

impl Refused {
    /// Some of it is denied, whatever is granted.
    pub fn is_denied(&self) -> bool {
        self.denied != Needs::default()
    }

    /// The grants with which the run would not have been refused.
    pub fn wanted(&self) -> Grants {
        let mut wanted = Grants::clone(&self.grants);
        wanted.probes.extend(globs(&self.points));
        wanted.read.extend(self.data.iter().map(|need| need.class));
        wanted
    }

    fn manifest_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to grant this, write in the bundle, below the `[[plugin]]` that is named \"{}\":\n\n", self.plugin)?;
        write!(f, "    [plugin.grants]")?;
        self.wanted().lines().iter().try_for_each(|line| write!(f, "\n    {line}"))
    }

    fn flags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to grant this, add to the command line:\n\n   ")?;
        for glob in globs(&self.points) {
            write!(f, " --allow-probes '{}'", glob.replace('\'', r"'\''"))?;
        }
        for need in &self.data {
            write!(f, " --allow-read {}", need.class)?;
        }
        Ok(())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin \"{}\" needs more than it is granted", self.plugin)?;
        for sentence in sentences(&self.points, &self.data) {
            write!(f, "\n  it {}", sentence.text)?;
        }
        for sentence in sentences(&self.denied.attach, &self.denied.data) {
            write!(f, "\n  it {}, which is denied", sentence.text)?;
        }
        if self.is_denied() {
            write!(f, "\nwhat `grants.deny` names stays denied, whatever is granted")?;
        }
        if self.points.is_empty() && self.data.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        match self.grants.by {
            GrantedBy::Manifest => self.manifest_lines(f),
            GrantedBy::CommandLine | GrantedBy::Author => self.flags(f),
        }
    }
}

/// A need in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// How much it gives away.
    pub risk: Risk,
    /// Without a subject: "reads the arguments of what it attaches to (...)".
    pub text: String,
}

/// What a plugin needs, as plain sentences.
pub fn describe(needs: &Needs) -> Vec<Sentence> {
    let mut all = sentences(&needs.attach, &needs.data);
    if needs.data.is_empty() {
        let text = "reads nothing but who runs, where and when (pid, uid, comm, cpu, time)".into();
        all.push(Sentence { risk: Risk::Low, text });
    }
    all
}

/// How many attach points of a probe a sentence names before it counts the rest.
const NAMED: usize = 4;

fn sentences(points: &[AttachNeed], data: &[DataNeed]) -> Vec<Sentence> {
    let mut by_probe: Vec<(&str, Vec<&str>)> = Vec::new();
    for need in points {
        match by_probe.iter_mut().find(|(probe, _)| *probe == need.probe) {
            Some((_, points)) => points.push(&need.point),
            None => by_probe.push((&need.probe, vec![&need.point])),
        }
    }
    let attach = by_probe.into_iter().map(|(probe, points)| {
        let named = points.iter().take(NAMED).map(|point| clean::line(point)).collect::<Vec<_>>().join(", ");
        let risk = points.iter().map(|point| Risk::of_point(point)).max().unwrap_or(Risk::Low);
        let text = match points.len().checked_sub(NAMED) {
            None | Some(0) => format!("attaches to {named} (probe `{probe}`)"),
            Some(more) => format!("attaches to {} points: {named} and {more} more (probe `{probe}`)", points.len()),
        };
        Sentence { risk, text }
    });
    let data = data.iter().map(|need| {
        let what = class_text(need.class);
        let cause = clean::line(need.text.trim());
        let text = match &need.probe {
            Some(probe) => format!("reads {what} (`{cause}` in probe `{probe}`)"),
            None => format!("reads {what} (it imports `{cause}`)"),
        };
        Sentence { risk: Risk::of_class(need.class), text }
    });
    attach.chain(data).collect()
}

/// A class of data in plain words.
pub(crate) fn class_text(class: DataClass) -> &'static str {
    match class {
        DataClass::Arguments => "the arguments and results of what it attaches to",
        DataClass::UserMemory => "the memory of traced processes",
        DataClass::KernelMemory => "the memory of the kernel",
        DataClass::Stacks => "call stacks",
        DataClass::Process => "facts about processes: who they are, their programs and their command lines",
    }
}

/// The fewest globs that grant all points and say something: single points while they are few, else what they have in common.
fn globs(points: &[AttachNeed]) -> Vec<String> {
    let mut by_probe: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for need in points {
        by_probe.entry(&need.probe).or_default().insert(&need.point);
    }
    let mut all: Vec<String> = Vec::new();
    for points in by_probe.values() {
        let mut globs = Vec::new();
        propose(&points.iter().copied().collect::<Vec<_>>(), 0, &mut globs);
        for glob in globs {
            if !all.contains(&glob) {
                all.push(glob);
            }
        }
    }
    all
}

/// Proposes globs for sorted `points`, which agree in the first `at` bytes, one level of `:` at a time.
fn propose(points: &[&str], at: usize, globs: &mut Vec<String>) {
    if points.len() <= NAMED {
        globs.extend(points.iter().map(ToString::to_string));
        return;
    }
    let mut levels: Vec<(usize, Vec<&str>)> = Vec::new();
    for point in points {
        let level = point[at..].find(':').map_or(point.len(), |colon| at + colon + 1);
        match levels.last_mut() {
            Some((end, same)) if same[0].get(..*end) == point.get(..level) => same.push(point),
            _ => levels.push((level, vec![point])),
        }
    }
    if levels.len() <= NAMED && levels.iter().all(|(end, same)| same.len() == 1 || *end > at) {
        return levels.iter().for_each(|(end, same)| propose(same, *end, globs));
    }
    let (first, last) = (points[0], points[points.len() - 1]);
    // Sorted: what the first and the last have in common, all have.
    let common = first.char_indices().zip(last.chars()).find(|((_, a), b)| a != b).map_or(first.len(), |((at, _), _)| at);
    globs.push(format!("{}*", &first[..common]));
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
    use super::*;

    fn needs(points: &[(&str, &str)], data: &[(DataClass, &str, &str)]) -> Needs {
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

    fn granted(probes: &[&str], read: &[DataClass], by: GrantedBy) -> Grants {
        Grants {
            probes: probes.iter().map(ToString::to_string).collect(),
            read: read.iter().copied().collect(),
            by,
            ..Grants::none()
        }
    }

    #[track_caller]
    fn refused(needs: &Needs, grants: &Grants, expect: &str) {
        let refused = check("opens", needs, grants).unwrap_err();
        assert_eq!(refused.to_string(), expect);
        // What it proposes grants everything.
        check("opens", needs, &refused.wanted()).unwrap();
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

    /// A refusal says what is needed where, and the lines that grant it; a point that is granted is not repeated.
    #[test]
    fn a_refusal_proposes_manifest_lines() {
        let needs = needs(
            &[("opens", "span:syscall:open"), ("opens", "span:syscall:openat"), ("reads", "tracepoint:syscalls:sys_enter_read")],
            &[
                (DataClass::Arguments, "opens", "retval"),
                (DataClass::UserMemory, "opens", "str(entry.args.filename)\x1b"),
                (DataClass::KernelMemory, "reads", "curtask"),
            ],
        );
        refused(
            &needs,
            &granted(&["tracepoint:*"], &[DataClass::Arguments], GrantedBy::Manifest),
            r#"plugin "opens" needs more than it is granted
  it attaches to span:syscall:open, span:syscall:openat (probe `opens`)
  it reads the memory of traced processes (`str(entry.args.filename)\x1b` in probe `opens`)
  it reads the memory of the kernel (`curtask` in probe `reads`)
to grant this, write in the bundle, below the `[[plugin]]` that is named "opens":

    [plugin.grants]
    probes = ["tracepoint:*", "span:syscall:open", "span:syscall:openat"]
    read = ["arguments", "user-memory", "kernel-memory"]"#,
        );
    }

    /// A refusal proposes no more than what was asked for: whose hits it gets stays as it is.
    #[test]
    fn a_refusal_keeps_the_scope() {
        let scope = scope::Granted { pid: Some(7), uid: Some("1000".into()), cgroup: Some("a\"b".into()) };
        let grants = Grants { scope, ..granted(&[], &[], GrantedBy::Manifest) };
        let refused = check("p", &needs(&[("p", "t:a")], &[]), &grants).unwrap_err();
        assert!(
            refused.to_string().ends_with("    probes = [\"t:a\"]\n    scope = { pid = 7, uid = 1000, cgroup = \"a\\\"b\" }")
        );
    }

    /// What is denied refuses whatever is granted, is not proposed, and is told apart from what is missing.
    #[test]
    fn what_is_denied_wins() {
        let deny =
            Deny { probes: vec!["kprobe:vfs_*".into()], read: BTreeSet::from([DataClass::KernelMemory]), ..Deny::default() };
        let grants = Grants { deny, ..granted(&["*"], &[DataClass::KernelMemory], GrantedBy::Manifest) };
        let needs = needs(
            &[("files", "fentry:vfs_read"), ("files", "fentry:do_exit")],
            &[(DataClass::Arguments, "files", "args.count"), (DataClass::KernelMemory, "files", "args.file->f_flags")],
        );
        let refused = check("opens", &needs, &grants).unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"plugin "opens" needs more than it is granted
  it reads the arguments and results of what it attaches to (`args.count` in probe `files`)
  it attaches to fentry:vfs_read (probe `files`), which is denied
  it reads the memory of the kernel (`args.file->f_flags` in probe `files`), which is denied
what `grants.deny` names stays denied, whatever is granted
to grant this, write in the bundle, below the `[[plugin]]` that is named "opens":

    [plugin.grants]
    probes = ["*"]
    read = ["arguments", "kernel-memory"]
    deny = { probes = ["kprobe:vfs_*"], read = ["kernel-memory"] }"#,
        );
        let wanted = refused.wanted();
        let rest = check("opens", &needs, &wanted).unwrap_err();
        assert!(rest.to_string().ends_with("stays denied, whatever is granted"), "{rest}");
    }

    /// For a plugin that is run alone the way out is flags.
    #[test]
    fn a_refusal_proposes_flags() {
        refused(
            &needs(&[("p", "span:syscall:it's")], &[(DataClass::UserMemory, "p", "str(x)")]),
            &granted(&[], &[], GrantedBy::CommandLine),
            r#"plugin "opens" needs more than it is granted
  it attaches to span:syscall:it's (probe `p`)
  it reads the memory of traced processes (`str(x)` in probe `p`)
to grant this, add to the command line:

    --allow-probes 'span:syscall:it'\''s' --allow-read user-memory"#,
        );
    }

    /// Many points are proposed by what they have in common, few one by one, each kind for itself.
    #[test]
    fn many_points_become_globs() {
        let many = |prefix: &str, names: &[&str]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
        for (points, expect) in [
            (many("tracepoint:syscalls:sys_enter_", &["a", "b", "c", "d", "e", "f"]), vec!["tracepoint:syscalls:sys_enter_*"]),
            (
                [many("span:syscall:", &["a", "b"]), many("tracepoint:sched:", &["k", "l", "m", "n", "o"])].concat(),
                vec!["span:syscall:a", "span:syscall:b", "tracepoint:sched:*"],
            ),
            (many("tracepoint:", &["a:x", "b:x", "c:x", "d:x", "e:x"]), vec!["tracepoint:*"]),
            (many("rawtracepoint:", &["sys", "sys_a", "sys_b", "sys_c", "sys_d"]), vec!["rawtracepoint:sys*"]),
            (many("", &["a:1", "b:1", "c:1", "d:1", "e:1"]), vec!["*"]),
            (many("", &["é:1", "è:1", "ê:1", "ë:1", "e:1"]), vec!["*"]),
        ] {
            let needs: Vec<_> = points.into_iter().map(|point| AttachNeed { point, probe: "p".into() }).collect();
            assert_eq!(globs(&needs), expect);
            for need in needs {
                assert!(expect.iter().any(|pattern| glob::matches(pattern, &need.point)), "{} of {expect:?}", need.point);
            }
        }
    }

    /// The sentences of `inspect`.
    #[test]
    fn needs_read_as_sentences() {
        let some = needs(
            &[("p", "t:a"), ("p", "t:b"), ("p", "t:c"), ("p", "t:d"), ("p", "t:e"), ("q", "t:a")],
            &[(DataClass::Arguments, "p", "args.count")],
        );
        let texts = |needs: &Needs| describe(needs).into_iter().map(|sentence| sentence.text).collect::<Vec<_>>();
        assert_eq!(
            texts(&some),
            [
                "attaches to 5 points: t:a, t:b, t:c, t:d and 1 more (probe `p`)",
                "attaches to t:a (probe `q`)",
                "reads the arguments and results of what it attaches to (`args.count` in probe `p`)",
            ]
        );
        assert_eq!(
            texts(&needs(&[("q", "t:a")], &[])),
            ["attaches to t:a (probe `q`)", "reads nothing but who runs, where and when (pid, uid, comm, cpu, time)"]
        );
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
