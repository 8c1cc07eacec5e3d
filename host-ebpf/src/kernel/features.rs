//! What a kernel can do, as far as generated code depends on it. The host tries each; nothing here is told from a version.

/// The kernel's own function that tells a session's program at which end of a call it runs, since Linux 6.10:
/// `__bpf_kfunc bool bpf_session_is_return(...)`, kernel/trace/bpf_trace.c. Since 7.0 it takes the context.
pub const SESSION_IS_RETURN: &str = "bpf_session_is_return";

/// What a kernel can do. Where something is missing, the compiler takes another way, or says what the spec would need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Atomic operations that return the old value: exchange, compare and exchange. Since Linux 5.12.
    pub atomic_fetch: bool,
    /// Hash maps with keys of more than 512 bytes: whole stacks as keys. Since Linux 5.16.
    pub large_keys: bool,
    /// bpf_for_each_map_elem(), and programs with functions that a helper calls: `len(@m)`, `clear(@m)`. Since Linux 5.13.
    pub for_each_map: bool,
    /// bpf_ktime_get_boot_ns(): `nsecs(boot)`. Since Linux 5.8.
    pub time_boot: bool,
    /// bpf_ktime_get_tai_ns(): `nsecs(tai)`. Since Linux 6.1.
    pub time_tai: bool,
    /// BPF_PROG_TYPE_KPROBE on functions of the kernel: CONFIG_KPROBES.
    pub kprobe: bool,
    /// BPF_TRACE_FENTRY and BPF_TRACE_FEXIT. Since Linux 5.5, where the architecture and the configuration have trampolines.
    pub fentry: bool,
    /// BPF programs are asked at the hooks of security modules. Since Linux 5.7, where the configuration has it, and the kernel was booted
    /// with `bpf` among its modules.
    pub lsm: bool,
    /// Places in programs and libraries: CONFIG_UPROBE_EVENTS.
    pub uprobe: bool,
    /// Counters of the processor, which virtual machines often lack.
    pub hardware: bool,
    /// BPF_TRACE_RAW_TP: raw tracepoints whose arguments BTF describes. Since Linux 5.5; where it is not to be used, trace events go
    /// through perf events.
    pub raw_tracepoint: bool,
    /// BPF_TRACE_KPROBE_MULTI: one link for many functions of the kernel. Since Linux 5.18, with CONFIG_FPROBE.
    pub kprobe_multi: bool,
    /// BPF_TRACE_KPROBE_SESSION: such a link for both ends of a call. Since Linux 6.10.
    pub kprobe_session: bool,
    /// BPF_TRACE_UPROBE_MULTI: one link for many places in a file. Since Linux 6.6.
    pub uprobe_multi: bool,
    /// BPF_TRACE_UPROBE_SESSION: such a link for both ends of a call. Since Linux 6.13.
    pub uprobe_session: bool,
    /// Debug registers for perf events: CONFIG_HAVE_HW_BREAKPOINT.
    pub watchpoint: bool,
    /// BPF_TRACE_ITER: what there is of something. Since Linux 5.8.
    pub iter: bool,
    /// BPF_PROG_TEST_RUN of programs of raw tracepoints: `begin` and `end`. Since Linux 5.10.
    pub moments: bool,
}

impl Features {
    /// A kernel that can do everything.
    pub const ALL: Features = Features {
        atomic_fetch: true,
        large_keys: true,
        for_each_map: true,
        time_boot: true,
        time_tai: true,
        kprobe: true,
        fentry: true,
        lsm: true,
        uprobe: true,
        raw_tracepoint: true,
        kprobe_multi: true,
        kprobe_session: true,
        uprobe_multi: true,
        uprobe_session: true,
        hardware: true,
        watchpoint: true,
        iter: true,
        moments: true,
    };

    /// The same kernel without what is there for speed alone: every trace event, and every place in the kernel or a program, by a perf
    /// event of its own.
    #[must_use]
    pub fn plain(self) -> Features {
        Features {
            raw_tracepoint: false,
            kprobe_multi: false,
            kprobe_session: false,
            uprobe_multi: false,
            uprobe_session: false,
            ..self
        }
    }
}
