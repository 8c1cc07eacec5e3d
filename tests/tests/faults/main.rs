//! What goes wrong goes wrong in one clear way: the plugin and the cause are named, the rest goes on or nothing has happened.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod attaching;
mod cases;
mod ends;
mod host;
mod restart;
mod worker;

use std::{path::PathBuf, process::Command};

use portcullis_tests::{Bundle, Outcome, component, foreign, manifest, portcullis, watch::Watched, workload};

/// More calls than any test waits for.
const ENDLESS: u64 = 1_000_000_000;

/// A manifest's plugin that runs `faulty`.
fn faulty(name: &str, config: &str, limits: &str) -> String {
    let source = component("plugins", "faulty");
    format!(
        "[[plugin]]\nname = {name:?}\nsource = {:?}\nconfig = {{ {config} }}\ngrants = {{ probes = [\"*\"] }}\nlimits = {{ ring = \"64MiB\", {limits} }}\n",
        source.to_str().unwrap()
    )
}

/// Two plugins that would do well, and say so when the first events are there.
fn pair() -> Bundle {
    Bundle::new(&manifest(&[faulty("bad", "announce = true", "call = \"200ms\""), faulty("good", "announce = true", "")]))
}

/// Starts a bundle on a workload, and waits until events have reached the plugin `bad`.
fn flowing(bundle: &Bundle, calls: u64) -> Watched {
    let run = Watched::start(bundle, &["--", workload().to_str().unwrap(), "getppid", &calls.to_string()]);
    run.wait_for("bad: events flow\n");
    run
}

/// A healthy plugin saw every call, and was handed every event.
fn assert_neighbour(outcome: &Outcome, name: &str, calls: u64) {
    let plugin = outcome.plugin(name);
    assert_eq!(plugin["state"], "ok", "{}", outcome.stderr);
    assert_eq!(outcome.probe(name, "calls")["hits"], calls);
    assert_eq!(plugin["emitted"], calls);
    assert_eq!(plugin["delivered"], calls);
    assert_eq!(plugin["metrics"]["handled"], calls as f64);
}

/// A bundle whose compilation takes long, and a file that COMMAND would make.
fn slow_to_compile() -> (Bundle, PathBuf) {
    let slow = "[[plugin]]\nname = \"slow\"\nsource = \"large.wasm\"\n".to_owned();
    let bundle = Bundle::new(&manifest(&[slow, faulty("good", "", "")])).file("large.wasm", &foreign::large(500));
    let ran = bundle.directory.path().join("RAN");
    (bundle, ran)
}

/// Probes on raw tracepoints, each of which has a program and a link of its own: (name, attach point).
fn raw_tracepoints(count: usize) -> Vec<(String, String)> {
    let listed = Command::new(portcullis()).args(["probes", "rawtracepoint:*", "--json"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let points = listed.split('"').filter(|word| word.starts_with("rawtracepoint:")).map(str::to_owned);
    let points: Vec<_> = points.enumerate().map(|(i, point)| (format!("p{i}"), point)).take(count).collect();
    assert_eq!(points.len(), count, "this kernel has too few tracepoints");
    points
}
