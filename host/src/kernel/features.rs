//! What the running kernel can do: each is tried, none is told from a version.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya_obj::generated::{
    bpf_attach_type, bpf_func_id, bpf_func_id::BPF_FUNC_ktime_get_boot_ns, bpf_func_id::BPF_FUNC_ktime_get_tai_ns, bpf_insn,
    bpf_prog_type,
};
use portcullis_ebpf::{
    functions::{self, Function},
    kernel::{Btf, Features, SESSION_IS_RETURN},
    output::{Ends, UserPlace},
};
use rustix::io::Errno;

use super::{
    SysError,
    attach::pmu,
    program,
    sys::{self, Load},
};

/// The security modules in force, with commas (security/inode.c).
const MODULES: &str = "/sys/kernel/security/lsm";

/// A function that the kernel has for tests of trampolines (net/bpf/test_run.c), and others that most kernels have.
pub(crate) const FUNCTIONS: [&str; 3] = ["bpf_fentry_test1", "vfs_fsync", "vfs_statx"];

/// Tries everything. Without the privilege to try, a kernel counts as able: what is attempted then says why it fails.
pub(super) fn try_all(btf: &Btf) -> Features {
    let session = btf.function(SESSION_IS_RETURN).map(|function| asking(function.number()));
    let fentry = fentry(btf);
    Features {
        atomic_fetch: loads(&exchange()),
        large_keys: possible(sys::create_hash(1024, 8)),
        for_each_map: possible(for_each_map()),
        time_boot: loads(&calling(BPF_FUNC_ktime_get_boot_ns)),
        time_tai: loads(&calling(BPF_FUNC_ktime_get_tai_ns)),
        // Programs for uprobes have the same type: what a kernel without kprobes lacks is their source of events.
        kprobe: pmu::find("kprobe").is_ok_and(|found| found.is_some()),
        fentry,
        // By the same trampolines.
        lsm: fentry && lsm(btf),
        uprobe: pmu::find("uprobe").is_ok_and(|found| found.is_some()),
        // Older than ring buffers, without which there is nothing.
        raw_tracepoint: true,
        kprobe_multi: kprobe_multi(Ends::Entry, &RETURN_0),
        kprobe_session: session.as_ref().is_some_and(|program| kprobe_multi(Ends::Both, program)),
        uprobe_multi: uprobe_multi(Ends::Entry, &RETURN_0),
        uprobe_session: session.as_ref().is_some_and(|program| uprobe_multi(Ends::Both, program)),
        // PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES
        hardware: possible(sys::perf_event_open_sampling(0, 0, 1_000_000, false, 0).map_err(privilege)),
        // To try one would take the kernel 10 ms.
        watchpoint: pmu::find("breakpoint").is_ok_and(|found| found.is_some()),
        iter: iter(btf),
        moments: moments(),
    }
}

/// Whether one link serves many functions of the kernel: one that is not there is then looked for.
fn kprobe_multi(ends: Ends, program: &[bpf_insn]) -> bool {
    let program = load(bpf_prog_type::BPF_PROG_TYPE_KPROBE, Some(sys::kprobe_multi(ends)), 0, program);
    // ftrace_lookup_symbols(), kernel/trace/ftrace.c
    program.is_ok_and(|program| {
        let link = sys::link_kprobe_multi(program.as_fd(), ends, &[c"no such function".to_owned()], &[0]);
        link.is_err_and(|error| matches!(error.errno, Errno::SRCH | Errno::NOENT))
    })
}

/// Whether one link serves many places of a file: a directory is then refused as none.
fn uprobe_multi(ends: Ends, program: &[bpf_insn]) -> bool {
    let program = load(bpf_prog_type::BPF_PROG_TYPE_KPROBE, Some(sys::uprobe_multi(ends)), 0, program);
    // bpf_uprobe_multi_link_attach(), kernel/trace/bpf_trace.c
    program.is_ok_and(|program| {
        let place = UserPlace { offset: 0, semaphore: 0, cookie: 0 };
        sys::link_uprobe_multi(program.as_fd(), ends, c"/", &[place]).is_err_and(|error| error.errno == Errno::BADF)
    })
}

