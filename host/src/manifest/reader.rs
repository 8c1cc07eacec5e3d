//! From TOML text to a [`Manifest`].
//!
//! The walk goes over toml's own tree with the place of every key and value, not through serde: it finds all mistakes at once, and
//! each message can say what the key is for.

mod doors;

use std::{
    collections::BTreeSet,
    ops::{Range, RangeInclusive},
    path::Path,
    time::Duration,
};

use portcullis_ebpf::{DataClass, Rate, diagnostic::suggest};
use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Format, MAX_BACKOFF, MAX_NAME, MAX_PLUGINS, Manifest, Moment, Open, Plugin, Problem, Restart, SCHEMA, Source, Start, Stop,
    is_name_char, name_of_file, quantity,
};
use crate::{
    cage::{Layers, Sandbox, User},
    contract::Limits,
    grants::{Deny, GrantedBy, Grants},
    scope::Granted,
};

/// The longest time that one call into a plugin may be given.
const MAX_CALL: Duration = Duration::from_secs(600);

/// The most memory that a component can address: 32-bit linear memory.
const MAX_MEMORY: u64 = 4 << 30;

/// The least that is worth giving: a Rust component's stack alone is 1 MiB.
const MIN_MEMORY: u64 = 1 << 20;

/// The most elements that the tables of a component can have: those of one, in WebAssembly of 32 bits.
const MAX_TABLE_ELEMENTS: u64 = u32::MAX as u64;

/// How large a component's call stack may be: it is a part of the worker's own, which is 8 MiB where nobody has changed it.
const STACK: RangeInclusive<u64> = 64 << 10..=4 << 20;

/// The largest ring: kernel memory that stays resident. The kernel itself takes up to 2 GiB, the largest power of two in the `u32`
/// of `max_entries`.
const MAX_RING: u64 = 1 << 30;

/// The most attach points that a probe can be allowed: each is a place of the kernel's or a program's code that is rewritten.
const MAX_ATTACH_POINTS: u32 = 100_000;

/// How often a plugin may be started again.
const MAX_RESTARTS: u64 = 1000;

/// How long after its failure a plugin is started again, where the manifest does not say.
const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);

/// How many probes a plugin may have at the most.
const MAX_PROBES: u64 = crate::worker::check::MAX_PROBES as u64;

/// How many instructions a program may have at the most: as many as the kernel's verifier looks at (`BPF_COMPLEXITY_LIMIT_INSNS`,
/// include/linux/bpf.h).
const MAX_INSTRUCTIONS: u64 = 1_000_000;

/// The most rows or messages that a limit may allow in a second: more than can be.
const MAX_A_SECOND: u64 = 1_000_000_000;

/// The longest time to settle: what is longer is meant as something else.
const MAX_SETTLE: Duration = Duration::from_secs(60);

/// Reads and checks a whole manifest, or says every mistake in it.
pub(super) fn read(text: &str, path: &Path) -> Result<Manifest, Vec<Problem>> {
    walk(text, |reader, top| reader.manifest(top, path))
}

/// The same of a file that has the grants of one plugin alone.
pub(super) fn read_grants(text: &str, path: &Path) -> Result<Grants, Vec<Problem>> {
    walk(text, |reader, top| {
        reader.keys(top, &["plugin"]);
        let plugin = reader.table(top, "plugin");
        if let Some(plugin) = &plugin {
            reader.keys(plugin, &["grants"]);
        }
        let grants = plugin.and_then(|plugin| reader.table(&plugin, "grants"));
        if grants.is_none() && reader.problems.is_empty() {
            reader.problem(0..0, "there are no grants here", Some("begin the file with `[plugin.grants]`".into()));
        }
        grants.map_or_else(Grants::none, |grants| reader.grants(&grants, path))
    })
}

