//! Programs to trace: each does one thing a known number of times, by raw system calls, and nothing else of its kind.

#![allow(clippy::print_stderr, clippy::print_stdout)]

#[path = "workload/kernel.rs"]
mod kernel;

use std::{
    ffi::{CStr, CString},
    io::{Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const USAGE: &str = "\
workload getppid COUNT            getppid(2), COUNT times
workload getppid-slowly COUNT     the same, 3 microseconds apart
workload reads COUNT THREADS      each thread reads 1 byte from /dev/zero, COUNT times
workload reads-until-told COUNT THREADS   the same until standard input ends, and then COUNT times
workload readers SECONDS THREADS  the same for so long
workload opens COUNT PATH         openat(2) and close(2), COUNT times
workload opens-mounted DIRECTORY  openat(2) of files on a file system that it mounts there for itself, and of one of its directories
                                  that it mounts a second time
workload opens-for-ever PATH      the same until it is killed
workload opens-bad COUNT          openat(2) with a path at an address that is not there
workload forks COUNT              fork(2), COUNT times; each child calls getppid(2) once and exits
workload compat COUNT             getpid(2) of the 32-bit ABI (int 0x80, number 20), COUNT times
workload blocked SECONDS          read(2) from a pipe to which nobody writes, for so long
workload idle SECONDS THREADS     each thread sleeps
workload numbers                  lseek(2) of no file to 0, 1 and so on, until it is killed
workload waits-to-be-told         read(2) of one byte of standard input, within a function of its own, and says so; again and again
workload calls COUNT              workload_double(0), workload_double(1) and so on, functions of its own
workload each COUNT                 as getppid, calls, markers and syncs, one after the other
workload pairs COUNT              workload_triple(0) and so on, each of which calls workload_double
workload markers COUNT            a USDT probe `workload:marker` with the arguments 0, 1 and so on, at one of two places in turn;
                                  it has to be attached to
workload spins MILLISECONDS       works for so long
workload stores COUNT             says where a number of its own is, and then writes it COUNT times for each line of standard input
workload holds FILES THREADS      has /dev/zero open FILES times and so many threads, as long as there are lines of standard input
workload waits COUNT              sleeps COUNT times, and so gives the CPU away as often
workload syncs COUNT              fsync(2) of a file in memory, COUNT times
workload seeks                    lseek(2) to 1, 2, 3 and so on, which numbers the calls, until standard input ends
workload kills SIGNAL             kill(2) of itself, with a signal that does not end it
workload setuids                  setuid(2), setfsuid(2) and setresuid(2), which change nothing
workload naps MILLISECONDS        nanosleep(2), once
workload stats PATH               statx(2), once
workload runs PROGRAM             a program without arguments, once
workload execs                    this program as a child that calls getppid(2) once
workload connects BYTES           a connection over the loopback that carries so many bytes
workload looks-up NAME            getaddrinfo(3), once
workload runs PROGRAM ARGUMENT...  this program as a child
workload direct-writes PATH COUNT BYTES   writes of so many bytes past the page cache
workload dirties PATH BYTES       writes a file, and syncfs(2)
workload drops                    sends where there is no way, in a network of its own
workload retransmits              a connection over the loopback that is asked for twice
workload runs-out-of-memory CGROUP   a child takes more memory than it gets there, and is killed
workload getppid-as PID COUNT     getppid(2) by a child with this number, which must be free";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match *arguments.as_slice() {
        ["getppid", count] => (0..number(count)).for_each(|_| getppid()),
        ["getppid-slowly", count] => (0..number(count)).for_each(|_| {
            getppid();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(3) {}
        }),
        ["reads", count, threads] => in_threads(number(threads), || read_zeros(number(count))),
        ["reads-until-told", count, threads] => {
            let told = told();
            in_threads(number(threads), || {
                while !told.load(Ordering::Relaxed) {
                    read_zeros(1000);
                }
                read_zeros(number(count));
            });
        }
        ["readers", seconds, threads] => in_threads(number(threads), || {
            let end = Instant::now() + Duration::from_secs(number(seconds));
            while Instant::now() < end {
                read_zeros(1000);
            }
        }),
        ["opens", count, path] => opens(number(count), path),
        ["opens-mounted", directory] => {
            if let Err(error) = opens_mounted(Path::new(directory)) {
                eprintln!("workload: {directory}: {error}");
                return ExitCode::FAILURE;
            }
        }
        ["opens-for-ever", path] => loop {
            opens(1000, path);
        },
        ["opens-bad", count] => (0..number(count)).for_each(|_| {
            // SAFETY: the kernel finds that nothing is mapped at this address and says EFAULT.
            let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, 16, libc::O_RDONLY) };
            assert_eq!(fd, -1);
        }),
        ["forks", count] => (0..number(count)).for_each(|_| fork()),
        ["compat", count] => (0..number(count)).for_each(|_| compat_getpid()),
        ["blocked", seconds] => blocked(Duration::from_secs(number(seconds))),
        ["calls", count] => (0..number(count)).for_each(|n| assert_eq!(workload_double(n), 2 * n)),
        ["each", count] => {
            (0..number(count)).for_each(|_| getppid());
            (0..number(count)).for_each(|n| assert_eq!(workload_double(n), 2 * n));
            (0..number(count)).for_each(marker);
            syncs(number(count));
        }
        ["pairs", count] => (0..number(count)).for_each(|n| assert_eq!(workload_triple(n), 3 * n)),
        ["markers", count] => (0..number(count)).for_each(marker),
        ["numbers"] => (0..i64::MAX).for_each(number_call),
        ["waits-to-be-told"] => {
            println!("ready");
            while workload_wait(0) > 0 {
                println!("told");
            }
        }
        ["spins", milliseconds] => {
            let end = Instant::now() + Duration::from_millis(number(milliseconds));
            while Instant::now() < end {
                std::hint::black_box(workload_double(1));
            }
        }
        ["stores", count] => stores(number(count)),
        ["holds", files, threads] => holds(number(files), number(threads)),
        ["waits", count] => (0..number(count)).for_each(|_| thread::sleep(Duration::from_millis(1))),
        ["syncs", count] => syncs(number(count)),
        ["seeks"] => seeks(),
        ["kills", signal] => kill_self(number(signal) as i32),
        ["setuids"] => setuids(),
        ["naps", milliseconds] => nap(number(milliseconds)),
        ["stats", path] => stat(path),
        ["runs", program] => drop(Command::new(program).status()),
        ["execs"] => drop(std::env::current_exe().and_then(|me| Command::new(me).args(["getppid", "1"]).status())),
        ["connects", bytes] => drop(connect(number(bytes) as usize)),
        ["looks-up", name] => drop((name, 0).to_socket_addrs()),
        ["idle", seconds, threads] => in_threads(number(threads), || thread::sleep(Duration::from_secs(number(seconds)))),
        _ => return others(&arguments),
    }
    ExitCode::SUCCESS
}

