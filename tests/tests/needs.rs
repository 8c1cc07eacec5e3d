//! What every plugin of this repository needs, pinned, so that a widening shows in review.
//!
//! `needs/plugins.expect` has the attach points as they are declared, before wildcards are expanded, and the classes of data with what
//! causes each. `UPDATE_EXPECT=1` writes what comes out now.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use portcullis_tests::{component, lock, portcullis};
use serde_json::Value;

/// The directory below `target/`, the component, and its config. Those that are told their probes have none of their own.
const PLUGINS: [(&str, &str, &str); 9] = [
    ("plugins", "adhoc", r#"{"probes": []}"#),
    ("plugins", "faulty", "{}"),
    ("plugins", "maps", r#"{"probes": []}"#),
    ("plugins", "opens", "{}"),
    ("plugins", "processes", "{}"),
    ("plugins", "reads", "{}"),
    ("examples", "opens-by-comm-c", "{}"),
    ("examples", "opens-by-comm-python", "{}"),
    ("examples", "opens-by-comm-rust", "{}"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The needs of each plugin are those that were reviewed.
#[test]
fn pinned() {
    let Some(_lock) = lock() else { return };
    let mut now = String::new();
    for (directory, name, config) in PLUGINS {
        let mut inspect = Command::new(portcullis());
        inspect.arg("inspect").arg(component(directory, name)).args(["--json", "--config", config]);
        let output = inspect.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
        describe(name, &inspected["plugins"][0], &mut now);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("needs/plugins.expect");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &now).unwrap();
    }
    assert_eq!(now, fs::read_to_string(&path).unwrap(), "UPDATE_EXPECT=1 writes what there is now");
}

fn describe(name: &str, plugin: &Value, out: &mut String) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    writeln!(out, "{name}").unwrap();
    for probe in plugin["probes"].as_array().unwrap() {
        let attach: Vec<String> = probe["attach"].as_array().unwrap().iter().map(text).collect();
        let optional = if probe["optional"] == true { ", optional" } else { "" };
        writeln!(out, "    probe {}: {}{optional}", text(&probe["name"]), attach.join(" ")).unwrap();
    }
    for read in plugin["read"].as_array().unwrap() {
        let place = read["probe"].as_str().unwrap_or("its imports");
        writeln!(out, "    reads {}: `{}` in {place}", text(&read["class"]), text(&read["text"])).unwrap();
    }
}

/// No plugin of the repository is left out.
#[test]
fn all_there_are() {
    let names = |directory: &str| -> Vec<String> {
        let entries = fs::read_dir(repository().join(directory)).unwrap().map(|entry| entry.unwrap());
        let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        directories.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let mut there: BTreeSet<String> = [names("plugins"), names("tests/plugins")].concat().into_iter().collect();
    there.extend(names("examples/opens-by-comm").into_iter().map(|language| format!("opens-by-comm-{language}")));
    let pinned: BTreeSet<String> = PLUGINS.iter().map(|(_, name, _)| (*name).to_owned()).collect();
    assert_eq!(there, pinned);
}
