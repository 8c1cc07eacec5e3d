//! What it tries of doors that are open: two directories, of which it may change the second, and one port.

use std::ptr;

use crate::kernel::{Tried, address};

/// The directory that it may read, with `file`, the link `absolute` to a file outside, and a program.
const READ: usize = 5;

/// The one that it may change, with `file`.
const WRITE: usize = 6;

/// Does what there is under this name; `None` if that is nothing of doors.
pub(crate) fn tried(attack: &str, number: usize) -> Option<Tried> {
    let mut tried = Tried::default();
    match attack {
        "directories" => directories(&mut tried),
        "peers" => peers(&mut tried, (number >> 16) as u16, number as u16),
        "addresses" => addresses(&mut tried, number as u16),
        _ => return None,
    }
    Some(tried)
}

fn directories(tried: &mut Tried) {
    let (read, change) = (libc::O_RDONLY as usize, libc::O_RDWR as usize);
    let create = (libc::O_CREAT | libc::O_RDWR) as usize;
    let mut open = |name: &str, directory: usize, path: &std::ffi::CStr, flags: usize| {
        tried.call(name, libc::SYS_openat, &[directory, address(path), flags, 0o666]);
    };
    open("may:read", READ, c"file", read);
    open("may:change", WRITE, c"file", change);
    open("may:create", WRITE, c"made", create);
    // Out of it.
    open("up", READ, c"../secret", read);
    open("up-far", READ, c"../../../../../../../etc/passwd", read);
    open("absolute", READ, c"/etc/passwd", read);
    open("link", READ, c"absolute", read);
    open("process", READ, c"/proc/self/root/etc/passwd", read);
    open("here", libc::AT_FDCWD as usize, c"etc/passwd", read);
    // Changes of what may only be read.
    open("change", READ, c"file", change);
    open("truncate", READ, c"file", (libc::O_WRONLY | libc::O_TRUNC) as usize);
    open("create", READ, c"made", create);
    open("unnamed", READ, c".", (libc::O_TMPFILE | libc::O_RDWR) as usize);
    // What is made goes nowhere else.
    open("inside:up-create", WRITE, c"../secret-made", create);
    let how = [change as u64, 0, 0];
    tried.call("openat2", libc::SYS_openat2, &[READ, address(c"file"), how.as_ptr() as usize, 24]);
    tried.call("mkdir", libc::SYS_mkdirat, &[READ, address(c"made"), 0o777]);
    tried.call("unlink", libc::SYS_unlinkat, &[READ, address(c"file"), 0]);
    tried.call("rename", libc::SYS_renameat, &[READ, address(c"file"), WRITE, address(c"moved")]);
    tried.call("hard-link", libc::SYS_linkat, &[READ, address(c"file"), WRITE, address(c"second"), 0]);
    tried.call("may:symlink", libc::SYS_symlinkat, &[address(c"/etc/passwd"), WRITE, address(c"out")]);
    tried.call("own-link", libc::SYS_openat, &[WRITE, address(c"out"), read]);
    tried.call("never:device", libc::SYS_mknodat, &[WRITE, address(c"device"), (libc::S_IFCHR | 0o666) as usize, 0x103]);
    tried.call("never:socket", libc::SYS_socket, &[libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0]);
    tried.call("never:chmod", libc::SYS_fchmodat, &[WRITE, address(c"file"), 0o4777]);
    tried.call("never:chown", libc::SYS_fchownat, &[WRITE, address(c"file"), 0, 0, 0]);
    tried.call("never:fchdir", libc::SYS_fchdir, &[READ]);
    tried.call("never:chroot", libc::SYS_chroot, &[address(c"/")]);
    tried.call("never:move_mount", libc::SYS_move_mount, &[READ, address(c""), WRITE, address(c"."), 4]);
    tried.call("never:mount_setattr", libc::SYS_mount_setattr, &[READ, address(c""), 0x1000, how.as_ptr() as usize, 32]);
    tried.call("never:open_by_handle", libc::SYS_open_by_handle_at, &[READ, how.as_ptr() as usize, 0]);
    let none = [0_usize];
    let list = none.as_ptr() as usize;
    tried.call("never:execveat", libc::SYS_execveat, &[READ, address(c"program"), list, list, 0]);
    tried.call("never:owner", libc::SYS_fcntl, &[READ, libc::F_SETOWN as usize, 1]);
    tried.call("never:lease", libc::SYS_fcntl, &[READ, libc::F_SETLEASE as usize, libc::F_WRLCK as usize]);
    tried.call("never:ioctl", libc::SYS_ioctl, &[READ, 0x8004_6601, list]);
    // Code from a file.
    // SAFETY: the path is a string.
    let program = unsafe { libc::openat(READ as i32, c"program".as_ptr(), libc::O_RDONLY) };
    assert!(program >= 0, "it can be read");
    // SAFETY: a new mapping disturbs no other.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_EXEC, libc::MAP_PRIVATE, program, 0) };
    tried.result("code", mapped as libc::c_long);
}

