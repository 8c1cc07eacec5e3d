//! A process of the host's own locks itself in: before it reads the first byte that others wrote, while there is one thread.
//!
//! What is left afterwards is a process without user, groups, capabilities, files, network, terminal, neighbours or signals that mean
//! something. Two kinds of process do this:
//!
//! - [`worker`]: runs a plugin. It holds two descriptors and can't open a third, unless doors are open ([`crate::doors`]): then it
//!   holds the directories that are granted, and can open what is in them, or sockets.
//! - [`symbolizer`]: parses files of traced programs. It holds its socket, and the one place that is left is for a descriptor that
//!   the host sends.
//!
//! The layers, each of which holds on its own:
//!
//! | where | what |
//! |---|---|
//! | [`spawn`] | the host starts the process in a pid namespace, and it ends with the host |
//! | `outside`: `user`, `cgroup`, `connections` | the host gives it a user of its own, and a cgroup that counts its memory; with a network door also one that keeps it to the granted addresses |
//! | `namespaces` | mounts, network, IPC, host name, cgroups and users of its own, all empty |
//! | `identity` | that user, without a capability in any set |
//! | `landlock` | no path, no port, no signal and no abstract socket of others |
//! | `seccomp` | the system calls that it needs, and no other |
//!
//! Most of these the kernel may lack, and the [`Missing`] are told to the host, who runs with what there is unless a [`Sandbox`] requires
//! all; a step that any kernel of today can do is an error
//! where it fails. All of it is inherited by every thread that comes later.

mod account;
mod cgroup;
mod connections;
mod identity;
mod landlock;
mod layers;
pub(crate) mod mounts;
mod namespaces;
mod outside;
mod sandbox;
mod seccomp;
pub mod spawn;
mod user;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Resource, Rlimit, Signal},
};

pub use account::{Account, Usage};
pub use cgroup::prepare;
pub use landlock::version as landlock_version;
pub(crate) use layers::join;
pub use layers::{Layer, Missing};
pub use outside::Outside;
pub use sandbox::{Lacking, Layers, Sandbox};
pub use user::{NOBODY, User};

use crate::doors::{Opened, pass};

/// What a symbolizer may allocate, bytes: the parsed debug information of a large program has some hundred MB.
pub const SYMBOLIZER_MEMORY: u64 = 1 << 30;

/// What a worker may allocate beside the memory of its component, bytes: Cranelift takes some hundred MB for the largest known.
const WORKER_MEMORY: u64 = 2 << 30;

/// What a worker may allocate in all whose component may have so many bytes of memory.
pub fn worker_memory(component: u64) -> u64 {
    WORKER_MEMORY.saturating_add(component)
}
/// How many files and connections a worker may have open at a time, where a door is open to some.
const OPEN_FILES: u64 = 64;

/// What its runtime opens to wait for connections: an event poll twice, an event descriptor, and one to spare.
const WAITING_FILES: u64 = 4;

/// How long a file may become that a worker writes, bytes.
const FILE_SIZE: u64 = 1 << 30;

/// What the worker holds.
#[derive(Debug)]
pub struct Held {
    /// The socket to the host: descriptor 3.
    pub socket: OwnedFd,
    /// The shared memory: descriptor 4.
    pub memory: OwnedFd,
    /// What this kernel, or this user, could not have.
    pub missing: Vec<Missing>,
    /// The doors that are open.
    pub doors: Opened,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("the process can't lock itself in: {step}: {source}")]
pub struct CageError {
    step: &'static str,
    source: io::Error,
}

/// The step's error, named.
fn step<T>(step: &'static str, result: Result<T, impl Into<io::Error>>) -> Result<T, CageError> {
    result.map_err(|source| CageError { step, source: source.into() })
}

/// What a system call returned: a negative number is an error.
fn returned(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A process that could not lock itself in, and how it says so.
#[derive(Debug)]
pub struct Uncaged {
    /// Why.
    pub error: CageError,
    /// The socket to the host; `None` while it is standard input yet.
    pub socket: Option<OwnedFd>,
}

impl From<CageError> for Uncaged {
    fn from(error: CageError) -> Uncaged {
        Uncaged { error, socket: None }
    }
}

/// Locks in a worker whose component may have so many bytes of memory, as this user where the host is root: takes the descriptors that
/// the host passed as standard input and output, and gives up everything else but the doors that it is told of, if it is told of `some`.
pub fn worker(component: u64, user: User, some_doors: bool) -> Result<Held, Uncaged> {
    let mut missing = Vec::new();
    leave_terminal()?;
    close_from(3)?;
    let socket = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3))?;
    match lock_in_worker(component, user, some_doors.then_some(&socket), &mut missing) {
        Ok((memory, doors)) => Ok(Held { socket, memory, missing, doors }),
        Err(error) => Err(Uncaged { error, socket: Some(socket) }),
    }
}

