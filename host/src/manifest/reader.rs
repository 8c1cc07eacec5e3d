//! From TOML text to a [`Manifest`].
//!
//! The walk goes over toml's own tree with the place of every key and value, not through serde: it finds all mistakes at once, and
//! each message can say what the key is for. Here is the walk of the whole and of each plugin; what a table has is read in a file of
//! its own.

mod doors;
mod grants;
mod json;
mod lifetime;
mod limits;
mod sandbox;
mod values;

use std::path::Path;

use serde_json::Value as Json;
use toml::de::DeTable;

use self::values::{Reader, Section, did_you_mean, integer};
use super::{Format, MAX_NAME, MAX_PLUGINS, Manifest, Plugin, Problem, SCHEMA, Source, is_name_char, name_of_file};
use crate::{cage::Sandbox, contract::Limits, grants::Grants};

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
}

const SCHEMA_I64: i64 = SCHEMA as i64;