fn walk<T>(text: &str, read: impl FnOnce(&mut Reader, &Section<'_, '_>) -> T) -> Result<T, Vec<Problem>> {
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let span = error.span().unwrap_or(text.len()..text.len());
            return Err(vec![Problem::new(text, span, format!("this is not TOML: {}", error.message()), None)]);
        }
    };
    let mut reader = Reader { problems: Vec::new() };
    let read = read(&mut reader, &Section { name: String::new(), span: 0..0, table: document.get_ref() });
    let Reader { mut problems } = reader;
    if problems.is_empty() {
        return Ok(read);
    }
    problems.sort_by_key(|problem| problem.span.start);
    Err(problems.into_iter().map(|found| Problem::new(text, found.span, found.message, found.help)).collect())
}

/// A mistake and the bytes it stands at.
struct Found {
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

/// One table of the manifest.
struct Section<'d, 'i> {
    /// Its keys' common part, as messages have it: empty or `plugin.grants`.
    name: String,
    /// Its header.
    span: Range<usize>,
    table: &'d DeTable<'i>,
}

impl<'d, 'i> Section<'d, 'i> {
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name) }
    }

    fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'i>>> {
        self.table.get(key)
    }
}

/// The walk, collecting mistakes. A value that is wrong is noted and read as its default, so that the walk goes on.
struct Reader {
    problems: Vec<Found>,
}

impl Reader {
    fn manifest(&mut self, top: &Section<'_, '_>, path: &Path) -> Manifest {
        self.keys(top, &["schema", "name", "start", "stop", "output", "sandbox", "plugin"]);
        self.schema(top);
        let name = self.name(top).unwrap_or_else(|| name_of_file(path));
        let start = self.table(top, "start").map(|section| self.start(&section)).unwrap_or_default();
        let stop = self.table(top, "stop").map(|section| self.stop(&section)).unwrap_or_default();
        let format = self.table(top, "output").map_or(Format::Table, |section| self.output(&section));
        let sandbox = top.get("sandbox").map(|value| self.sandbox(top, value)).unwrap_or_default();
        let mut plugins = self.plugins(top, path);
        plugins.iter_mut().for_each(|plugin| plugin.sandbox = sandbox);
        if !start.gate && plugins.iter().any(|plugin| plugin.restart.is_some()) {
            let help = "a plugin that is started again begins by a store to the gate";
            self.problem(0..0, "`plugin.restart` takes a gate, and `start.gate` is false", Some(help.into()));
        }
        Manifest { source: Source::Bundle(path.into()), name, start, stop, format, sandbox, plugins }
    }

    /// `sandbox`: a word, or a table that says more.
    fn sandbox(&mut self, top: &Section<'_, '_>, value: &Spanned<DeValue<'_>>) -> Sandbox {
        let Some(table) = value.get_ref().as_table() else {
            return match value.get_ref().as_str() {
                Some(word) => Sandbox { layers: self.layers(word, "sandbox", value.span()), user: None },
                None => {
                    self.wrong_type(value, "sandbox", "a string or a table");
                    Sandbox::default()
                }
            };
        };
        let section = Section { name: top.path("sandbox"), span: value.span(), table };
        self.keys(&section, &["layers", "uid", "gid"]);
        let layers = self.string(&section, "layers");
        let layers = layers.map(|(word, span)| self.layers(word, "sandbox.layers", span)).unwrap_or_default();
        let uid = self.user(&section, "uid");
        let gid = self.user(&section, "gid");
        if section.get("uid").is_none()
            && let Some(gid) = section.get("gid")
        {
            let help = "write `uid` as well; without it each worker gets a user and a group of its own";
            self.problem(gid.span(), "`sandbox.gid` is the group of `sandbox.uid`, which is not there", Some(help.into()));
        }
        Sandbox { layers, user: uid.map(|uid| User { uid, gid: gid.unwrap_or(uid) }) }
    }

