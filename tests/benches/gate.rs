//! What the gate costs a hit: the same program with and without the load of the word and its branch, open and closed; beside it, what
//! counting and a rate limit cost: `cargo bench -p portcullis-tests --bench gate`. Figures: docs/performance.md.

#![allow(clippy::print_stdout, clippy::expect_used)]

use portcullis::kernel::RunningKernel;
use portcullis_tests::{
    cost::{COUNTING, GATE, RATE, quantile, stay},
    lock,
};

/// How many pairs are loaded of each.
const ROUNDS: usize = 101;

fn main() {
    let Some(_lock) = lock() else { return };
    stay().expect("a thread may stay where it is");
    let kernel = RunningKernel::open().expect("the kernel can be read");
    println!("ns a hit, {ROUNDS} rounds: the median of the differences (quartiles; extremes), with, without");
    for pair in GATE.iter().chain(&COUNTING).chain(&RATE) {
        let cost = pair.measure(&kernel, ROUNDS).expect("the kernel repeats the programs");
        let [least, first, median, third, most] = [0, 25, 50, 75, 100].map(|percent| quantile(&cost.difference, percent));
        let (with, without) = (quantile(&cost.with, 50), quantile(&cost.without, 50));
        println!("{}: {median:.2} ({first:.2} to {third:.2}; {least:.2} to {most:.2}), {with:.2}, {without:.2}", pair.name);
    }
}
