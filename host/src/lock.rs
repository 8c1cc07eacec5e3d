//! The lock of a bundle: which plugins were approved, by their contents, with which needs, and what they are granted.
//!
//! A lock stands beside its manifest and is meant to be committed with it. Needs are written as the plugin declares them, before
//! wildcards are expanded, and grants as the manifest has them, so that a lock holds on every machine.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use portcullis_ebpf::DataClass;
use serde::Deserialize;

use crate::{
    bundle::Built,
    digest::Digest,
    grants::{self, GrantedBy, Grants, text},
    manifest,
    output::clean,
};

/// The version of a lock's format.
const SCHEMA: u64 = 1;

/// How large a lock can be.
const MAX_BYTES: u64 = 4 << 20;

/// What was approved of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    schema: u64,
    /// In the bundle's order.
    #[serde(rename = "plugin", default)]
    plugins: Vec<Entry>,
}

/// What was approved of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    digest: String,
    #[serde(default)]
    probes: BTreeSet<String>,
    #[serde(default)]
    read: BTreeSet<DataClass>,
    /// As the manifest has them.
    #[serde(default)]
    grants: Grants,
}

/// What one plugin is, needs or is granted, and was not approved.
struct New {
    probes: Vec<String>,
    read: Vec<DataClass>,
    granted: Vec<String>,
}

/// A lock that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is none.
    #[error("there is no lock {0}; `portcullis lock` writes it")]
    Missing(PathBuf),
    /// It can't be read or written.
    #[error("the lock {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is none.
    #[error("{path} is no lock of this portcullis: {reason}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A bundle is not what its lock says. Its `Display` names each difference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bundle is not what its lock has approved\n{}\n`portcullis lock` shows what is new, and approves it", .0.join("\n"))]
pub struct Unlocked(Vec<String>);

/// Where the lock of a manifest is.
pub fn path(bundle: &Path) -> PathBuf {
    bundle.with_extension("lock")
}

impl Lock {
    /// What there is now.
    pub fn of(built: &[Built]) -> Lock {
        Lock { schema: SCHEMA, plugins: built.iter().map(Entry::of).collect() }
    }

    /// Reads the lock at `path`.
    pub fn read(path: &Path) -> Result<Lock, LockError> {
        let mut text = String::new();
        match File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LockError::Missing(path.into())),
            Err(error) => return Err(LockError::Io { path: path.into(), error }),
        }
        Lock::parse(&text).map_err(|reason| LockError::Wrong { path: path.into(), reason })
    }

    pub(crate) fn parse(text: &str) -> Result<Lock, String> {
        let lock: Lock = toml::from_str(text).map_err(|error| clean::lines(error.to_string().trim_end()).into_owned())?;
        match lock.schema {
            SCHEMA => Ok(lock),
            other => Err(format!("its `schema` is {other}, and this portcullis knows {SCHEMA}")),
        }
    }

    /// Writes it to `path`: the whole of it, or nothing.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let new = path.with_extension(format!("lock.{}", std::process::id()));
        let written = fs::write(&new, self.to_toml()).and_then(|()| fs::rename(&new, path));
        written.map_err(|error| {
            // What is left of it is of no use.
            let _ = fs::remove_file(&new);
            LockError::Io { path: path.into(), error }
        })
    }

    fn to_toml(&self) -> String {
        let mut out = String::from(
            "# What `portcullis lock` found in this bundle. `portcullis run --locked` runs it as long as that is so.\n",
        );
        // Writing to a String does not fail.
        let _ = writeln!(out, "schema = {SCHEMA}");
        for Entry { name, digest, probes, read, grants } in &self.plugins {
            let _ = writeln!(out, "\n[[plugin]]\nname = {}\ndigest = {}", text(name), text(digest));
            for (key, values) in [("probes", probes.iter().map(String::as_str).collect::<Vec<_>>()), ("read", classes(read))] {
                let lines: String = values.iter().map(|value| format!("    {},\n", text(value))).collect();
                let _ = writeln!(out, "{key} = [{}{lines}]", if lines.is_empty() { "" } else { "\n" });
            }
            let lines = grants.lines();
            if !lines.is_empty() {
                let _ = writeln!(out, "\n[plugin.grants]\n{}", lines.join("\n"));
            }
        }
        out
    }

    /// That a bundle is what was approved, and nothing is missing of it.
    pub fn check(&self, built: &[Built]) -> Result<(), Unlocked> {
        let now = Lock::of(built);
        let mut wrong = now.beyond(self);
        for gone in self.plugins.iter().filter(|entry| now.plugins.iter().all(|other| other.name != entry.name)) {
            wrong.push(format!("  the lock has a plugin \"{}\", and the bundle has not", gone.name));
        }
        if wrong.is_empty() { Ok(()) } else { Err(Unlocked(wrong)) }
    }

    /// That plugins that are to join a run are among what was approved.
    pub fn admit(&self, built: &[Built]) -> Result<(), Unlocked> {
        let wrong = Lock::of(built).beyond(self);
        if wrong.is_empty() { Ok(()) } else { Err(Unlocked(wrong)) }
    }

    /// That a plugin may be started with its doors open: it is the component that was approved, and nothing more is granted.
    pub fn admit_doors(&self, plugin: &manifest::Plugin, digest: Digest) -> Result<(), Unlocked> {
        let grants = approved(&plugin.grants);
        // What it needs is not known before it was started.
        let now = Entry { name: plugin.name.clone(), digest: digest.to_string(), grants, ..Entry::default() };
        let wrong = Lock { schema: SCHEMA, plugins: vec![now] }.beyond(self);
        if wrong.is_empty() { Ok(()) } else { Err(Unlocked(wrong)) }
    }

    /// What is here and not in `before`, a line each.
    fn beyond(&self, before: &Lock) -> Vec<String> {
        let lines = self.plugins.iter().map(|entry| match before.plugins.iter().find(|other| other.name == entry.name) {
            None => entry.beyond(&Entry::default()).lines(&format!("plugin \"{}\" is new: {}", entry.name, entry.digest)),
            Some(other) if other.digest != entry.digest => {
                let head = format!(
                    "plugin \"{}\" is another: {}, and approved is {}",
                    entry.name,
                    entry.digest,
                    clean::line(&other.digest)
                );
                entry.beyond(other).lines(&head)
            }
            Some(other) => match entry.beyond(other) {
                new if new.is_nothing() => Vec::new(),
                new => {
                    let how = if new.needs_nothing() { "is granted" } else { "needs" };
                    new.lines(&format!("plugin \"{}\" {how} more than was approved", entry.name))
                }
            },
        });
        lines.flatten().collect()
    }

    /// What is needed or granted here and was not approved in `before`, a line each; that a plugin has changed and needs nothing more is
    /// none.
    pub fn additions(&self, before: &Lock) -> Vec<String> {
        let nothing = Entry::default();
        let lines = self.plugins.iter().map(|entry| {
            let other = before.plugins.iter().find(|other| other.name == entry.name);
            let new = entry.beyond(other.unwrap_or(&nothing));
            if new.is_nothing() { Vec::new() } else { new.lines(&format!("plugin \"{}\"", entry.name)) }
        });
        lines.flatten().collect()
    }

    /// No lock: nothing was approved.
    pub fn nothing() -> Lock {
        Lock { schema: SCHEMA, plugins: Vec::new() }
    }
}