    fn layers(&mut self, word: &str, path: &str, span: Range<usize>) -> Layers {
        let known = [Layers::Available, Layers::Required];
        let found = known.into_iter().find(|layers| layers.as_str() == word);
        if found.is_none() {
            let help = did_you_mean(word, &known.map(Layers::as_str));
            self.problem(span, format!("`{path}` can't be `{word}`"), Some(help));
        }
        found.unwrap_or_default()
    }

    /// A number of a user or a group, other than root's; the largest means nobody at all to the kernel.
    fn user(&mut self, section: &Section<'_, '_>, key: &str) -> Option<u32> {
        let (number, span) = self.number(section, key)?;
        let found = u32::try_from(number).ok().filter(|number| (1..u32::MAX).contains(number));
        if found.is_none() {
            let path = section.path(key);
            match number {
                0 => {
                    let help = "leave it out, and each worker gets one of its own";
                    self.problem(span, format!("`{path}` is 0, that is root"), Some(help.into()));
                }
                _ => self.problem(span, format!("`{path}` must be between 1 and {}", u32::MAX - 1), None),
            }
        }
        found
    }

    fn schema(&mut self, top: &Section<'_, '_>) {
        let Some(value) = top.get("schema") else {
            return self.problem(0..0, "`schema` is missing", Some(format!("begin the file with `schema = {SCHEMA}`")));
        };
        match integer(value.get_ref()) {
            Some(SCHEMA_I64) => {}
            Some(newer) if newer > SCHEMA_I64 => {
                self.problem(
                    value.span(),
                    format!("`schema` {newer} is newer than this portcullis, which knows {SCHEMA}"),
                    Some("a newer portcullis reads this bundle".into()),
                );
            }
            _ => self.problem(value.span(), format!("`schema` must be {SCHEMA}"), None),
        }
    }

    /// The key `name` of a section, checked as a name.
    fn name(&mut self, section: &Section<'_, '_>) -> Option<String> {
        let (name, span) = self.string(section, "name")?;
        if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(is_name_char) {
            let path = section.path("name");
            self.problem(span, format!("`{path}` must be 1 to {MAX_NAME} letters, digits, `_` and `-` of ASCII"), None);
            return None;
        }
        Some(name.into())
    }

    fn start(&mut self, section: &Section<'_, '_>) -> Start {
        self.keys(section, &["gate", "open", "settle"]);
        let gate = self.boolean(section, "gate").unwrap_or(true);
        let open = section.get("open").map_or(Open::Attached, |value| self.open(section, value));
        if !gate
            && open != Open::Attached
            && let Some(value) = section.get("open")
        {
            let help = "without a gate each probe records from when it is attached; leave `gate = false` out";
            self.problem(value.span(), "`start.open` says when the gate opens, and there is none", Some(help.into()));
        }
        let settle = self.string(section, "settle");
        let settle = settle.and_then(|(text, span)| {
            let settle = self.quantity(section, "settle", text, span.clone(), quantity::duration)?;
            if settle > MAX_SETTLE {
                self.problem(
                    span,
                    "`start.settle` must be at most 1m",
                    Some("`start.open = { after = \"...\" }` waits longer".into()),
                );
            }
            Some(settle)
        });
        Start { gate, open, settle: settle.unwrap_or(super::DEFAULT_SETTLE) }
    }

