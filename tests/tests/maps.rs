//! What probes gather in maps of the kernel, as a plugin reads it: through the worker, the contract and the SDK.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use portcullis_tests::{Bundle, Outcome, component, lock, manifest, workload};

/// A manifest with the plugin `maps`: `config` as TOML, and probes of (attach, body).
fn maps(config: &str, probes: &[(&str, &str)]) -> String {
    let source = component("plugins", "maps");
    let mut out = format!("[[plugin]]\nname = \"maps\"\nsource = {:?}\n", source.to_str().unwrap());
    out.push_str("grants = { probes = [\"*\"], read = [\"arguments\", \"user-memory\", \"kernel-memory\", \"stacks\"] }\n");
    out.push_str(&format!("[plugin.config]\n{config}\n"));
    for (number, (attach, body)) in probes.iter().enumerate() {
        out.push_str(&format!("[[plugin.config.probes]]\nname = \"p{number}\"\nattach = {attach:?}\nbody = {body:?}\n"));
    }
    manifest(&[out])
}

fn run(config: &str, probes: &[(&str, &str)], workload_arguments: &[&str]) -> Outcome {
    let bundle = Bundle::new(&maps(config, probes));
    let program = workload();
    let mut arguments = vec!["--", program.to_str().unwrap()];
    arguments.extend(workload_arguments);
    let outcome = bundle.run(&arguments);
    outcome.good();
    outcome
}

/// The elements of a map at a moment, by key.
fn elements(outcome: &Outcome, moment: &str, map: &str) -> Vec<(String, String)> {
    let rows = outcome.rows();
    let rows = rows.iter().filter(|row| row["moment"] == moment && row["map"] == map);
    rows.map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].as_str().unwrap().to_owned())).collect()
}

const GETPPID: &str = "tracepoint:syscalls:sys_enter_getppid";

/// In `finish` every hit is counted, by key and without, whatever the aggregation.
#[test]
fn final_numbers_are_exact() {
    const CALLS: u64 = 100_000;
    let Some(_lock) = lock() else { return };
    let body = "@counts[comm] = count(); @all = count(); @sum[comm, \"x\"] = sum(2); @avg = avg(tid - tid + 7); \
                @low = min(3); @high[comm] = max(-3); @hist = hist(5); @linear[comm] = lhist(15, 0, 100, 10); \
                @set[comm] = 9; @calls++";
    let outcome = run("", &[(GETPPID, body)], &["getppid", &CALLS.to_string()]);
    assert_eq!(outcome.probe("maps", "p0")["hits"], CALLS);
    let check = |map: &str, key: &str, value: &str| {
        assert_eq!(elements(&outcome, "finish", map), [(key.to_owned(), value.to_owned())], "@{map}");
    };
    check("counts", "workload", &CALLS.to_string());
    check("all", "", &CALLS.to_string());
    check("sum", "workload,x", &(2 * CALLS).to_string());
    check("avg", "", &format!("{CALLS},7,{}", 7 * CALLS));
    check("low", "", "3");
    check("high", "workload", "-3");
    check("hist", "", &format!("4,8,{CALLS}"));
    check("linear", "workload", &format!("10,20,{CALLS}"));
    check("set", "workload", "9");
    check("calls", "", &CALLS.to_string());
}

/// What is taken while the workload runs, and what is left in the end, is all that there was: without keys, to the last hit.
#[test]
fn takes_add_up() {
    const CALLS: u64 = 500_000;
    let Some(_lock) = lock() else { return };
    let body = "@all = count(); @avg = avg(3); @hist = hist(tid)";
    let outcome = run("period = \"5ms\"", &[(GETPPID, body)], &["getppid", &CALLS.to_string()]);
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ticks = 0;
    for moment in ["tick", "finish"] {
        for map in ["all", "avg", "hist"] {
            for (_, value) in elements(&outcome, moment, map) {
                let mut parts = value.split(',').map(|part| part.parse::<i64>().unwrap());
                let count = if map == "hist" { parts.nth(2) } else { parts.next() }.unwrap();
                *sums.entry(map).or_default() += count as u64;
                ticks += u64::from(moment == "tick" && map == "all" && count > 0);
            }
        }
    }
    assert_eq!(sums, BTreeMap::from([("all", CALLS), ("avg", CALLS), ("hist", CALLS)]));
    assert!(ticks > 3, "{ticks}");
}

/// What a body clears is gone for the plugin, too, with all buckets of all keys; what comes behind that is all that there is.
#[test]
fn a_body_clears() {
    let Some(_lock) = lock() else { return };
    let body = "@calls++; @c[comm, @calls % 5] = count(); @h[comm] = hist(@calls); @x = 7; \
                if (@calls == 60) { @keys = len(@c); clear(@c); clear(@h); clear(@x); } if (@calls > 60) { @x += 1; }";
    let outcome = run("", &[(GETPPID, body)], &["getppid", "100"]);
    let check = |map: &str, expect: &[(&str, &str)]| {
        let expect: Vec<_> = expect.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(elements(&outcome, "finish", map), expect, "@{map}");
    };
    check("keys", &[("", "5")]);
    check("c", &["0", "1", "2", "3", "4"].map(|n| format!("workload,{n}")).each_ref().map(|key| (key.as_str(), "8")));
    check("h", &[("workload", "32,64,3"), ("workload", "64,128,37")]);
    check("x", &[("", "8")]);
}

/// A plugin sets what its probes read.
#[test]
fn a_plugin_steers_its_probes() {
    let Some(_lock) = lock() else { return };
    let body = "if (@step == 0 && pid == 0) { @step = 1; } @steps[@step] = count();";
    let outcome = run("write = { step = 5 }", &[(GETPPID, body)], &["idle", "1", "1"]);
    assert_eq!(elements(&outcome, "start", "step"), [(String::new(), "5".to_owned())]);
    assert_eq!(elements(&outcome, "finish", "step"), [(String::new(), "5".to_owned())]);
}

/// Named numbers are texts, in keys as in rows.
#[test]
fn names() {
    let Some(_lock) = lock() else { return };
    let body = "@calls[syscall_name(39), strerror(2), signal_name(9)] = count()";
    let outcome = run("", &[(GETPPID, body)], &["getppid", "10"]);
    assert_eq!(elements(&outcome, "finish", "calls"), [("getpid,ENOENT,SIGKILL".to_owned(), "10".to_owned())]);
}

/// A stack is a key like others; its number leads to the functions that its frames are of, also of a process that is gone: in
/// `finish` the workload is.
#[test]
fn stacks() {
    let Some(_lock) = lock() else { return };
    let body = "@user[ustack(8)] = count(); @kernel[kstack(8)] = count(); @names[ksym(kaddr(\"vfs_read\"))] = count();";
    let outcome = run("", &[(GETPPID, body)], &["getppid", "1000000"]);
    let any = |map: &str, names: &[&str]| {
        let all = elements(&outcome, "finish", map);
        assert!(all.iter().any(|(key, _)| names.iter().all(|name| key.contains(name))), "{all:?}");
    };
    any("user", &["syscall", "main"]);
    any("kernel", &["syscall_64"]);
    any("names", &["vfs_read"]);
}
