//! `grants.wasi`: the doors that a bundle opens.

use std::{collections::BTreeSet, path::Path};

use super::{
    Reader,
    values::{Section, did_you_mean},
};
use crate::doors::{Directory, Door, Doors, MAX_DIRECTORIES, MAX_PEERS};

/// The longest name that a plugin can know a directory by.
const MAX_DIRECTORY_NAME: usize = 255;

impl Reader {
    /// The table. Relative paths begin in the directory of the file at `path`.
    pub(super) fn doors(&mut self, section: &Section<'_, '_>, path: &Path) -> Doors {
        self.keys(section, &Door::ALL.map(Door::as_str));
        let mut doors = Doors::default();
        for (name, span) in self.strings(section, "environment") {
            if name.is_empty() || name.contains(['=', '\0', '*']) {
                let help = "write the names of variables one by one, as in [\"LANG\", \"TZ\"]; there are no wildcards";
                self.problem(span, format!("`{}`: `{name}` is no variable", section.path("environment")), Some(help.into()));
            } else {
                doors.environment.insert(name.to_owned());
            }
        }
        for (text, span) in self.strings(section, "network") {
            match text.parse() {
                Ok(peers) => _ = doors.network.insert(peers),
                Err(error) => self.problem(span, format!("`{}`: `{text}`: {error}", section.path("network")), None),
            }
        }
        if doors.network.len() > MAX_PEERS {
            let message = format!("`{}` has at most {MAX_PEERS} addresses", section.path("network"));
            self.problem(section.span.clone(), message, Some("a range is one, as in 10.0.0.0/8:4317".into()));
        }
        doors.directories = self.directories(section, path.parent().unwrap_or(Path::new("")));
        doors
    }

    fn directories(&mut self, section: &Section<'_, '_>, base: &Path) -> Vec<Directory> {
        let key = "directories";
        let Some(value) = section.get(key) else { return Vec::new() };
        let form = "a list of tables, as in [{ path = \"out\", as = \"/out\", write = true }]";
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, &section.path(key), form);
            return Vec::new();
        };
        let mut directories: Vec<Directory> = Vec::new();
        for entry in array.iter() {
            let Some(table) = entry.get_ref().as_table() else {
                self.wrong_type(entry, &section.path(key), form);
                continue;
            };
            let section = Section { name: section.path(key), span: entry.span(), table };
            let Some(directory) = self.directory(&section, base) else { continue };
            if directories.iter().any(|other| other.name == directory.name) {
                let message = format!("the plugin would know two directories as `{}`", directory.name);
                self.problem(entry.span(), message, Some("give one of them another name by `as`".into()));
            }
            directories.push(directory);
        }
        if directories.len() > MAX_DIRECTORIES {
            let message = format!("`{}` has at most {MAX_DIRECTORIES} directories", section.path(key));
            self.problem(value.span(), message, None);
        }
        directories
    }

    fn directory(&mut self, section: &Section<'_, '_>, base: &Path) -> Option<Directory> {
        self.keys(section, &["path", "as", "write"]);
        if section.get("path").is_none() {
            self.problem(section.span.clone(), "this directory has no `path`", None);
        }
        let write = self.boolean(section, "write").unwrap_or(false);
        let name = self.string(section, "as");
        let (path, span) = self.string(section, "path")?;
        if path.is_empty() || path.contains('\0') {
            self.problem(span, format!("`{}` must name a directory", section.path("path")), None);
            return None;
        }
        let (known, span) = name.clone().unwrap_or((path, span));
        if known.is_empty() || known.contains('\0') || known.len() > MAX_DIRECTORY_NAME {
            let message = format!("a plugin knows a directory by 1 to {MAX_DIRECTORY_NAME} bytes");
            self.problem(span, message, Some("give it a name by `as`".into()));
        }
        Some(Directory::new(path.to_owned(), name.map(|(name, _)| name.to_owned()), write, base))
    }

    /// `grants.deny.wasi`: the names of doors.
    pub(super) fn denied_doors(&mut self, section: &Section<'_, '_>) -> BTreeSet<Door> {
        let mut denied = BTreeSet::new();
        for (name, span) in self.strings(section, "wasi") {
            match Door::ALL.into_iter().find(|door| door.as_str() == name) {
                Some(door) => _ = denied.insert(door),
                None => {
                    let help = did_you_mean(name, &Door::ALL.map(Door::as_str));
                    self.problem(span, format!("`{}`: there is no door `{name}`", section.path("wasi")), Some(help));
                }
            }
        }
        denied
    }
}
