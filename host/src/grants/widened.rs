//! What a bundle grants now and did not before: more is granted, less is denied, or fewer tasks are left out.

use super::{Grants, class_text, doors};
use crate::{manifest::quantity, output::clean, scope};

/// Each as a sentence without its subject. What is granted less is no difference.
pub fn widened(before: &Grants, now: &Grants) -> Vec<String> {
    let mut wider = Vec::new();
    // A glob that is narrower than one before may be told as new: who is asked once too often loses nothing.
    for glob in now.probes.iter().filter(|glob| !before.probes.iter().any(|old| old == *glob || old == "*")) {
        wider.push(format!("is granted the attach points {}", clean::line(glob)));
    }
    for class in now.read.difference(&before.read) {
        wider.push(format!("is granted {}", class_text(*class)));
    }
    for glob in before.deny.probes.iter().filter(|glob| !now.deny.probes.contains(glob)) {
        wider.push(format!("is no longer denied the attach points {}", clean::line(glob)));
    }
    for class in before.deny.read.difference(&now.deny.read) {
        wider.push(format!("is no longer denied {}", class_text(*class)));
    }
    match (before.maps, now.maps) {
        (Some(_), None) => wider.push("is granted as much memory for its maps as its limits say".into()),
        (Some(before), Some(now)) if now > before => {
            wider.push(format!("is granted {} for its maps", quantity::shown(now)));
        }
        _ => {}
    }
    wider.extend(scope(&before.scope, &now.scope));
    wider.extend(opened(before, now));
    wider
}

/// A limit that is gone, or is another.
fn scope(before: &scope::Granted, now: &scope::Granted) -> Vec<String> {
    let limits = |scope: &scope::Granted| {
        let scope::Granted { pid, uid, cgroup } = scope;
        [
            pid.map(|pid| format!("process {pid}")),
            uid.as_deref().map(|uid| format!("user {}", clean::line(uid))),
            cgroup.as_deref().map(|cgroup| format!("cgroup {}", clean::line(cgroup))),
        ]
    };
    let changed = limits(before).into_iter().zip(limits(now)).filter_map(|(old, new)| {
        let old = old?;
        match new {
            Some(new) if new == old => None,
            Some(new) => Some(format!("sees {new}, and was limited to {old}")),
            None => Some(format!("is no longer limited to {old}")),
        }
    });
    changed.collect()
}

/// Doors that were shut.
fn opened(before: &Grants, now: &Grants) -> Vec<String> {
    let (before, now) = (before.doors(), now.doors());
    let mut new = Vec::new();
    new.extend(now.environment.difference(&before.environment).map(|name| doors::variable(name)));
    let reached = now.network.iter().filter(|peers| !before.network.iter().any(|old| old.cover(peers)));
    new.extend(reached.map(|peers| format!("may connect to {peers} by TCP")));
    let files = now.directories.iter().filter(|directory| {
        !before.directories.iter().any(|old| old.written == directory.written && (old.write || !directory.write))
    });
    new.extend(files.map(doors::files));
    new
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(before: &str, now: &str, expect: &[&str]) {
        let read = |text: &str| toml::from_str::<Grants>(text).unwrap();
        assert_eq!(widened(&read(before), &read(now)), expect, "{before} -> {now}");
    }

    /// What is granted more is named, one by one; what is granted less, or is the same, is not.
    #[test]
    fn more() {
        let all = "probes = [\"a:*\"]\nread = [\"arguments\"]\nmaps = \"1MiB\"\nscope = { uid = 7 }\nwasi = { environment = [\"A\"], network = [\"10.0.0.0/8:80\"], directories = [{ path = \"d\", write = true }] }";
        check(all, all, &[]);
        check(all, "scope = { uid = 7 }\nmaps = \"1MiB\"", &[]);
        check(
            all,
            "probes = [\"a:*\", \"b:*\"]\nread = [\"arguments\", \"stacks\"]\nscope = { uid = 8, pid = 1 }\nwasi = { environment = [\"A\", \"B\"], network = [\"10.1.0.0/16:80\", \"11.0.0.0:80\"], directories = [{ path = \"d\" }, { path = \"e\", as = \"/e\" }] }",
            &[
                "is granted the attach points b:*",
                "is granted call stacks",
                "is granted as much memory for its maps as its limits say",
                "sees user 8, and was limited to user 7",
                "may read the variable B of the host's environment",
                "may connect to 11.0.0.0:80 by TCP",
                "may read what is in the directory e (as /e)",
            ],
        );
        check("maps = \"1MiB\"", "maps = \"2MiB\"", &["is granted 2MiB for its maps"]);
        check("probes = [\"*\"]", "probes = [\"b:*\", \"*\"]", &[]);
        check(
            "scope = { pid = 3, cgroup = \"c\" }",
            "",
            &["is no longer limited to process 3", "is no longer limited to cgroup c"],
        );
        check(
            "wasi.directories = [{ path = \"d\" }]",
            "wasi.directories = [{ path = \"d\", write = true }]",
            &["may read and change what is in the directory d"],
        );
    }

    /// What is denied less is more.
    #[test]
    fn denied_less() {
        check(
            "deny = { probes = [\"k:*\"], read = [\"stacks\"], wasi = [\"network\"] }\nwasi.network = [\"127.0.0.1:1\"]",
            "wasi.network = [\"127.0.0.1:1\"]",
            &[
                "is no longer denied the attach points k:*",
                "is no longer denied call stacks",
                "may connect to 127.0.0.1:1 by TCP",
            ],
        );
        check("wasi.network = [\"127.0.0.1:1\"]", "deny = { wasi = [\"network\"] }\nwasi.network = [\"127.0.0.1:1\"]", &[]);
    }
}
