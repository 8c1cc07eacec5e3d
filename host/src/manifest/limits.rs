//! The limits of a plugin by the keys that a manifest has for them.

use std::{fmt, time::Duration};

use super::quantity;
use crate::contract::Limits;

/// What a limit is an amount of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Size(u64),
    /// A time, ns.
    Time(u64),
    /// Things, or things in a second.
    Number(u64),
}

impl Amount {
    /// Without its unit: bytes, ns, things.
    pub fn number(self) -> u64 {
        match self {
            Amount::Size(number) | Amount::Time(number) | Amount::Number(number) => number,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Amount::Size(bytes) => f.write_str(&quantity::shown(bytes)),
            Amount::Time(time) => write!(f, "{:?}", Duration::from_nanos(time)),
            Amount::Number(number) => write!(f, "{number}"),
        }
    }
}

/// All limits, in the order of docs/bundle.md; `None` for what is not limited.
pub fn entries(limits: &Limits) -> Vec<(&'static str, Option<Amount>)> {
    use Amount::{Number, Size, Time};
    // Whoever adds one is told that it is missing here.
    let Limits {
        memory,
        table_elements,
        stack,
        call,
        host_calls,
        probes,
        attach_points,
        instructions,
        rate,
        maps,
        ring,
        output_rows,
        output_bytes,
        log_messages,
    } = *limits;
    vec![
        ("memory", Some(Size(memory))),
        ("table-elements", Some(Number(table_elements))),
        ("stack", Some(Size(stack.into()))),
        ("call", Some(Time(call))),
        ("host-calls", Some(Time(host_calls))),
        ("probes", Some(Number(probes.into()))),
        ("attach-points", Some(Number(attach_points.into()))),
        ("instructions", Some(Number(instructions.into()))),
        ("rate", rate.map(|rate| Number(rate.a_second.into()))),
        ("burst", rate.map(|rate| Number(rate.burst.into()))),
        ("maps", Some(Size(maps))),
        ("ring", Some(Size(ring.into()))),
        ("output-rows", Some(Number(output_rows))),
        ("output-bytes", Some(Size(output_bytes))),
        ("log-messages", Some(Number(log_messages))),
    ]
}
