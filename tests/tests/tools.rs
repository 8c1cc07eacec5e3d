//! The well-known tools of `host-ebpf/tests/specs/tools` at work: what a workload does is what they record.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
};

use portcullis_ebpf::{Options, Scope};
use portcullis_tests::{
    disk::Disk,
    kernel::{self, Workloads},
    lock, note, specs,
};

/// Runs every case of a tool that this kernel has over a workload. Each of `expect` is in a row of its own, in this order, among
/// what else is there, elements of maps behind the rows; of a field behind `~` that is a part. Without any, the probes have to have run their bodies.
fn check(tool: &str, workload: &[&str], expect: &[&[&str]]) {
    check_in(Scope::Marked, tool, workload, expect);
}

/// The same of what the kernel does for the workload elsewhere: on its own threads, or when a timer ends.
fn check_everywhere(tool: &str, workload: &[&str], expect: &[&[&str]]) {
    check_in(Scope::System, tool, workload, expect);
}

fn check_in(scope: Scope, tool: &str, workload: &[&str], expect: &[&[&str]]) {
    let Some(_lock) = lock() else { return };
    let options = Options { scope, ..kernel::options() };
    let files = specs::read(&specs::directory());
    let file = files.iter().find(|file| file.name == format!("tools/{tool}")).unwrap();
    for case in &file.cases {
        match portcullis_ebpf::compile(&case.probes, &kernel::running(), &options) {
            Ok(compiled) if compiled.probes.iter().any(|probe| !probe.attach.is_empty()) => {}
            Ok(_) => {
                note(&format!("{tool}, {}: this kernel has none of its probes", case.title));
                continue;
            }
            Err(errors) => {
                assert!(errors.iter().all(|error| error.missing), "{errors:?}");
                note(&format!("{tool}, {}: {}", case.title, errors[0].message));
                continue;
            }
        }
        let traced = kernel::trace(&case.probes, &options, Workloads { before: &[], open: &[workload] });
        assert_eq!(traced.report.check(), [], "{tool}, {}", case.title);
        let mut rows = traced.rows.iter().chain(&traced.elements);
        for wanted in expect {
            let is = |f: &String, field: &str| field.strip_prefix('~').map_or(f == field, |part| f.contains(part));
            let fits = |(_, row): &(String, Vec<String>)| wanted.iter().all(|field| row.iter().any(|f| is(f, field)));
            assert!(rows.any(fits), "{tool}, {}: no row has {wanted:?} in {traced:#?}", case.title);
        }
        if expect.is_empty() {
            assert!(traced.probes.iter().any(|probe| probe.completed > 0), "{tool}, {}: nothing ran", case.title);
        }
    }
}

const COMM: &str = "comm=\"workload\"";

/// System calls, one row each.
#[test]
fn calls() {
    let path = "path=\"/etc/hostname\"";
    check("opensnoop", &["opens", "2", "/etc/hostname"], &[&[COMM, path, "error=0"], &[COMM, path, "error=0"]]);
    check("opensnoop", &["opens", "1", "/no/such"], &[&[COMM, "path=\"/no/such\"", "fd=-1", "error=2"]]);
    check("statsnoop", &["stats", "/no/such"], &[&[COMM, "path=\"/no/such\"", "error=2"]]);
    check("killsnoop", &["kills", "23"], &[&[COMM, "signal=23", "retval=0"]]);
    check("naptime", &["naps", "3"], &[&[COMM, "seconds=0", "ns=3000000"]]);
    check("syncsnoop", &["syncs", "2"], &[&["probe=\"tracepoint:syscalls:sys_enter_fsync\""][..]; 2]);
    let none = ["ruid=-1", "suid=-1", "euid=0", "uid=0"];
    let call = |name| [&[name], &none[..]].concat();
    let [one, two, three] = ["call=\"setuid\"", "call=\"setfsuid\"", "call=\"setresuid\""].map(call);
    check("setuids", &["setuids"], &[&one, &two]);
    check("setuids", &["setuids"], &[&three]);
}

/// Programs and threads that begin.
#[test]
fn begins() {
    check("threadsnoop", &["idle", "0", "2"], &[&[COMM], &[COMM]]);
    check("pidpersec", &["forks", "3"], &[]);
}

/// What is counted and measured.
#[test]
fn sums() {
    check("syscount", &["getppid", "5"], &[]);
    check("runqlat", &["waits", "20"], &[]);
    check("cpuwalk", &["spins", "500"], &[]);
    check("runqlen", &["spins", "500"], &[]);
    check("vfscount", &["reads", "5", "1"], &[]);
    check("vfsstat", &["reads", "5", "1"], &[]);
}

/// What the kernel does for a process.
#[test]
fn within_the_kernel() {
    check("capable", &["setuids"], &[&[COMM, "cap=7"]]);
    check("dcsnoop", &["opens", "1", "/etc/no-such-file"], &[&["type=\"M\"", "name=\"no-such-file\"", "found=0"]]);
}

