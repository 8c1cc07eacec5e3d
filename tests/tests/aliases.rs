//! A place has several names, and what is granted is one of them: whoever asks for it by another is refused, and whoever is denied it is
//! denied it by each. On every kernel, since which kinds there are is the kernel's.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use portcullis::{
    grants::{self, Deny, GrantedBy, Grants},
    kernel::RunningKernel,
};
use portcullis_ebpf::{DataClass, Needs, Options, ProbeSpec};
use portcullis_tests::{
    kernel::{self, probe},
    lock, note, workload,
};

/// What a plugin with this one probe needs; `None` if this kernel can't do that.
fn needs(kernel: &RunningKernel, attach: &str) -> Option<Needs> {
    let spec: ProbeSpec = probe("p", attach, None, "emit s { pid }");
    match portcullis_ebpf::compile(&[spec], kernel, &Options { max_targets: 100_000, ..kernel::options() }) {
        Ok(compiled) => Some(compiled.needs),
        Err(errors) => {
            assert!(errors.iter().all(|error| error.missing), "{attach}: {errors:?}");
            note(&format!("{attach}: {}", errors[0].message));
            None
        }
    }
}

fn granted(probes: &[&str], deny: &[&str]) -> Grants {
    Grants {
        probes: probes.iter().map(ToString::to_string).collect(),
        read: DataClass::ALL.into(),
        deny: Deny { probes: deny.iter().map(ToString::to_string).collect(), ..Deny::default() },
        by: GrantedBy::Manifest,
        ..Grants::none()
    }
}

/// Each of `names`, all of one place, is granted alone: that one passes and no other. Then each is denied alone: none passes.
fn check(names: &[&str]) {
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    let here: Vec<(&str, Needs)> = names.iter().filter_map(|name| Some((*name, needs(&kernel, name)?))).collect();
    for (one, _) in &here {
        for (other, needs) in &here {
            let passes = grants::check("p", needs, &granted(&[one], &[])).is_ok();
            assert_eq!(passes, one == other, "{one} is granted, {other} is asked for: {needs:?}");
            let denied = grants::check("p", needs, &granted(&["*"], &[one]));
            assert!(denied.is_err_and(|refused| refused.is_denied()), "{one} is denied, {other} is asked for: {needs:?}");
        }
    }
}

/// A function of the kernel: by a breakpoint, by a trampoline, at either end, and by both ends.
#[test]
fn functions() {
    check(&[
        "kprobe:vfs_read",
        "kretprobe:vfs_read",
        "fentry:vfs_read",
        "fexit:vfs_read",
        "span:kprobe:vfs_read",
        "span:kfunc:vfs_read",
    ]);
}

/// A system call: by the tracepoints of its ends, and by both.
#[test]
fn system_calls() {
    check(&["tracepoint:syscalls:sys_enter_read", "tracepoint:syscalls:sys_exit_read", "span:syscall:read"]);
}

/// A tracepoint, by its format and as it is raw.
#[test]
fn tracepoints() {
    check(&["tracepoint:sched:sched_switch", "rawtracepoint:sched_switch"]);
}

/// A function of a program: at either end, and by both.
#[test]
fn functions_of_programs() {
    let path = workload();
    let names = ["uprobe", "uretprobe", "span:uprobe"].map(|kind| format!("{kind}:{}:workload_wait", path.display()));
    check(&names.each_ref().map(String::as_str));
}

/// What reaches the granted place from behind or from above is another place: the raw tracepoints of all system calls, the function
/// that serves one, an offset, a wildcard that has it among others.
#[test]
fn roundabout() {
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    let ways = [
        ("tracepoint:syscalls:sys_enter_read", "rawtracepoint:sys_enter"),
        ("tracepoint:syscalls:sys_enter_read", "tracepoint:raw_syscalls:sys_enter"),
        ("tracepoint:syscalls:sys_enter_read", "tracepoint:syscalls:sys_enter_rea*"),
        ("span:syscall:read", "kprobe:__x64_sys_read"),
        ("span:syscall:read", "span:kprobe:ksys_read"),
        ("kprobe:vfs_read", "kprobe:vfs_read+4"),
        ("kprobe:vfs_read", "kprobe:vfs_rea*"),
        ("fentry:vfs_read", "kprobe:vfs_read"),
        ("fentry:vfs_read", "fentry:vfs_readv"),
    ];
    for (granted_one, asked) in ways {
        let Some(needs) = needs(&kernel, asked) else { continue };
        assert!(
            grants::check("p", &needs, &granted(&[granted_one], &[])).is_err(),
            "{granted_one} is granted, {asked} passes: {needs:?}"
        );
    }
}

/// A program by a way around, by a link and by another process's root is the program: the grant and the denial of its own path hold.
#[test]
fn paths() {
    let Some(_lock) = lock() else { return };
    let kernel = kernel::running();
    let path = workload().canonicalize().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (parent, file) = (path.parent().unwrap().display(), path.file_name().unwrap().to_str().unwrap());
    let own = format!("uprobe:{}:workload_wait", path.display());
    let ways = [
        format!("{parent}/../{}/{file}", path.parent().unwrap().file_name().unwrap().to_str().unwrap()),
        link.display().to_string(),
        format!("/proc/self/root{}", path.display()),
    ];
    for way in ways {
        let needs = needs(&kernel, &format!("uprobe:{way}:workload_wait")).unwrap();
        assert!(grants::check("p", &needs, &granted(&[&own], &[])).is_ok(), "{way}: {needs:?}");
        assert!(grants::check("p", &needs, &granted(&["*"], &[&own])).is_err(), "{way}: {needs:?}");
    }
}
