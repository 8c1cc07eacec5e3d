//! Any session, of what this kernel has.

use portcullis::kernel::{Mechanism, RunningKernel};
use portcullis_ebpf::{Kernel as _, Rate};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};

use super::case::{Case, Load, Probe, STREAMS, Site, Step, When};

/// The sites that this kernel has.
pub fn sites(kernel: &RunningKernel) -> Vec<Site> {
    let features = kernel.features();
    let mut sites = vec![
        Site::EnterGetppid,
        Site::ExitGetppid,
        Site::SpanGetppid,
        Site::RawEnter,
        // Where texts may not be there.
        Site::EnterOpenat,
        Site::EnterOpenat,
        Site::EnterOpenat,
        Site::SpanOpenat,
        Site::EnterRead,
        Site::SpanRead,
        Site::SpanClone,
        Site::SpanExit,
        Site::SpanSleep,
        Site::NewTask,
        Site::RawNewTask,
        Site::TaskExit,
        Site::Interval,
    ];
    if features.uprobe {
        sites.extend([Site::Function, Site::Return, Site::SpanFunction, Site::SpanNested]);
        if cfg!(target_arch = "x86_64") {
            sites.push(Site::Marker);
        }
    }
    if features.moments {
        sites.extend([Site::Begin, Site::End]);
    }
    sites
}

/// Few calls, none, or many.
fn count() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![8 => 0_u64..200, 1 => 1_000_u64..5_000]
}

fn load() -> impl Strategy<Value = Load> + Clone {
    prop_oneof![
        2 => count().prop_map(Load::Getppid),
        2 => count().prop_map(Load::Opens),
        2 => count().prop_map(Load::BadOpens),
        2 => (0_u64..20).prop_map(Load::Forks),
        2 => (count(), 1_u64..4).prop_map(|(count, threads)| Load::Reads { count, threads }),
        1 => count().prop_map(Load::Calls),
        2 => count().prop_map(Load::Pairs),
        1 => count().prop_map(Load::Markers),
        1 => (0_u64..5).prop_map(Load::Sleeps),
    ]
}

/// A workload that comes to a site, with so many calls; others do for sites where every program comes, or none.
fn fitting(site: Site, n: u64, other: Load) -> Load {
    match site {
        Site::EnterGetppid | Site::ExitGetppid | Site::SpanGetppid | Site::RawEnter => Load::Getppid(n),
        Site::EnterOpenat | Site::SpanOpenat if n.is_multiple_of(2) => Load::Opens(n),
        Site::EnterOpenat | Site::SpanOpenat => Load::BadOpens(n),
        Site::EnterRead | Site::SpanRead => Load::Reads { count: n, threads: 1 + n % 3 },
        Site::SpanClone | Site::SpanExit | Site::NewTask | Site::RawNewTask | Site::TaskExit => Load::Forks(n % 20),
        Site::SpanSleep => Load::Sleeps(n % 5),
        Site::Function | Site::Return | Site::SpanFunction => Load::Calls(n),
        Site::SpanNested => Load::Pairs(n),
        Site::Marker => Load::Markers(n),
        Site::Begin | Site::End | Site::Interval => other,
    }
}

fn step() -> impl Strategy<Value = Step> + Clone {
    let every = prop_oneof![2 => Just(1_u64), 1 => 2_u64..6];
    prop_oneof![
        5 => (0..STREAMS.len(), every, any::<bool>()).prop_map(|(stream, every, short)| Step::Emit { stream, every, short }),
        1 => (2_u64..6).prop_map(|every| Step::Return { every }),
        2 => (1_u64..6, any::<bool>()).prop_map(|(room, counts)| Step::Insert { room, counts }),
    ]
}

fn probe(sites: Vec<Site>) -> impl Strategy<Value = Probe> + Clone {
    let when = prop_oneof![
        4 => Just(When::Always),
        1 => Just(When::All),
        1 => Just(When::None),
        1 => Just(When::Random),
        2 => Just(When::Odd),
    ];
    (select(sites), when, vec(step(), 0..=5)).prop_map(|(site, when, mut body)| {
        let text = STREAMS.len() - 1;
        for step in &mut body {
            match step {
                Step::Emit { stream, .. } if site == Site::EnterOpenat && *stream == 0 => *stream = text,
                _ => {}
            }
        }
        Probe { site, when, body }
    })
}

/// None, or one that sheds hits of few calls, of many, or none.
fn rate() -> impl Strategy<Value = Option<Rate>> {
    let a_second = select(vec![1, 7, 1_000, 100_000, Rate::MOST]);
    let burst = select(vec![1, 5, 50, 1_000, Rate::MOST]);
    option::weighted(0.4, (a_second, burst).prop_map(|(a_second, burst)| Rate { a_second, burst }))
}

/// A session.
pub fn case(sites: Vec<Site>) -> impl Strategy<Value = Case> {
    // Perf events take up to 100 ms each to close.
    let mechanism = prop_oneof![11 => Just(Mechanism::Cheapest), 1 => Just(Mechanism::Perf)];
    let ring = (12_u32..=20).prop_map(|bits| 1 << bits);
    let spans = prop_oneof![2 => Just(1_u32), 1 => Just(2), 2 => Just(64)];
    // Half of the workloads come where a probe is.
    let load = (load(), count(), option::of(any::<Index>()));
    let rest = (rate(), vec(probe(sites), 1..=5), vec(load.clone(), 0..=2), vec(load, 1..=4));
    (any::<bool>(), prop::bool::weighted(0.2), mechanism, ring, spans, rest).prop_map(
        |(gate, system, mechanism, ring, spans, (rate, probes, before, open))| {
            let chosen = |(load, n, index): (Load, u64, Option<Index>)| match index {
                Some(index) => fitting(index.get(&probes).site, n, load),
                None => load,
            };
            let mut before: Vec<Load> = before.into_iter().map(chosen).collect();
            let mut open: Vec<Load> = open.into_iter().map(chosen).collect();
            if probes.iter().all(|probe| probe.site != Site::Marker) {
                let silent = |load: &mut Load| {
                    if let Load::Markers(n) = *load {
                        *load = Load::Getppid(n);
                    }
                };
                before.iter_mut().chain(&mut open).for_each(silent);
            }
            Case { gate, system, mechanism, ring, spans, rate, probes, before, open }
        },
    )
}
