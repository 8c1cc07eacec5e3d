//! Specs that are too much: each ends with a named error, soon, and the host stays small.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fmt::Write,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use portcullis_tests::{Bundle, assert_no_programs, component, lock, trace, watch::Watched, workload};

/// How much memory a host may ever have here, KiB, and how long it may take.
const MEMORY: u64 = 512 << 10;
const TIME: Duration = Duration::from_secs(20);

/// A bundle of one plugin with these probes: (attach point, body).
fn bundle(probes: impl Iterator<Item = (String, String)>, limits: &str) -> Bundle {
    let source = component("plugins", "adhoc");
    let mut text = format!(
        "schema = 1\n[[plugin]]\nname = \"bad\"\nsource = {:?}\ngrants = {{ probes = [\"*\"] }}\nlimits = {{ {limits} }}\n",
        source.to_str().unwrap()
    );
    for (number, (attach, body)) in probes.enumerate() {
        let _ = write!(text, "[[plugin.config.probes]]\nname = \"p{number}\"\nattach = [{attach:?}]\nbody = {body:?}\n");
    }
    Bundle::new(&text)
}

/// What a run says that is refused, within its time and memory.
fn refused(what: &str, bundle: &Bundle) -> String {
    let start = Instant::now();
    let run = Watched::start(bundle, &["--", "true"]);
    let mut most = 0;
    while let Ok(status) = fs::read_to_string(format!("/proc/{}/status", run.pid())) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(now) = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()) else { break };
        most = now.max(most);
        std::thread::sleep(Duration::from_millis(2));
    }
    let outcome = run.finish();
    let took = start.elapsed();
    eprintln!("{what}: {took:?}, {} MiB", most >> 10);
    assert_eq!(outcome.code, Some(1), "{what}: {}", outcome.stderr);
    assert!(outcome.report.is_none() && outcome.stdout.is_empty(), "{what}");
    assert!(most < MEMORY, "{what}: the host had {most} KiB");
    assert!(took < TIME, "{what}: {took:?}");
    outcome.stderr
}

/// What nests deep, goes on for long, or is many.
#[test]
fn too_much() {
    let Some(_lock) = lock() else { return };
    let check = |what: &str, bundle: &Bundle, expect: &str| {
        let said = refused(what, bundle);
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with("portcullis: error: plugin \"bad\"") && said.contains(expect), "{what}: {first}");
        // A text of 60 KiB is not quoted whole; every probe may have an error of its own.
        assert!(said.len() < 256 << 10, "{what}: {} bytes", said.len());
    };
    let one = |body: String| bundle([("tracepoint:syscalls:sys_enter_getppid".to_owned(), body)].into_iter(), "");
    let deep = |open: &str, inner: &str, close: &str| one(format!("{}{inner}{}", open.repeat(10_000), close.repeat(10_000)));
    check("parentheses", &one(format!("$x = {}1{};", "(".repeat(10_000), ")".repeat(10_000))), "deep");
    check("blocks", &deep("if(1){", "", "}"), "65536 are allowed");
    check("short blocks", &one(format!("{}{}", "if(1){".repeat(5_000), "}".repeat(5_000))), "deep");
    check("signs", &one(format!("$x = {}1;", "!".repeat(10_000))), "deep");
    check("sums", &one(format!("$x = 1{};", "+1".repeat(10_000))), "in a row");
    check("members", &one(format!("$x = curtask{};", "->parent".repeat(5_000))), "in a row");
    check("comments", &one("/*".repeat(30_000)), "");
    check("quotes", &one("\"".repeat(60_001)), "");
    check("long names", &one(format!("emit s {{ a: {} }}", "x".repeat(60_000))), "is not known");
    let many = |count: usize, attach: &str, body: &str| {
        bundle((0..count).map(|_| (attach.to_owned(), body.to_owned())), "ring = \"4KiB\"")
    };
    check("probes", &many(1025, "tracepoint:syscalls:sys_enter_getppid", "return"), "1025 probes; 1024 are allowed");
    check("points", &many(1024, "tracepoint:*:*", "return"), "attach points");
    check("points of many probes", &many(1024, "tracepoint:syscalls:*", "return"), "20000 attach points together");
    check("spans", &many(1024, "span:syscall:getppid", "return"), "more than 250 different pieces of code");
    assert_no_programs();
}

/// What a plugin shows past its limits is dropped, counted to the last row, and said once; the counts of its events stay exact.
#[test]
fn rows_past_the_limit() {
    const CALLS: u64 = 20_000;
    let Some(_lock) = lock() else { return };
    let one = [("tracepoint:syscalls:sys_enter_getppid".to_owned(), "emit s { pid }".to_owned())];
    let bundle = bundle(one.into_iter(), "output-rows = 100");
    let outcome = bundle.run(&["--", workload().to_str().unwrap(), "getppid", &CALLS.to_string()]);
    outcome.good();
    let plugin = outcome.plugin("bad");
    assert_eq!(plugin["delivered"], CALLS);
    let rows = outcome.rows().len() as u64;
    assert!((100..CALLS / 2).contains(&rows), "{rows}");
    assert_eq!(plugin["dropped"]["rows"], CALLS - rows);
    let said = "bad: warning: it may show 100 rows and lines and 256MiB a second; what is more is dropped, and counted in the report (`limits.output-rows`, `limits.output-bytes`)\n";
    assert_eq!(outcome.stderr.matches(said).count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("  rows that its limits kept from being shown: "), "{}", outcome.stderr);
    assert_no_programs();
}

/// An iterator goes over the tasks in scope and no others, and neither a map nor the task that runs tells of them.
#[test]
fn scope() {
    let Some(_lock) = lock() else { return };
    let program = "iter:task { print((uid, pid)) } tracepoint:syscalls:sys_enter_getppid { @seen[uid] = count(); @task[curtask->pid] = count() }";
    let script = "id -u > /dev/null; setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'sleep 0.2'; sleep 0.2";
    let outcome = trace(&["--uid", "65534", "--system-wide", program, "--", "sh", "-c", script], Stdio::null()).finish();
    outcome.good();
    let tuples = outcome.stdout.lines().filter(|line| line.starts_with('('));
    assert!(tuples.clone().all(|line| line.starts_with("(65534,")), "{}", outcome.stdout);
    let keys = outcome.stdout.lines().filter(|line| line.starts_with("@seen["));
    assert!(keys.clone().all(|line| line.starts_with("@seen[65534]")), "{}", outcome.stdout);
    assert_no_programs();
}