    /// `start.open`: a word, or a table with one key.
    fn open(&mut self, section: &Section<'_, '_>, value: &Spanned<DeValue<'_>>) -> Open {
        let values = "the values are \"attached\", \"manual\", { after = \"2s\" } and { at = 2027-01-01T00:00:00Z }";
        let Some(table) = value.get_ref().as_table() else {
            return match value.get_ref().as_str() {
                Some("attached") => Open::Attached,
                Some("manual") => Open::Manual,
                Some(other) => {
                    self.problem(value.span(), format!("`start.open` can't be `{other}`"), Some(values.into()));
                    Open::Attached
                }
                None => {
                    self.wrong_type(value, "start.open", "a string or a table");
                    Open::Attached
                }
            };
        };
        let section = Section { name: section.path("open"), span: value.span(), table };
        self.keys(&section, &["after", "at"]);
        match (section.get("after"), section.get("at")) {
            (Some(_), None) => {
                let after = self.string(&section, "after");
                let after = after.and_then(|(text, span)| self.quantity(&section, "after", text, span, quantity::duration));
                after.map_or(Open::Attached, Open::After)
            }
            (None, Some(at)) => match at.get_ref() {
                DeValue::Datetime(date) => Moment::of(date).map_or_else(
                    |why| {
                        self.problem(at.span(), format!("`start.open.at` is no moment: {why}"), None);
                        Open::Attached
                    },
                    Open::At,
                ),
                _ => {
                    self.wrong_type(at, "start.open.at", "a date without quotes, as in 2027-01-01T00:00:00Z");
                    Open::Attached
                }
            },
            _ => {
                self.problem(value.span(), "`start.open` takes one of `after` and `at`", Some(values.into()));
                Open::Attached
            }
        }
    }

    fn stop(&mut self, section: &Section<'_, '_>) -> Stop {
        self.keys(section, &["after", "drain"]);
        let after = match self.string(section, "after") {
            Some(("never", _)) | None => None,
            Some((text, span)) => self.quantity(section, "after", text, span.clone(), quantity::duration).filter(|after| {
                let some = !after.is_zero();
                if !some {
                    self.problem(span, "`stop.after` is no time at all", Some("write \"never\" for a run without an end".into()));
                }
                some
            }),
        };
        let drain = self.string(section, "drain");
        let drain = drain.and_then(|(text, span)| self.quantity(section, "drain", text, span, quantity::duration));
        Stop { after, drain: drain.unwrap_or(super::DEFAULT_DRAIN) }
    }

    fn output(&mut self, section: &Section<'_, '_>) -> Format {
        self.keys(section, &["format"]);
        match self.string(section, "format") {
            Some(("json", _)) => Format::Json,
            Some(("table", _)) | None => Format::Table,
            Some((other, span)) => {
                let help = did_you_mean(other, &["table", "json"]);
                self.problem(span, format!("`output.format` can't be `{other}`"), Some(help));
                Format::Table
            }
        }
    }

    fn plugins(&mut self, top: &Section<'_, '_>, path: &Path) -> Vec<Plugin> {
        let Some(value) = top.get("plugin") else {
            self.problem(0..0, "the bundle has no plugin", Some("add a `[[plugin]]` with `name` and `source`".into()));
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let help = "every plugin begins with `[[plugin]]`, in two pairs of brackets";
            self.problem(value.span(), "`plugin` must be an array of tables", Some(help.into()));
            return Vec::new();
        };
        if array.is_empty() {
            self.problem(value.span(), "the bundle has no plugin", None);
        }
        let mut plugins: Vec<Plugin> = Vec::new();
        for (number, entry) in array.iter().enumerate() {
            let Some(table) = entry.get_ref().as_table() else {
                self.wrong_type(entry, "plugin", "a table");
                continue;
            };
            if number == MAX_PLUGINS {
                let message = format!("a bundle has at most {MAX_PLUGINS} plugins, and this one has {}", array.len());
                self.problem(entry.span(), message, None);
                break;
            }
            let section = Section { name: "plugin".into(), span: entry.span(), table };
            let plugin = self.plugin(&section, path);
            if !plugin.name.is_empty()
                && plugins.iter().any(|other| other.name == plugin.name)
                && let Some(name) = section.get("name")
            {
                self.problem(name.span(), format!("two plugins are named `{}`", plugin.name), None);
            }
            plugins.push(plugin);
        }
        plugins
    }

