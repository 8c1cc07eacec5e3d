//! What it tries of the kernel.

use std::{fmt::Write as _, io, ptr};

use libc::{c_int, c_long};

/// What was tried, a line each.
#[derive(Default)]
pub(crate) struct Tried(pub(crate) String);

impl Tried {
    pub(crate) fn result(&mut self, name: &str, result: c_long) {
        let error = if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 };
        let _ = writeln!(self.0, "{name} {error}");
    }

    /// Makes a system call, whose arguments are numbers or addresses that stay.
    pub(crate) fn call(&mut self, name: &str, number: c_long, arguments: &[usize]) {
        let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
        // SAFETY: what the calls here write to, if they do at all, is memory that was made for them.
        let result =
            unsafe { libc::syscall(number, argument(0), argument(1), argument(2), argument(3), argument(4), argument(5)) };
        self.result(name, result);
    }
}

/// Does what there is under this name; `None` if that is nothing of the kernel's. The number is a process id.
pub(crate) fn tried(attack: &str, pid: usize) -> Option<Tried> {
    let mut tried = Tried::default();
    match attack {
        "files" => files(&mut tried),
        "network" => network(&mut tried),
        "processes" => processes(&mut tried),
        "others" => others(&mut tried, pid),
        "signals" => signals(&mut tried, pid),
        "objects" => objects(&mut tried),
        "columns" => columns(&mut tried),
        "descriptors" => descriptors(&mut tried),
        "loosen" => loosen(&mut tried),
        "threads" => threads(&mut tried),
        "memory" => memory(&mut tried),
        #[cfg(target_arch = "x86_64")]
        "compat" => compat(),
        _ => return None,
    }
    Some(tried)
}

pub(crate) fn address(text: &std::ffi::CStr) -> usize {
    text.as_ptr() as usize
}

const HERE: usize = libc::AT_FDCWD as usize;

fn files(tried: &mut Tried) {
    for path in [c"/", c"/etc/passwd", c"/proc/self/maps", c"/dev/null", c"/sys/kernel/btf/vmlinux", c"."] {
        let name = format!("openat:{}", path.to_str().unwrap_or_default());
        tried.call(&name, libc::SYS_openat, &[HERE, address(path), libc::O_RDONLY as usize]);
    }
    tried.call("open-path", libc::SYS_openat, &[HERE, address(c"/"), libc::O_PATH as usize]);
    tried.call("create", libc::SYS_openat, &[HERE, address(c"/x"), (libc::O_CREAT | libc::O_RDWR) as usize, 0o600]);
    let how = [0_u64; 3];
    tried.call("openat2", libc::SYS_openat2, &[HERE, address(c"/"), how.as_ptr() as usize, 24]);
    tried.call("open_by_handle_at", libc::SYS_open_by_handle_at, &[HERE, how.as_ptr() as usize, 0]);
    tried.call("memfd_create", libc::SYS_memfd_create, &[address(c"x"), 0]);
    tried.call("unlinkat", libc::SYS_unlinkat, &[HERE, address(c"/etc/passwd"), 0]);
    tried.call("mkdirat", libc::SYS_mkdirat, &[HERE, address(c"/x"), 0o700]);
    tried.call("statx", libc::SYS_statx, &[HERE, address(c"/etc/passwd"), 0, 0, how.as_ptr() as usize]);
    tried.call("chroot", libc::SYS_chroot, &[address(c"/")]);
}

fn network(tried: &mut Tried) {
    for (name, family) in [
        ("unix", libc::AF_UNIX),
        ("inet", libc::AF_INET),
        ("inet6", libc::AF_INET6),
        ("netlink", libc::AF_NETLINK),
        ("packet", libc::AF_PACKET),
        ("vsock", libc::AF_VSOCK),
        ("alg", libc::AF_ALG),
    ] {
        tried.call(&format!("socket:{name}"), libc::SYS_socket, &[family as usize, libc::SOCK_DGRAM as usize, 0]);
    }
    let pair = [0_i32; 2];
    let streams = [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, pair.as_ptr() as usize];
    tried.call("socketpair", libc::SYS_socketpair, &streams);
    // An abstract address, from the one socket that there is.
    let name = b"\x01\x00\x00portcullis";
    tried.call("connect", libc::SYS_connect, &[3, name.as_ptr() as usize, name.len()]);
    tried.call("bind", libc::SYS_bind, &[3, name.as_ptr() as usize, name.len()]);
    tried.call("accept", libc::SYS_accept4, &[3, 0, 0, 0]);
    // Descriptors that are passed along.
    let message = [0_u64; 8];
    tried.call("sendmsg", libc::SYS_sendmsg, &[3, message.as_ptr() as usize, 0]);
    tried.call("recvmsg", libc::SYS_recvmsg, &[3, message.as_ptr() as usize, libc::MSG_DONTWAIT as usize]);
    tried.call("shutdown", libc::SYS_shutdown, &[3, 2]);
    let ring = [0_u64; 16];
    tried.call("io_uring_setup", libc::SYS_io_uring_setup, &[1, ring.as_ptr() as usize]);
}