/// What can fail.
fn others(arguments: &[&str]) -> ExitCode {
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    let result = match *arguments {
        ["runs", program, ref arguments @ ..] => kernel::run(program, arguments),
        ["direct-writes", path, count, bytes] => kernel::direct_writes(path, number(count), number(bytes)),
        ["dirties", path, bytes] => kernel::dirty(path, number(bytes)),
        ["drops"] => kernel::drop_a_packet(),
        ["retransmits"] => kernel::retransmit(),
        ["runs-out-of-memory", group] => kernel::run_out_of_memory(group),
        ["getppid-as", pid, count] => kernel::getppid_as(number(pid) as u32, number(count) as u64),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = result {
        eprintln!("workload {}: {error}", arguments.join(" "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// How often `workload_double` was called: what probes read.
#[unsafe(no_mangle)]
static WORKLOAD_CALLS: AtomicU32 = AtomicU32::new(0);

/// What probes of functions attach to.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn workload_double(n: u64) -> u64 {
    WORKLOAD_CALLS.fetch_add(1, Ordering::Relaxed);
    std::hint::black_box(n) * 2
}

/// The same, with another within it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn workload_triple(n: u64) -> u64 {
    workload_double(n) + std::hint::black_box(n)
}

/// A function that a thread is in for as long as nobody tells it anything: within it, it is in read(2).
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn workload_wait(from: i32) -> i64 {
    let mut byte = 0u8;
    // SAFETY: there is room for the one byte.
    unsafe { libc::syscall(libc::SYS_read, from, &raw mut byte, 1) }
}

// A counter of those who listen, as `<sys/sdt.h>` makes it, but on a page of its own: a page of the file that belongs to two segments
// is mapped twice, and the kernel counts in the first that can be written (find_ref_ctr_vma(), kernel/events/uprobes.c), which is
// the wrong one as long as a process is stopped before the dynamic linker has run.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .probes, \"awR\", @progbits",
    ".balign 4096",
    ".globl workload_marker_semaphore",
    "workload_marker_semaphore: .2byte 0",
    ".popsection",
    ".pushsection .stapsdt.base, \"aGR\", @progbits, .stapsdt.base, comdat",
    ".weak _.stapsdt.base",
    ".hidden _.stapsdt.base",
    "_.stapsdt.base: .space 1",
    ".size _.stapsdt.base, 1",
    ".popsection",
);

/// The instruction of a USDT probe and its note.
#[cfg(target_arch = "x86_64")]
macro_rules! usdt {
    ($n:expr) => {
        // SAFETY: an instruction that does nothing.
        unsafe {
            std::arch::asm!(
                "990: nop",
                ".pushsection .note.stapsdt, \"\", @note",
                ".balign 4",
                ".4byte 992f-991f, 994f-993f, 3",
                "991: .asciz \"stapsdt\"",
                "992: .balign 4",
                "993: .8byte 990b",
                ".8byte _.stapsdt.base",
                ".8byte workload_marker_semaphore",
                ".asciz \"workload\"",
                ".asciz \"marker\"",
                ".asciz \"8@%rdi\"",
                "994: .balign 4",
                ".popsection",
                in("rdi") $n,
                options(nomem, nostack, preserves_flags),
            )
        }
    };
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    static workload_marker_semaphore: u16;
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn marker(n: u64) {
    // SAFETY: it is there as long as the process is, and whoever changes it is the kernel.
    assert!(unsafe { (&raw const workload_marker_semaphore).read_volatile() } > 0, "nobody listens");
    match n % 2 {
        0 => usdt!(n),
        _ => usdt!(n),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn marker(_: u64) {}

fn stores(count: u64) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    println!("{:p}", &NUMBER);
    for _ in std::io::stdin().lines() {
        (0..count).for_each(|n| NUMBER.store(n, Ordering::Relaxed));
        println!("stored");
    }
}

fn holds(files: u64, threads: u64) {
    let files: Vec<i32> = (0..files).map(|_| open("/dev/zero")).collect();
    for _ in 0..threads {
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
    }
    println!("ready");
    std::io::stdin().lines().for_each(|_| println!("held"));
    for file in files {
        // SAFETY: the descriptor is ours and not used again.
        unsafe { libc::close(file) };
    }
}

fn syncs(count: u64) {
    // SAFETY: the name ends with a NUL byte.
    let file = unsafe { libc::memfd_create(c"workload".as_ptr(), libc::MFD_CLOEXEC) };
    for _ in 0..count {
        // SAFETY: the call takes a descriptor and touches no memory of ours.
        unsafe { libc::fsync(file) };
    }
    // SAFETY: the descriptor is ours and not used again.
    unsafe { libc::close(file) };
}

fn seeks() {
    // SAFETY: the name ends with a NUL byte.
    let file = unsafe { libc::memfd_create(c"workload".as_ptr(), libc::MFD_CLOEXEC) };
    let told = told();
    for number in (1..i64::MAX).take_while(|_| !told.load(Ordering::Relaxed)) {
        // SAFETY: the call takes numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_lseek, file, number, libc::SEEK_SET) };
    }
}

/// Becomes true when standard input ends.
fn told() -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tell.store(true, Ordering::Relaxed);
    });
    told
}

fn kill_self(signal: i32) {
    let me = std::process::id().cast_signed();
    // SAFETY: the call takes two numbers.
    unsafe { libc::kill(me, signal) };
}

fn setuids() {
    // SAFETY: the call takes nothing.
    let uid = unsafe { libc::getuid() };
    // SAFETY: it takes a number, and changes nothing.
    unsafe { libc::syscall(libc::SYS_setuid, uid) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    // SAFETY: as above; -1 leaves an id as it is.
    unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) };
}