/// An iterator is made, and nothing is iterated.
fn iter(btf: &Btf) -> bool {
    let Some(id) = btf.function("bpf_iter_task") else { return false };
    let program =
        load(bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(bpf_attach_type::BPF_TRACE_ITER as u32), id.number(), &RETURN_0);
    possible(program.and_then(|program| sys::link_create_iter(program.as_fd())))
}

/// Whether the host can run a program itself.
fn moments() -> bool {
    match nothing() {
        Ok(program) => sys::prog_test_run(program.as_fd()).is_ok(),
        Err(error) => error.errno == Errno::PERM,
    }
}

/// perf_event_open(2) says EACCES where bpf(2) says EPERM.
fn privilege(error: SysError) -> SysError {
    if error.errno == Errno::ACCESS { SysError { errno: Errno::PERM, ..error } } else { error }
}

/// Whether an attempt succeeded, or was refused for want of privilege.
fn possible(attempt: sys::Result<OwnedFd>) -> bool {
    attempt.map_or_else(|error| error.errno == Errno::PERM, |_| true)
}

fn loads(insns: &[bpf_insn]) -> bool {
    possible(load(bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, None, 0, insns))
}

fn load(kind: bpf_prog_type, attach: Option<u32>, btf_id: u32, insns: &[bpf_insn]) -> sys::Result<OwnedFd> {
    program::try_load(&Load { kind, attach, btf_id, btf_object: None, functions: None, name: "pc_feature", insns }, None)
}

/// A program that has a function called for each element of a map, by bpf_for_each_map_elem().
fn for_each_map() -> sys::Result<OwnedFd> {
    let map = sys::create_hash(8, 8)?;
    let insns = [
        // r1 = map: BPF_PSEUDO_MAP_FD is 1, and the map's descriptor comes first.
        insn(0x18, 0x11, 0, map.as_raw_fd()),
        insn(0, 0, 0, 0),
        // r2 = the function at instruction 9, as a call counts: BPF_PSEUDO_FUNC is 4.
        insn(0x18, 0x42, 0, 6),
        insn(0, 0, 0, 0),
        set_zero(3),
        set_zero(4),
        insn(0x85, 0, 0, bpf_func_id::BPF_FUNC_for_each_map_elem as i32),
        set_zero(0),
        EXIT,
        set_zero(0),
        EXIT,
    ];
    let function = |start, name: &str| Function { start, name: name.to_owned(), global: false };
    let described = functions::describe(&[function(0, "feature"), function(9, "element")]);
    let btf = sys::btf_load(&described.btf)?;
    let kind = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT;
    let functions = Some((btf.as_fd(), described.info.as_slice()));
    let load = Load { kind, attach: None, btf_id: 0, btf_object: None, functions, name: "pc_feature", insns: &insns };
    program::try_load(&load, None)
}

/// A trampoline is put at a function that hardly ever runs, and taken away.
fn fentry(btf: &Btf) -> bool {
    let Some(id) = FUNCTIONS.iter().find_map(|name| btf.function(name)) else { return false };
    let kind = bpf_prog_type::BPF_PROG_TYPE_TRACING;
    let program = load(kind, Some(bpf_attach_type::BPF_TRACE_FENTRY as u32), id.number(), &RETURN_0);
    match program.and_then(|program| sys::raw_tracepoint_open(program.as_fd())) {
        Ok(_) => true,
        // A kernel may forbid trampolines to those, too, who may load anything else.
        Err(error) => error.errno == Errno::PERM && nothing().is_err(),
    }
}

/// A kernel may take programs for the hooks of its security modules and ask none of them: one is put at a hook that this thread then
/// passes.
fn lsm(btf: &Btf) -> bool {
    // Where it can be read it spares the trampoline on most systems.
    if fs::read_to_string(MODULES).is_ok_and(|list| !list.trim().split(',').any(|module| module == "bpf")) {
        return false;
    }
    let Some(id) = btf.function("bpf_lsm_task_getsid") else { return false };
    let asked = || -> sys::Result<bool> {
        let _stats = sys::enable_stats()?;
        let program = load(bpf_prog_type::BPF_PROG_TYPE_LSM, Some(bpf_attach_type::BPF_LSM_MAC as u32), id.number(), &RETURN_0)?;
        let _link = sys::raw_tracepoint_open(program.as_fd())?;
        // Of which session it is, is of no interest.
        let _ = rustix::process::getsid(Some(rustix::process::getpid()));
        Ok(sys::program_info(program.as_fd())?.run_count > 0)
    };
    asked().unwrap_or_else(|error| error.errno == Errno::PERM && nothing().is_err())
}

