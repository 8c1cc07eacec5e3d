//! What it tries of the kernel: files, sockets, processes, objects, its own limits, and memory that it may only read.

use std::thread;

use super::{hostile, refused, tried};

/// No path is opened, made, removed or looked at, by whatever call.
#[test]
fn files() {
    refused("files", 15, &[]);
}

/// There is no socket but its own, and that one neither connects nor passes descriptors along.
#[test]
fn network() {
    refused("network", 15, &[]);
}

/// There is no other process, whichever way one is asked for, and no other program.
#[test]
fn processes() {
    refused("processes", 7, &[("clone3", libc::ENOSYS)]);
}

/// The host, given by its number, is neither traced nor read nor looked at.
#[test]
fn the_host_is_out_of_reach() {
    refused(&format!("others:{}", std::process::id()), 13, &[]);
}

/// Nobody is sent a signal, the host least of all.
#[test]
fn signals() {
    refused(&format!("signals:{}", std::process::id()), 11, &[]);
}

/// No BPF, perf or other object of the kernel's is made or found by its number.
#[test]
fn objects_of_the_kernel() {
    refused("objects", 20, &[]);
}

/// The memory in which events come can be read and nothing else, also while the host has it mapped to write to.
#[test]
fn columns_are_read_only() {
    let but = [("mprotect", libc::EACCES), ("madvise:remove", libc::EACCES), ("sendto", libc::ENOTSOCK)];
    refused("columns", 11, &but);
}

/// It holds five descriptors, of those that there could be, and gets no further one.
#[test]
fn descriptors() {
    let five: Vec<String> = (0..5).map(|descriptor| descriptor.to_string()).collect();
    let none: Vec<String> = (5..1100).map(|descriptor| descriptor.to_string()).collect();
    let five = five.iter().map(|name| (name.as_str(), 0));
    let none = none.iter().map(|name| (name.as_str(), libc::EBADF));
    refused("descriptors", 1104, &five.chain(none).collect::<Vec<_>>());
}

/// No limit is raised, no user, capability or namespace comes back, and nothing of the cage is taken down.
#[test]
fn the_cage_stays() {
    refused("loosen", 17, &[]);
}

/// Threads are bounded.
#[test]
fn a_thread_bomb() {
    let tried = tried("threads");
    let cpus = thread::available_parallelism().unwrap().get();
    let [(count, libc::EAGAIN)] = tried.as_slice() else { panic!("{tried:?}") };
    // Where the host is not root there is no such bound, and this test no sense.
    let bound = if rustix::process::geteuid().is_root() { 16 + cpus } else { usize::MAX };
    assert!(count.parse::<usize>().unwrap() <= bound, "{count}");
}

/// Memory is bounded: that of its component, and 2 GiB for the compiler.
#[test]
fn a_memory_bomb() {
    let tried = tried("memory");
    let [(mebibytes, libc::ENOMEM)] = tried.as_slice() else { panic!("{tried:?}") };
    assert!((1900..=2064).contains(&mebibytes.parse::<u64>().unwrap()), "{mebibytes}");
}

/// System calls of another architecture, with other numbers, end it: with SIGSYS, or SIGSEGV where the kernel has none.
#[test]
#[cfg(target_arch = "x86_64")]
fn system_calls_of_32_bit() {
    let error = hostile("compat").loaded().unwrap_err().cause.to_string();
    let ended = |signal| format!("its worker process ended unexpectedly (killed by signal {signal})");
    assert!([31, 11].map(ended).contains(&error), "{error}");
}
