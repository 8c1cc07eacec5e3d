//! The system calls that a caged process may make: written down one by one, each with its reason. Any other is EPERM, and one of
//! another architecture ends the process.
//!
//! Where a filter does not look at arguments, newer kernels (Linux 5.11) know its outcome beforehand, so what a worker calls often
//! costs nothing.

use std::io;

use super::returned;
use crate::doors::Opened;

/// What is done about a system call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Allow,
    /// Allowed if an argument, the low 32 bits of it, is this once the bits of `mask` are taken. Only for arguments of which the kernel
    /// itself takes no more than these bits.
    If {
        argument: u32,
        mask: u32,
        is: u32,
    },
    /// Allowed if all tests of one of these hold.
    Any(&'static [&'static [Test]]),
    /// It fails with this error.
    Fail(libc::c_int),
}

/// A test of an argument, as in [`Rule::If`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    argument: u32,
    mask: u32,
    is: u32,
}

/// An argument that is a number.
const fn is(argument: u32, is: libc::c_int) -> Test {
    Test { argument, mask: u32::MAX, is: is.cast_unsigned() }
}

/// System calls, and what is done about each.
pub(super) type Calls = Vec<(libc::c_long, Rule)>;

fn allow(calls: &[libc::c_long]) -> Calls {
    calls.iter().map(|&call| (call, Rule::Allow)).collect()
}

/// Both kinds of process.
const COMMON: &[libc::c_long] = &[
    // Locks.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // Memory: malloc, thread stacks, the component's memory, its code; mmap(2) is [`MAP`].
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // How large the shared memory, or a file that was sent, is.
    libc::SYS_fstat,
    // Seeds of hash tables.
    libc::SYS_getrandom,
    // Where the vDSO has no clock.
    libc::SYS_clock_gettime,
    // Traps of WebAssembly and stack overflows are signals; panics and abort(3) want some blocked.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Ends.
    libc::SYS_exit,
    libc::SYS_exit_group,
    // abort(3), which signals itself.
    libc::SYS_gettid,
    libc::SYS_getpid,
];

/// mmap(2) of memory that is private, which RLIMIT_DATA counts, or of a descriptor.
const MAP: (libc::c_long, Rule) = (
    libc::SYS_mmap,
    Rule::Any(&[
        &[Test { argument: 3, mask: libc::MAP_TYPE.cast_unsigned(), is: libc::MAP_PRIVATE.cast_unsigned() }],
        &[Test { argument: 3, mask: libc::MAP_ANONYMOUS.cast_unsigned(), is: 0 }],
    ]),
);

/// tgkill(2) of one's own threads: abort(3).
fn signal_itself() -> (libc::c_long, Rule) {
    (libc::SYS_tgkill, Rule::If { argument: 0, mask: u32::MAX, is: std::process::id() })
}