/// `return 0` on no occasion.
fn nothing() -> sys::Result<OwnedFd> {
    load(bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, None, 0, &RETURN_0)
}

const fn insn(code: u8, registers: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: aya_obj::generated::__BindgenBitfieldUnit::new([registers]), off, imm }
}

const EXIT: bpf_insn = insn(0x95, 0, 0, 0);

/// `rN = 0`
const fn set_zero(register: u8) -> bpf_insn {
    insn(0xb7, register, 0, 0)
}

/// `return 0`
pub(super) const RETURN_0: [bpf_insn; 2] = [set_zero(0), EXIT];

/// `function(); return 0`, of a function of the kernel's.
fn asking(function: u32) -> [bpf_insn; 3] {
    // BPF_PSEUDO_KFUNC_CALL in place of a source register.
    [insn(0x85, 0x20, 0, function.cast_signed()), set_zero(0), EXIT]
}

/// `return helper()`
fn calling(helper: bpf_func_id) -> [bpf_insn; 2] {
    [insn(0x85, 0, 0, helper as i32), EXIT]
}

/// `u64 x = 0; xchg(&x, 0); return 0`
fn exchange() -> [bpf_insn; 5] {
    // r10, the frame, is the destination, r1 the source.
    let (frame_from_r1, exchange) = (0x1a, 0xe1);
    [set_zero(1), insn(0x7b, frame_from_r1, -8, 0), insn(0xdb, frame_from_r1, -8, exchange), set_zero(0), EXIT]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aya_obj::generated::bpf_cmd;

    use super::*;
    use portcullis_ebpf::Kernel as _;

    use crate::kernel::{
        sys::{Call, fake},
        testing::NoKernel,
    };

    /// What the kernel refuses is not there; what it refuses to this user may be.
    #[test]
    fn refused() {
        let check = |errno: Errno, expect: bool| {
            let _fake = fake::install(move |_| Some(Err(errno)));
            let found = try_all(NoKernel::new().btf());
            assert_eq!([found.atomic_fetch, found.large_keys, found.time_boot, found.time_tai, found.for_each_map], [expect; 5]);
            assert!(!found.fentry);
        };
        check(Errno::INVAL, false);
        check(Errno::PERM, true);
        let _fake = fake::install(|_| Some(Err(Errno::ACCESS)));
        let found = try_all(NoKernel::new().btf());
        assert!(found.hardware && !found.atomic_fetch);
    }

    /// Programs are tried, and one that a signal interrupts is tried again.
    #[test]
    fn tried() {
        let mut loads = 0;
        let _fake = fake::install(move |call| {
            let Call::Bpf { cmd, .. } = call else { return Some(Err(Errno::NOENT)) };
            loads += u32::from(*cmd == bpf_cmd::BPF_PROG_LOAD);
            Some(if loads == 1 { Err(Errno::AGAIN) } else { Ok(fake::descriptor()) })
        });
        let found = try_all(NoKernel::new().btf());
        assert_eq!([found.atomic_fetch, found.large_keys, found.time_boot, found.time_tai, found.moments], [true; 5]);
        assert!(found.for_each_map);
        assert!(!found.hardware);
    }

    /// All attempts together take no more than a few milliseconds on this kernel, and leave nothing.
    #[test]
    fn this_kernel() {
        let Some(_lock) = crate::kernel::testing::lock() else { return };
        let Ok(bytes) = fs::read("/sys/kernel/btf/vmlinux") else { return };
        let btf = Btf::parse(bytes).unwrap();
        let before = crate::kernel::testing::kernel_objects();
        let start = std::time::Instant::now();
        let found = try_all(&btf);
        let time = start.elapsed();
        assert!(found.time_boot && found.atomic_fetch, "{found:?}");
        assert!(time < std::time::Duration::from_millis(200), "{time:?} for {found:?}");
        assert_eq!(crate::kernel::testing::kernel_objects(), before);
    }
}
