//! The first process of a virtual machine that has no other: it mounts what the tests need, and ends the machine.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    net::UdpSocket,
    os::{fd::AsRawFd, unix::fs::PermissionsExt as _},
};

/// Source and type, and where.
const MOUNTS: [(&str, &str); 7] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Directories that everyone may write to. The root is in memory already, and what was built below one of them is to stay seen.
const SHARED: [&str; 2] = ["/tmp", "/run"];

/// The modules that the kernel is to have, in the order of their names; a machine may have none.
const MODULES: &str = "/modules";

/// The machine of which this process is the first.
#[derive(Debug)]
pub struct Machine(());

impl Machine {
    /// Makes the machine ready; `None` if this process is not the first, and the machine somebody's.
    pub fn take() -> io::Result<Option<Machine>> {
        if std::process::id() != 1 {
            return Ok(None);
        }
        for (kind, at) in MOUNTS {
            mount(kind, at).map_err(|e| io::Error::new(e.kind(), format!("can't mount {kind} at {at}: {e}")))?;
        }
        // Else no cgroup below has them.
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids")?;
        for at in SHARED {
            fs::create_dir_all(at)?;
            fs::set_permissions(at, fs::Permissions::from_mode(0o1777))?;
        }
        load_modules()?;
        loopback_up()?;
        Ok(Some(Machine(())))
    }

    /// The line to who started it: the second serial port.
    pub fn line(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open("/dev/ttyS1")
    }

    /// Ends it.
    pub fn end(self) -> io::Result<()> {
        rustix::fs::sync();
        Ok(rustix::system::reboot(rustix::system::RebootCommand::Restart)?)
    }
}

fn load_modules() -> io::Result<()> {
    if !fs::exists(MODULES)? {
        return Ok(());
    }
    let mut paths = fs::read_dir(MODULES)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("can't load {}: {e}", path.display()));
        rustix::system::finit_module(File::open(&path).map_err(failed)?, c"", 0).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

/// Nobody else is there to do it.
fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zero is a request without a name and flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the socket is ours, and the request lives through the call and has a name that ends with zero.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn mount(kind: &str, at: &str) -> io::Result<()> {
    // Those in other file systems are there, made by the kernel.
    if !fs::exists(at)? {
        fs::create_dir_all(at)?;
    }
    let (kind, at) = (CString::new(kind)?, CString::new(at)?);
    // SAFETY: the three strings end with zero and live through the call; no file system here takes data.
    let done = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
