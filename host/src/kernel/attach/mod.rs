//! Attaching: one file for each mechanism.

mod breakpoint;
mod iter;
mod kprobe;
mod kprobe_multi;
mod perf_event;
mod perf_tracepoint;
pub(super) mod pmu;
mod tp_btf;
mod uprobe;
mod uprobe_multi;

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    thread,
};

use portcullis_ebpf::{
    Hook, Kernel,
    kernel::SourceError,
    output::{KernelPlace, UserPlace},
};
use rustix::io::Errno;

pub use iter::Pass;

use super::{
    PRIVILEGE, closer,
    sys::{self, SysError},
};

/// How many threads detach what is slow to detach. More do not help: the kernel lets one through at a time for half of the work.
const DETACHING_THREADS: usize = 4;

/// An attached program. Dropping it detaches.
#[derive(Debug)]
pub struct Link {
    fds: Vec<OwnedFd>,
    /// Closing waits for a grace period of its own, 65 to 100 ms.
    slow: bool,
    /// It is disabled until it is started.
    timed: bool,
}

impl Link {
    fn quick(fd: OwnedFd) -> Link {
        Link { fds: vec![fd], slow: false, timed: false }
    }

    fn slow(fd: OwnedFd) -> Link {
        Link { fds: vec![fd], slow: true, timed: false }
    }

    /// Has time and events be counted from now on; other links need no start.
    pub fn start(&self) -> Result<(), SysError> {
        self.switch(sys::perf_event_enable)
    }

    /// The contrary.
    pub fn stop(&self) -> Result<(), SysError> {
        self.switch(sys::perf_event_disable)
    }

    fn switch(&self, call: fn(BorrowedFd<'_>) -> sys::Result<()>) -> Result<(), SysError> {
        if self.timed { self.fds.iter().try_for_each(|fd| call(fd.as_fd())) } else { Ok(()) }
    }
}

/// A program could not be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The kernel has no such attach point.
    #[error("this kernel has no {0}")]
    NoTarget(String),
    /// The kernel refused.
    #[error("{error}{way_out}")]
    Refused {
        /// The call and why.
        error: SysError,
        /// What may help.
        way_out: String,
    },
    /// The kernel refused the place.
    #[error("{error}: no probe can be put there")]
    NoPlace {
        /// The call and why.
        error: SysError,
    },
    /// Others are there.
    #[error("{error}: the function has as many programs as it takes, or another that bears no company; other tools count")]
    Full {
        /// The call and why.
        error: SysError,
    },
    /// One of many places that one link was to serve.
    #[error("at {place}: {error}")]
    OneOf {
        /// The place.
        place: String,
        /// Why not there.
        error: Box<AttachError>,
    },
    /// The debug registers are taken.
    #[error("{error}: all debug registers of the processor are in use (x86-64 has four); debuggers and other tools count")]
    NoRegister {
        /// The call and why.
        error: SysError,
    },
    /// More than one function has this name.
    #[error("this kernel has several functions `{0}`, and which of them is meant can't be said")]
    Ambiguous(String),
    /// What the kernel says of the attach point could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl From<SysError> for AttachError {
    fn from(error: SysError) -> AttachError {
        let way_out = match error.errno {
            Errno::PERM => format!("; attaching needs {PRIVILEGE}"),
            // The events of programs are for administrators, those of the kernel for CAP_PERFMON (kernel/events/core.c).
            Errno::ACCESS if error.call.starts_with("perf_event_open") => {
                "; this event needs root, or the capability CAP_SYS_ADMIN".to_owned()
            }
            Errno::ACCESS => {
                "; the program reads past the end of the tracepoint's record: a bug of Portcullis, please report it".to_owned()
            }
            Errno::MFILE => "; too many open files: raise the limit (ulimit -n), or use fewer probes".to_owned(),
            // BPF_TRACE_MAX_PROGS, include/linux/trace_events.h.
            Errno::TOOBIG => "; a tracepoint takes 64 programs at most, and other tools count".to_owned(),
            _ => String::new(),
        };
        AttachError::Refused { error, way_out }
    }
}

/// Attaches a program to its hook.
pub fn attach(hook: &Hook, program: BorrowedFd<'_>, kernel: &impl Kernel) -> Result<Link, AttachError> {
    match hook {
        Hook::TpBtf { .. } => tp_btf::attach(program),
        Hook::PerfTracepoint { category, name } => perf_tracepoint::attach(category, name, program, kernel),
        Hook::Kprobe { function, offset, returns } => kprobe::attach(function, *offset, *returns, program),
        Hook::Fentry { .. } | Hook::Lsm { .. } => tp_btf::attach_function(program),
        Hook::Uprobe { path, offset, returns, semaphore, pid } => {
            let place = uprobe::Place { path, offset: *offset, returns: *returns, semaphore: *semaphore, pid: *pid };
            uprobe::attach(&place, program)
        }
        Hook::KprobeMulti { places, ends } => kprobe_multi::attach(places, *ends, program),
        Hook::UprobeMulti { path, places, ends } => uprobe_multi::attach(path, places, *ends, program),
        Hook::PerfEvent { kind, config, period, frequency, every_cpu } => {
            let event =
                perf_event::Event { kind: *kind, config: *config, period: *period, frequency: *frequency, every_cpu: *every_cpu };
            perf_event::attach(&event, program, kernel.possible_cpus())
        }
        Hook::Breakpoint { address, length, access } => {
            breakpoint::attach(*address, *length, *access, program, kernel.possible_cpus())
        }
        Hook::Iter { .. } => iter::attach(program),
        // The host runs it: there is nothing to attach to.
        Hook::Host(_) => Ok(Link { fds: Vec::new(), slow: false, timed: false }),
    }
}

