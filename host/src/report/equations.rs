//! The three equations of guarantee G6.
//!
//! Each side of an equation is counted at its own place: in the programs, in the span maps, or by the host as it hands events over.
//! So an event that is lost without being counted shows.

use std::fmt;

use super::{Plugin, Report};
use crate::contract::{ProbeCounts, StreamCounts};

/// An equation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The plugin's name.
    pub plugin: String,
    /// What the equation is about: `probe "opens"`, `stream "slow"`; empty for the plugin itself.
    pub subject: String,
    /// The equation, with names.
    pub equation: String,
    /// The same with numbers.
    pub numbers: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin \"{}\"", self.plugin)?;
        if !self.subject.is_empty() {
            write!(f, ", {}", self.subject)?;
        }
        write!(f, ": {} does not hold: {}", self.equation, self.numbers)
    }
}

impl Report {
    /// Every equation that does not hold; none in a correct run.
    pub fn check(&self) -> Vec<Violation> {
        self.plugins.iter().flat_map(check_plugin).collect()
    }
}

/// A sum that a count must equal.
struct Equation<'a> {
    left: (&'a str, u64),
    right: &'a [(&'a str, u64)],
}

impl Equation<'_> {
    /// The equation with names and with numbers, if it does not hold.
    fn violated(&self) -> Option<(String, String)> {
        let (name, count) = self.left;
        let sum: u128 = self.right.iter().map(|(_, count)| u128::from(*count)).sum();
        if sum == u128::from(count) {
            return None;
        }
        let names: Vec<_> = self.right.iter().map(|(name, _)| *name).collect();
        let numbers: Vec<_> = self.right.iter().map(|(_, count)| count.to_string()).collect();
        Some((format!("{name} = {}", names.join(" + ")), format!("{count} is not {} (which is {sum})", numbers.join(" + "))))
    }
}

fn check_plugin(plugin: &Plugin) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut check = |subject: String, equation: Equation<'_>| {
        if let Some((equation, numbers)) = equation.violated() {
            violations.push(Violation { plugin: plugin.name.clone(), subject, equation, numbers });
        }
    };
    for probe in &plugin.probes {
        let subject = || format!("probe \"{}\"", probe.counts.name);
        let ProbeCounts {
            span, hits, unpaired, filtered, shed, completed, entry_hits, entered, matched, in_flight, lost, ..
        } = probe.counts;
        let unpaired = ("unpaired", unpaired.unwrap_or(0));
        let rest = [unpaired, ("filtered", filtered), ("shed", shed), ("completed", completed)];
        check(subject(), Equation { left: ("hits", hits), right: if span { &rest } else { &rest[1..] } });
        if span {
            check(subject(), Equation { left: ("entry hits", entry_hits), right: &[("entered", entered)] });
            let right = [("matched", matched), ("in flight", in_flight), ("lost", lost)];
            check(subject(), Equation { left: ("entered", entered), right: &right });
        }
    }
    for stream in &plugin.streams {
        let StreamCounts { attempted, emitted, ring_full } = stream.counts;
        let right = [("emitted", emitted), ("ring full", ring_full)];
        check(format!("stream \"{}\"", stream.name), Equation { left: ("attempted", attempted), right: &right });
    }
    let right = [("delivered", plugin.delivered), ("undelivered", plugin.undelivered)];
    check(String::new(), Equation { left: ("emitted", plugin.emitted()), right: &right });
    violations
}
