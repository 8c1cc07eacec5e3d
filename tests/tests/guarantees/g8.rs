//! G8: all or nothing. If a probe of any plugin can't be attached, nothing was recorded, nothing is left in the kernel, and COMMAND never
//! ran.
//!
//! What else can refuse a run, from the manifest on, is in `faults/`; how a session takes back what it made, in its own tests.

use std::{collections::BTreeSet, thread, time::Duration};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};
use portcullis_ebpf::{Options, ProbeSpec};
use portcullis_tests::{
    Bundle, adhoc, assert_no_programs,
    gate::{Experiment, Load, holds, seen},
    kernel::{self, probe},
    lock, manifest, workload,
};

const ROUNDS: usize = 100;
const PLUGINS: usize = 6;

fn plugin() -> Vec<ProbeSpec> {
    let body = "let @calls = percpuhash(64); @calls[tid] = count(); emit calls { n: args.offset }";
    vec![probe("call", "tracepoint:syscalls:sys_enter_lseek", None, body), probe("span", "span:syscall:lseek", None, "return")]
}

fn impossible() -> Vec<ProbeSpec> {
    vec![probe("last", "tracepoint:sched:sched_process_exec", None, "return")]
}

/// The programs, maps and links of ours that are in the kernel, by number.
fn objects() -> BTreeSet<String> {
    let ours = |name: Option<&str>| name.is_some_and(|name| name.starts_with("pc_"));
    let programs: Vec<u32> = loaded_programs().flatten().filter(|p| ours(p.name_as_str())).map(|p| p.id()).collect();
    let links =
        loaded_links().flatten().filter(|link| programs.contains(&link.program_id())).map(|link| format!("link {}", link.id()));
    let maps = loaded_maps().flatten().filter(|m| ours(m.name_as_str())).map(|m| format!("map {}", m.id()));
    links.chain(maps).chain(programs.iter().map(|id| format!("program {id}"))).collect()
}

/// What is there that was not before. The kernel frees after a grace period, which is waited for.
fn left(before: &BTreeSet<String>, patience: Duration) -> Vec<String> {
    let end = std::time::Instant::now() + patience;
    loop {
        let left: Vec<String> = objects().difference(before).cloned().collect();
        if left.is_empty() || std::time::Instant::now() > end {
            return left;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Under load on every CPU, the last of many plugins can't be attached: no ring and no map has anything in it, and all is gone.
#[test]
fn nothing_is_left_when_the_last_can_not_be_attached() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let experiment = Experiment::new(&kernel, &vec![plugin(); PLUGINS], &kernel::options()).with_impossible(&impossible());
    let before = objects();
    let mut wrong = Vec::new();
    for _ in 0..ROUNDS {
        let Err((error, mut rest)) = experiment.load(&load.pids()).attach() else { panic!("it was attached") };
        let expect = format!("plugin `plugin {PLUGINS}`, probe `last`: cannot attach to tracepoint:sched:no_such_point");
        assert!(error.to_string().starts_with(&expect), "{error}");
        (0..PLUGINS).for_each(|plugin| wrong.extend(rest.recorded(plugin).all()));
    }
    wrong.extend(left(&before, Duration::from_secs(10)));
    holds("what a refused run recorded or left", ROUNDS, &wrong, format_args!("{PLUGINS} plugins attached before the last"));
}

/// Plugins that are started one by one, without a gate, have recorded when the last one can't be, and are still there.
#[test]
fn much_is_when_they_come_one_by_one() {
    let Some(_lock) = lock() else { return };
    let (kernel, load) = (kernel::running(), Load::start(&["numbers"]));
    let options = Options { gate: None, ..kernel::options() };
    let one = Experiment::new(&kernel, &[plugin()], &options);
    let last = Experiment::new(&kernel, &[], &options).with_impossible(&impossible());
    seen("what a refused run recorded or left, plugin by plugin", 50, || {
        let before = objects();
        let mut others: Vec<_> = (0..PLUGINS).map(|_| one.attach(&load.pids())).collect();
        thread::sleep(Duration::from_millis(1));
        assert!(last.load(&load.pids()).attach().is_err());
        let recorded: Vec<String> = others.iter_mut().flat_map(|other| other.recorded(0).all()).collect();
        let left = left(&before, Duration::ZERO);
        // Both: it has recorded, and it is there.
        if recorded.is_empty() || left.is_empty() { Vec::new() } else { [recorded, left].concat() }
    });
}

/// The whole host with a command: the probe of the second plugin stands behind the end of the program that it is for.
#[test]
fn the_command_never_runs() {
    let Some(_lock) = lock() else { return };
    let nowhere = format!("uprobe:{}:0x7ffffff0", workload().to_str().unwrap());
    let first = adhoc("first", "1MiB", &[("call", "tracepoint:syscalls:sys_enter_openat", None, "emit calls { pid }")]);
    let run = |attach: &str| {
        let bundle = Bundle::new(&manifest(&[first.clone(), adhoc("last", "1MiB", &[("call", attach, None, "return")])]));
        let ran = bundle.directory.path().join("RAN");
        let outcome = bundle.run(&["--", "touch", ran.to_str().unwrap()]);
        (outcome, ran.exists())
    };
    let (outcome, ran) = run(&nowhere);
    assert!(!ran, "COMMAND ran");
    assert!(outcome.report.is_none() && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.code == Some(1) && outcome.stderr.contains("plugin `last`, probe `call`: cannot attach to"), "{outcome:?}");
    assert_no_programs();
    // With a place that is there it does.
    let (outcome, ran) = run("tracepoint:syscalls:sys_enter_close");
    assert!(ran && outcome.code == Some(0), "{outcome:?}");
}