fn nap(milliseconds: u64) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: milliseconds as i64 * 1_000_000 };
    // SAFETY: the time lives through the call, and how much of it was left is not wanted.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, std::ptr::null_mut::<libc::timespec>()) };
}

fn stat(path: &str) {
    let Ok(path) = CString::new(path) else { return };
    let mut found = std::mem::MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path ends with a NUL byte, and there is room for the answer, which nobody looks at.
    unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_BASIC_STATS, found.as_mut_ptr()) };
}

fn connect(bytes: usize) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = TcpStream::connect(listener.local_addr()?)?;
    let (mut incoming, _) = listener.accept()?;
    out.write_all(&vec![0; bytes])?;
    drop(out);
    incoming.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn in_threads(threads: u64, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

fn getppid() {
    // SAFETY: the call takes nothing and changes nothing.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn number_call(n: i64) {
    // SAFETY: there is no such descriptor, and the call says so.
    unsafe { libc::syscall(libc::SYS_lseek, -1, n, libc::SEEK_SET) };
}

fn open(path: &str) -> i32 {
    let Ok(path) = CString::new(path) else { return -1 };
    // SAFETY: the path ends with a NUL byte and lives through the call.
    (unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) }) as i32
}

fn read_zeros(count: u64) {
    let zeros = open("/dev/zero");
    let mut byte = 0u8;
    for _ in 0..count {
        // SAFETY: there is room for the one byte.
        unsafe { libc::syscall(libc::SYS_read, zeros, &raw mut byte, 1) };
    }
    // SAFETY: the descriptor is ours and not used again.
    unsafe { libc::close(zeros) };
}

