//! `plugin.limits`: what a plugin may use.

use std::{ops::RangeInclusive, time::Duration};

use portcullis_ebpf::Rate;

use super::{Reader, values::Section};
use crate::{
    contract::Limits,
    manifest::{limits::entries, quantity},
};

/// The longest time that one call into a plugin may be given.
const MAX_CALL: Duration = Duration::from_secs(600);

/// The most memory that a component can address: 32-bit linear memory.
const MAX_MEMORY: u64 = 4 << 30;

/// The least that is worth giving: a Rust component's stack alone is 1 MiB.
const MIN_MEMORY: u64 = 1 << 20;

/// The most elements that the tables of a component can have: those of one, in WebAssembly of 32 bits.
const MAX_TABLE_ELEMENTS: u64 = u32::MAX as u64;

/// How large a component's call stack may be: it is a part of the worker's own, which is 8 MiB where nobody has changed it.
const STACK: RangeInclusive<u64> = 64 << 10..=4 << 20;

/// The largest ring: kernel memory that stays resident. The kernel itself takes up to 2 GiB, the largest power of two in the `u32`
/// of `max_entries`.
const MAX_RING: u64 = 1 << 30;

/// The most attach points that a probe can be allowed: each is a place of the kernel's or a program's code that is rewritten.
const MAX_ATTACH_POINTS: u32 = 100_000;

/// How many probes a plugin may have at the most.
const MAX_PROBES: u64 = crate::worker::check::MAX_PROBES as u64;

/// How many instructions a program may have at the most: as many as the kernel's verifier looks at (`BPF_COMPLEXITY_LIMIT_INSNS`,
/// include/linux/bpf.h).
const MAX_INSTRUCTIONS: u64 = 1_000_000;

/// The most rows or messages that a limit may allow in a second: more than can be.
const MAX_A_SECOND: u64 = 1_000_000_000;

impl Reader {
    pub(super) fn limits(&mut self, section: &Section<'_, '_>) -> Limits {
        let known: Vec<&str> = entries(&Limits::default()).into_iter().map(|(key, _)| key).collect();
        self.keys(section, &known);
        let mut limits = Limits::default();
        if let Some((memory, span)) = self.size(section, "memory") {
            if !(MIN_MEMORY..=MAX_MEMORY).contains(&memory) {
                self.problem(span, "`plugin.limits.memory` must be between 1MiB and 4GiB", None);
            }
            limits.memory = memory;
        }
        if let Some((text, span)) = self.string(section, "call")
            && let Some(call) = self.quantity(section, "call", text, span.clone(), quantity::duration)
        {
            if !(Duration::from_millis(1)..=MAX_CALL).contains(&call) {
                self.problem(span, "`plugin.limits.call` must be between 1ms and 10m", None);
            } else {
                limits.call = call.as_nanos() as u64;
            }
        }
        if let Some((ring, span)) = self.size(section, "ring") {
            let page = rustix::param::page_size() as u64;
            match u32::try_from(ring) {
                Ok(size) if (page..=MAX_RING).contains(&ring) && ring.is_power_of_two() => limits.ring = size,
                _ => {
                    let near = ring.clamp(page, MAX_RING).next_power_of_two();
                    self.problem(
                        span,
                        format!("`plugin.limits.ring` must be a power of two between {} and 1GiB", quantity::shown(page)),
                        Some(format!("did you mean \"{}\"?", quantity::shown(near))),
                    );
                }
            }
        }
        if let Some((maps, _)) = self.size(section, "maps") {
            limits.maps = maps;
        }
        if let Some((points, span)) = self.number(section, "attach-points") {
            match u32::try_from(points) {
                Ok(points) if (1..=MAX_ATTACH_POINTS).contains(&points) => limits.attach_points = points,
                _ => self.problem(span, format!("`plugin.limits.attach-points` must be between 1 and {MAX_ATTACH_POINTS}"), None),
            }
        }
        if let Some(elements) = self.bounded(section, "table-elements", MAX_TABLE_ELEMENTS) {
            limits.table_elements = elements;
        }
        if let Some((stack, span)) = self.size(section, "stack") {
            match STACK.contains(&stack) {
                true => limits.stack = stack as u32,
                false => {
                    let (least, most) = (quantity::shown(*STACK.start()), quantity::shown(*STACK.end()));
                    self.problem(span, format!("`plugin.limits.stack` must be between {least} and {most}"), None);
                }
            }
        }
        if let Some(probes) = self.bounded(section, "probes", MAX_PROBES) {
            limits.probes = probes as u32;
        }
        if let Some(instructions) = self.bounded(section, "instructions", MAX_INSTRUCTIONS) {
            limits.instructions = instructions as u32;
        }
        if let Some(rows) = self.bounded(section, "output-rows", MAX_A_SECOND) {
            limits.output_rows = rows;
        }
        if let Some((bytes, _)) = self.size(section, "output-bytes") {
            limits.output_bytes = bytes;
        }
        if let Some(messages) = self.bounded(section, "log-messages", MAX_A_SECOND) {
            limits.log_messages = messages;
        }
        if let Some((text, span)) = self.string(section, "host-calls")
            && let Some(time) = self.quantity(section, "host-calls", text, span.clone(), quantity::duration)
        {
            match time <= MAX_CALL {
                true => limits.host_calls = time.as_nanos() as u64,
                false => self.problem(span, "`plugin.limits.host-calls` must be at most 10m", None),
            }
        }
        limits.rate = self.rate(section);
        limits
    }

    /// `limits.rate`, with `limits.burst`, which is as much unless told.
    fn rate(&mut self, section: &Section<'_, '_>) -> Option<Rate> {
        let mut hits = |key, without: &str| {
            let (number, span) = self.number(section, key)?;
            let number = u32::try_from(number).ok().filter(|number| (1..=Rate::MOST).contains(number));
            if number.is_none() {
                let message = format!("`plugin.limits.{key}` must be between 1 and {}", Rate::MOST);
                self.problem(span, message, Some(format!("without `{key}` {without}")));
            }
            number
        };
        let a_second = hits("rate", "no hit is shed");
        let burst = hits("burst", "as many come at once as `rate` says");
        if let (None, Some(value)) = (section.get("rate"), section.get("burst")) {
            let help = "`rate` is how many a second, and `burst` how many of them may come at once";
            self.problem(value.span(), "`plugin.limits.burst` goes with `rate`, and there is none", Some(help.into()));
        }
        let a_second = a_second?;
        Some(Rate { a_second, burst: burst.unwrap_or(a_second) })
    }
}