/// What a worker needs: its socket, the compiler's threads, two more that listen and watch the clock.
pub(super) fn worker_calls(doors: &Opened) -> Calls {
    // clone(2) as pthread_create(3) makes it: CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
    // CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID; musl adds CLONE_DETACHED, which means nothing.
    const THREAD: libc::c_int = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    // The calls of each batch come first: older kernels go through the list.
    let mut calls = allow(&[
        // The socket.
        libc::SYS_recvfrom,
    ]);
    calls.push((libc::SYS_sendto, if doors.network.is_empty() { Rule::Allow } else { SEND }));
    calls.extend(allow(COMMON));
    calls.push(MAP);
    calls.extend(allow(&[
        // What a thread begins with.
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        // How many threads the compiler starts.
        libc::SYS_sched_getaffinity,
        // The watch over a call that is overdue; a sleep that was stopped by SIGSTOP goes on by `restart_syscall`.
        libc::SYS_clock_nanosleep,
        libc::SYS_restart_syscall,
        // The resolution of clocks, for WASI.
        libc::SYS_clock_getres,
    ]));
    #[cfg(target_arch = "aarch64")]
    // Code was written: other cores shall see it.
    calls.push((libc::SYS_membarrier, Rule::Allow));
    calls.extend([
        // A thread, and no process. What clone3(2) is asked for stands in memory, where no filter can see it; without it, libraries
        // take clone(2).
        (libc::SYS_clone, Rule::If { argument: 0, mask: !(0x0040_0000), is: THREAD.cast_unsigned() }),
        (libc::SYS_clone3, Rule::Fail(libc::ENOSYS)),
        // Names of threads.
        (libc::SYS_prctl, Rule::If { argument: 0, mask: u32::MAX, is: libc::PR_SET_NAME.cast_unsigned() }),
        signal_itself(),
    ]);
    if doors.has_waits() {
        calls.extend(open_calls());
    }
    if !doors.directories.is_empty() {
        calls.extend(allow(READING));
    }
    if doors.has_writes() {
        calls.extend(allow(WRITING));
    }
    if !doors.network.is_empty() {
        calls.extend(connecting());
    }
    calls
}

/// What is done with a file or a connection once there is one.
fn open_calls() -> Calls {
    let mut calls = allow(&[libc::SYS_close]);
    // How it was opened, and a second descriptor of it; no owner, who would be sent signals, no lock and no lease.
    const STATUS: &[&[Test]] = &[&[is(1, libc::F_GETFL)], &[is(1, libc::F_GETFD)], &[is(1, libc::F_DUPFD_CLOEXEC)]];
    calls.push((libc::SYS_fcntl, Rule::Any(STATUS)));
    calls
}

/// What reading the files of a directory takes. Which files that are is for Landlock and the mount to say.
const READING: &[libc::c_long] = &[
    // Opening, relative to a directory that is granted.
    libc::SYS_openat,
    libc::SYS_openat2,
    // What it is, how large, how old.
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    // What is in a directory.
    libc::SYS_getdents64,
    // Contents.
    libc::SYS_pread64,
    // How it will be read.
    libc::SYS_fadvise64,
];

/// What changing them takes, where some directory may be changed.
const WRITING: &[libc::c_long] = &[
    // Contents, at a position and at the end, and the length.
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_ftruncate,
    // That they are kept.
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // Files, directories and links that come, go and are named anew.
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    // The times of a file.
    libc::SYS_utimensat,
];

/// sendto(2) that does not connect on the way (`MSG_FASTOPEN`): that would pass by Landlock, if not by the filter of connections.
const SEND: Rule = Rule::If { argument: 3, mask: libc::MSG_FASTOPEN.cast_unsigned(), is: 0 };

/// What connecting by TCP takes, and waiting for it. Nobody listens, and nothing is looked up.
fn connecting() -> Calls {
    // AF_INET is 2 and AF_INET6 is 10; of the protocols for streams 0 and 6 are TCP. Landlock knows of no other, so there is none.
    const TCP: &[&[Test]] = &[&[
        Test { argument: 0, mask: !8, is: libc::AF_INET.cast_unsigned() },
        Test {
            argument: 1,
            mask: !((libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).cast_unsigned()),
            is: libc::SOCK_STREAM.cast_unsigned(),
        },
        Test { argument: 2, mask: !libc::IPPROTO_TCP.cast_unsigned(), is: 0 },
    ]];
    // Those that WASI knows, and no other: what options there are is a large part of the kernel.
    const OPTIONS: &[&[Test]] = &[
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_ERROR)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_KEEPALIVE)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_RCVBUF)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_SNDBUF)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_ACCEPTCONN)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_NODELAY)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_KEEPIDLE)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_KEEPINTVL)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_KEEPCNT)],
        &[is(1, libc::IPPROTO_IP), is(2, libc::IP_TTL)],
        &[is(1, libc::IPPROTO_IPV6), is(2, libc::IPV6_UNICAST_HOPS)],
        &[is(1, libc::IPPROTO_IPV6), is(2, libc::IPV6_V6ONLY)],
    ];
    let mut calls = allow(&[
        // Whom it connects to is for Landlock and the filter of connections to say.
        libc::SYS_connect,
        libc::SYS_shutdown,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        // How the runtime waits.
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
        libc::SYS_eventfd2,
        libc::SYS_read,
        libc::SYS_write,
    ]);
    calls.extend([
        (libc::SYS_socket, Rule::Any(TCP)),
        (libc::SYS_getsockopt, Rule::Any(OPTIONS)),
        (libc::SYS_setsockopt, Rule::Any(OPTIONS)),
    ]);
    calls
}