/// Connections over the loopback.
#[test]
fn connections() {
    let here = "[7f, 00, 00, 01]";
    let (to, from, at) = (format!("to={here}"), format!("from={here}"), format!("at={here}"));
    check("tcpconnect", &["connects", "1000"], &[&[COMM, &to, &from]]);
    check("tcpaccept", &["connects", "1000"], &[&[COMM, &from, &at, "queued=0"]]);
    // The kernel may take what arrives on a thread of its own.
    check_everywhere("tcpsynbl", &["connects", "1000"], &[]);
    check("tcplife", &["connects", "1000"], &[&[COMM, &to, &at]]);
}

/// What the kernel drops of a connection and what it sends twice.
#[test]
fn packets() {
    let here = "[7f, 00, 00, 01]";
    let (from, to) = (format!("from={here}"), format!("to={here}"));
    check("tcpdrop", &["drops"], &[&[COMM, &from, &to, "state=1"]]);
    // 2 is TCP_SYN_SENT.
    let at = format!("at={here}");
    check_everywhere("tcpretrans", &["retransmits"], &[&[&at, &to, "state=2"]]);
}

/// Requests to a disk.
#[test]
fn disks() {
    let disk = match Disk::new(4 << 20) {
        Ok(disk) => disk,
        Err(error) => return note(&format!("no request to a disk is traced: {error}")),
    };
    let writes = ["direct-writes", disk.device().to_str().unwrap(), "3", "65536"];
    check_everywhere("biosnoop", &writes, &[&[COMM, "bytes=65536", "major=7"][..]; 3]);
    check_everywhere("bitesize", &writes, &[&["workload", "65536", "131072", "3"]]);
    check_everywhere("biolatency", &writes, &[]);
    check_everywhere("biostacks", &writes, &[&["~;vfs_write;"]]);
}

/// What the kernel writes when it has the time, or is told to.
#[test]
fn written_back() {
    let mounted = Disk::new(16 << 20).and_then(|mut disk| {
        let place = disk.mount()?;
        Ok((disk, place))
    });
    match mounted {
        // 2 is WB_REASON_SYNC.
        Ok((_disk, place)) => {
            let file = place.join("file");
            check_everywhere("writeback", &["dirties", file.to_str().unwrap(), "1000000"], &[&["reason=2"]]);
        }
        Err(error) => note(&format!("no file is written back: {error}")),
    }
}

/// A control group with little memory; `None` where there are none.
fn small_group() -> Option<PathBuf> {
    let name = format!("portcullis-test-{}", std::process::id());
    // A file that is not there is not made: the directory may be no control group.
    let write = |path: PathBuf, text: &str| File::options().write(true).open(path)?.write_all(text.as_bytes());
    for (root, limit, swap) in [
        ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    ] {
        let group = PathBuf::from(root).join(&name);
        if fs::create_dir(&group).is_ok() {
            if write(group.join(limit), "16M").is_ok() {
                let _ = write(group.join(swap), if limit == "memory.max" { "0" } else { "16M" });
                return Some(group);
            }
            let _ = fs::remove_dir(&group);
        }
    }
    None
}

/// A process that takes more memory than there is.
#[test]
fn memory() {
    let Some(group) = small_group() else { return note("no memory runs out: there are no control groups for it") };
    check("oomkill", &["runs-out-of-memory", group.to_str().unwrap()], &[&[COMM]]);
    let _ = fs::remove_dir(&group);
}

/// Functions of libraries.
#[test]
fn libraries() {
    check("gethostlatency", &["looks-up", "localhost"], &[&[COMM, "func=\"getaddrinfo\"", "host=\"localhost\""]]);
}

/// Functions of the library that encrypts, in a program that talks to itself.
#[test]
fn encryption() {
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        return note("nothing is encrypted: there is no `openssl`");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = format!(
        "openssl s_server -accept 127.0.0.1:{port} -nocert -psk 01 -naccept 1 -rev >/dev/null &
         for i in $(seq 100); do
             (echo hello; sleep 0.3) | openssl s_client -connect 127.0.0.1:{port} -psk 01 >/dev/null 2>&1 && break
             sleep 0.05
         done
         wait"
    );
    check("ssllatency", &["runs", "sh", "-c", &script], &[&["@stat", "SSL_write"]]);
}

/// The arguments of a program that a child becomes, and the program.
#[test]
fn programs() {
    let Some(_lock) = lock() else { return };
    let files = specs::read(&specs::directory());
    let cases = &files.iter().find(|file| file.name == "tools/execsnoop").unwrap().cases;
    let run = |case: usize| {
        let traced = kernel::trace(&cases[case].probes, &kernel::options(), Workloads { before: &[], open: &[&["execs"]] });
        assert_eq!(traced.report.check(), []);
        traced.rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
    };
    let ends = |rows: &[Vec<String>], number: &str, end: &str| {
        rows.iter().any(|row| row.iter().any(|f| f == number) && row.iter().any(|f| f.ends_with(end)))
    };
    let rows = run(0);
    for (number, end) in [("number=0", "/workload\""), ("number=1", "=\"getppid\""), ("number=2", "=\"1\"")] {
        assert!(ends(&rows, number, end), "{number} in {rows:#?}");
    }
    let rows = run(1);
    assert!(ends(&rows, COMM, "/workload\""), "{rows:#?}");
}
