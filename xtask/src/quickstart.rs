//! The first thing that a newcomer types: the whole way from sources to a trace on the running kernel.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::{
    place::Place,
    plugins,
    process::{command, is_root, run as execute, say},
};

/// What the host is asked to do, from the root of the checkout.
const RUN: [&str; 7] =
    ["run", "examples/quickstart/bundle.toml", "--duration", "10s", "--", "sh", "examples/quickstart/activity.sh"];

/// Builds what the quickstart needs and runs it.
pub(crate) fn run(place: &Place) -> Result<()> {
    plugins::run(place)?;
    execute(plugins::native(place, "build")?.args(["--bin", "portcullis"]))?;
    let host = place.target.join("release/portcullis");
    mount_tracefs(place);
    let missing = missing(is_root(), Path::exists);
    if !missing.is_empty() {
        let program = host.strip_prefix(&place.root).unwrap_or(&host).display();
        bail!(
            "everything is built, and this machine can't trace:\n  - {}\n\nOnce it can:\n  cd {}\n  sudo {program} {}",
            missing.join("\n  - "),
            place.root.display(),
            RUN.join(" ")
        );
    }
    say("\nTwo plugins watch a small script, examples/quickstart/activity.sh, from its first instruction on:\n");
    // Cargo sets it, and every program of the script would look for its libraries in the toolchain first.
    execute(command(host, &place.root).args(RUN).env_remove("LD_LIBRARY_PATH"))
}

/// What the kernel must show, and what it means if it does not. Each file is there exactly if the kernel has the thing:
/// kernel/bpf/syscall.c, kernel/bpf/sysfs_btf.c, kernel/trace/trace_syscalls.c.
const NEEDS: [(&str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_bpf_disabled", "the kernel has no BPF (CONFIG_BPF_SYSCALL)"),
    ("/sys/kernel/btf/vmlinux", "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)"),
    (
        "/sys/kernel/tracing/events/syscalls",
        "there are no system call tracepoints (CONFIG_FTRACE_SYSCALLS), or tracefs is not mounted: \
         `sudo mount -t tracefs tracefs /sys/kernel/tracing`",
    ),
];

/// What this machine lacks, as sentences.
pub(crate) fn missing(root: bool, exists: impl Fn(&Path) -> bool) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        missing.push("it is no Linux on x86-64");
    }
    if !root {
        missing.push("tracing takes root, and this user is not");
    }
    for (file, text) in NEEDS {
        // tracefs is closed to other users: without root its absence can't be told.
        let hidden = !root && file.starts_with("/sys/kernel/tracing");
        if !hidden && !exists(Path::new(file)) {
            missing.push(text);
        }
    }
    missing
}

/// For what can do nothing without tracing: mounts tracefs if need be.
///
/// # Errors
/// This machine or this user can't trace; it says what is missing.
pub(crate) fn ensure_tracing(place: &Place) -> Result<()> {
    mount_tracefs(place);
    match missing(is_root(), Path::exists).as_slice() {
        [] => Ok(()),
        missing => bail!("this machine can't trace:\n  - {}", missing.join("\n  - ")),
    }
}

/// Mounts tracefs where it is not and root asks. Without success something else will say so.
pub(crate) fn mount_tracefs(place: &Place) {
    let tracing = "/sys/kernel/tracing";
    let empty = fs::read_dir(tracing).is_ok_and(|mut entries| entries.next().is_none());
    if is_root() && empty {
        let mounted = execute(command("mount", &place.root).args(["-t", "tracefs", "tracefs", tracing]));
        if let Err(error) = mounted {
            say(&format!("warning: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, missing};

    /// Each thing that is not there is named, and only those.
    #[test]
    fn what_is_missing() {
        let everything = NEEDS.map(|(_, text)| text);
        assert_eq!(missing(true, |_| true), [""; 0]);
        assert_eq!(missing(true, |_| false), everything);
        assert_eq!(missing(false, |_| true), ["tracing takes root, and this user is not"]);
        assert_eq!(missing(false, |_| false).len(), everything.len());
        assert_eq!(
            missing(true, |path| !path.ends_with("vmlinux")),
            ["the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)"]
        );
    }
}
