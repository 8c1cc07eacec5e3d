//! A process of the host's own locks itself in: before it reads the first byte that others wrote, while there is one thread.
//!
//! What is left afterwards is a process without user, groups, capabilities, files, terminal or signals that mean something. Two
//! kinds of process do this:
//!
//! - [`worker`]: runs a plugin. It holds two descriptors and can't open a third: `RLIMIT_NOFILE` is 5, so that even a library that
//!   wanted an epoll, an eventfd or a socket would be refused.
//! - [`symbolizer`]: parses files of traced programs. It holds its socket, and the one place that is left is for a descriptor that
//!   the host sends. It can't fill that place itself: Landlock leaves it no path, and a seccomp filter no call that opens anything.
//!
//! All of it is inherited by every thread that comes later.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Resource, Rlimit},
    thread::{CapabilitySet, CapabilitySets},
};

/// `nobody`, also outside of namespaces (`overflowuid`, kernel/sys.c).
pub const NOBODY: u32 = 65534;

/// What a symbolizer may allocate, bytes: the parsed debug information of a large program has some hundred MB.
const SYMBOLIZER_MEMORY: u64 = 1 << 30;

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
#[error("the process can't lock itself in: {step}: {source}")]
pub struct CageError {
    step: &'static str,
    source: io::Error,
}

/// The step's error, named.
fn step<T>(step: &'static str, result: Result<T, impl Into<io::Error>>) -> Result<T, CageError> {
    result.map_err(|source| CageError { step, source: source.into() })
}

/// Locks in a worker: takes the descriptors that the host passed as standard input and output, and gives up everything else.
pub fn worker() -> Result<Held, CageError> {
    leave_terminal()?;
    close_from(3)?;
    let socket = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3))?;
    let memory = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdout(), 4))?;
    null_standard()?;
    give_up_privileges()?;
    limit("RLIMIT_NOFILE", Resource::Nofile, 5)?;
    let _ = rustix::thread::set_name(c"portcullis-work");
    Ok(Held { socket, memory })
}

/// Locks in a symbolizer: takes the socket that the host passed as standard input, and gives up everything else. No thread can be
/// started afterwards, and SIGALRM ends the process.
pub fn symbolizer() -> Result<OwnedFd, CageError> {
    leave_terminal()?;
    // SAFETY: SIG_DFL installs no code; SIGALRM exists.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) };
    close_from(3)?;
    let socket = step("dup", rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3))?;
    null_standard()?;
    // Where memory runs short, this goes first (proc_pid_oom_score_adj(5)). It is a favour to the others; where it isn't granted,
    // the limit below remains.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    give_up_privileges()?;
    landlock()?;
    limit("RLIMIT_DATA", Resource::Data, SYMBOLIZER_MEMORY)?;
    limit("RLIMIT_NOFILE", Resource::Nofile, 5)?;
    let _ = rustix::thread::set_name(c"portcullis-syms");
    seccomp(SYMBOLIZER_CALLS)?;
    Ok(socket)
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

fn give_up_privileges() -> Result<(), CageError> {
    identity()?;
    step("PR_SET_NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true))?;
    step("PR_SET_DUMPABLE", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    limit("RLIMIT_CORE", Resource::Core, 0)
}

fn limit(name: &'static str, resource: Resource, value: u64) -> Result<(), CageError> {
    step(name, rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }))
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

/// The version of Landlock's interface, if this kernel has it.
pub fn landlock_version() -> Option<u32> {
    // include/uapi/linux/landlock.h: LANDLOCK_CREATE_RULESET_VERSION.
    const VERSION: libc::c_ulong = 1;
    // SAFETY: without attributes, the call only returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0_usize, VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// Leaves no path of the file system within reach, where the kernel has Landlock (Linux 5.13): a rule set that handles every kind
/// of access, without a rule.
fn landlock() -> Result<(), CageError> {
    // include/uapi/linux/landlock.h: the number of kinds of access by version of the ABI.
    let kinds = match landlock_version() {
        // Absent, or not enabled.
        None => return Ok(()),
        Some(1) => 13,
        Some(2) => 14,
        Some(3 | 4) => 15,
        _ => 16,
    };
    let handled: u64 = (1 << kinds) - 1;
    // SAFETY: the attributes begin with the handled kinds of access, and are as long as is said.
    let rules = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of::<u64>(), 0) };
    let rules = RawFd::try_from(rules)
        .map_err(io::Error::other)
        .and_then(|fd| if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) });
    let rules = step("landlock_create_ruleset", rules)?;
    // SAFETY: the descriptor was made above and belongs to nobody else.
    let rules = unsafe { OwnedFd::from_raw_fd(rules) };
    // SAFETY: takes a descriptor and no flags.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    step("landlock_restrict_self", if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

/// What one thread needs that receives descriptors, maps them, allocates, answers and ends.
const SYMBOLIZER_CALLS: &[libc::c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_setitimer,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // abort(3)
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Refuses every system call but `allowed` with EPERM, and ends the process at one of another architecture.
fn seccomp(allowed: &[libc::c_long]) -> Result<(), CageError> {
    // AUDIT_ARCH_*, include/uapi/linux/audit.h.
    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;
    // Offsets in struct seccomp_data, include/uapi/linux/seccomp.h.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let insn = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![
        insn(LOAD, ARCH, 0, 0),
        insn(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        insn(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        insn(LOAD, NUMBER, 0, 0),
    ];
    for &call in allowed {
        // The numbers are small and positive; x32's, which have a bit set, are none of them.
        filter.push(insn(JUMP_EQUAL, call as u32, 0, 1));
        filter.push(insn(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    filter.push(insn(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions are alive during the call, which copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    step("PR_SET_SECCOMP", if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}
