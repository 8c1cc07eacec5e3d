//! Counts in, equations, JSON and words out.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::cage::{self, Layer, Usage};

/// A correct run of a span and of a probe.
fn report() -> Report {
    let span = ProbeCounts {
        name: "slow".into(),
        span: true,
        hits: 110,
        hits_closed: 7,
        unpaired: Some(3),
        filtered: 40,
        shed: 0,
        completed: 67,
        entry_hits: 112,
        entry_hits_closed: 8,
        entered: 112,
        matched: 107,
        in_flight: 4,
        lost: 1,
        map_full: 1,
        read_fault: 2,
        truncated: 5,
    };
    let point = ProbeCounts {
        name: "reads".into(),
        hits: 1_234,
        unpaired: Some(0),
        filtered: 234,
        completed: 1_000,
        ..Default::default()
    };
    let probe = |counts: ProbeCounts, attach: &str| Probe {
        attach: vec![attach.into()],
        mechanism: "tp_btf".into(),
        before: counts.hits_closed,
        counts,
    };
    let stream = |name: &str, attempted, emitted, ring_full| Stream {
        name: name.into(),
        counts: StreamCounts { attempted, emitted, ring_full },
    };
    Report {
        gate: Gate {
            enabled: true,
            open: Some(Interval { earliest: 1_000_000_000, latest: 1_000_000_412 }),
            close: Some(Interval { earliest: 4_000_000_000, latest: 4_000_000_300 }),
            quiesced: 4_008_000_300,
            appointment: None,
        },
        clocks: None,
        attach: Some(Attach { first: 990_000_000, last: 993_100_000 }),
        command: Some(Command { argv: vec!["cat".into(), "/etc/passwd".into()], status: Some("exited with 0".into()) }),
        symbolizers: vec![Account { uid: Some(7), usage: Usage { resident: None, peak: Some(5 << 20) }, missing: Vec::new() }],
        plugins: vec![
            Plugin {
                name: "opens".into(),
                worker: Account {
                    uid: Some(1_879_048_192),
                    usage: Usage { resident: Some(12 << 20), peak: Some(27 << 20) },
                    missing: vec![
                        cage::Missing::new(Layer::MemoryCgroup, &"none is\x1b there"),
                        cage::Missing::new(Layer::Landlock, &"no"),
                    ],
                },
                doors: vec!["can write below /out".into()],
                drained: Some(4_009_000_000),
                delivered: 1_000,
                undelivered: 60,
                dropped: Dropped { rows: 3, lines: 0, messages: 7 },
                rate: Some(Rate { a_second: 100, burst: 20 }),
                probes: vec![probe(span, "span:syscall:openat"), probe(point, "tracepoint:syscalls:sys_enter_read")],
                streams: vec![stream("slow", 67, 60, 7), stream("reads", 1_000, 1_000, 0)],
                kernel_misses: 9,
                missing: vec![Missing { probe: "gone".into(), reason: "there is no tracepoint `gone:gone`\n--> more".into() }],
                in_flight: [(11, 30_000), (12, 2_500_000_000), (13, 1), (14, 2), (15, 3), (16, 4)]
                    .map(|(tid, age)| InFlight { probe: "slow".into(), tid, age })
                    .into(),
                metrics: vec![("rate".into(), 0.5), ("none".into(), f64::NAN)],
                ..Default::default()
            },
            Plugin {
                name: "other".into(),
                state: State::Failed("it trapped:\nunreachable \x1b[2J".into()),
                ..Default::default()
            },
        ],
    }
}

/// A correct report passes.
#[test]
fn a_correct_report_adds_up() {
    assert_eq!(report().check(), []);
    // Where the kernel skips orphans uncounted, the rest must add up.
    let mut skipped = report();
    let counts = &mut skipped.plugins[0].probes[0].counts;
    (counts.unpaired, counts.hits) = (None, 107);
    assert_eq!(skipped.check(), []);
}

