//! The end of a run: what was in flight at the close, what comes after it, and how long it takes.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use portcullis_ebpf::Options;
use portcullis_tests::{
    Bundle, adhoc, assert_no_programs,
    kernel::{self, probe},
    lock, manifest, note, programs, trace, workload,
};

/// A program that takes a tenth of a millisecond a hit, closed while it runs: the runs that saw the gate open write all that they
/// write before the quiesced time, and none that saw it closed writes anything.
#[test]
fn close_over_a_program_in_flight() {
    const ROUNDS: u64 = 50;
    let Some(_lock) = lock() else { return };
    let path = format!("/{}", "x".repeat(1000));
    // Each emit reads ten texts of a thousand bytes.
    let fields: Vec<String> = (0..10).map(|i| format!("f{i}: str(args.filename, 1024)")).collect();
    let emit = format!("emit s {{ {} }};", fields.join(", "));
    let body = format!("emit first {{ tid }}; {} emit last {{ tid }}", emit.repeat(60));
    let specs = [probe("slow", "tracepoint:syscalls:sys_enter_openat", None, &body)];
    let (mut late, mut runs) = (0, 0);
    for round in 0.. {
        if round >= ROUNDS && late > 0 {
            break;
        }
        // Whether a round meets a program in flight is a matter of who has the CPU.
        assert!(round < 10 * ROUNDS, "in {round} rounds no program was in flight, {runs} runs");
        // Varied, so that the close falls into different places of the program.
        let open = Duration::from_micros(1000 + 137 * (round % ROUNDS));
        let stopped = kernel::stop_while(&specs, &["opens-for-ever", &path], open, 256 << 20);
        let traced = &stopped.traced;
        let close = traced.closed.interval().unwrap();
        assert!(traced.closed.quiesced().unwrap() >= close.latest);
        // All or nothing of a run was written: it had its room in the ring, and nothing cut it short.
        assert_eq!(traced.streams.iter().map(|s| s.ring_full).sum::<u64>(), 0, "a run with losses says nothing");
        assert_eq!(traced.streams[0].emitted, traced.streams[2].emitted);
        assert_eq!(traced.streams[1].emitted, 60 * traced.streams[0].emitted);
        assert_eq!(traced.probes[0].hits, traced.probes[0].completed);
        // A run that began after the close had loaded the word before it: one a CPU at most.
        let began_late = stopped.times.iter().filter(|t| **t > close.latest).count();
        assert!(began_late <= traced.cpus, "{began_late} runs began after the close");
        // Those that were under way: they began before the store, and ended after it.
        late += u64::from(stopped.wrote_after_the_store);
        runs += traced.streams[0].emitted;
        assert!(stopped.quiet, "something was counted or written after the quiesced time");
        assert_eq!(traced.report.check(), []);
    }
    note(&format!("{runs} runs; {late} rounds closed with a program in flight"));
    assert!(runs > ROUNDS, "{runs} runs");
}

/// Three hundred and more system call tracepoints come and go in less than a second.
#[test]
fn all_system_calls() {
    let Some(_lock) = lock() else { return };
    let specs = [probe("all", "tracepoint:syscalls:sys_enter_*", None, "return")];
    let kernel = kernel::running();
    let options = Options::default();
    let start = Instant::now();
    let compiled = kernel::compile(&kernel, &specs, &options);
    let points = compiled.needs.attach.len();
    assert!(points >= 300, "{points}");
    let compile = start.elapsed();
    let attached = kernel::session(&kernel, compiled, &options, 4096).load(&kernel).unwrap().attach().unwrap();
    let open = attached.open();
    let opened = start.elapsed();
    let start = Instant::now();
    open.close().detach();
    let closed = start.elapsed();
    assert_no_programs();
    note(&format!("{points} system calls: {compile:?} to compile, {opened:?} to the open gate, {closed:?} to close and detach"));
    assert!(opened + closed < Duration::from_secs(1), "{opened:?} + {closed:?}");
}

/// The same through the whole of the host, with a plugin.
#[test]
fn all_system_calls_by_a_plugin() {
    let Some(_lock) = lock() else { return };
    let probes = [("all", "tracepoint:syscalls:sys_enter_*", None, "emit calls { tid }")];
    let bundle = Bundle::new(&manifest(&[adhoc("all", "16MiB", &probes)]));
    let outcome = bundle.run(&["--", workload().to_str().unwrap(), "getppid", "1000"]);
    outcome.good();
    let all = outcome.probe("all", "all");
    assert!(all["attach"].as_array().unwrap().len() >= 300);
    assert!(all["hits"].as_u64().unwrap() > 1000);
    assert_eq!(outcome.plugin("all")["delivered"], all["hits"]);
}

/// The prompt is back at once, however long the kernel takes to detach; that goes on behind it, and does not hold up the next run.
#[test]
fn prompt() {
    let Some(_lock) = lock() else { return };
    let program = "tracepoint:sched:* { @ = count() }";
    let run = || {
        let begin = Instant::now();
        let started = trace(&["--mechanism", "perf", program, "-f", "json"], Stdio::null());
        let count = || programs().iter().filter(|name| name.starts_with("pc_sched")).count();
        let before = count();
        // The gate opens when all are attached, a moment after the last was loaded.
        let end = Instant::now() + Duration::from_secs(20);
        while count() < before + 20 {
            assert!(Instant::now() < end, "{} programs", count());
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(500));
        let started_in = begin.elapsed();
        let begin = Instant::now();
        started.signal(rustix::process::Signal::INT);
        let outcome = started.finish();
        let stop = begin.elapsed();
        let points = outcome.good()["plugins"][0]["probes"][0]["attach"].as_array().unwrap().len();
        (points, started_in, stop, count())
    };
    let (points, first, stop, left) = run();
    // While the last one's links are being closed.
    let (_, second, again, _) = run();
    let begin = Instant::now();
    while !programs().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "programs are left: {:?}", programs());
        std::thread::sleep(Duration::from_millis(50));
    }
    note(&format!(
        "{points} perf tracepoints: stopped in {stop:?} and {again:?}, {left} programs left to the closer; started in {first:?}, and in \
         {second:?} beside it"
    ));
    assert!(points >= 20 && stop < Duration::from_secs(1) && again < Duration::from_secs(1), "{stop:?}, {again:?}");
}
