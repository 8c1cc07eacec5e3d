//! What the kernel says of itself, and how it is set.

use std::{fs, io, path::Path};

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
    thread::CapabilitySet,
};

use super::{
    Finding,
    user::{User, privilege},
};
use crate::{
    cgroups::{Mounts, Tree},
    kernel::processes,
};

const KERNEL: &str = "kernel";
const SETTINGS: &str = "settings";
/// As `kernel::running` has them.
const BTF: &str = "/sys/kernel/btf";
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const KALLSYMS: &str = "/proc/kallsyms";

/// The kernel, its types, tracefs, addresses.
pub(super) fn about(user: &User) -> Vec<Finding> {
    let name = uname();
    let of = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = of(name.release());
    vec![
        Finding::yes(KERNEL, "version", release.clone()),
        architecture(&of(name.machine())),
        types(),
        modules(),
        tracefs(),
        addresses(user),
        match processes::initial_namespace() {
            true => Finding::yes(KERNEL, "process ids", "those that programs see"),
            false => Finding::no(
                KERNEL,
                "process ids",
                "a container with process ids of its own, which programs in the kernel do not know",
                "run it in the host's pid namespace (docker run --pid=host)",
            ),
        },
        memory(&release, getrlimit(Resource::Memlock).current, user),
    ]
}

fn architecture(machine: &str) -> Finding {
    match machine {
        "x86_64" | "aarch64" => Finding::yes(KERNEL, "architecture", machine),
        _ => {
            Finding::no(KERNEL, "architecture", machine, "Portcullis knows the system calls and registers of x86_64 and aarch64")
        }
    }
}

fn types() -> Finding {
    let path = Path::new(BTF).join("vmlinux");
    match fs::metadata(&path) {
        Ok(_) => Finding::yes(KERNEL, "types (BTF)", path.display().to_string()),
        Err(error) => Finding::no(
            KERNEL,
            "types (BTF)",
            format!("{}: {error}", path.display()),
            "take a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of the large distributions are",
        ),
    }
}

fn modules() -> Finding {
    let count = fs::read_dir(BTF).map_or(0, |files| files.flatten().filter(|file| file.file_name() != "vmlinux").count());
    match count {
        0 => Finding::yes(KERNEL, "types of modules", "no module that is loaded describes its types"),
        count => Finding::yes(KERNEL, "types of modules", format!("{count} modules describe theirs")),
    }
}

fn tracefs() -> Finding {
    let mut found = None;
    for mount in TRACEFS {
        let events = Path::new(mount).join("events");
        match fs::read_dir(&events) {
            Ok(_) => return Finding::yes(KERNEL, "tracefs", mount),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found = found.or(Some(format!("{}: {error}", events.display()))),
        }
    }
    match found {
        Some(reason) => Finding::no(KERNEL, "tracefs", reason, privilege()),
        None => Finding::no(KERNEL, "tracefs", "it is not mounted", format!("mount -t tracefs tracefs {}", TRACEFS[0])),
    }
}

/// The addresses of kernel functions are zero to those who may not know them.
fn addresses(user: &User) -> Finding {
    let name = "names of kernel functions";
    let told = fs::read_to_string(KALLSYMS).map(|text| {
        text.lines().any(|line| line.split(' ').next().is_some_and(|address| address.bytes().any(|digit| digit != b'0')))
    });
    match told {
        Ok(true) => Finding::yes(KERNEL, name, KALLSYMS),
        Ok(false) if user.can(CapabilitySet::SYSLOG) => {
            Finding::no(KERNEL, name, format!("{KALLSYMS} hides addresses"), "sysctl kernel.kptr_restrict=1")
        }
        Ok(false) => Finding::no(KERNEL, name, format!("{KALLSYMS} hides addresses from this user"), privilege()),
        Err(error) => Finding::no(KERNEL, name, format!("{KALLSYMS}: {error}"), "take a kernel built with CONFIG_KALLSYMS=y"),
    }
}

/// Before Linux 5.11 maps count against RLIMIT_MEMLOCK.
fn memory(release: &str, limit: Option<u64>, user: &User) -> Finding {
    let name = "memory for maps (RLIMIT_MEMLOCK)";
    match (version(release), limit) {
        (Some(version), _) if version >= (5, 11) => Finding::yes(KERNEL, name, "not limited since Linux 5.11"),
        (_, None) => Finding::yes(KERNEL, name, "not limited"),
        (_, Some(limit)) if user.can(CapabilitySet::SYS_RESOURCE) => {
            Finding::yes(KERNEL, name, format!("{limit} bytes, which Portcullis may raise"))
        }
        (_, Some(limit)) => Finding::no(KERNEL, name, format!("{limit} bytes"), "ulimit -l unlimited, or CAP_SYS_RESOURCE"),
    }
}

/// The first two numbers of `uname -r`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What an administrator set.
pub(super) fn settings(user: &User) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let sysctl = |name: &str| read(&format!("/proc/sys/{}", name.replace('.', "/")));
    let mut findings: Vec<Finding> = SYSCTLS.iter().map(|name| setting(name, sysctl(name).as_deref(), user)).collect();
    findings.push(lockdown(read("/sys/kernel/security/lockdown").as_deref()));
    findings.push(cgroups(&Mounts::read().unwrap_or_default()));
    findings
}

const SYSCTLS: [&str; 4] =
    ["kernel.perf_event_paranoid", "kernel.kptr_restrict", "kernel.unprivileged_bpf_disabled", "net.core.bpf_jit_enable"];

