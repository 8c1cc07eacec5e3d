//! Any language: one plugin, written three times, side by side in one bundle.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{collections::BTreeMap, os::unix::fs::symlink};

use portcullis_tests::{Bundle, component, lock, manifest, workload};

const LANGUAGES: [&str; 3] = ["rust", "c", "python"];

fn plugin(language: &str) -> String {
    let source = component("examples", &format!("opens-by-comm-{language}"));
    let source = source.to_str().unwrap();
    format!("[[plugin]]\nname = {language:?}\nsource = {source:?}\ngrants.probes = [\"span:syscall:openat\"]\n")
}

/// The plugin in Rust, in C and in Python: each counts a known number of calls exactly, and all three show the same rows.
#[test]
fn languages_agree() {
    const CALLS: u64 = 100_000;
    let Some(_lock) = lock() else { return };
    let bundle = Bundle::new(&manifest(&LANGUAGES.map(plugin)));
    // A program opens some files before its `main`. The same program with nothing to do, by another name, says how many.
    let idle = bundle.directory.path().join("idle");
    symlink(workload(), &idle).unwrap();
    let script = format!(r#""$0" opens {CALLS} /dev/null; "$1" opens 0 /dev/null"#);
    let outcome = bundle.run(&["--", "/bin/sh", "-c", &script, workload().to_str().unwrap(), idle.to_str().unwrap()]);
    let report = outcome.good();

    let mut tables: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for row in outcome.rows() {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let number = |key: &str| row[key].as_u64().unwrap();
        assert_eq!(text("table"), "opens_by_comm");
        assert_eq!(row["time"], report["gate"]["quiesced"]);
        // Each plugin has a probe of its own, and so its own measure of how long the calls took.
        let (count, total, longest) = (number("count"), number("total"), number("longest"));
        assert!(0 < longest && longest <= total && total <= count * longest, "{row}");
        let twice = tables.entry(text("plugin")).or_default().insert(text("comm"), count);
        assert_eq!(twice, None, "{row}");
    }
    let all = &tables["rust"];
    assert_eq!(all["workload"] - all["idle"], CALLS);
    for language in LANGUAGES {
        assert_eq!(&tables[language], all, "{language}");
        assert_eq!(outcome.probe(language, "openat")["completed"], all.values().sum::<u64>(), "{language}");
        assert_eq!(outcome.plugin(language)["undelivered"], 0, "{language}");
    }
}
