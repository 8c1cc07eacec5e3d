//! The host is killed at any moment, with every kind of attachment that this kernel has: nothing of ours survives it, in the kernel or
//! in what was traced.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portcullis_ebpf::Kernel as _;
use portcullis_tests::{assert_no_programs, kernel, lock, note, portcullis, workload};

/// How often the host is killed.
const ROUNDS: u64 = 50;

/// The maps of ours that are in the kernel.
fn maps() -> Vec<String> {
    let loaded = aya::maps::loaded_maps().filter_map(Result::ok);
    loaded.filter_map(|map| map.name_as_str().map(str::to_owned)).filter(|name| name.starts_with("pc_")).collect()
}

/// The links of programs that are in the kernel, whosever they are.
fn links() -> usize {
    aya::programs::loaded_links().filter(Result::is_ok).count()
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A process that is traced, and the first bytes of a function of its own.
struct Traced {
    process: Child,
    memory: File,
    address: u64,
}

impl Traced {
    fn start() -> Traced {
        let process = Command::new(workload()).args(["spins", "600000"]).stdin(Stdio::null()).spawn().unwrap();
        let path = workload();
        let path = path.to_str().unwrap();
        let offset = kernel::running().user_functions(path, "workload_double").unwrap()[0].offset;
        let pid = process.id();
        let mut address = 0;
        // start-end perms offset dev inode path
        eventually("the process is not there", || {
            let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            let found = text.lines().filter(|line| line.ends_with(path)).find_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let (start, end) = fields.next()?.split_once('-')?;
                let at = fields.nth(1)?;
                let hex = |text: &str| u64::from_str_radix(text, 16).ok();
                let (start, end, at) = (hex(start)?, hex(end)?, hex(at)?);
                (at..at + (end - start)).contains(&offset).then(|| start + (offset - at))
            });
            address = found.unwrap_or(0);
            found.is_some()
        });
        Traced { memory: File::open(format!("/proc/{pid}/mem")).unwrap(), process, address }
    }

    fn code(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.memory.read_exact_at(&mut bytes, self.address).unwrap();
        bytes
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Killed before, while and after it loads, attaches and opens, the host leaves no program, link, map or uprobe.
#[test]
fn nothing_survives() {
    let Some(_lock) = lock() else { return };
    let traced = Traced::start();
    let (code, links_before) = (traced.code(), links());
    let features = kernel::running().features();
    let file = workload();
    let file = file.display();
    let mut program = format!(
        "tracepoint:syscalls:sys_enter_* {{ @calls[probe] = count(); }} tracepoint:sched:sched_switch {{ @to[args.next_pid] = count(); }} \
         tracepoint:sched:sched_wakeup {{ @wakes = count(); }} span:uprobe:{file}:workload_double {{ @ns = hist(duration); }} \
         uprobe:{file}:workload_triple {{ @triple = count(); }} profile:hz:99 {{ @stacks[kstack] = count(); }} interval:ms:10 {{ @ticks++; }} "
    );
    if features.kprobe {
        program.push_str("kprobe:vfs_* { @kernel[func] = count(); } ");
    }
    if features.fentry {
        program.push_str("fentry:vfs_fsync_range { @syncs = count(); } ");
    }
    // The first run compiles the plugin, which is kept.
    let mut last = Duration::ZERO;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    let mut attached = 0;
    for round in 0..ROUNDS {
        let mut host = Command::new(portcullis())
            .args(["trace", &program])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        if round == 0 {
            eventually("it does not attach", || traced.code() != code);
            last = begin.elapsed();
        } else {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            thread::sleep(Duration::from_micros(random % (2 * last.as_micros() as u64).max(1)));
        }
        attached += u64::from(traced.code() != code);
        host.kill().unwrap();
        host.wait().unwrap();
        assert_no_programs();
        eventually(&format!("maps are left: {:?}", maps()), || maps().is_empty());
        eventually("links are left", || links() <= links_before);
        eventually("a uprobe is left in the process", || traced.code() == code);
    }
    note(&format!("{attached} of {ROUNDS} hosts were killed with a uprobe in the process; attaching took {last:?} at first"));
    assert!(attached > 1, "{attached}");
}