/// What one thread needs that receives descriptors, maps them, allocates, answers and ends.
pub(super) fn symbolizer_calls() -> Calls {
    let mut calls = allow(&[
        // The socket, and the descriptors that come.
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_close,
        // A request that takes far too long is ended.
        libc::SYS_setitimer,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_alarm,
    ]);
    calls.extend(allow(COMMON));
    calls.extend([MAP, signal_itself()]);
    calls
}

/// Refuses every system call but these, for the rest of the process.
pub(super) fn restrict(calls: &[(libc::c_long, Rule)]) -> io::Result<()> {
    let mut filter = program(calls);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions are alive during the call, which copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    returned(result.into()).map(drop)
}

/// The filter: the calls one after the other, each with what is done about it.
fn program(calls: &[(libc::c_long, Rule)]) -> Vec<libc::sock_filter> {
    // AUDIT_ARCH_*, include/uapi/linux/audit.h.
    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;
    // Offsets in struct seccomp_data, include/uapi/linux/seccomp.h; both architectures are little-endian.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const ARGUMENTS: u32 = 16;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    let fail = |errno: libc::c_int| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    let insn = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![
        insn(LOAD, ARCH, 0, 0),
        insn(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        insn(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        insn(LOAD, NUMBER, 0, 0),
    ];
    for &(call, rule) in calls {
        // The numbers are small and positive; x32's, which have a bit set, are none of them.
        let call = call as u32;
        match rule {
            Rule::Allow => filter.extend([insn(JUMP_EQUAL, call, 0, 1), insn(RETURN, ALLOW, 0, 0)]),
            Rule::Fail(errno) => filter.extend([insn(JUMP_EQUAL, call, 0, 1), insn(RETURN, fail(errno), 0, 0)]),
            Rule::If { argument, mask, is } => filter.extend([
                insn(JUMP_EQUAL, call, 0, 5),
                insn(LOAD, ARGUMENTS + 8 * argument, 0, 0),
                insn(AND, mask, 0, 0),
                insn(JUMP_EQUAL, is, 0, 1),
                insn(RETURN, ALLOW, 0, 0),
                insn(RETURN, fail(libc::EPERM), 0, 0),
            ]),
            Rule::Any(tests) => {
                let length: usize = tests.iter().map(|tests| 3 * tests.len() + 1).sum();
                // A jump reaches 255 instructions; the longest list here has a third of that.
                filter.push(insn(JUMP_EQUAL, call, 0, length as u8 + 1));
                for tests in tests {
                    for (at, &Test { argument, mask, is }) in tests.iter().enumerate() {
                        let rest = 3 * (tests.len() - at - 1) + 1;
                        filter.extend([
                            insn(LOAD, ARGUMENTS + 8 * argument, 0, 0),
                            insn(AND, mask, 0, 0),
                            insn(JUMP_EQUAL, is, 0, rest as u8),
                        ]);
                    }
                    filter.push(insn(RETURN, ALLOW, 0, 0));
                }
                filter.push(insn(RETURN, fail(libc::EPERM), 0, 0));
            }
        }
    }
    filter.push(insn(RETURN, fail(libc::EPERM), 0, 0));
    filter
}
