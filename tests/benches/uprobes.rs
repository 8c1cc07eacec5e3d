//! What a uprobe costs where a function begins with a landing pad (`endbr64`), beside one on a nop, which is what USDT probes are on:
//! `cargo bench -p portcullis-tests --bench uprobes`. Figures: docs/performance.md. x86-64 alone.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use portcullis_ebpf::Options;
use portcullis_tests::{
    kernel::{self, probe},
    lock,
};

/// How often each is measured; the median counts.
const ROUNDS: usize = 9;

/// Functions that begin in the two ways, and what a call costs, in ns.
const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
__asm__(".globl with_nop\n.type with_nop, @function\nwith_nop: nop\nret\n.size with_nop, . - with_nop");
__asm__(".globl with_pad\n.type with_pad, @function\nwith_pad: endbr64\npush %rbp\nmov %rsp, %rbp\npop %rbp\nret\n.size with_pad, . - with_pad");
void with_nop(void);
void with_pad(void);
int main(int argc, char **argv) {
    void (*function)(void) = argv[1][0] == 'p' ? with_pad : with_nop;
    int count = atoi(argv[2]);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < count; i++) function();
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / count);
}
"#;

fn made(directory: &Path) -> PathBuf {
    let (source, program) = (directory.join("calls.c"), directory.join("calls"));
    fs::write(&source, SOURCE).expect("the source can be written");
    let made = Command::new("cc").args(["-O1", "-o"]).args([&program, &source]).status().expect("there is a C compiler");
    assert!(made.success());
    program
}

/// ns a call.
fn cost(program: &Path, which: &str) -> f64 {
    let output = Command::new(program).args([which, "200000"]).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints a number")
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let Some(_lock) = lock() else { return };
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let program = made(directory.path());
    let kernel = kernel::running();
    let options = Options::default();
    let attach = |function: &str| format!("uprobe:{}:{function}", program.display());
    let specs =
        [probe("nop", &attach("with_nop"), None, "@nop = count()"), probe("pad", &attach("with_pad"), None, "@pad = count()")];
    let session = kernel::session(&kernel, kernel::compile(&kernel, &specs, &options), &options, 4096);
    let open = session.load(&kernel).expect("it loads").attach().expect("it attaches").open();
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (cost(&program, "nop"), cost(&program, "pad"))).collect();
    open.close().detach();
    let bare = (cost(&program, "nop"), cost(&program, "pad"));
    let (nop, pad) = (median(rounds.iter().map(|r| r.0).collect()), median(rounds.iter().map(|r| r.1).collect()));
    let ratio = median(rounds.iter().map(|r| r.1 / r.0).collect());
    println!("a call without a probe: {:.0} ns and {:.0} ns", bare.0, bare.1);
    println!("with a uprobe on a nop: {nop:.0} ns; behind a landing pad: {pad:.0} ns; ratio {ratio:.2}");
}
