//! Open doors as a manifest's line, and in plain words.

use super::{Risk, Sentence, list, text};
use crate::{
    doors::{Directory, Doors},
    output::clean,
};

/// The line that a manifest has below `[plugin.grants]`; none if all doors are shut.
pub(super) fn line(doors: &Doors) -> Option<String> {
    let mut keys = Vec::new();
    if !doors.environment.is_empty() {
        keys.push(format!("environment = {}", list(doors.environment.iter().map(String::as_str))));
    }
    if !doors.network.is_empty() {
        let peers: Vec<String> = doors.network.iter().map(ToString::to_string).collect();
        keys.push(format!("network = {}", list(peers.iter().map(String::as_str))));
    }
    if !doors.directories.is_empty() {
        let directories: Vec<String> = doors.directories.iter().map(table).collect();
        keys.push(format!("directories = [{}]", directories.join(", ")));
    }
    (!keys.is_empty()).then(|| format!("wasi = {{ {} }}", keys.join(", ")))
}

fn table(directory: &Directory) -> String {
    let Directory { written, name, write, .. } = directory;
    let name = if name == written { String::new() } else { format!(", as = {}", text(name)) };
    format!("{{ path = {}{name}{} }}", text(written), if *write { ", write = true" } else { "" })
}

/// What open doors let a plugin do, as plain sentences. What can be written to or connected to can carry away all that is seen.
pub fn sentences(doors: &Doors) -> Vec<Sentence> {
    let mut all = Vec::new();
    let mut say = |risk, text: String| all.push(Sentence { risk, text });
    for name in &doors.environment {
        say(Risk::Medium, variable(name));
    }
    for peers in &doors.network {
        say(Risk::High, format!("may connect to {peers} by TCP, and send there what it sees"));
    }
    for directory in &doors.directories {
        say(Risk::High, files(directory));
    }
    all
}

pub(super) fn variable(name: &str) -> String {
    format!("may read the variable {} of the host's environment", clean::line(name))
}

pub(super) fn files(directory: &Directory) -> String {
    let Directory { written, name, write, .. } = directory;
    let how = if *write { "read and change" } else { "read" };
    let known = if name == written { String::new() } else { format!(" (as {})", clean::line(name)) };
    format!("may {how} what is in the directory {}{known}", clean::line(written))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::grants::Grants;

    fn doors() -> Doors {
        Doors {
            environment: BTreeSet::from(["LANG".into(), "TZ".into()]),
            network: ["127.0.0.1:4317", "[::1]:9090"].map(|peers| peers.parse().unwrap()).into(),
            directories: vec![
                Directory::new("out".into(), Some("/out".into()), true, Path::new("")),
                Directory::new("/etc/services.d".into(), None, false, Path::new("")),
            ],
        }
    }

    /// The line says all of it, and is read as what it was.
    #[test]
    fn as_a_line() {
        let expect = r#"wasi = { environment = ["LANG", "TZ"], network = ["127.0.0.1:4317", "[::1]:9090"], directories = [{ path = "out", as = "/out", write = true }, { path = "/etc/services.d" }] }"#;
        assert_eq!(line(&doors()).as_deref(), Some(expect));
        let grants = Grants { wasi: doors(), ..Grants::none() };
        assert_eq!(toml::from_str::<Grants>(&grants.lines().join("\n")).unwrap(), grants);
        assert_eq!(line(&Doors::default()), None);
    }

    /// Each door has a sentence of its own, and text from a manifest shows no more than it says.
    #[test]
    fn in_words() {
        let mut doors = doors();
        doors.environment.insert("A\x1b".into());
        let texts: Vec<String> = sentences(&doors).into_iter().map(|sentence| sentence.text).collect();
        assert_eq!(
            texts,
            [
                "may read the variable A\\x1b of the host's environment",
                "may read the variable LANG of the host's environment",
                "may read the variable TZ of the host's environment",
                "may connect to 127.0.0.1:4317 by TCP, and send there what it sees",
                "may connect to [::1]:9090 by TCP, and send there what it sees",
                "may read and change what is in the directory out (as /out)",
                "may read what is in the directory /etc/services.d",
            ]
        );
        assert!(sentences(&Doors::default()).is_empty());
    }
}