impl Entry {
    fn of(built: &Built) -> Entry {
        let points = built.specs.iter().flat_map(|spec| spec.attach.iter().map(|point| point.trim().to_owned()));
        Entry {
            name: built.plugin.name.clone(),
            digest: built.component.digest.to_string(),
            probes: points.collect(),
            read: built.compiled.needs.data.iter().map(|need| need.class).collect(),
            grants: approved(&built.plugin.grants),
        }
    }

    /// What it needs and is granted, and `other` does not and is not.
    fn beyond(&self, other: &Entry) -> New {
        New {
            probes: self.probes.difference(&other.probes).cloned().collect(),
            read: self.read.difference(&other.read).copied().collect(),
            granted: grants::widened(&other.grants, &self.grants),
        }
    }
}

/// Grants as they stand in a lock: of this manifest, wherever it is.
fn approved(grants: &Grants) -> Grants {
    Grants { wasi: grants.wasi.clone().as_written(), by: GrantedBy::Manifest, ..grants.clone() }
}

impl New {
    fn needs_nothing(&self) -> bool {
        self.probes.is_empty() && self.read.is_empty()
    }

    fn is_nothing(&self) -> bool {
        self.needs_nothing() && self.granted.is_empty()
    }

    /// The head, and what is new below it.
    fn lines(&self, head: &str) -> Vec<String> {
        let probes = self.probes.iter().map(|point| format!("    it attaches to {}", clean::line(point)));
        let read = self.read.iter().map(|class| format!("    it reads {}", grants::class_text(*class)));
        let granted = self.granted.iter().map(|what| format!("    it {what}"));
        [format!("  {head}")].into_iter().chain(probes).chain(read).chain(granted).collect()
    }
}