    fn plugin(&mut self, section: &Section<'_, '_>, path: &Path) -> Plugin {
        self.keys(section, &["name", "source", "essential", "restart", "config", "grants", "limits"]);
        for key in ["name", "source"] {
            if section.get(key).is_none() {
                self.problem(section.span.clone(), format!("this plugin has no `{key}`"), None);
            }
        }
        let name = self.name(section).unwrap_or_default();
        let source = match self.string(section, "source") {
            Some((source, span)) if source.is_empty() || source.contains("://") || source.contains('\0') => {
                let help = "it is a path, and begins in the directory of the bundle";
                self.problem(span, "`plugin.source` must name a file", Some(help.into()));
                path.into()
            }
            Some((source, _)) => path.parent().unwrap_or(Path::new("")).join(source),
            None => path.into(),
        };
        let config =
            self.table(section, "config").map_or(Json::Object(serde_json::Map::new()), |config| self.object(config.table));
        let grants = self.table(section, "grants").map_or_else(Grants::none, |grants| self.grants(&grants, path));
        let limits = self.table(section, "limits").map_or_else(Limits::default, |limits| self.limits(&limits));
        let essential = self.boolean(section, "essential").unwrap_or(false);
        let restart = self.table(section, "restart").and_then(|restart| self.restart(&restart));
        Plugin {
            name,
            source,
            shipped: None,
            config: config.to_string(),
            grants,
            limits,
            essential,
            restart,
            sandbox: Sandbox::default(),
        }
    }

    fn restart(&mut self, section: &Section<'_, '_>) -> Option<Restart> {
        self.keys(section, &["times", "backoff"]);
        if section.get("times").is_none() {
            let help = "write `restart = { times = 3, backoff = \"1s\" }`";
            self.problem(section.span.clone(), "`plugin.restart` does not say how often", Some(help.into()));
        }
        let times = self.bounded(section, "times", MAX_RESTARTS);
        let mut backoff = DEFAULT_BACKOFF;
        if let Some((text, span)) = self.string(section, "backoff")
            && let Some(time) = self.quantity(section, "backoff", text, span.clone(), quantity::duration)
        {
            match time <= MAX_BACKOFF {
                true => backoff = time,
                false => self.problem(span, "`plugin.restart.backoff` must be at most 1h", None),
            }
        }
        Some(Restart { times: times? as u32, backoff })
    }

