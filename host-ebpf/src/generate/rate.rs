//! The rate limit: of the hits that come to a body, so many a second go into it, and the others are shed.
//!
//! It is the generic cell rate algorithm (ITU-T I.371), a token bucket that has a time in the place of tokens. Each run that goes on
//! takes up an interval of time, and a probe has taken up what is before `base + charged`, on all CPUs together. A run goes on if a
//! whole interval before now is free. What nobody took up is kept for as many intervals as may come at once: a time that lies further
//! back is raised to there first, by `base`.
//!
//! Nobody waits and nobody tries again. All that it takes of the kernel is an addition in one step that need not say what was there,
//! which every kernel has that has the rest; the first exchanges are of Linux 5.12. What runs that meet can do to each other:
//!
//! - Between the comparison and the addition others may compare, too: then several go on where one interval was free, about one for each
//!   CPU. Each is charged for all that, and later ones wait for it. So more go on at a time, and not over time.
//! - `base` is stored, and so of two stores one is lost. Hence the two words: who raises stores what `base` must be for what `charged` was
//!   when it was loaded. Whoever was charged since, also by a store that is lost, stays charged. With one word for the sum the store would
//!   take that back: of a burst of one each CPU could have its own, for ever.
//! - Who is interrupted between load and store raises to where that was right, and what could be taken up since can be taken up again:
//!   what the rate allows in that time, and never more than a burst.
//! - Who is interrupted before the comparison for longer than a burst lasts finds its time past, and is shed though something is free.

use std::iter::repeat_n;

use super::function::Generator;
use crate::{
    assemble::{Alu, Cond, Label, R0, R1, R2, R3, R4, R8, Width},
    attach::Whose,
    output::MapRef,
    plan::{Function, Half},
    spec::{Options, Rate},
};

/// How many bytes each probe has: cache lines of its own, two since the prefetcher takes pairs.
const STRIDE: u32 = 128;
/// Where its words are, in ns. Their sum is a time of CLOCK_MONOTONIC, and may be before the boot.
const BASE: i16 = 0;
const CHARGED: i16 = 8;
/// Before any time: the first run raises it, so that a whole burst is there.
const NEVER: i64 = i64::MIN;

/// How often the function may run its body; `None` for as often as it is hit. The entry of a span has no body, and without it the exit would
/// find none. What the host runs it runs once.
pub(crate) fn of(options: &Options, function: &Function) -> Option<Rate> {
    options.rate.filter(|_| function.half != Half::Entry && function.whose != Whose::Host)
}

/// What the map holds from the beginning, for so many probes.
pub(crate) fn content(probes: usize) -> Vec<u8> {
    let line = NEVER.to_ne_bytes().into_iter().chain(repeat_n(0, STRIDE as usize - size_of::<i64>()));
    line.collect::<Vec<u8>>().repeat(probes)
}

impl Generator<'_> {
    /// Goes on if the probe may run its body now, else to `shed`. Leaves the time in r8. Uses r0 to r4.
    pub(super) fn within_rate(&mut self, rate: Rate, shed: Label) {
        self.time();
        self.asm.note(&format!("limits.rate = {}, limits.burst = {}", rate.a_second, rate.burst));
        let kept = self.asm.label();
        self.asm.map_value(R1, MapRef::Rates, STRIDE * self.function.probe as u32);
        self.asm.load(Width::W8, R2, R1, CHARGED);
        self.asm.load(Width::W8, R3, R1, BASE);
        self.asm.alu(Alu::Add, R3, R2);
        self.asm.set(R4, rate.kept());
        self.asm.mov(R0, R8);
        self.asm.alu(Alu::Sub, R0, R4);
        self.asm.jump_if(Cond::SignedGe, R3, R0, kept);
        self.asm.mov(R3, R0);
        self.asm.alu(Alu::Sub, R0, R2);
        self.asm.store(Width::W8, R1, BASE, R0);
        self.asm.place(kept);
        self.asm.set(R2, rate.interval());
        self.asm.mov(R0, R8);
        self.asm.alu(Alu::Sub, R0, R2);
        self.asm.jump_if(Cond::SignedGt, R3, R0, shed);
        self.asm.atomic_add(R1, CHARGED, R2);
    }
}