/// A sysctl with what it means for this user (Documentation/admin-guide/sysctl of the kernel).
fn setting(name: &str, value: Option<&str>, user: &User) -> Finding {
    let Some(value) = value else { return Finding::yes(SETTINGS, name, "this kernel has no such setting, or not here") };
    let number: i64 = value.parse().unwrap_or(0);
    let refused = match name {
        "kernel.perf_event_paranoid" if number >= 2 && !user.can(CapabilitySet::PERFMON) => {
            Some(("events of the kernel are refused to this user", privilege()))
        }
        "kernel.kptr_restrict" if number >= 2 => {
            Some(("nobody is told kernel addresses", "sysctl kernel.kptr_restrict=1".to_owned()))
        }
        "kernel.kptr_restrict" if number == 1 && !user.can(CapabilitySet::SYSLOG) => {
            Some(("this user is not told kernel addresses", privilege()))
        }
        "kernel.unprivileged_bpf_disabled" if number >= 1 && !user.can(CapabilitySet::BPF) => {
            Some(("this user may load no program", privilege()))
        }
        "net.core.bpf_jit_enable" if number == 0 => Some((
            "programs are interpreted, which is slow, and there is no fentry",
            "sysctl net.core.bpf_jit_enable=1".to_owned(),
        )),
        _ => None,
    };
    match refused {
        Some((reason, way_out)) => Finding::no(SETTINGS, name, format!("{value}: {reason}"), way_out),
        None => Finding::yes(SETTINGS, name, value),
    }
}

/// `none [integrity] confidentiality`, kernel_lockdown(7): the last refuses programs that read kernel memory.
fn lockdown(text: Option<&str>) -> Finding {
    let name = "lockdown";
    let Some(text) = text else { return Finding::yes(SETTINGS, name, "none") };
    let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(mode, _)| mode);
    match mode {
        "confidentiality" => Finding::no(
            SETTINGS,
            name,
            "confidentiality: programs may not read kernel memory, nor trace by kprobes",
            "boot without `lockdown=confidentiality`, or without what sets it, such as secure boot",
        ),
        mode => Finding::yes(SETTINGS, name, mode),
    }
}

/// Where cgroups of version 2 are mounted.
fn cgroups(mounts: &Mounts) -> Finding {
    let name = "cgroup v2";
    let part = || mounts.of(Tree::Unified).next().map(|mount| mount.point.as_path());
    let mount = mounts.whole(Tree::Unified).or_else(part);
    match mount {
        Some(place) => Finding::yes(SETTINGS, name, place.display().to_string()),
        None => Finding::no(
            SETTINGS,
            name,
            "it is not mounted: `cgroup_path` gives numbers",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a setting means depends on the user; none of them troubles who has all capabilities but the two that bind everyone.
    #[test]
    fn settings() {
        let check = |name: &str, value: Option<&str>, nobody: bool, root: bool| {
            let found = [CapabilitySet::empty(), CapabilitySet::all()].map(|set| setting(name, value, &User::with(set)));
            assert_eq!([found[0].ok, found[1].ok], [nobody, root], "{name} {value:?}");
            assert!(found.iter().all(|finding| finding.ok == finding.way_out.is_none()));
        };
        check("kernel.perf_event_paranoid", Some("-1"), true, true);
        check("kernel.perf_event_paranoid", Some("1"), true, true);
        check("kernel.perf_event_paranoid", Some("2"), false, true);
        check("kernel.perf_event_paranoid", Some("4"), false, true);
        check("kernel.kptr_restrict", Some("0"), true, true);
        check("kernel.kptr_restrict", Some("1"), false, true);
        check("kernel.kptr_restrict", Some("2"), false, false);
        check("kernel.unprivileged_bpf_disabled", Some("0"), true, true);
        check("kernel.unprivileged_bpf_disabled", Some("2"), false, true);
        check("net.core.bpf_jit_enable", Some("0"), false, false);
        check("net.core.bpf_jit_enable", Some("1"), true, true);
        check("net.core.bpf_jit_enable", None, true, true);
    }

    /// The mode in brackets counts.
    #[test]
    fn lockdowns() {
        let check = |text: Option<&str>, ok: bool, detail: &str| {
            let found = lockdown(text);
            assert!(found.ok == ok && found.detail.starts_with(detail), "{found:?}");
        };
        check(None, true, "none");
        check(Some("[none] integrity confidentiality"), true, "none");
        check(Some("none [integrity] confidentiality"), true, "integrity");
        check(Some("none integrity [confidentiality]"), false, "confidentiality");
    }

    /// Of several mounts the one that shows the whole tree is told.
    #[test]
    fn mounts() {
        let check = |text: &str, expect: Option<&str>| {
            let found = cgroups(&Mounts::parse(text));
            assert_eq!(found.ok.then_some(found.detail.as_str()), expect, "{text}");
        };
        check("", None);
        let old = "31 29 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        check(old, None);
        let part = format!("{old}40 1 0:21 /docker/1f /inner rw - cgroup2 cgroup2 rw\n");
        check(&part, Some("/inner"));
        check(&format!("{part}30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n"), Some("/sys/fs/cgroup/unified"));
    }

    /// The limit binds old kernels alone, and there only those who can't raise it.
    #[test]
    fn memory_for_maps() {
        let check = |release: &str, limit: Option<u64>, capability: CapabilitySet, ok: bool| {
            assert_eq!(memory(release, limit, &User::with(capability)).ok, ok, "{release} {limit:?}");
        };
        let none = CapabilitySet::empty();
        check("6.18.44-fc", Some(65536), none, true);
        check("5.11.0", Some(65536), none, true);
        check("5.10.0-46-cloud-amd64", Some(65536), none, false);
        check("5.10.0-46-cloud-amd64", None, none, true);
        check("5.10.0-46-cloud-amd64", Some(65536), CapabilitySet::SYS_RESOURCE, true);
        check("strange", Some(65536), none, false);
    }
}