/// An address of this machine as the kernel has it.
fn local(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

fn peers(tried: &mut Tried, granted: u16, other: u16) {
    let stream = libc::SOCK_STREAM;
    for (name, family, kind, protocol) in [
        ("may:inet", libc::AF_INET, stream, 0),
        ("may:inet6", libc::AF_INET6, stream | libc::SOCK_NONBLOCK, libc::IPPROTO_TCP),
        ("datagrams", libc::AF_INET, libc::SOCK_DGRAM, 0),
        ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("mptcp", libc::AF_INET, stream, 262),
        ("sctp", libc::AF_INET, stream, libc::IPPROTO_SCTP),
        ("unix", libc::AF_UNIX, stream, 0),
        ("netlink", libc::AF_NETLINK, libc::SOCK_DGRAM, 0),
        ("vsock", libc::AF_VSOCK, stream, 0),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
    ] {
        tried.call(&format!("socket:{name}"), libc::SYS_socket, &[family as usize, kind as usize, protocol as usize]);
    }
    let socket = || {
        // SAFETY: takes numbers.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        assert!(socket >= 0, "it may have some");
        socket as usize
    };
    let (granted, other) = (local(granted), local(other));
    let (granted, other) = ((&raw const granted) as usize, (&raw const other) as usize);
    tried.call("may:connect", libc::SYS_connect, &[socket(), granted, 16]);
    tried.call("landlock:connect", libc::SYS_connect, &[socket(), other, 16]);
    let text = address(c"hello");
    tried.call("fast-open", libc::SYS_sendto, &[socket(), text, 5, libc::MSG_FASTOPEN as usize, other, 16]);
    tried.call("sendmsg", libc::SYS_sendmsg, &[socket(), text, libc::MSG_FASTOPEN as usize]);
    tried.call("bind", libc::SYS_bind, &[socket(), other, 16]);
    tried.call("listen", libc::SYS_listen, &[socket(), 1]);
    tried.call("accept", libc::SYS_accept4, &[socket(), 0, 0, 0]);
    let on = [1_i32];
    let set = |level: i32, option: i32| [socket(), level as usize, option as usize, on.as_ptr() as usize, 4];
    tried.call("may:keepalive", libc::SYS_setsockopt, &set(libc::SOL_SOCKET, libc::SO_KEEPALIVE));
    tried.call("set:fast-open", libc::SYS_setsockopt, &set(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT));
    tried.call("set:ulp", libc::SYS_setsockopt, &set(libc::IPPROTO_TCP, libc::TCP_ULP));
    tried.call("set:device", libc::SYS_setsockopt, &set(libc::SOL_SOCKET, libc::SO_BINDTODEVICE));
    tried.call("set:filter", libc::SYS_setsockopt, &set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER));
    tried.call("ioctl", libc::SYS_ioctl, &[socket(), 0x8912, on.as_ptr() as usize]);
    tried.call("openat", libc::SYS_openat, &[libc::AT_FDCWD as usize, address(c"/etc/hosts"), 0]);
}

/// The granted port, at the address that is granted and at others, by each family of sockets.
fn addresses(tried: &mut Tried, port: u16) {
    let socket = |family: i32| {
        // SAFETY: takes numbers.
        unsafe { libc::socket(family, libc::SOCK_STREAM, 0) }
    };
    for (name, address) in [
        ("may:granted", [127, 0, 0, 1]),
        ("open:other", [127, 0, 0, 2]),
        // It means 127.0.0.1, and is not what was granted.
        ("open:unspecified", [0, 0, 0, 0]),
    ] {
        let sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes(address) };
        let peer = libc::sockaddr_in { sin_addr, ..local(port) };
        tried.call(name, libc::SYS_connect, &[socket(libc::AF_INET) as usize, (&raw const peer) as usize, 16]);
    }
    let mapped = |last: [u8; 4]| std::net::Ipv4Addr::from(last).to_ipv6_mapped().octets();
    for (name, address) in [
        ("may:mapped", mapped([127, 0, 0, 1])),
        ("open:mapped-other", mapped([127, 0, 0, 2])),
        ("closed:v6", std::net::Ipv6Addr::LOCALHOST.octets()),
        ("closed:v6-unspecified", [0; 16]),
    ] {
        let socket = socket(libc::AF_INET6);
        // There is no IPv6 on this machine.
        if socket < 0 {
            tried.call("may:without-v6", libc::SYS_getpid, &[]);
            continue;
        }
        let peer = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as u16,
            sin6_port: port.to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: address },
            sin6_scope_id: 0,
        };
        tried.call(name, libc::SYS_connect, &[socket as usize, (&raw const peer) as usize, 28]);
    }
}