/// `doors` is where the doors come from, if some are open.
fn lock_in_worker(
    component: u64,
    user: User,
    doors: Option<&OwnedFd>,
    missing: &mut Vec<Missing>,
) -> Result<(OwnedFd, Opened), CageError> {
    let memory = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdout(), 4))?;
    null_standard()?;
    let doors = doors.map_or_else(|| Ok(Opened::default()), |socket| step("doors", pass::receive(socket)))?;
    if !doors.network.is_empty() {
        // Before Landlock, which would answer first.
        connections::check(missing);
    }
    let other = give_up_privileges(user, &doors, missing)?;
    landlock::restrict(&doors, missing)?;
    limit("RLIMIT_DATA", Resource::Data, worker_memory(component))?;
    if other {
        limit("RLIMIT_NPROC", Resource::Nproc, most_threads(user.is_own()))?;
    }
    limit("RLIMIT_NOFILE", Resource::Nofile, 5 + descriptors(&doors))?;
    let calls = seccomp::worker_calls(&doors);
    // A worker is still caged by all the rest; whether that is enough is the host's to say.
    if let Err(error) = seccomp::restrict(&calls) {
        missing.push(Missing::new(Layer::Seccomp, &error));
    }
    // Said last: who reads this name from outside knows that all of it is done.
    let _ = rustix::thread::set_name(c"portcullis-work");
    Ok((memory, doors))
}

/// Locks in a symbolizer, as this user where the host is root: takes the socket that the host passed as standard input, and gives up
/// everything else. No thread can be started afterwards, and SIGALRM ends the process.
pub fn symbolizer(user: User) -> Result<(OwnedFd, Vec<Missing>), Uncaged> {
    let mut missing = Vec::new();
    leave_terminal()?;
    // SAFETY: SIG_DFL installs no code; SIGALRM exists.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) };
    close_from(3)?;
    let socket = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3))?;
    match lock_in_symbolizer(user, &mut missing) {
        Ok(()) => Ok((socket, missing)),
        Err(error) => Err(Uncaged { error, socket: Some(socket) }),
    }
}

fn lock_in_symbolizer(user: User, missing: &mut Vec<Missing>) -> Result<(), CageError> {
    null_standard()?;
    let shut = Opened::default();
    give_up_privileges(user, &shut, missing)?;
    landlock::restrict(&shut, missing)?;
    limit("RLIMIT_DATA", Resource::Data, SYMBOLIZER_MEMORY)?;
    limit("RLIMIT_NOFILE", Resource::Nofile, 5)?;
    let _ = rustix::thread::set_name(c"portcullis-syms");
    // It is sent descriptors, so it does not go without.
    step("PR_SET_SECCOMP", seccomp::restrict(&seccomp::symbolizer_calls()))
}

/// How many descriptors a worker may have beside its first five: those of doors.
fn descriptors(doors: &Opened) -> u64 {
    match doors.has_waits() {
        true => doors.directories.len() as u64 + OPEN_FILES + if doors.network.is_empty() { 0 } else { WAITING_FILES },
        false => 0,
    }
}

/// A session of its own: Ctrl-C and a closed terminal are the host's business.
fn leave_terminal() -> Result<(), CageError> {
    // Only a process group leader fails here.
    if let Err(error) = rustix::process::setsid() {
        step("setsid", if error == rustix::io::Errno::PERM { Ok(()) } else { Err(error) })?;
    }
    ignore_signals();
    Ok(())
}

/// Leaves the process neither neighbours nor rights, but for what these doors lead to; true if it is another user now than the host.
fn give_up_privileges(user: User, doors: &Opened, missing: &mut Vec<Missing>) -> Result<bool, CageError> {
    // Where memory runs short, this goes first (proc_pid_oom_score_adj(5)). It is a favour to the others; where it isn't granted,
    // the limit of memory remains.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Namespaces that a privileged process makes belong to the host's users: whatever else happens, nobody in this process has a right
    // in them. Whoever has no privilege makes them from within a user namespace.
    let around = namespaces::enter_privileged(doors, missing);
    let other = identity::become_user(user)?;
    namespaces::enter_users(around, doors, missing);
    identity::drop_capabilities()?;
    step("PR_SET_NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true))?;
    step("PR_SET_DUMPABLE", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    // It ends with the host also where it would not hear of the end. A change of the user would undo this, so it comes after.
    step("PR_SET_PDEATHSIG", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    limit("RLIMIT_CORE", Resource::Core, 0)?;
    if doors.has_writes() {
        // A file that would become too long is an error then, not the end.
        // SAFETY: SIG_IGN installs no code; SIGXFSZ may be ignored.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
    limit("RLIMIT_FSIZE", Resource::Fsize, if doors.has_writes() { FILE_SIZE } else { 0 })?;
    Ok(other)
}

fn limit(name: &'static str, resource: Resource, value: u64) -> Result<(), CageError> {
    step(name, rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }))
}

/// How many threads there may be of a user: the worker's few and one of the compiler's a CPU. A user that is not one worker's `own` has
/// several: the kernel counts them since Linux 5.14 in the user namespace, which is one process; before, on the whole machine, which is
/// all workers. Hence room for thirty of them.
fn most_threads(own: bool) -> u64 {
    let cpus = std::thread::available_parallelism().map_or(64, std::num::NonZero::get) as u64;
    (16 + cpus) * if own { 1 } else { 32 }
}

/// `/dev/null` as 0 to 2.
fn null_standard() -> Result<(), CageError> {
    let null = step("/dev/null", rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
    for standard in 0..3 {
        // SAFETY: 0 to 2 belong to nobody in particular; what they were is held as 3 and 4.
        let result = unsafe { libc::dup2(null.as_raw_fd(), standard) };
        step("dup2", if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })?;
    }
    Ok(())
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