/// Any counter that is off by one is found, with the place, the equation and the numbers.
#[test]
fn every_counter_is_checked() {
    type Bump = fn(&mut Plugin);
    let cases: [(Bump, &str); 18] = [
        (
            |p| p.probes[0].counts.hits += 1,
            r#", probe "slow": hits = unpaired + filtered + shed + completed does not hold: 111 is not 3 + 40 + 0 + 67 (which is 110)"#,
        ),
        (
            |p| p.probes[0].counts.unpaired = Some(4),
            r#", probe "slow": hits = unpaired + filtered + shed + completed does not hold: 110 is not 4 + 40 + 0 + 67 (which is 111)"#,
        ),
        (
            |p| p.probes[0].counts.filtered -= 1,
            r#", probe "slow": hits = unpaired + filtered + shed + completed does not hold: 110 is not 3 + 39 + 0 + 67 (which is 109)"#,
        ),
        (
            |p| p.probes[0].counts.shed += 1,
            r#", probe "slow": hits = unpaired + filtered + shed + completed does not hold: 110 is not 3 + 40 + 1 + 67 (which is 111)"#,
        ),
        (
            |p| p.probes[0].counts.completed += 1,
            r#", probe "slow": hits = unpaired + filtered + shed + completed does not hold: 110 is not 3 + 40 + 0 + 68 (which is 111)"#,
        ),
        (
            |p| p.probes[0].counts.entry_hits += 1,
            r#", probe "slow": entry hits = entered does not hold: 113 is not 112 (which is 112)"#,
        ),
        (
            |p| {
                p.probes[0].counts.entered += 1;
                p.probes[0].counts.entry_hits += 1;
            },
            r#", probe "slow": entered = matched + in flight + lost does not hold: 113 is not 107 + 4 + 1 (which is 112)"#,
        ),
        (
            |p| p.probes[0].counts.matched += 1,
            r#", probe "slow": entered = matched + in flight + lost does not hold: 112 is not 108 + 4 + 1 (which is 113)"#,
        ),
        (
            |p| p.probes[0].counts.in_flight -= 1,
            r#", probe "slow": entered = matched + in flight + lost does not hold: 112 is not 107 + 3 + 1 (which is 111)"#,
        ),
        (
            |p| p.probes[0].counts.lost += 1,
            r#", probe "slow": entered = matched + in flight + lost does not hold: 112 is not 107 + 4 + 2 (which is 113)"#,
        ),
        (
            |p| p.probes[1].counts.hits += 1,
            r#", probe "reads": hits = filtered + shed + completed does not hold: 1235 is not 234 + 0 + 1000 (which is 1234)"#,
        ),
        (
            |p| p.probes[1].counts.filtered += 1,
            r#", probe "reads": hits = filtered + shed + completed does not hold: 1234 is not 235 + 0 + 1000 (which is 1235)"#,
        ),
        (
            |p| p.probes[1].counts.completed -= 1,
            r#", probe "reads": hits = filtered + shed + completed does not hold: 1234 is not 234 + 0 + 999 (which is 1233)"#,
        ),
        (
            |p| p.probes[1].counts.completed = u64::MAX,
            r#", probe "reads": hits = filtered + shed + completed does not hold: 1234 is not 234 + 0 + 18446744073709551615 (which is 18446744073709551849)"#,
        ),
        (
            |p| p.streams[0].counts.attempted += 1,
            r#", stream "slow": attempted = emitted + ring full does not hold: 68 is not 60 + 7 (which is 67)"#,
        ),
        (
            |p| p.streams[0].counts.ring_full += 1,
            r#", stream "slow": attempted = emitted + ring full does not hold: 67 is not 60 + 8 (which is 68)"#,
        ),
        (|p| p.delivered += 1, ": emitted = delivered + undelivered does not hold: 1060 is not 1001 + 60 (which is 1061)"),
        (|p| p.undelivered -= 1, ": emitted = delivered + undelivered does not hold: 1060 is not 1000 + 59 (which is 1059)"),
    ];
    for (bump, expect) in cases {
        let mut report = report();
        bump(&mut report.plugins[0]);
        let found: Vec<_> = report.check().iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("plugin \"opens\"{expect}")]);
    }
    // An `emitted` that is off shows on both its sides.
    let mut report = report();
    report.plugins[0].streams[1].counts.emitted += 1;
    assert_eq!(report.check().len(), 2);
}

