//! The well-known tools of `host-ebpf/tests/specs/tools` at work: what a workload does is what they record.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use portcullis_tests::{
    kernel::{self, Workloads},
    lock, note, specs,
};

/// Runs every case of a tool that this kernel has over a workload. Each of `expect` is in a row of its own, in this order, among
/// what else is there; without any, the probes have to have run their bodies.
fn check(tool: &str, workload: &[&str], expect: &[&[&str]]) {
    let Some(_lock) = lock() else { return };
    let files = specs::read(&specs::directory());
    let file = files.iter().find(|file| file.name == format!("tools/{tool}")).unwrap();
    for case in &file.cases {
        match portcullis_ebpf::compile(&case.probes, &kernel::running(), &kernel::options()) {
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
        let traced = kernel::trace(&case.probes, &kernel::options(), Workloads { before: &[], open: &[workload] });
        assert_eq!(traced.report.check(), [], "{tool}, {}", case.title);
        let mut rows = traced.rows.iter();
        for wanted in expect {
            let fits = |(_, row): &(String, Vec<String>)| wanted.iter().all(|field| row.iter().any(|f| f == field));
            assert!(rows.any(fits), "{tool}, {}: no row has {wanted:?} in {:#?}", case.title, traced.rows);
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
    check("tcpsynbl", &["connects", "1000"], &[]);
    check("tcplife", &["connects", "1000"], &[&[COMM, &to, &at]]);
}

/// Functions of libraries.
#[test]
fn libraries() {
    check("gethostlatency", &["looks-up", "localhost"], &[&[COMM, "func=\"getaddrinfo\"", "host=\"localhost\""]]);
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