fn classes(read: &BTreeSet<DataClass>) -> Vec<&'static str> {
    read.iter().map(|class| class.as_str()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(name: &str, digest: &str, probes: &[&str], read: &[DataClass]) -> Entry {
        Entry {
            name: name.into(),
            digest: digest.into(),
            probes: probes.iter().map(ToString::to_string).collect(),
            read: read.iter().copied().collect(),
            grants: Grants::none(),
        }
    }

    fn lock(plugins: Vec<Entry>) -> Lock {
        Lock { schema: SCHEMA, plugins }
    }

    /// What is written is read as what it was, whatever is in it.
    #[test]
    fn written_and_read() {
        let lock = lock(vec![
            entry("a", "sha256:00", &["tracepoint:*", "uprobe:/a \"b\"\\:f", "kprobe:f\u{202e}"], &DataClass::ALL),
            entry("b", "sha256:01", &[], &[]),
        ]);
        assert_eq!(Lock::parse(&lock.to_toml()).unwrap(), lock);
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory.path().join("bundle.toml"));
        assert!(path.ends_with("bundle.lock"));
        assert!(Lock::read(&path).unwrap_err().to_string().starts_with("there is no lock "));
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// What is no lock says why.
    #[test]
    fn wrong_locks() {
        for (text, expect) in [
            ("", "missing field `schema`"),
            ("schema = 2", "its `schema` is 2, and this portcullis knows 1"),
            ("schema = 1\nother = 2", "unknown field `other`"),
            ("schema = 1\n[[plugin]]\nname = \"a\"\ndigest = \"b\"\nread = [\"all\"]", "unknown variant `all`"),
        ] {
            let error = Lock::parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }

    /// Each difference is named, exactly as much as is new.
    #[test]
    fn differences() {
        use DataClass::{Arguments, UserMemory};
        let before = lock(vec![entry("a", "sha256:1", &["begin", "end"], &[Arguments]), entry("b", "sha256:2", &["begin"], &[])]);
        let check = |now: Vec<Entry>, expect: &[&str], needs: &[&str]| {
            let now = lock(now);
            assert_eq!(now.beyond(&before), expect);
            assert_eq!(now.additions(&before), needs);
        };
        check(before.plugins.clone(), &[], &[]);
        check(vec![entry("a", "sha256:1", &["begin"], &[])], &[], &[]);
        check(
            vec![entry("a", "sha256:9", &["begin"], &[])],
            &["  plugin \"a\" is another: sha256:9, and approved is sha256:1"],
            &[],
        );
        let more = ["    it attaches to kprobe:*", "    it reads the memory of traced processes"];
        check(
            vec![entry("a", "sha256:9", &["begin", "kprobe:*"], &[Arguments, UserMemory])],
            &[&["  plugin \"a\" is another: sha256:9, and approved is sha256:1"][..], &more].concat(),
            &[&["  plugin \"a\""][..], &more].concat(),
        );
        check(
            vec![entry("b", "sha256:2", &["begin", "kprobe:*"], &[UserMemory])],
            &[&["  plugin \"b\" needs more than was approved"][..], &more].concat(),
            &[&["  plugin \"b\""][..], &more].concat(),
        );
        check(
            vec![entry("c", "sha256:3", &["kprobe:*"], &[UserMemory])],
            &[&["  plugin \"c\" is new: sha256:3"][..], &more].concat(),
            &[&["  plugin \"c\""][..], &more].concat(),
        );
        assert!(
            Unlocked(now_lines(&before)).to_string().starts_with("the bundle is not what its lock has approved\n  plugin \"a\"")
        );
    }

    /// What is granted more is named, and nothing else; a plugin's doors are open to the component that was approved alone.
    #[test]
    fn widened_grants() {
        let grants = |text: &str| toml::from_str::<Grants>(text).unwrap();
        let with = |digest: &str, text: &str| {
            let entry = Entry { grants: grants(text), ..entry("a", digest, &["begin"], &[]) };
            lock(vec![entry])
        };
        let digest = Digest::of(b"a").to_string();
        let narrow = "scope = { uid = 7 }\nwasi = { directories = [{ path = \"out\", as = \"/out\", write = true }] }";
        let before = with(&digest, narrow);
        assert_eq!(Lock::parse(&before.to_toml()).unwrap(), before);
        assert_eq!(before.beyond(&before), Vec::<String>::new());
        let wide = with(&digest, &format!("{narrow}\nprobes = [\"k:*\"]").replace("\"out\"", "\"/\""));
        let more = ["    it is granted the attach points k:*", "    it may read and change what is in the directory / (as /out)"];
        let head = "  plugin \"a\" is granted more than was approved";
        assert_eq!(wide.beyond(&before), [&[head][..], &more].concat());
        assert_eq!(wide.additions(&before), [&["  plugin \"a\""][..], &more].concat());

        let mut plugin = manifest::Manifest::single(Path::new("a.wasm"), "{}".into(), grants(narrow)).plugins.remove(0);
        // Where the manifest is does not matter.
        plugin.grants.wasi.directories[0].path = "/somewhere/out".into();
        before.admit_doors(&plugin, Digest::of(b"a")).unwrap();
        let other = before.admit_doors(&plugin, Digest::of(b"b")).unwrap_err().to_string();
        assert!(other.contains("plugin \"a\" is another: sha256:"), "{other}");
        plugin.grants.wasi.environment.insert("HOME".into());
        let wider = before.admit_doors(&plugin, Digest::of(b"a")).unwrap_err().to_string();
        assert!(wider.contains(&format!("{head}\n    it may read the variable HOME of the host's environment\n")), "{wider}");
        assert!(Lock::nothing().admit_doors(&plugin, Digest::of(b"a")).unwrap_err().to_string().contains("plugin \"a\" is new"));
    }

    fn now_lines(lock: &Lock) -> Vec<String> {
        lock.beyond(&Lock::nothing())
    }
}
