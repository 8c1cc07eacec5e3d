//! What the kernel does for a process beyond its calls: devices, connections that fail, memory that runs out, ends and numbers
//! that are given out again.

use std::{
    alloc::{Layout, alloc_zeroed},
    ffi::c_int,
    fs::{File, OpenOptions},
    hint::black_box,
    io::{Error, Result, Write as _},
    mem,
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    process::Command,
    thread,
    time::Duration,
};

use super::getppid;

fn check(result: impl Into<i64>) -> Result<()> {
    if result.into() < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// A program with its arguments, which has to succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(Error::other(format!("{program}: {status}"))) }
}

/// Writes of this many bytes, which go to the device as they are.
pub(super) fn direct_writes(path: &str, count: usize, bytes: usize) -> Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let layout = Layout::from_size_align(bytes, 4096).map_err(Error::other)?;
    // SAFETY: the layout has a size; the memory stays until the process ends.
    let buffer = unsafe { alloc_zeroed(layout) };
    for n in 0..count {
        // SAFETY: the buffer has so many bytes.
        check(unsafe { libc::pwrite(file.as_raw_fd(), buffer.cast(), bytes, (n * bytes) as i64) } as i64)?;
    }
    Ok(())
}

/// Has the kernel write a file that it holds in memory.
pub(super) fn dirty(path: &str, bytes: usize) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![1; bytes])?;
    // SAFETY: the call takes a descriptor.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Brings the loopback of this network namespace up or down.
fn loopback(up: bool) -> Result<()> {
    // SAFETY: the call takes three numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket)?;
    // SAFETY: zeroes are an `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = if up { libc::IFF_UP as libc::c_short } else { 0 };
    // SAFETY: the request lives through the call.
    let result = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    // SAFETY: the descriptor is ours and not used again.
    unsafe { libc::close(socket) };
    check(result)
}

/// A network of its own, with nothing but a connection; then its device goes down, and what is sent has no way.
pub(super) fn drop_a_packet() -> Result<()> {
    // SAFETY: the call takes a number.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    loopback(true)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = TcpStream::connect(listener.local_addr()?)?;
    let _incoming = listener.accept()?;
    loopback(false)?;
    out.write_all(b"lost")
}

/// A connection to one who listens and has no room for it: the kernel asks again after a second.
pub(super) fn retransmit() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // SAFETY: the call takes two numbers; it leaves room for one.
    check(unsafe { libc::listen(listener.as_raw_fd(), 0) })?;
    let address = listener.local_addr()?;
    let _first = TcpStream::connect(address)?;
    // It can't succeed, and is given up shortly behind the second asking.
    let second = TcpStream::connect_timeout(&address, Duration::from_millis(1500));
    if second.is_ok() { Err(Error::other("there was room")) } else { Ok(()) }
}

/// A child in this control group, which takes memory until the kernel ends it.
pub(super) fn run_out_of_memory(group: &str) -> Result<()> {
    in_a_child(|| {
        if std::fs::write(format!("{group}/cgroup.procs"), "0").is_err() {
            return 1;
        }
        for _ in 0..4096 {
            // It stays until the process ends.
            mem::forget(black_box(vec![1u8; 1 << 20]));
        }
        0
    })
    .and_then(|status| match libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL {
        true => Ok(()),
        false => Err(Error::other("there was memory enough")),
    })
}

fn in_a_child(what: impl FnOnce() -> c_int) -> Result<c_int> {
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        0 => {
            let status = what();
            // SAFETY: it ends the child.
            unsafe { libc::_exit(status) }
        }
        child => wait(child.into()),
    }
}

fn wait(child: i64) -> Result<c_int> {
    check(child)?;
    let mut status = 0;
    // SAFETY: there is room for the status.
    check(unsafe { libc::waitpid(child as i32, &raw mut status, 0) })?;
    Ok(status)
}

/// A child that has a number that was another's, clone3(2) since Linux 5.5.
pub(super) fn getppid_as(pid: u32, count: u64) -> Result<()> {
    let number = pid.cast_signed();
    // SAFETY: zeroes are `clone_args`.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = (&raw const number).addr() as u64;
    arguments.set_tid_size = 1;
    // The number is given back a moment after its process was waited for.
    for _ in 0..200 {
        // SAFETY: as fork(2): there is one thread, and the child makes system calls alone.
        let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
        match child {
            0 => {
                (0..count).for_each(|_| getppid());
                // SAFETY: it ends the child.
                unsafe { libc::_exit(0) }
            }
            -1 if Error::last_os_error().raw_os_error() == Some(libc::EEXIST) => thread::sleep(Duration::from_millis(10)),
            child => return wait(child).map(drop),
        }
    }
    Err(Error::from_raw_os_error(libc::EEXIST))
}