fn processes(tried: &mut Tried) {
    tried.call("clone:process", libc::SYS_clone, &[libc::SIGCHLD as usize]);
    tried.call("clone:memory", libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize]);
    tried.call("clone:users", libc::SYS_clone, &[(libc::CLONE_NEWUSER | libc::SIGCHLD) as usize]);
    let arguments = [0_u64; 8];
    tried.call("clone3", libc::SYS_clone3, &[arguments.as_ptr() as usize, 64]);
    #[cfg(target_arch = "x86_64")]
    {
        tried.call("fork", libc::SYS_fork, &[]);
        tried.call("vfork", libc::SYS_vfork, &[]);
    }
    let none = [0_usize];
    let (list, path) = (none.as_ptr() as usize, address(c"/proc/self/exe"));
    tried.call("execve", libc::SYS_execve, &[path, list, list]);
    tried.call("execveat", libc::SYS_execveat, &[4, address(c""), list, list, libc::AT_EMPTY_PATH as usize]);
}

fn others(tried: &mut Tried, pid: usize) {
    tried.call("ptrace:seize", libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, pid]);
    tried.call("ptrace:traceme", libc::SYS_ptrace, &[libc::PTRACE_TRACEME as usize]);
    let word = [0_u64; 2];
    let vector = [word.as_ptr() as usize, 16];
    let (from, to) = (vector.as_ptr() as usize, vector.as_ptr() as usize);
    tried.call("process_vm_readv", libc::SYS_process_vm_readv, &[pid, to, 1, from, 1, 0]);
    tried.call("process_vm_writev", libc::SYS_process_vm_writev, &[pid, from, 1, to, 1, 0]);
    tried.call("pidfd_open", libc::SYS_pidfd_open, &[pid, 0]);
    tried.call("pidfd_getfd", libc::SYS_pidfd_getfd, &[3, 3, 0]);
    tried.call("kcmp", libc::SYS_kcmp, &[pid, pid, 0, 0, 0]);
    for path in [format!("/proc/{pid}/maps\0"), format!("/proc/{pid}/mem\0"), "/proc\0".to_owned()] {
        let name = format!("openat:{}", path.trim_end_matches('\0'));
        tried.call(&name, libc::SYS_openat, &[HERE, path.as_ptr() as usize, libc::O_RDONLY as usize]);
    }
    tried.call("getppid", libc::SYS_getppid, &[]);
    tried.call("setpriority", libc::SYS_setpriority, &[0, pid, 19]);
    tried.call("sched_setaffinity", libc::SYS_sched_setaffinity, &[pid, 8, word.as_ptr() as usize]);
    tried.call("prlimit", libc::SYS_prlimit64, &[pid, libc::RLIMIT_CPU as usize, 0, word.as_ptr() as usize]);
    tried.call("wait4", libc::SYS_wait4, &[usize::MAX, 0, 0, 0]);
}

