//! A kernel in a virtual machine: booted, checked by its first process, and gone.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{LIST, column::Column, fetch::Kernel};
use crate::{
    place::Place,
    process::{command, say},
    tools::QEMU,
};

/// A machine that does not end within this has stuck: where little else runs it takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(600);

/// Boots a kernel with an initial file system whose `/init` checks it.
pub(crate) fn check(place: &Place, kernel: &Kernel, image: &Path) -> Result<Column> {
    let file = |name: &str| place.target.join("kernels").join(format!("{}.{name}", kernel.series));
    let (console, results, errors) = (file("console"), file("results"), file("qemu"));
    let errors_to = fs::File::create(&errors).with_context(|| format!("can't write {}", errors.display()))?;
    let mut qemu = command(QEMU, &place.root);
    // Software emulation: as good on a machine that is virtual itself. Both CPUs in one thread, which takes no longer: a kernel that
    // patches its text while the other CPU runs it has got stuck under the parallel emulation.
    // Half of the memory is what the initial file system may fill (Documentation/filesystems/ramfs-rootfs-initramfs.rst, "What is
    // rootfs?", tmpfs(5)), beside the archive that it comes from: some 700 MB each.
    qemu.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "3G", "-nic", "none", "-no-reboot"]);
    qemu.args(["-display", "none", "-monitor", "none"]);
    // The first serial port is the kernel's console, the second what is found.
    for port in [&console, &results] {
        // What an earlier run found is not what this one finds.
        let _ = fs::remove_file(port);
        qemu.arg("-serial").arg(format!("file:{}", port.display()));
    }
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
    // A panic ends the machine, and so does an oops, before it is lost in what comes after. The kernel's test of its timer fails where
    // this machine is busy. Debian's kernels have BPF as a security module, and ask it if they are told to.
    let boot = format!(
        "console=ttyS0 quiet no_timer_check panic=-1 oops=panic softlockup_panic=1 mitigations=off lsm=landlock,bpf -- {LIST}"
    );
    qemu.args(["-append", &boot]).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(errors_to);

    let begin = Instant::now();
    let mut child = qemu.spawn().with_context(|| format!("can't run {QEMU}"))?;
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("can't wait for {QEMU}"))? {
            break Some(status);
        }
        if begin.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let Some(column) = Column::parse(&read(&results)) else {
        let how = status.map_or_else(|| format!("did not end within {LIMIT:?}"), |status| format!("ended too early, {status}"));
        bail!("the machine with Linux {} {how}\n{}{}", kernel.series, read(&errors), tail(&read(&console)));
    };
    say(&format!("Linux {}: {} programs in {:.1} s", column.release, column.programs, begin.elapsed().as_secs_f64()));
    Ok(column)
}

/// The last lines of a console.
fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