    fn grants(&mut self, section: &Section<'_, '_>, path: &Path) -> Grants {
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

    fn limits(&mut self, section: &Section<'_, '_>) -> Limits {
        let known: Vec<&str> = super::limits::entries(&Limits::default()).into_iter().map(|(key, _)| key).collect();
        self.keys(section, &known);
        let mut limits = Limits::default();
        if let Some((memory, span)) = self.size(section, "memory") {
            if !(MIN_MEMORY..=MAX_MEMORY).contains(&memory) {
                self.problem(span, "`plugin.limits.memory` must be between 1MiB and 4GiB", None);
            }
            limits.memory = memory;
        }
        if let Some((text, span)) = self.string(section, "call")
            && let Some(call) = self.quantity(section, "call", text, span.clone(), quantity::duration)
        {
            if !(Duration::from_millis(1)..=MAX_CALL).contains(&call) {
                self.problem(span, "`plugin.limits.call` must be between 1ms and 10m", None);
            } else {
                limits.call = call.as_nanos() as u64;
            }
        }
        if let Some((ring, span)) = self.size(section, "ring") {
            let page = rustix::param::page_size() as u64;
            match u32::try_from(ring) {
                Ok(size) if (page..=MAX_RING).contains(&ring) && ring.is_power_of_two() => limits.ring = size,
                _ => {
                    let near = ring.clamp(page, MAX_RING).next_power_of_two();
                    self.problem(
                        span,
                        format!("`plugin.limits.ring` must be a power of two between {} and 1GiB", quantity::shown(page)),
                        Some(format!("did you mean \"{}\"?", quantity::shown(near))),
                    );
                }
            }
        }
        if let Some((maps, _)) = self.size(section, "maps") {
            limits.maps = maps;
        }
        if let Some((points, span)) = self.number(section, "attach-points") {
            match u32::try_from(points) {
                Ok(points) if (1..=MAX_ATTACH_POINTS).contains(&points) => limits.attach_points = points,
                _ => self.problem(span, format!("`plugin.limits.attach-points` must be between 1 and {MAX_ATTACH_POINTS}"), None),
            }
        }
        if let Some(elements) = self.bounded(section, "table-elements", MAX_TABLE_ELEMENTS) {
            limits.table_elements = elements;
        }
        if let Some((stack, span)) = self.size(section, "stack") {
            match STACK.contains(&stack) {
                true => limits.stack = stack as u32,
                false => {
                    let (least, most) = (quantity::shown(*STACK.start()), quantity::shown(*STACK.end()));
                    self.problem(span, format!("`plugin.limits.stack` must be between {least} and {most}"), None);
                }
            }
        }
        if let Some(probes) = self.bounded(section, "probes", MAX_PROBES) {
            limits.probes = probes as u32;
        }
        if let Some(instructions) = self.bounded(section, "instructions", MAX_INSTRUCTIONS) {
            limits.instructions = instructions as u32;
        }
        if let Some(rows) = self.bounded(section, "output-rows", MAX_A_SECOND) {
            limits.output_rows = rows;
        }
        if let Some((bytes, _)) = self.size(section, "output-bytes") {
            limits.output_bytes = bytes;
        }
        if let Some(messages) = self.bounded(section, "log-messages", MAX_A_SECOND) {
            limits.log_messages = messages;
        }
        if let Some((text, span)) = self.string(section, "host-calls")
            && let Some(time) = self.quantity(section, "host-calls", text, span.clone(), quantity::duration)
        {
            match time <= MAX_CALL {
                true => limits.host_calls = time.as_nanos() as u64,
                false => self.problem(span, "`plugin.limits.host-calls` must be at most 10m", None),
            }
        }
        limits.rate = self.rate(section);
        limits
    }

    /// `limits.rate`, with `limits.burst`, which is as much unless told.
    fn rate(&mut self, section: &Section<'_, '_>) -> Option<Rate> {
        let mut hits = |key, without: &str| {
            let (number, span) = self.number(section, key)?;
            let number = u32::try_from(number).ok().filter(|number| (1..=Rate::MOST).contains(number));
            if number.is_none() {
                let message = format!("`plugin.limits.{key}` must be between 1 and {}", Rate::MOST);
                self.problem(span, message, Some(format!("without `{key}` {without}")));
            }
            number
        };
        let a_second = hits("rate", "no hit is shed");
        let burst = hits("burst", "as many come at once as `rate` says");
        if let (None, Some(value)) = (section.get("rate"), section.get("burst")) {
            let help = "`rate` is how many a second, and `burst` how many of them may come at once";
            self.problem(value.span(), "`plugin.limits.burst` goes with `rate`, and there is none", Some(help.into()));
        }
        let a_second = a_second?;
        Some(Rate { a_second, burst: burst.unwrap_or(a_second) })
    }

    /// A number between 1 and `most`.
    fn bounded(&mut self, section: &Section<'_, '_>, key: &str, most: u64) -> Option<u64> {
        let (number, span) = self.number(section, key)?;
        let number = u64::try_from(number).ok().filter(|number| (1..=most).contains(number));
        if number.is_none() {
            self.problem(span, format!("`{}` must be between 1 and {most}", section.path(key)), None);
        }
        number
    }

    // ---- Keys and values ----

    /// Notes every key of the section that is none of `known`.
    fn keys(&mut self, section: &Section<'_, '_>, known: &[&str]) {
        for key in section.table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                self.problem(key.span(), format!("unknown key `{}`", section.path(name)), Some(did_you_mean(name, known)));
            }
        }
    }

    fn table<'d, 'i>(&mut self, section: &Section<'d, 'i>, key: &str) -> Option<Section<'d, 'i>> {
        let value = section.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(value, &section.path(key), "a table");
            return None;
        };
        Some(Section { name: section.path(key), span: value.span(), table })
    }

    fn string<'d>(&mut self, section: &Section<'d, '_>, key: &str) -> Option<(&'d str, Range<usize>)> {
        let value = section.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, &section.path(key), "a string");
        }
        Some((text?, value.span()))
    }

    fn number(&mut self, section: &Section<'_, '_>, key: &str) -> Option<(i64, Range<usize>)> {
        let value = section.get(key)?;
        let number = integer(value.get_ref());
        if number.is_none() {
            self.wrong_type(value, &section.path(key), "a number");
        }
        Some((number?, value.span()))
    }

    fn boolean(&mut self, section: &Section<'_, '_>, key: &str) -> Option<bool> {
        let value = section.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_type(value, &section.path(key), "`true` or `false`");
        }
        truth
    }

    fn strings<'d>(&mut self, section: &Section<'d, '_>, key: &str) -> Vec<(&'d str, Range<usize>)> {
        let Some(value) = section.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, &section.path(key), "a list of strings");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for entry in array.iter() {
            match entry.get_ref().as_str() {
                Some(text) => texts.push((text, entry.span())),
                None => self.wrong_type(entry, &section.path(key), "a list of strings"),
            }
        }
        texts
    }

    fn size(&mut self, section: &Section<'_, '_>, key: &str) -> Option<(u64, Range<usize>)> {
        let (text, span) = self.string(section, key)?;
        Some((self.quantity(section, key, text, span.clone(), quantity::size)?, span))
    }

    fn quantity<T>(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        text: &str,
        span: Range<usize>,
        read: fn(&str) -> Result<T, quantity::QuantityError>,
    ) -> Option<T> {
        read(text).map_err(|error| self.problem(span, format!("`{}`: {error}", section.path(key)), None)).ok()
    }

    /// A table as JSON. Dates become their text; a number that JSON does not have is a mistake.
    fn object(&mut self, table: &DeTable<'_>) -> Json {
        Json::Object(table.iter().map(|(key, value)| (key.get_ref().to_string(), self.json(value))).collect())
    }

    fn json(&mut self, value: &Spanned<DeValue<'_>>) -> Json {
        match value.get_ref() {
            DeValue::String(text) => Json::String(text.to_string()),
            DeValue::Boolean(truth) => Json::Bool(*truth),
            DeValue::Datetime(date) => Json::String(date.to_string()),
            DeValue::Array(array) => Json::Array(array.iter().map(|entry| self.json(entry)).collect()),
            DeValue::Table(table) => self.object(table),
            number @ DeValue::Integer(_) => match integer(number) {
                Some(number) => Json::from(number),
                None => {
                    self.problem(value.span(), "this number is larger than 64 bits hold", None);
                    Json::Null
                }
            },
            DeValue::Float(number) => match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
                Some(number) => Json::Number(number),
                None => {
                    self.problem(value.span(), "a plugin gets its config as JSON, which has no such number", None);
                    Json::Null
                }
            },
        }
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, path: &str, must: &str) {
        let is = match value.get_ref() {
            DeValue::Boolean(_) => "a boolean",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
            DeValue::String(_) => "a string",
        };
        self.problem(value.span(), format!("`{path}` must be {must}, and this is {is}"), None);
    }

    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Found { span, message: message.into(), help });
    }
}

const SCHEMA_I64: i64 = SCHEMA as i64;

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn did_you_mean(name: &str, known: &[&str]) -> String {
    match suggest(name, known.iter().copied()) {
        Some(like) => format!("did you mean `{like}`?"),
        None => match known {
            [all @ .., last] if !all.is_empty() => format!("there are `{}` and `{last}`", all.join("`, `")),
            _ => format!("there is `{}`", known.join("`, `")),
        },
    }
}
