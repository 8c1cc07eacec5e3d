//! What the counters must say, worked out from the workloads and the probes' texts alone.

use portcullis_ebpf::Rate;

use super::case::{Case, Load, PATH, Probe, SHORT, STREAMS, Site, Step, When};

/// What a probe must have counted, as far as it can be known. Without a limit from above where others have hits, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Hits: of a span, of its exits.
    pub hits: u64,
    /// Of a span, entries.
    pub entries: u64,
    /// These are all there are.
    pub exact: bool,
    /// Spans that never end.
    pub endless: u64,
    /// Ends that had no beginning.
    pub orphans: u64,
    /// Spans that may have found no room, since several threads were in them.
    pub crowded: bool,
    /// Spans that found no room, since others were around them.
    pub nested: u64,
    /// What could go into the body by the condition that tells the workload's own hits from others, in order.
    pub own: Vec<Hit>,
    /// One hit comes after the other.
    pub in_turn: bool,
}

/// A hit of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its argument.
    pub number: u64,
    /// The path that it has is not there.
    pub bad: bool,
}

/// What one workload does at a site.
#[derive(Clone, Debug, Default)]
struct Part {
    hits: u64,
    entries: u64,
    endless: u64,
    orphans: u64,
    nested: u64,
    own: Vec<Hit>,
    /// Nothing else of this process comes there.
    known: bool,
}

impl Part {
    /// Calls that are all alike.
    fn calls(own: Vec<Hit>) -> Part {
        let count = own.len() as u64;
        Part { hits: count, entries: count, own, known: true, ..Part::default() }
    }
}

fn numbered(count: u64) -> Vec<Hit> {
    (0..count).map(|number| Hit { number, bad: false }).collect()
}

/// `opens`: how many files every program opens before its `main`.
fn part(site: Site, load: Load, spans: u32, opens: u64) -> Part {
    match (site, load) {
        (Site::EnterGetppid | Site::ExitGetppid | Site::SpanGetppid, Load::Getppid(n) | Load::Forks(n)) => {
            Part::calls(numbered(n))
        }
        (Site::RawEnter, Load::Getppid(n) | Load::Forks(n)) => Part { known: false, ..Part::calls(numbered(n)) },
        (Site::RawEnter, _) => Part::default(),
        (Site::EnterOpenat | Site::SpanOpenat, load) => {
            let own = match load {
                Load::Opens(n) => numbered(n),
                Load::BadOpens(n) => numbered(n).into_iter().map(|hit| Hit { bad: true, ..hit }).collect(),
                // Each opens what it reads.
                Load::Reads { threads, .. } => numbered(threads),
                _ => Vec::new(),
            };
            let all = opens + own.len() as u64;
            // The C library may open more for threads.
            Part { hits: all, entries: all, known: !matches!(load, Load::Reads { .. }), ..Part::calls(own) }
        }
        // Every program reads.
        (Site::EnterRead | Site::SpanRead, Load::Reads { count, threads }) => {
            Part { known: false, ..Part::calls(numbered(count * threads)) }
        }
        (Site::EnterRead | Site::SpanRead, _) => Part::default(),
        // It returns in the child as well, who never entered.
        (Site::SpanClone, Load::Forks(n)) => Part { hits: 2 * n, orphans: n, ..Part::calls(numbered(n)) },
        (Site::SpanExit, load) => {
            let processes = 1 + if let Load::Forks(n) = load { n } else { 0 };
            Part { entries: processes, endless: processes, known: true, ..Part::default() }
        }
        (Site::SpanSleep, Load::Sleeps(n)) => Part::calls(numbered(n)),
        (Site::NewTask | Site::RawNewTask, Load::Forks(n) | Load::Reads { threads: n, .. }) => Part::calls(numbered(n)),
        (Site::TaskExit, Load::Forks(n) | Load::Reads { threads: n, .. }) => Part::calls(numbered(n + 1)),
        (Site::TaskExit, _) => Part::calls(numbered(1)),
        (Site::Function | Site::Return | Site::SpanFunction | Site::SpanNested, Load::Calls(n)) => Part::calls(numbered(n)),
        (Site::Function | Site::Return | Site::SpanFunction, Load::Pairs(n)) => Part::calls(numbered(n)),
        (Site::SpanNested, Load::Pairs(n)) => {
            // The inner one ends first. With room for one there is none for it.
            let fits = spans > 1;
            let own = numbered(n).into_iter().flat_map(|hit| vec![hit; if fits { 2 } else { 1 }]).collect();
            let nested = if fits { 0 } else { n };
            Part { hits: 2 * n, entries: 2 * n, nested, orphans: nested, ..Part::calls(own) }
        }
        (Site::Marker, Load::Markers(n)) => Part::calls(numbered(n)),
        (Site::Begin | Site::End | Site::Interval, _) => Part::default(),
        _ => Part::calls(Vec::new()),
    }
}