/// The keys of the JSON, which programs read.
#[test]
fn json() {
    let expect = serde_json::json!({
        "gate": {"enabled": true, "open": [1_000_000_000u64, 1_000_000_412u64], "close": [4_000_000_000u64, 4_000_000_300u64], "quiesced": 4_008_000_300u64, "at": null},
        "attach": {"first": 990_000_000, "last": 993_100_000, "skew": 3_100_000},
        "clocks": null,
        "command": {"argv": ["cat", "/etc/passwd"], "status": "exited with 0"},
        "symbolizers": [{"uid": 7, "missing": [], "resident": null, "peak": 5 << 20}],
        "plugins": [
            {
                "name": "opens", "state": "ok", "windows": [], "attach": null, "left": null, "took_over": null, "drained": 4_009_000_000u64, "emitted": 1060, "delivered": 1000, "undelivered": 60,
                "dropped": {"rows": 3, "lines": 0, "messages": 7}, "limits": {"rate": 100, "burst": 20}, "worker": {
                    "uid": 1_879_048_192,
                    "missing": [{"layer": "memory cgroup", "reason": "none is\u{1b} there"}, {"layer": "Landlock", "reason": "no"}],
                    "resident": 12 << 20, "peak": 27 << 20,
                },
                "doors": ["can write below /out"],
                "kernel_misses": 9,
                "probes": [
                    {
                        "name": "slow", "attach": ["span:syscall:openat"], "mechanism": "tp_btf", "hits": 110, "hits_closed": 7, "hits_before": 7, "unpaired": 3, "filtered": 40,
                        "shed": 0, "completed": 67, "entered": 112, "matched": 107, "in_flight": 4, "lost": 1, "map_full": 1, "read_fault": 2, "truncated": 5,
                        "entry": {"hits": 112, "hits_closed": 8, "entered": 112},
                    },
                    {
                        "name": "reads", "attach": ["tracepoint:syscalls:sys_enter_read"], "mechanism": "tp_btf", "hits": 1234, "hits_closed": 0, "hits_before": 0, "unpaired": 0,
                        "filtered": 234, "shed": 0, "completed": 1000, "entered": 0, "matched": 0, "in_flight": 0, "lost": 0, "map_full": 0, "read_fault": 0,
                        "truncated": 0,
                    },
                ],
                "streams": [
                    {"name": "slow", "attempted": 67, "emitted": 60, "ring_full": 7},
                    {"name": "reads", "attempted": 1000, "emitted": 1000, "ring_full": 0},
                ],
                "missing": [{"probe": "gone", "reason": "there is no tracepoint `gone:gone`\n--> more"}],
                "in_flight_spans": [
                    {"probe": "slow", "tid": 11, "age": 30_000}, {"probe": "slow", "tid": 12, "age": 2_500_000_000u64}, {"probe": "slow", "tid": 13, "age": 1},
                    {"probe": "slow", "tid": 14, "age": 2}, {"probe": "slow", "tid": 15, "age": 3}, {"probe": "slow", "tid": 16, "age": 4},
                ],
                "metrics": {"rate": 0.5, "none": null},
            },
            {
                "name": "other", "state": "failed: it trapped:\nunreachable \u{1b}[2J", "windows": [], "attach": null, "left": null, "took_over": null, "drained": null, "emitted": 0, "delivered": 0, "undelivered": 0,
                "dropped": {"rows": 0, "lines": 0, "messages": 0}, "limits": {"rate": null, "burst": null}, "worker": {"uid": null, "missing": [], "resident": null, "peak": null}, "doors": [], "kernel_misses": 0, "probes": [], "streams": [], "missing": [], "in_flight_spans": [], "metrics": {},
            },
        ],
        "violations": [],
    });
    assert_eq!(format!("{:#}", report().to_json()), format!("{expect:#}"));
    let without = Report { gate: Gate { quiesced: 5, ..Default::default() }, ..Default::default() };
    assert_eq!(
        without.to_json().to_string(),
        r#"{"gate":{"enabled":false,"open":null,"close":null,"quiesced":5,"at":null},"attach":null,"clocks":null,"command":null,"symbolizers":[],"plugins":[],"violations":[]}"#
    );
}

