//! What each kind of attach point counts.

use std::{sync::atomic::Ordering, thread::sleep, time::Duration};

use portcullis_ebpf::Hook;

use super::{counted, hits, plugin, session};
use crate::kernel::{
    RunningKernel,
    testing::{counting, getppid, kernel_objects, lock, place},
};

/// A plugin's program on a tracepoint of the perf kind works by the same gate.
#[test]
fn perf_tracepoint() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let hook = Hook::PerfTracepoint { category: "syscalls".to_owned(), name: "sys_enter_getppid".to_owned() };
    let attached = session(vec![plugin("one", vec![counting(hook, Some(0))])], true).load(&kernel).unwrap().attach().unwrap();
    getppid(3);
    let open = attached.open();
    getppid(4);
    let closed = open.close();
    getppid(5);
    assert_eq!(hits(&closed.counts(0).unwrap()), (4, 8));
    closed.detach();
    assert_eq!(kernel_objects(), Vec::<String>::new());
}

/// The kernel's own count of runs is that of the program, hit or not.
#[test]
fn run_count() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let hook = Hook::PerfTracepoint { category: "syscalls".to_owned(), name: "sys_enter_getppid".to_owned() };
    let open = session(vec![plugin("one", vec![counting(hook, Some(0))])], true).load(&kernel).unwrap().attach().unwrap().open();
    let stats = crate::kernel::sys::enable_stats().unwrap();
    getppid(100);
    let runs = open.parts.member(0).unwrap().programs[0].loaded.info().unwrap().run_count;
    drop(stats);
    assert!(runs >= 100, "{runs}");
    assert_eq!(hits(&open.counts(0)), (100, 0));
}

#[inline(never)]
extern "C" fn traced(n: u64) -> u64 {
    std::hint::black_box(n)
}

/// Each call of a function of a program is a hit where it begins, and one where it returns.
#[test]
fn uprobes() {
    let Some(_lock) = lock() else { return };
    let (path, offset) = place(traced);
    for returns in [false, true] {
        let hook = Hook::Uprobe { path: path.clone(), offset, returns, semaphore: 0, pid: None };
        let work = || assert_eq!((0..20).map(|n| traced(n)).sum::<u64>(), 190);
        assert_eq!(counted(&hook, true, work), Some((20, 40)), "returns: {returns}");
        assert_eq!(counted(&hook, false, work), Some((20, 0)), "returns: {returns}");
    }
    // In one process alone, which is this one or another.
    let hook = |pid| Hook::Uprobe { path: path.clone(), offset, returns: false, semaphore: 0, pid: Some(pid) };
    let work = || assert_eq!(traced(1), 1);
    assert_eq!(counted(&hook(std::process::id()), true, work), Some((1, 2)));
    assert_eq!(counted(&hook(1), true, work), Some((0, 0)));
}

/// A counter of those who listen is up while a program is attached.
#[test]
fn semaphores() {
    #[unsafe(link_section = ".data")]
    static LISTENERS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let Some(_lock) = lock() else { return };
    let (path, offset) = place(traced);
    let (_, semaphore) = crate::kernel::testing::byte_in_file((&raw const LISTENERS) as u64);
    let hook = Hook::Uprobe { path, offset, returns: false, semaphore, pid: None };
    let listening = || LISTENERS.load(Ordering::SeqCst);
    let seen = std::cell::RefCell::new(Vec::new());
    let counts = counted(&hook, true, || {
        seen.borrow_mut().push(listening());
        traced(1);
    });
    assert_eq!((counts, listening()), (Some((1, 2)), 0));
    assert!(seen.take().iter().all(|count| *count > 0));
}

/// Functions of the kernel, where it has kprobes, and trampolines.
#[test]
fn kernel_functions() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let features = portcullis_ebpf::Kernel::features(&kernel);
    for returns in [false, true] {
        let kprobe = Hook::Kprobe { function: "__x64_sys_getppid".to_owned(), offset: 0, returns };
        let fentry = Hook::Fentry { module: None, function: "vfs_fsync_range".to_owned(), returns };
        for (hook, there) in [(kprobe, features.kprobe), (fentry, features.fentry)] {
            // The compiler does not ask for what is not there, which the kernel may refuse in any way.
            if there {
                let file = tempfile::tempfile().unwrap();
                let found = counted(&hook, true, || (0..10).for_each(|_| file.sync_all().map(|()| getppid(1)).unwrap()));
                // Other processes may call them, too.
                assert!(found.is_some_and(|(open, shut)| (10..1000).contains(&open) && (20..1000).contains(&shut)), "{found:?}");
            }
        }
    }
}

/// Time is counted from the opening on, on one CPU or on each.
#[test]
fn time() {
    let Some(_lock) = lock() else { return };
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    for (every_cpu, most) in [(false, 11), (true, 11 * cpus)] {
        let hook = Hook::PerfEvent { kind: 1, config: 0, period: 20_000_000, frequency: false, every_cpu };
        let (open, closed) = counted(&hook, true, || sleep(Duration::from_millis(200))).unwrap();
        assert!((5..=most).contains(&open) && closed == 0, "{open} {closed}");
    }
}

/// Each of the events that a program makes is a hit: here, that it waits.
#[test]
fn events() {
    let Some(_lock) = lock() else { return };
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES
    let hook = Hook::PerfEvent { kind: 1, config: 3, period: 1, frequency: false, every_cpu: true };
    let (open, closed) = counted(&hook, true, || (0..50).for_each(|_| sleep(Duration::from_millis(1)))).unwrap();
    assert!(open >= 50 && closed == 0, "{open} {closed}");
}