fn signals(tried: &mut Tried, pid: usize) {
    let kill = libc::SIGKILL as usize;
    tried.call("kill", libc::SYS_kill, &[pid, kill]);
    tried.call("kill:all", libc::SYS_kill, &[usize::MAX, kill]);
    tried.call("kill:group", libc::SYS_kill, &[0, kill]);
    tried.call("tgkill", libc::SYS_tgkill, &[pid, pid, kill]);
    tried.call("tgkill:any", libc::SYS_tgkill, &[usize::MAX, pid, kill]);
    tried.call("tkill", libc::SYS_tkill, &[pid, kill]);
    let info = [0_u64; 16];
    tried.call("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &[pid, kill, info.as_ptr() as usize]);
    tried.call("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, &[pid, pid, kill, info.as_ptr() as usize]);
    tried.call("pidfd_send_signal", libc::SYS_pidfd_send_signal, &[3, kill, 0, 0]);
    // F_SETOWN and FIOASYNC let the kernel send a signal in one's name.
    tried.call("fcntl:owner", libc::SYS_fcntl, &[3, libc::F_SETOWN as usize, pid]);
    tried.call("ioctl", libc::SYS_ioctl, &[3, 0x8901, (&raw const pid) as usize]);
}

fn objects(tried: &mut Tried) {
    // union bpf_attr: an array of one word; the first program; the first map; the next id.
    let mut attributes = [0_u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 8, 1]);
    let bpf = |command: usize| [command, attributes.as_ptr() as usize, 128];
    for (name, command) in [
        ("map-create", 0),
        ("prog-load", 5),
        ("obj-get", 7),
        ("next-id", 12),
        ("prog-by-id", 13),
        ("map-by-id", 14),
        ("token", 36),
    ] {
        tried.call(&format!("bpf:{name}"), libc::SYS_bpf, &bpf(command));
    }
    let event = [0_u64; 16];
    tried.call("perf_event_open", libc::SYS_perf_event_open, &[event.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0]);
    tried.call("userfaultfd", libc::SYS_userfaultfd, &[1]);
    tried.call("keyctl", libc::SYS_keyctl, &[0, usize::MAX - 3, 1]);
    tried.call("add_key", libc::SYS_add_key, &[address(c"user"), address(c"x"), address(c"y"), 1, usize::MAX - 3]);
    tried.call("init_module", libc::SYS_init_module, &[event.as_ptr() as usize, 8, address(c"")]);
    tried.call("kexec_load", libc::SYS_kexec_load, &[0, 0, 0, 0]);
    tried.call("reboot", libc::SYS_reboot, &[0, 0, 0, 0]);
    tried.call("mount", libc::SYS_mount, &[address(c"none"), address(c"/"), address(c"proc"), 0, 0]);
    tried.call("fsopen", libc::SYS_fsopen, &[address(c"proc"), 0]);
    tried.call("open_tree", libc::SYS_open_tree, &[HERE, address(c"/"), 1]);
    tried.call("shmget", libc::SYS_shmget, &[1, 4096, 0o1600]);
    tried.call("mq_open", libc::SYS_mq_open, &[address(c"x"), 0o102, 0o600, 0]);
    tried.call("syslog", libc::SYS_syslog, &[3, event.as_ptr() as usize, 128]);
    tried.call("clock_settime", libc::SYS_clock_settime, &[0, event.as_ptr() as usize]);
    tried.call("inotify_init1", libc::SYS_inotify_init1, &[0]);
    tried.call("eventfd2", libc::SYS_eventfd2, &[0, 0]);
    tried.call("epoll_create1", libc::SYS_epoll_create1, &[0]);
}

/// The memory in which events come, descriptor 4.
fn columns(tried: &mut Tried) {
    let map = |protection: c_int, kind: c_int| {
        // SAFETY: a new mapping disturbs no other.
        unsafe { libc::mmap(ptr::null_mut(), 4096, protection, kind, 4, 0) }
    };
    let both = libc::PROT_READ | libc::PROT_WRITE;
    tried.result("mmap:write", map(both, libc::MAP_SHARED) as c_long);
    // Memory of its own that no limit of a process counts.
    tried.result("mmap:anonymous", map(both, libc::MAP_SHARED | libc::MAP_ANONYMOUS) as c_long);
    let read = map(libc::PROT_READ, libc::MAP_SHARED);
    assert!(read as c_long > 0, "it can be read");
    // SAFETY: nothing refers to the mapping.
    tried.result("mprotect", unsafe { libc::mprotect(read, 4096, both) }.into());
    tried.call("madvise:remove", libc::SYS_madvise, &[read as usize, 4096, libc::MADV_REMOVE as usize]);
    let word = 7_u64;
    let at = (&raw const word) as usize;
    tried.call("pwrite", libc::SYS_pwrite64, &[4, at, 8, 0]);
    tried.call("write", libc::SYS_write, &[4, at, 8]);
    tried.call("sendto", libc::SYS_sendto, &[4, at, 8, 0, 0, 0]);
    tried.call("ftruncate", libc::SYS_ftruncate, &[4, 0]);
    tried.call("fallocate", libc::SYS_fallocate, &[4, 3, 0, 4096]);
    tried.call("fcntl:seals", libc::SYS_fcntl, &[4, libc::F_ADD_SEALS as usize, 0]);
    let again = c"/proc/self/fd/4".as_ptr() as usize;
    tried.call("open-again", libc::SYS_openat, &[HERE, again, libc::O_RDWR as usize]);
}

/// Which descriptors there are, by the one call that takes any; and whether there can be more.
fn descriptors(tried: &mut Tried) {
    let status = [0_u64; 32];
    for descriptor in 0..1100 {
        tried.call(&descriptor.to_string(), libc::SYS_fstat, &[descriptor, status.as_ptr() as usize]);
    }
    tried.call("dup", libc::SYS_dup, &[3]);
    tried.call("fcntl:dup", libc::SYS_fcntl, &[3, libc::F_DUPFD as usize, 3]);
    let pair = [0_i32; 2];
    tried.call("pipe2", libc::SYS_pipe2, &[pair.as_ptr() as usize, 0]);
    tried.call("close", libc::SYS_close, &[3]);
}

fn loosen(tried: &mut Tried) {
    let most = [u64::MAX; 2];
    for (name, resource) in [("files", libc::RLIMIT_NOFILE), ("data", libc::RLIMIT_DATA), ("threads", libc::RLIMIT_NPROC)] {
        tried.call(&format!("prlimit:{name}"), libc::SYS_prlimit64, &[0, resource as usize, most.as_ptr() as usize, 0]);
    }
    tried.call("prctl:dumpable", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]);
    tried.call("prctl:deathsig", libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, 0]);
    tried.call("prctl:seccomp", libc::SYS_prctl, &[libc::PR_SET_SECCOMP as usize, 0]);
    tried.call("prctl:ambient", libc::SYS_prctl, &[libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_RAISE as usize, 21]);
    tried.call("seccomp", libc::SYS_seccomp, &[1, 0, most.as_ptr() as usize]);
    tried.call("setresuid", libc::SYS_setresuid, &[0, 0, 0]);
    tried.call("setresgid", libc::SYS_setresgid, &[0, 0, 0]);
    tried.call("setgroups", libc::SYS_setgroups, &[0, 0]);
    let header = [0x2008_0522_u32, 0];
    tried.call("capset", libc::SYS_capset, &[header.as_ptr() as usize, most.as_ptr() as usize]);
    tried.call("unshare", libc::SYS_unshare, &[libc::CLONE_NEWUSER as usize]);
    tried.call("setns", libc::SYS_setns, &[3, 0]);
    tried.call("personality", libc::SYS_personality, &[0]);
    tried.call("landlock", libc::SYS_landlock_create_ruleset, &[0, 0, 1]);
    tried.call("setsid", libc::SYS_setsid, &[]);
}