fn opens(count: u64, path: &str) {
    for _ in 0..count {
        let fd = open(path);
        if fd >= 0 {
            // SAFETY: the descriptor is ours and not used again.
            unsafe { libc::close(fd) };
        }
    }
}

/// In `DIRECTORY/mounted` a file system in memory with `one/two/file`, and in `DIRECTORY/again` its directory `one`.
fn opens_mounted(directory: &Path) -> std::io::Result<()> {
    let (mounted, again) = (directory.join("mounted"), directory.join("again"));
    // SAFETY: it takes a number, and this process has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // So that nobody else sees what is mounted here, wherever the root was mounted from.
    mount(Path::new("none"), Path::new("/"), c"none", libc::MS_REC | libc::MS_PRIVATE)?;
    for at in [&mounted, &again] {
        std::fs::create_dir(at)?;
    }
    mount(Path::new("none"), &mounted, c"tmpfs", 0)?;
    std::fs::create_dir_all(mounted.join("one/two"))?;
    std::fs::write(mounted.join("one/two/file"), "")?;
    mount(&mounted.join("one"), &again, c"none", libc::MS_BIND)?;
    for path in ["/".into(), mounted.clone(), mounted.join("one/two/file"), again.clone(), again.join("two/file")] {
        opens(1, path.to_str().unwrap_or_default());
    }
    Ok(())
}

fn mount(from: &Path, at: &Path, kind: &CStr, flags: libc::c_ulong) -> std::io::Result<()> {
    let (from, at) = (CString::new(from.as_os_str().as_bytes())?, CString::new(at.as_os_str().as_bytes())?);
    // SAFETY: the texts end with NUL bytes and live through the call; there are no data.
    check(unsafe { libc::mount(from.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
}

fn check(status: i32) -> std::io::Result<()> {
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn fork() {
    // SAFETY: there is one thread, and the child makes two system calls.
    match unsafe { libc::fork() } {
        0 => {
            getppid();
            // SAFETY: it ends the child.
            unsafe { libc::_exit(0) };
        }
        child => {
            // SAFETY: no status is wanted.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn compat_getpid() {
    let number: u64 = 20;
    // SAFETY: getpid of the 32-bit ABI takes nothing; the kernel clobbers r8 to r11 on this way in.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") number => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn compat_getpid() {}

fn blocked(time: Duration) {
    let mut pipe = [0; 2];
    // SAFETY: there is room for the two descriptors.
    unsafe { libc::pipe(pipe.as_mut_ptr()) };
    let [from, to] = pipe;
    thread::spawn(move || {
        let mut byte = 0u8;
        // SAFETY: there is room for the one byte.
        unsafe { libc::syscall(libc::SYS_read, from, &raw mut byte, 1) };
    });
    thread::sleep(time);
    // SAFETY: the descriptor is ours; closing it ends the read.
    unsafe { libc::close(to) };
    thread::sleep(Duration::from_millis(50));
}
