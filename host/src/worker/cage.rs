//! The worker locks itself in: before the first byte of the plugin is read, while there is one thread.
//!
//! What is left afterwards is a process without user, groups, capabilities, files, terminal or signals that mean something, which
//! holds two descriptors and can't open a third: `RLIMIT_NOFILE` is 5, so that even a library that wanted an epoll, an eventfd or a
//! socket would be refused. All of it is inherited by every thread that comes later.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Resource, Rlimit},
    thread::{CapabilitySet, CapabilitySets},
};

/// `nobody`, also outside of namespaces (`overflowuid`, kernel/sys.c).
pub const NOBODY: u32 = 65534;

/// What the worker holds.
#[derive(Debug)]
pub struct Held {
    /// The socket to the host: descriptor 3.
    pub socket: OwnedFd,
    /// The shared memory: descriptor 4.
    pub memory: OwnedFd,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("the worker can't lock itself in: {step}: {source}")]
pub struct CageError {
    step: &'static str,
    source: io::Error,
}

/// The step's error, named.
fn step<T>(step: &'static str, result: Result<T, impl Into<io::Error>>) -> Result<T, CageError> {
    result.map_err(|source| CageError { step, source: source.into() })
}

/// Takes the descriptors that the host passed as standard input and output, and gives up everything else.
pub fn enter() -> Result<Held, CageError> {
    // A session of its own: Ctrl-C and a closed terminal are the host's business. Only a process group leader fails here.
    if let Err(error) = rustix::process::setsid() {
        step("setsid", if error == rustix::io::Errno::PERM { Ok(()) } else { Err(error) })?;
    }
    ignore_signals();
    let held = descriptors()?;
    identity()?;
    step("PR_SET_NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true))?;
    step("PR_SET_DUMPABLE", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    limit("RLIMIT_CORE", Resource::Core, 0)?;
    limit("RLIMIT_NOFILE", Resource::Nofile, 5)?;
    let _ = rustix::thread::set_name(c"portcullis-work");
    Ok(held)
}

fn limit(name: &'static str, resource: Resource, value: u64) -> Result<(), CageError> {
    step(name, rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }))
}

/// The socket as 3, the memory as 4, `/dev/null` as 0 to 2, and nothing else.
fn descriptors() -> Result<Held, CageError> {
    close_from(3)?;
    let socket = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3))?;
    let memory = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdout(), 4))?;
    let null = step("/dev/null", rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
    for standard in 0..3 {
        // SAFETY: 0 to 2 belong to nobody in particular; what they were is held as 3 and 4.
        let result = unsafe { libc::dup2(null.as_raw_fd(), standard) };
        step("dup2", if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })?;
    }
    Ok(Held { socket, memory })
}

/// Uid, gid and groups of nobody where the host is root, and no capability in any set.
fn identity() -> Result<(), CageError> {
    let root = rustix::process::geteuid().is_root();
    // Dropping from the bounding set is itself privileged; without the privilege there is nothing that the set could give back,
    // given PR_SET_NO_NEW_PRIVS.
    let capabilities = step("capget", rustix::thread::capabilities(None))?;
    if capabilities.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            // EINVAL ends the list of those that this kernel knows.
            let Ok(there) = rustix::thread::capability_is_in_bounding_set(capability) else { break };
            if there {
                step("PR_CAPBSET_DROP", rustix::thread::remove_capability_from_bounding_set(capability))?;
            }
        }
    }
    if root {
        let (uid, gid) = (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
        step("setgroups", rustix::thread::set_thread_groups(&[]))?;
        step("setresgid", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
        step("setresuid", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    }
    let none = CapabilitySet::empty();
    step("PR_CAP_AMBIENT", rustix::thread::clear_ambient_capability_set())?;
    step("capset", rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }))
}

/// Closes every descriptor from `first` on: those that the host inherited without close-on-exec.
fn close_from(first: libc::c_uint) -> Result<(), CageError> {
    // SAFETY: nothing in this process owns a descriptor yet but 0 to 2, so none is closed behind its owner's back. The number is
    // close_range(2)'s, since Linux 5.9, which takes two descriptors and flags.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    step("close_range", if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

/// Signals that terminals, service managers and users send to whole groups; the worker ends when its socket closes.
fn ignore_signals() {
    let signals = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    for signal in signals {
        // SAFETY: SIG_IGN installs no code, and the numbers are those of signals that may be ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