/// Starts threads until there are no more to be had.
fn threads(tried: &mut Tried) {
    let park = || loop {
        std::thread::park();
    };
    let start = || std::thread::Builder::new().stack_size(16 << 10).spawn(park);
    let (count, error) = (0..100_000).find_map(|count| start().err().map(|error| (count, error))).expect("there is an end");
    let _ = writeln!(tried.0, "{count} {}", error.raw_os_error().unwrap_or(-1));
}

/// Takes memory, which it does not touch, until there is no more to be had: mebibytes.
fn memory(tried: &mut Tried) {
    let take = |_: &usize| {
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping disturbs no other.
        unsafe { libc::mmap(ptr::null_mut(), 16 << 20, protection, kind, -1, 0) == libc::MAP_FAILED }
    };
    let count = (0..1_000_000).find(take).expect("there is an end");
    let error = io::Error::last_os_error().raw_os_error().unwrap_or(-1);
    let _ = writeln!(tried.0, "{} {error}", 16 * count);
}

/// Has the kernel make page tables without end, by reading a byte of every two megabytes of memory that can't be written to: nothing of
/// it is data to `RLIMIT_DATA`.
pub(crate) fn page_tables() -> ! {
    const STEP: usize = 2 << 20;
    const SIZE: usize = 64 << 30;
    loop {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping disturbs no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), SIZE, libc::PROT_READ, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        for at in (0..SIZE).step_by(STEP) {
            // SAFETY: it lies within the mapping.
            let byte = unsafe { start.cast::<u8>().add(at) };
            // SAFETY: the mapping can be read, and is all zeros.
            unsafe { byte.read_volatile() };
        }
    }
}

/// A system call of 32-bit programs, whose numbers mean other things.
#[cfg(target_arch = "x86_64")]
fn compat() -> ! {
    let mut result: u64 = 11;
    // SAFETY: the call has no arguments that are addresses, and what it returns is not used.
    unsafe { std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    panic!("it returned {result}");
}
