//! Load on every CPU, and threads that are in a call for as long as a test wants.

use std::{
    ops::Range,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use portcullis::clock;
use rustix::{
    process::{Pid, Signal, kill_process, setpriority_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use super::PATIENCE;
use crate::{kernel::Told, workload};

/// The CPUs that this process may run on.
fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("a process knows its CPUs");
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// A workload that does not end, on each CPU.
#[derive(Debug)]
pub struct Load {
    children: Vec<Child>,
}

impl Load {
    /// Starts it.
    pub fn start(arguments: &[&str]) -> Load {
        Load::start_many(arguments, 1)
    }

    /// Starts it so many times on each CPU, where they take turns.
    pub fn start_many(arguments: &[&str], times: usize) -> Load {
        let start = |cpu| {
            let child = std::process::Command::new(workload()).args(arguments).stdin(Stdio::null()).spawn();
            let child = child.expect("the workload starts");
            let mut only = CpuSet::new();
            only.set(cpu);
            let pid = Some(Pid::from_child(&child));
            sched_setaffinity(pid, &only).expect("the workload can be put on a CPU");
            setpriority_process(pid, 0).expect("the workload can be of ordinary priority");
            child
        };
        let children = (0..times).flat_map(|_| cpus()).map(start).collect();
        // The test comes first when it has something to do: what it waits for is short.
        setpriority_process(None, -19).expect("a test can be of high priority");
        Load { children }
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Their threads.
    pub fn threads(&self) -> Vec<u32> {
        let tasks = self.pids().into_iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        tasks.flatten().flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
    }

    /// Stops it for as long as the closure takes. A thread stops on its way out of the kernel, so then none is in a program.
    pub fn stopped<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        for tid in self.threads() {
            wait_until(&format!("thread {tid} is stopped"), || {
                // The state comes after the name, which may hold anything (proc_pid_stat(5)).
                let stat = std::fs::read_to_string(format!("/proc/{tid}/stat"));
                stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
            });
        }
        let done = meanwhile();
        self.signal(Signal::CONT);
        done
    }

    fn signal(&self, signal: Signal) {
        for child in &self.children {
            kill_process(Pid::from_child(child), signal).expect("the workload lives, and is the test's own");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Threads that are in `workload_wait`, and there in read(2), until they are told to return; then they enter it again.
#[derive(Debug)]
pub struct Blocked {
    processes: Vec<Told>,
    /// When each of them entered: between these times.
    entered: Vec<Range<u64>>,
}

impl Blocked {
    /// Starts so many processes of one thread each. Each is in the call.
    pub fn start(count: usize) -> Blocked {
        let start = clock::now();
        let processes: Vec<Told> = (0..count).map(|_| Told::start(&["waits-to-be-told"]).0).collect();
        let mut blocked = Blocked { processes, entered: vec![start..start; count] };
        blocked.wait(start);
        blocked
    }

    /// Has each return from the call and enter it again.
    pub fn go_on(&mut self) {
        let told = clock::now();
        self.processes.iter_mut().for_each(Told::tell);
        self.processes.iter_mut().for_each(|one| drop(one.listen()));
        self.wait(told);
    }

    /// The threads, each with the time between which it entered the call that it is in.
    pub fn threads(&self) -> Vec<(u32, Range<u64>)> {
        self.pids().into_iter().zip(self.entered.iter().cloned()).collect()
    }

    /// Its processes: each is its own and only thread.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Told::pid).collect()
    }

    /// Waits until all are in the call, which they entered after `told`.
    fn wait(&mut self, told: u64) {
        for (process, entered) in self.processes.iter().zip(&mut self.entered) {
            let path = format!("/proc/{}/syscall", process.pid());
            // read(2), whose number is 0, of descriptor 0.
            let call = format!("{} 0x0 ", libc::SYS_read);
            wait_until(&format!("{path} is in read(2)"), || {
                std::fs::read_to_string(&path).is_ok_and(|now| now.starts_with(&call))
            });
            *entered = told..clock::now();
        }
    }
}
