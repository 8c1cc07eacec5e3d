//! What a program works with is its own, though the kernel preempts it in its midst, and another thread of that CPU runs it meanwhile.
//!
//! Only a kernel with preemption shows what there is to fear: see `own_stack` in host-ebpf/src/generate/mod.rs.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{thread::sleep, time::Duration};

use portcullis::kernel::Mechanism;
use portcullis_ebpf::Kernel as _;
use portcullis_tests::{
    gate::{Experiment, Load},
    kernel::{self, probe},
    lock, note, workload,
};

/// How many busy threads there are on each CPU.
const THREADS: usize = 3;

/// Programs of uprobes, which nothing keeps from running twice at a time on a CPU, find at their end what they put on their stack at
/// their beginning: the thread's number, around a long walk through a map.
#[test]
fn programs_of_uprobes_share_no_stack() {
    let Some(_lock) = lock() else { return };
    if !kernel::running().features().for_each_map {
        return note("skipped: this kernel has no loop over a map");
    }
    let attach = format!("uprobe:{}:workload_double", workload().display());
    // By `curtask`, since programs ask for `tid` once and keep that on their stack as well. The text makes the stack as large as the kernel
    // wants it to lend another (`BPF_PRIV_STACK_MIN_SIZE`, kernel/bpf/verifier.c).
    let body = "let @large = hash(16384); @large[0] = 1; @runs = count(); $comm = comm; $before = curtask->pid; $n = len(@large); \
                if curtask->pid != $before || $n != 1 { emit mixed { before: $before, after: curtask->pid, n: $n, comm: $comm } }";
    for mechanism in [Mechanism::Perf, Mechanism::Cheapest] {
        let kernel = kernel::running().with_mechanism(mechanism);
        let experiment = Experiment::new(&kernel, &[vec![probe("walk", &attach, None, body)]], &kernel::options());
        let load = Load::start_many(&["spins", "100000000"], THREADS);
        let traced = experiment.attach(&load.pids()).open();
        sleep(Duration::from_secs(2));
        let traced = traced.close();
        let (probes, streams) = traced.session.counts(0).unwrap();
        let runs = probes[0].completed;
        assert!(runs > 100, "{}: {runs} runs are too few to tell anything", experiment.mechanism());
        assert_eq!(
            streams[0].attempted,
            0,
            "{}: of {runs} runs, these found on their stack what others put there",
            experiment.mechanism()
        );
        note(&format!("{}: {runs} runs of {THREADS} threads on each CPU", experiment.mechanism()));
        traced.detach();
    }
}
