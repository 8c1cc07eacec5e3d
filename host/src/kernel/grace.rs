//! Grace periods: waiting for every program that was running.
//!
//! An update of a map of maps returns only after `synchronize_rcu()` (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c, since Linux
//! 4.20), so that nobody still uses the inner map that was replaced. Here the same inner map replaces itself in a map that no program
//! knows, only for the wait.
//!
//! # Which programs it waits for
//!
//! Those that run within an RCU read section, which is every one that Portcullis loads, since it loads none that may sleep
//! (BPF_F_SLEEPABLE): for those the kernel has Tasks Trace RCU, for which this does not wait.
//!
//! | programs | the section around a run |
//! |---|---|
//! | raw tracepoints (`tp_btf`) | `__bpf_trace_run`, kernel/trace/bpf_trace.c: `rcu_read_lock` |
//! | perf tracepoints, kprobes through perf | `trace_call_bpf`, kernel/trace/bpf_trace.c: `rcu_read_lock` |
//! | uprobes through perf | `bpf_prog_run_array_uprobe`, include/linux/bpf.h: Tasks Trace RCU around all, and within it `rcu_read_lock` around each program that can't sleep; before Linux 6.0 `trace_call_bpf` |
//! | `uprobe.multi`, sessions | `uprobe_prog_run`, kernel/trace/bpf_trace.c: `rcu_read_lock` unless the program may sleep |
//! | `kprobe.multi`, sessions | `kprobe_multi_link_prog_run`, kernel/trace/bpf_trace.c: `rcu_read_lock` |
//! | `fentry`, `fexit`, `lsm` | `__bpf_prog_enter_recur`, kernel/bpf/trampoline.c: `rcu_read_lock` |
//! | time, events, watchpoints | `bpf_overflow_handler`, kernel/events/core.c: `rcu_read_lock` |
//! | iterators | `bpf_iter_run_prog`, kernel/bpf/bpf_iter.c: `rcu_read_lock` for each element; the pass as a whole is stopped before |
//! | `begin`, `end` | `__bpf_prog_test_run_raw_tp`, net/bpf/test_run.c: `rcu_read_lock`, and the host waits for the call |
//!
//! The load of the gate word is within the section. So a run whose section began before the wait is waited for, and one that begins
//! later sees every store from before it: RCU gives both.
//!
//! # What it does not wait for
//!
//! A thread on its way into a program. Where the gate has closed that is no matter: the thread loads the closed word. Where there is no
//! gate, and a program is detached, it is: the thread may have taken the program from the list of those to run, and run it later.
//! While it is on that way the kernel protects the list by other means than RCU: the tracepoints of system calls by Tasks Trace RCU
//! since Linux 6.13 (`__DECLARE_TRACE_SYSCALL`, include/linux/tracepoint.h), all of them by SRCU in newer ones (`tracepoint_srcu`), and
//! on a kernel with preemption the thread can stand there for long. [`Departure`] waits for those. Links of other kinds are waited for
//! by the kernel when they are closed (`uprobe_unregister_sync`, `unregister_fprobe`, `perf_trace_event_unreg`), but for `fentry`,
//! `fexit` and `lsm`: their old trampolines are left to RCU Tasks (`bpf_tramp_image_put`), and nothing that a user can call waits for that.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::MapData;
use portcullis_ebpf::{Kernel, kernel::format};

use super::{
    map::{MapError, create_mapped},
    sys,
};
use crate::clock;

/// What it takes to wait.
#[derive(Debug)]
pub struct Grace {
    outer: OwnedFd,
    inner: MapData,
}

impl Grace {
    /// Makes the two maps.
    pub fn create() -> Result<Grace, MapError> {
        let (inner, _) = create_mapped("pc_grace", 8)?;
        let outer = sys::create_array_of_maps(inner.fd().as_fd());
        let outer = outer.map_err(|error| MapError {
            map: "pc_grace".to_owned(),
            action: "create",
            bytes: 4,
            error: error.errno.into(),
        })?;
        Ok(Grace { outer, inner })
    }

    /// Waits until every program that was running at the call has returned. The time after that, CLOCK_MONOTONIC ns. Takes some
    /// 10 ms.
    pub fn wait(&self) -> sys::Result<u64> {
        sys::set_array_of_maps(self.outer.as_fd(), self.inner.fd().as_fd())?;
        Ok(clock::now())
    }
}

/// What it takes to wait for threads on their way from a tracepoint into a program that was detached there.
///
/// Closing a perf event of a tracepoint that nobody else uses returns after `tracepoint_synchronize_unregister()`
/// (`perf_trace_event_unreg`, kernel/trace/trace_event_perf.c), which is made for that, whatever it is that the kernel protects its
/// tracepoints by. Takes up to 100 ms.
#[derive(Debug)]
pub struct Departure {
    event: OwnedFd,
}

impl Departure {
    /// A tracepoint that every kernel has, that next to never hits, and that hardly anybody is interested in.
    const POINT: (&str, &str) = ("sched", "sched_kthread_stop");

    /// Opens the event, which does nothing. `None` where there is none, as without tracefs: nothing is waited for then.
    pub fn prepare(kernel: &impl Kernel) -> Option<Departure> {
        let (category, name) = Departure::POINT;
        let text = kernel.tracepoint_format(category, name).ok()??;
        let event = sys::perf_event_open_tracepoint(format::parse(&text).ok()?.id).ok()?;
        Some(Departure { event })
    }

    /// Waits. To be called when the programs are detached.
    pub fn wait(self) {
        drop(self.event);
    }
}
