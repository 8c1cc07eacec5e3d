//! The ways by which the two ends of a call are attached to, as far as this kernel has them.

use portcullis::kernel::{Mechanism, RunningKernel};
use portcullis_ebpf::{Kernel as _, Options, ProbeSpec, kernel::Features};
use portcullis_tests::{
    gate::{Experiment, Lesser},
    kernel::{self, probe},
    workload,
};

/// How many threads are in a call over an opening or a close.
pub(crate) const THREADS: usize = 8;

/// A way.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    kernel: RunningKernel,
    features: Features,
    /// The spans of a thread that waits to be told, and of the load.
    spec: ProbeSpec,
    /// What makes such spans as fast as it can.
    pub(crate) load: &'static [&'static str],
    /// How many rounds are to be done: fewer where each costs the kernel a tenth of a second and more.
    pub(crate) rounds: usize,
}

impl Way {
    /// The plugin by this way.
    pub(crate) fn experiment(&self, options: &Options) -> Experiment<'_> {
        let compiled_for = Lesser::new(&self.kernel, self.features);
        Experiment::within(&self.kernel, &compiled_for, &[vec![self.spec.clone()]], options)
    }
}

/// The environment can say how many rounds there are at most: an emulated machine has not the time for more.
fn most_rounds() -> usize {
    std::env::var("GUARANTEE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usize::MAX)
}

/// All that this kernel has.
pub(crate) fn ways() -> Vec<Way> {
    let features = kernel::running().features();
    let path = workload();
    let path = path.to_str().unwrap();
    let syscall = "span:syscall:read".to_owned();
    let uprobe = format!("span:uprobe:{path}:workload_wait, span:uprobe:{path}:workload_double");
    let way = |name, mechanism, change: fn(Features) -> Features, attach: &str, load, rounds| {
        let kernel = kernel::running().with_mechanism(mechanism);
        let features = change(kernel.features());
        let spec = probe("span", attach, None, "emit done { tid, duration }");
        Way { name, kernel, features, spec, load, rounds: most_rounds().min(rounds) }
    };
    let reads: &[&str] = &["readers", "100000", "1"];
    let calls: &[&str] = &["spins", "100000000"];
    let mut ways = vec![way("system call, perf tracepoints", Mechanism::Perf, |all| all, &syscall, reads, 5)];
    if features.raw_tracepoint {
        ways.push(way("system call, raw tracepoints", Mechanism::Cheapest, |all| all, &syscall, reads, 100));
    }
    if features.uprobe_session {
        ways.push(way("function of a program, session", Mechanism::Cheapest, |all| all, &uprobe, calls, 50));
    }
    if features.uprobe_multi {
        let pairs = |all| Features { uprobe_session: false, ..all };
        ways.push(way("function of a program, pair of links", Mechanism::Cheapest, pairs, &uprobe, calls, 50));
    }
    if features.uprobe {
        ways.push(way("function of a program, perf events", Mechanism::Perf, |all| all, &uprobe, calls, 5));
    }
    // Not by kprobes: the kernel follows fewer calls at a time to their return than there are threads here, and misses the others (`maxactive`,
    // kernel/kprobes.c; `fprobe_init_rethook`, kernel/trace/fprobe.c).
    if features.fentry {
        ways.push(way("function of the kernel, trampolines", Mechanism::Cheapest, |all| all, "span:kfunc:vfs_read", reads, 50));
    }
    ways
}