/// A place among several, as errors name it.
trait Place {
    fn name(&self) -> String;
}

impl Place for KernelPlace {
    fn name(&self) -> String {
        format!("`{}`", self.function)
    }
}

impl Place for UserPlace {
    fn name(&self) -> String {
        format!("{:#x}", self.offset)
    }
}

/// One link for many places. The kernel refuses it without saying which place it does not like; then each is asked for alone.
fn together<P: Place>(places: &[P], link: impl Fn(&[P]) -> Result<OwnedFd, AttachError>) -> Result<Link, AttachError> {
    let error = match link(places) {
        Ok(fd) => return Ok(Link::quick(fd)),
        Err(error) => error,
    };
    if places.len() == 1
        || matches!(error, AttachError::Refused { error: SysError { errno: Errno::PERM | Errno::MFILE, .. }, .. })
    {
        return Err(error);
    }
    let bad = places.iter().find_map(|place| link(std::slice::from_ref(place)).err().map(|error| (place, error)));
    Err(bad.map_or(error, |(place, error)| AttachError::OneOf { place: place.name(), error: Box::new(error) }))
}

/// Detaches all behind the caller's back: at once what is quick, and the slow ones by a process that has nothing else to do. Where there
/// can be no such process, as by [`detach`].
pub fn leave(links: Vec<Link>) {
    let fds: Vec<OwnedFd> = detach_quick(links).into_iter().flat_map(|link| link.fds).collect();
    if !fds.is_empty() && closer::hand_over(&fds).is_err() {
        detach(fds.into_iter().map(Link::slow).collect());
    }
}

/// Detaches what is quick to detach; the rest.
fn detach_quick(mut links: Vec<Link>) -> Vec<Link> {
    links.retain(|link| link.slow);
    links
}

/// Detaches all, the slow ones on several threads, and returns when that is done.
pub fn detach(links: Vec<Link>) {
    let slow = detach_quick(links);
    let share = slow.len().div_ceil(DETACHING_THREADS).max(1);
    let mut slow = slow.into_iter();
    thread::scope(|scope| {
        while slow.len() > 0 {
            let links: Vec<Link> = slow.by_ref().take(share).collect();
            // Without a thread the closure is dropped here, and its links with it: that detaches as well.
            let _ = thread::Builder::new().name("detach".to_owned()).spawn_scoped(scope, move || drop(links));
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernel::{
        sys::{Call, fake},
        testing::{NoKernel, null},
    };

    fn perf(name: &str) -> Hook {
        Hook::PerfTracepoint { category: "sched".to_owned(), name: name.to_owned() }
    }

    /// A perf event is opened by the tracepoint's number, gets its program, and is enabled.
    #[test]
    fn perf_tracepoint_in_steps() {
        let program = null();
        let mut steps = vec![];
        let (send, receive) = std::sync::mpsc::channel();
        let _fake = fake::install(move |call| {
            match call {
                Call::PerfEventOpen { attr, .. } => {
                    steps.push(attr.config);
                    send.send(steps.clone()).unwrap();
                    return Some(Ok(fake::descriptor()));
                }
                Call::PerfEventIoctl { request, .. } => steps.push((*request).into()),
                Call::Bpf { .. } => unreachable!("no bpf call"),
            }
            send.send(steps.clone()).unwrap();
            Some(Ok(0))
        });
        let link = attach(&perf("sched_switch"), program.as_fd(), &NoKernel::new()).unwrap();
        let (set, enable) = (aya_obj::generated::PERF_EVENT_IOC_SET_BPF.into(), aya_obj::generated::PERF_EVENT_IOC_ENABLE.into());
        assert_eq!(receive.try_iter().last().unwrap(), [372, set, enable]);
        detach(vec![link]);
    }

    /// Each refusal says what was called, why it failed, and what may help.
    #[test]
    fn refusals() {
        let check = |hook: Hook, errno: Errno, expect: &str| {
            let program = null();
            let _fake = fake::install(move |_| Some(Err(errno)));
            assert_eq!(attach(&hook, program.as_fd(), &NoKernel::new()).unwrap_err().to_string(), expect);
        };
        check(perf("gone"), Errno::NOENT, "this kernel has no tracepoint `sched:gone`");
        check(perf("broken"), Errno::NOENT, "the format of the tracepoint sched:broken: no line begins with `ID:`");
        check(
            perf("sched_switch"),
            Errno::PERM,
            &format!("perf_event_open(2): Operation not permitted (os error 1); attaching needs {PRIVILEGE}"),
        );
        check(
            Hook::Breakpoint { address: 8, length: 8, access: 2 },
            Errno::NOSPC,
            "perf_event_open(2): No space left on device (os error 28): all debug registers of the processor are in use (x86-64 has \
             four); debuggers and other tools count",
        );
        check(
            Hook::TpBtf { name: "sys_enter".to_owned() },
            Errno::INVAL,
            "bpf(BPF_RAW_TRACEPOINT_OPEN): Invalid argument (os error 22)",
        );
    }
}