/// What these workloads do at a probe's site, one after the other.
pub fn truth(probe: &Probe, case: &Case, loads: impl Iterator<Item = Load>, opens: u64) -> Truth {
    let site = probe.site;
    let mut truth = Truth { exact: !case.system || site.is_private(), in_turn: true, ..Truth::default() };
    for load in loads {
        let part = part(site, load, case.spans, opens);
        truth.exact &= part.known;
        truth.hits += part.hits;
        truth.entries += part.entries;
        truth.endless += part.endless;
        truth.orphans += part.orphans;
        truth.nested += part.nested;
        let several = load.concurrent() && !part.own.is_empty();
        truth.in_turn &= !several;
        truth.crowded |= several && case.spans < 4;
        truth.own.extend(part.own);
    }
    if case.system && !site.is_private() {
        // Others may be there at the same time, and take the room of spans.
        (truth.in_turn, truth.crowded) = (false, true);
    }
    truth
}

/// The hits that pass the predicate; `None` where that is left to chance.
pub fn passing(probe: &Probe, own: &[Hit]) -> Option<Vec<Hit>> {
    match probe.when() {
        When::Always | When::All => Some(own.to_vec()),
        When::None => Some(Vec::new()),
        When::Random => None,
        When::Odd => Some(own.iter().filter(|hit| hit.number % 2 == 1).copied().collect()),
    }
}

/// For how long a thread is interrupted in a program at the most, ns.
const INTERRUPTED: u64 = 20_000_000;

/// How many hits a rate lets into a body at the least, if there are as many: a burst. Where a burst is of less time than a thread can be
/// interrupted for, one that was has the time of a hit for which nothing is kept any more.
pub fn least(rate: Rate) -> u64 {
    if rate.interval() * u64::from(rate.burst) < INTERRUPTED { 0 } else { rate.burst.into() }
}

/// How many hits a rate lets into a body in so many ns at the most: a burst, what the time allows, and one more for each thread that was
/// interrupted between its comparison and its charge. Who was interrupted there for long takes what that time allows once more.
pub fn most(rate: Rate, ns: u64) -> u64 {
    const THREADS: u64 = 16;
    let each = u64::from(Rate::MOST) / u64::from(rate.a_second);
    u64::from(rate.burst) + (ns + INTERRUPTED) / each + THREADS
}

/// What a body does in so many hits, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Records asked for, by stream.
    pub attempted: [u64; STREAMS.len()],
    /// For each step that inserts, how often it was reached.
    pub inserted: Vec<(usize, u64)>,
    /// Texts that were not there.
    pub faults: u64,
    /// Texts that were cut.
    pub cut: u64,
}

/// Interprets a body.
pub fn run(probe: &Probe, hits: impl Iterator<Item = Hit>) -> Done {
    let inserts = probe.body.iter().enumerate().filter(|(_, step)| matches!(step, Step::Insert { .. }));
    let mut done = Done { inserted: inserts.map(|(position, _)| (position, 0)).collect(), ..Done::default() };
    for (hit, number) in hits.zip(1_u64..) {
        for (position, step) in probe.body.iter().enumerate() {
            match *step {
                Step::Emit { stream, every, short } if number.is_multiple_of(every) => {
                    done.attempted[stream] += 1;
                    if stream == STREAMS.len() - 1 && probe.site == Site::EnterOpenat {
                        done.faults += u64::from(hit.bad);
                        done.cut += u64::from(!hit.bad && short && PATH.len() as u64 > SHORT);
                    }
                }
                Step::Return { every } if number.is_multiple_of(every) => break,
                Step::Insert { .. } => {
                    done.inserted.iter_mut().filter(|(of, _)| *of == position).for_each(|(_, count)| *count += 1);
                }
                Step::Emit { .. } | Step::Return { .. } => {}
            }
        }
    }
    done
}