/// The words of a run with losses and a failed plugin.
#[test]
fn text() {
    assert_eq!(
        report().to_text(),
        "\
The gate opened once for all: 2 probes of 2 plugins began at one instant, known to within 412ns.
Attaching them took 3.1ms from the first to the last; nothing of that time was recorded.
While the gate was closed the probes fired 15 times, 7 times before the opening; the gate kept that out.
The gate closed after 3s; 8ms later the last program in flight had ended.
The command cat exited with 0.

plugin opens: ok
  its worker: 12MiB resident, 27MiB at the most, as user 1879048192
  the cage of its worker lacks: memory cgroup (none is\\x1b there), Landlock (no)
  it can write below /out
  not on this kernel: probe gone: there is no tracepoint `gone:gone`
  probe  by      before   hits  unpaired  filtered  completed  in flight
  slow   tp_btf       7    110         3        40         67          4
  reads  tp_btf       0  1,234                 234      1,000
  stream  events  no room
  slow        60        7
  reads    1,000        0
  delivered 1,000 of 1,060
  reads of memory that was not there: 2
  texts cut short: 5
  map elements without room: 1
  rows that its limits kept from being shown: 3
  messages that its limits kept from the log: 7
  rate = 0.5
  none = NaN
  in flight at a close: slow of thread 12, for 2.5s
  in flight at a close: slow of thread 11, for 30µs
  in flight at a close: slow of thread 16, for 4ns
  in flight at a close: slow of thread 15, for 3ns
  in flight at a close: slow of thread 14, for 2ns
  and 1 younger

plugin other: FAILED: it trapped:
    unreachable \\x1b[2J

the symbolizer: 5MiB at the most, as user 7

Lost by plugin opens: 7 events for want of room in the ring (a larger `limits.ring` holds more)
Lost by plugin opens: 60 events that it did not take in time (`stop.drain` gives it longer)
Lost by plugin opens: 1 span for want of room for their begin
Lost by plugin opens: 9 hits for which the kernel did not run the program
"
    );
}

/// The words of runs that are told otherwise: no gate, no loss, a bug.
#[test]
fn other_ends() {
    let mut plain = report();
    plain.plugins.truncate(1);
    plain.symbolizers.clear();
    plain.plugins[0] = Plugin {
        name: "p".into(),
        delivered: 2,
        streams: vec![Stream { name: "s".into(), counts: StreamCounts { attempted: 2, emitted: 2, ring_full: 0 } }],
        ..Default::default()
    };
    plain.command = None;
    assert!(plain.to_text().ends_with("\nNothing was lost: 2 events recorded, and as many delivered.\n"));
    plain.plugins[0].delivered = 1;
    plain.plugins[0].undelivered = 1;
    plain.plugins[0].state = State::Failed("it trapped".into());
    assert!(plain.to_text().ends_with("\nLost by plugin p: 1 event that it had not taken when it failed\n"));
    plain.gate = Gate { quiesced: 5, ..Default::default() };
    plain.plugins[0].undelivered = 0;
    plain.plugins[0].state = State::Ok;
    assert_eq!(
        plain.to_text(),
        "\
There was no gate: 0 probes of 1 plugin began one by one, as each was attached.
From the first to the last that took 3.1ms.

plugin p: ok
  stream  events  no room
  s            2        0

The counts do not add up. This is a bug in portcullis; please report it with these lines:
  plugin \"p\": emitted = delivered + undelivered does not hold: 2 is not 1 + 0 (which is 1)
"
    );
}

/// What a rate limit shed is told by probe and as a whole, with the limit; it is no loss, and yet not nothing.
#[test]
fn shed() {
    let mut report = report();
    report.plugins.truncate(1);
    report.symbolizers.clear();
    let plugin = &mut report.plugins[0];
    let mut probe = plugin.probes[1].clone();
    (probe.counts.hits, probe.counts.shed, probe.counts.completed) = (3_234, 2_000, 1_000);
    let other = Probe { counts: ProbeCounts { name: "other".into(), hits: 1, shed: 1, ..Default::default() }, ..probe.clone() };
    *plugin = Plugin { name: "p".into(), rate: plugin.rate, probes: vec![probe, other], ..Default::default() };
    assert_eq!(report.check(), []);
    let text = report.to_text();
    let expect = "
  hits of reads that `limits.rate = 100` (`burst = 20`) shed: 2,000
  hits of other that `limits.rate = 100` (`burst = 20`) shed: 1

Shed by plugin p: 2,001 hits over `limits.rate = 100` (`burst = 20`), as was asked for
Nothing else was lost: 0 events recorded, and as many delivered.
";
    assert!(text.ends_with(expect), "{text}");
    report.plugins[0].rate = Some(Rate { a_second: 100, burst: 100 });
    assert!(report.to_brief_text().starts_with("Shed by plugin p: 2,001 hits over `limits.rate = 100`, as was asked for\n"));
    assert_eq!(report.to_json()["plugins"][0]["probes"][0]["shed"], 2_000);
}

/// What is said of an arranged opening, of pauses, and of plugins that came or left in between; and its JSON.
#[test]
fn courses() {
    let window = |open: u64, close: u64| Window {
        open: Interval { earliest: open, latest: open + 100 },
        close: Some(Interval { earliest: close, latest: close + 100 }),
        quiesced: Some(close + 8_000_000),
    };
    let overlap = Interval { earliest: 2_000_000_000, latest: 2_000_000_300 };
    let mut report = report();
    report.command = None;
    report.gate.appointment = Some(Appointment { moment: Moment(1_798_761_600_000_000_000), real_time: true, late: 45_000 });
    let discipline = Discipline { tai_offset: 37, synchronised: true, max_error: 1_500_000, estimated_error: 20_000 };
    report.clocks = Some(Clocks { realtime: Realtime { offset: 7, error: 30 }, discipline: Some(discipline) });
    let plugin = |name: &str| Plugin { name: name.into(), ..Default::default() };
    report.plugins = vec![
        Plugin { left: Some(Left::Replaced { overlap: Some(overlap) }), windows: vec![window(1, 2_000_000_000)], ..plugin("a") },
        Plugin { left: Some(Left::Asked), windows: vec![window(1, 5), window(1_000_000_005, 9)], ..plugin("b") },
        Plugin { took_over: Some(overlap), ..plugin("a") },
    ];
    let text = report.to_text();
    let expect = "\
It was to open at 2027-01-01T00:00:00Z: it had 45µs later, by this machine's clock, which is kept in step with others to within 20µs by its own \
estimate, 1.5ms at most.
The gate closed after 3s; 8ms later the last program in flight had ended.

plugin a: ok
  a new version took over; for 300ns both were open

plugin b: ok
  left before the end, as it was asked to
  paused once, for 1s in all

plugin a: ok
  took over from the version before it; for 300ns both were open
";
    assert!(text.contains(expect), "{text}");
    let json = report.to_json();
    assert_eq!(json["gate"]["at"].to_string(), r#"{"moment":"2027-01-01T00:00:00Z","late":45000,"real_time":true}"#);
    assert_eq!(
        json["clocks"].to_string(),
        r#"{"monotonic_to_realtime":{"offset":7,"error":30},"realtime":{"synchronised":true,"max_error":1500000,"estimated_error":20000,"tai_offset":37}}"#
    );
    assert_eq!(json["plugins"][0]["left"].to_string(), r#"{"why":"replaced","overlap":[2000000000,2000000300]}"#);
    assert_eq!(json["plugins"][1]["windows"][0].to_string(), r#"{"open":[1,101],"close":[5,105],"quiesced":8000005}"#);
    report.plugins.swap_remove(0);
    report.plugins[0].windows = vec![window(1, 5), window(1_000_000_005, 9), window(3_000_000_009, 9)];
    report.plugins[1].windows = report.plugins[0].windows.clone();
    assert!(report.to_text().contains("\nIn between it was paused 2 times, for 4s in all.\n"), "{}", report.to_text());
}

/// A report file is whole or not there, keeps a link a link, and leaves no other file behind.
#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    std::fs::write(&path, "old").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    write(&report(), &link).unwrap();
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(value, report().to_json());
    assert!(link.is_symlink());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    write(&report(), Path::new("/dev/null")).unwrap();
    let error = write(&report(), &dir.path().join("none/report.json")).unwrap_err();
    assert!(error.to_string().starts_with("can't write the report to "));
    assert!(write(&report(), Path::new("/")).is_err());
    check_writable(&link).unwrap();
    check_writable(&dir.path().join("new")).unwrap();
    check_writable(Path::new("/dev/null")).unwrap();
    for nowhere in [&dir.path().join("none/report.json"), Path::new("/"), Path::new("/proc/report.json")] {
        assert!(check_writable(nowhere).is_err());
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}
