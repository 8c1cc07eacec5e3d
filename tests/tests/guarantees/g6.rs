//! G6: conservation. Hits, spans and events add up, each side by counters of its own.
//!
//! [`Outcome::assert_equations`](portcullis_tests::Outcome::assert_equations) holds every report of every other test against them.

use portcullis_ebpf::{
    Options, Rate,
    counters::{Counter, StreamCounter},
};
use portcullis_tests::{
    kernel::{self, Traced, Workloads, probe},
    lock,
};

/// What the tests below run: every counter moves. The text of `cut` is longer than what is kept, that of `bad` is not there; two
/// threads sleep at a time where there is room for one span; with the ring of one page there is no room for all records; and more calls are
/// made than the rate allows.
fn everything(options: &Options) -> Traced {
    let specs = [
        probe("calls", "span:syscall:getppid", Some("duration > 0"), "emit calls { tid, comm }"),
        probe("none", "tracepoint:syscalls:sys_enter_getppid", Some("pid != tid"), "emit calls { tid, comm }"),
        probe("clone", "span:syscall:clone", None, "return"),
        probe(
            "open",
            "span:syscall:openat",
            Some("str(entry.args.filename) != \"x\""),
            "emit opens { path: str(entry.args.filename, 4) }",
        ),
        probe("sleep", "span:syscall:clock_nanosleep", None, "return"),
    ];
    let options = Options { spans: 1, rate: Some(Rate { a_second: 1, burst: 1000 }), ..options.clone() };
    let forks: &[&str] = &["forks", "10"];
    let open: &[&[&str]] = &[forks, &["opens-bad", "3"], &["idle", "1", "2"], &["getppid", "5000"]];
    kernel::trace_with(&specs, &options, Workloads { before: &[forks, &["getppid", "7"]], open }, 4096)
}

/// The value of a counter, summed over the probes; entries and exits apart.
fn sum(traced: &Traced, counter: Counter) -> u64 {
    let value = |p: &portcullis::contract::ProbeCounts| match counter {
        Counter::Hits => p.hits,
        Counter::HitsClosed => p.hits_closed,
        Counter::Unpaired => p.unpaired.unwrap_or(0),
        Counter::Filtered => p.filtered,
        Counter::Completed => p.completed,
        Counter::EntryHits => p.entry_hits,
        Counter::EntryHitsClosed => p.entry_hits_closed,
        Counter::Entered => p.entered,
        Counter::Matched => p.matched,
        Counter::Lost => p.lost,
        Counter::MapFull => p.map_full,
        Counter::ReadFault => p.read_fault,
        Counter::Truncated => p.truncated,
        Counter::Shed => p.shed,
    };
    traced.probes.iter().map(value).sum()
}

/// Each counter is bumped at one place that nothing stands in for: with all in place the equations hold and every one has counted;
/// with any one taken out of the programs either an equation fails or a count that has no equation is missing.
#[test]
fn every_counter_is_needed() {
    let Some(_lock) = lock() else { return };
    let whole = everything(&kernel::options());
    assert_eq!(whole.report.check(), []);
    for counter in Counter::ALL {
        assert!(sum(&whole, counter) > 0, "{counter:?} never counts");
    }
    for counter in Counter::ALL {
        let options = Options { without_counter: Some(counter), ..kernel::options() };
        let traced = everything(&options);
        assert_eq!(sum(&traced, counter), 0, "{counter:?}");
        let equations = !matches!(
            counter,
            Counter::HitsClosed | Counter::EntryHitsClosed | Counter::MapFull | Counter::ReadFault | Counter::Truncated
        );
        assert_eq!(!traced.report.check().is_empty(), equations, "{counter:?}: {:?}", traced.report.check());
    }
    let streams = |traced: &Traced, counter| -> u64 {
        let value = |s: &portcullis::contract::StreamCounts| match counter {
            StreamCounter::Attempted => s.attempted,
            StreamCounter::Emitted => s.emitted,
            StreamCounter::RingFull => s.ring_full,
        };
        traced.streams.iter().map(value).sum()
    };
    for counter in StreamCounter::ALL {
        assert!(streams(&whole, counter) > 0, "{counter:?} never counts");
        let options = Options { without_stream_counter: Some(counter), ..kernel::options() };
        let traced = everything(&options);
        assert_eq!(streams(&traced, counter), 0, "{counter:?}");
        assert!(!traced.report.check().is_empty(), "{counter:?}");
    }
}
