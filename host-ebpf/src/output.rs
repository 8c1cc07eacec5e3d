//! What the compiler returns: everything the host loads, attaches and reads, with maps still symbolic.

use aya_obj::generated::bpf_insn;

use crate::{
    aggregate::Content,
    counters, disassemble,
    functions::{self, Description, Function},
    needs::Needs,
    record::{Field, Slot, Stream},
};

/// All probes of one plugin, compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// One per hook.
    pub programs: Vec<Program>,
    /// The maps that are this plugin's own. [`MapRef::Gate`] and [`MapRef::Processes`] belong to the session and are not here.
    pub maps: Vec<MapSpec>,
    /// The streams, by the number that their records carry.
    pub streams: Vec<Stream>,
    /// The maps that its probes name, `@name`; number *n* is [`MapRef::Plugin`] *n*.
    pub plugin_maps: Vec<PluginMap>,
    /// The probes, in the order of their specs; counters are numbered by position here.
    pub probes: Vec<Probe>,
    /// Where the counters stand in [`MapRef::Counters`].
    pub counters: counters::Layout,
    /// What the programs need.
    pub needs: Needs,
    /// Optional probes, or attach points of them, that this kernel does not have.
    pub missing: Vec<Missing>,
}

/// One probe after its attach points were expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Its attach points, each as `KIND:TARGET`.
    pub attach: Vec<String>,
    /// It pairs entries with exits.
    pub span: bool,
    /// How it is attached: [`Hook::mechanism`], several joined with `+`.
    pub mechanism: String,
    /// Returns whose entry was not seen are skipped by the kernel, and counted by nobody.
    pub skips: bool,
}

/// An optional probe that this kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The probe's name.
    pub probe: String,
    /// The error that would have refused the run, were it not optional.
    pub reason: String,
}

/// One program: everything that one plugin does at one hook.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name it has in the kernel: `[A-Za-z0-9_.]`, at most 15 bytes (`BPF_OBJ_NAME_LEN`, include/uapi/linux/bpf.h).
    pub name: String,
    /// Where it attaches.
    pub hook: Hook,
    /// The probes it serves, as positions in [`Compiled::probes`]; empty for the session's own programs.
    pub probes: Vec<usize>,
    /// The instructions; those in `maps` still need their map.
    pub insns: Vec<bpf_insn>,
    /// For each `LDIMM64` that names a map, its position in `insns`. `src_reg` already says how (BPF_PSEUDO_MAP_FD or
    /// BPF_PSEUDO_MAP_VALUE); the map's descriptor goes into `imm`.
    pub maps: Vec<(usize, MapRef)>,
    /// Lines for the listing, each before the instruction of that position: the names of functions, and the source.
    pub notes: Vec<(usize, String)>,
    /// Its functions, if a helper calls one of them; else none, and the kernel need not know.
    pub functions: Vec<Function>,
}

impl Program {
    /// Source beside instructions.
    pub fn listing(&self) -> String {
        disassemble::listing(self)
    }

    /// What the kernel has to know of its functions; `None` for most programs.
    pub fn describe_functions(&self) -> Option<Description> {
        (!self.functions.is_empty()).then(|| functions::describe(&self.functions))
    }
}

/// Where a program attaches, and by which mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// A BTF-typed raw tracepoint: BPF_PROG_TYPE_TRACING with BPF_TRACE_RAW_TP, `attach_btf_id` the typedef `btf_trace_NAME`.
    /// Since Linux 5.5.
    TpBtf {
        /// The tracepoint.
        name: String,
    },
    /// A tracepoint through perf_event_open(2): BPF_PROG_TYPE_TRACEPOINT.
    PerfTracepoint {
        /// The directory in `events/` of tracefs.
        category: String,
        /// The directory below that.
        name: String,
    },
    /// A function of the kernel through perf_event_open(2): BPF_PROG_TYPE_KPROBE, the context is its `struct pt_regs`.
    Kprobe {
        /// The function.
        function: String,
        /// In bytes from its first; 0 where it returns.
        offset: u64,
        /// Where it returns: a kretprobe.
        returns: bool,
    },
    /// A function of the kernel by its trampoline: BPF_PROG_TYPE_TRACING with BPF_TRACE_FENTRY or BPF_TRACE_FEXIT. Since Linux 5.5.
    Fentry {
        /// The module that has it; `None` for the kernel itself.
        module: Option<String>,
        /// The function.
        function: String,
        /// Where it returns: fexit.
        returns: bool,
    },
    /// A hook of the kernel's security modules: BPF_PROG_TYPE_LSM with BPF_LSM_MAC, `attach_btf_id` the function `bpf_lsm_HOOK`. Since
    /// Linux 5.7.
    Lsm {
        /// The hook: `file_open`.
        hook: String,
    },
    /// A place in a program or library through perf_event_open(2): BPF_PROG_TYPE_KPROBE, the context is the process's
    /// `struct pt_regs`.
    Uprobe {
        /// The file, as the host finds it.
        path: String,
        /// The byte in the file.
        offset: u64,
        /// Where the function returns: a uretprobe.
        returns: bool,
        /// The byte in the file of the counter that says whether anyone listens (USDT); 0 for none. Since Linux 4.20.
        semaphore: u64,
        /// Only in this process.
        pid: Option<u32>,
    },
    /// Functions of the kernel by one link: BPF_PROG_TYPE_KPROBE with BPF_TRACE_KPROBE_MULTI, or BPF_TRACE_KPROBE_SESSION for both ends.
    KprobeMulti {
        /// The functions.
        places: Vec<KernelPlace>,
        /// At which of their ends.
        ends: Ends,
    },
    /// Places in a program or library by one link: BPF_PROG_TYPE_KPROBE with BPF_TRACE_UPROBE_MULTI, or BPF_TRACE_UPROBE_SESSION for
    /// both ends.
    UprobeMulti {
        /// The file, as the host finds it.
        path: String,
        /// The places.
        places: Vec<UserPlace>,
        /// At which ends of the functions that begin there.
        ends: Ends,
    },
    /// A perf event that counts time, events of the kernel or of the hardware: BPF_PROG_TYPE_PERF_EVENT, the context is a
    /// `struct bpf_perf_event_data`. Opened disabled, enabled after the opening.
    PerfEvent {
        /// `perf_event_attr.type`.
        kind: u32,
        /// `perf_event_attr.config`.
        config: u64,
        /// One run in so many events, or, with `frequency`, so many runs a second.
        period: u64,
        /// `perf_event_attr.freq`.
        frequency: bool,
        /// On every CPU, or on one alone.
        every_cpu: bool,
    },
    /// Memory that is touched, on every CPU, by a debug register of each: BPF_PROG_TYPE_PERF_EVENT on an event of the type
    /// PERF_TYPE_BREAKPOINT, the context is a `struct bpf_perf_event_data`.
    Breakpoint {
        /// Where, in the kernel or in whichever process runs ([`is_kernel_address`]).
        address: u64,
        /// How many bytes: 1, 2, 4 or 8.
        length: u8,
        /// What is done to it: `perf_event_attr.bp_type`.
        access: u32,
    },
    /// What the kernel walks through while the host reads, once after the opening: BPF_PROG_TYPE_TRACING with BPF_TRACE_ITER,
    /// `attach_btf_id` the function `bpf_iter_NAME`. Since Linux 5.8.
    Iter {
        /// What it is: `task`, `task_file`.
        name: String,
    },
    /// The host runs it itself, once: BPF_PROG_TYPE_RAW_TRACEPOINT by BPF_PROG_TEST_RUN. Since Linux 5.10.
    Host(Moment),
}

/// A function of the kernel among many that one link serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelPlace {
    /// Its name.
    pub function: String,
    /// What the program is told there (bpf_get_attach_cookie()).
    pub cookie: u64,
}

/// A place in a file among many that one link serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserPlace {
    /// The byte in the file.
    pub offset: u64,
    /// As for [`Hook::Uprobe`].
    pub semaphore: u64,
    /// What the program is told there (bpf_get_attach_cookie()).
    pub cookie: u64,
}

/// Which ends of a call a link serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ends {
    /// Where it begins.
    Entry,
    /// Where it returns.
    Return,
    /// Both, and the program says at the entry whether it wants to see the return: a session.
    Both,
}

/// Whether an address is the kernel's. Those of processes are in the lower half, on every 64-bit machine.
pub fn is_kernel_address(address: u64) -> bool {
    address >> 63 == 1
}

/// When the host runs a program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// At once after the opening.
    Begin,
    /// At once before the close.
    End,
}

impl Hook {
    /// The mechanism, as reports name it.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Hook::TpBtf { .. } => "tp_btf",
            Hook::PerfTracepoint { .. } => "perf_tracepoint",
            Hook::Kprobe { returns: false, .. } => "kprobe",
            Hook::Kprobe { returns: true, .. } => "kretprobe",
            Hook::Fentry { returns: false, .. } => "fentry",
            Hook::Fentry { returns: true, .. } => "fexit",
            Hook::Lsm { .. } => "lsm",
            Hook::Uprobe { returns: false, .. } => "uprobe",
            Hook::Uprobe { returns: true, .. } => "uretprobe",
            Hook::KprobeMulti { ends: Ends::Entry, .. } => "kprobe.multi",
            Hook::KprobeMulti { ends: Ends::Return, .. } => "kretprobe.multi",
            Hook::KprobeMulti { ends: Ends::Both, .. } => "kprobe.session",
            Hook::UprobeMulti { ends: Ends::Entry, .. } => "uprobe.multi",
            Hook::UprobeMulti { ends: Ends::Return, .. } => "uretprobe.multi",
            Hook::UprobeMulti { ends: Ends::Both, .. } => "uprobe.session",
            Hook::PerfEvent { .. } => "perf_event",
            Hook::Breakpoint { .. } => "breakpoint",
            Hook::Iter { .. } => "iter",
            Hook::Host(_) => "host",
        }
    }

    /// One link serves both ends of calls.
    pub(crate) fn is_session(&self) -> bool {
        matches!(self, Hook::KprobeMulti { ends: Ends::Both, .. } | Hook::UprobeMulti { ends: Ends::Both, .. })
    }

    /// A place in a program or library, by whichever mechanism.
    pub(crate) fn is_uprobe(&self) -> bool {
        matches!(self, Hook::Uprobe { .. } | Hook::UprobeMulti { .. })
    }

    /// Where it is, whichever end of the call it is at.
    pub(crate) fn place(&self) -> Hook {
        let mut place = self.clone();
        if let Hook::Kprobe { returns, .. } | Hook::Fentry { returns, .. } | Hook::Uprobe { returns, .. } = &mut place {
            *returns = false;
        }
        place
    }
}

/// A map that programs refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapRef {
    /// The session's gate ([`crate::gate`]).
    Gate,
    /// The session's process table ([`crate::processes`]).
    Processes,
    /// The plugin's counters ([`crate::counters`]).
    Counters,
    /// The plugin's ring; the host chooses its size.
    Ring,
    /// The open spans of a probe, by its position: the key is the thread's id as `u32`, or integers of 8 bytes; the value is a
    /// [`SpanEntry`] followed by what the body saves.
    Span(usize),
    /// A map that probes name, `@name`, by its position in [`Compiled::plugin_maps`].
    Plugin(usize),
    /// Room for what does not fit onto the stack; per CPU, claimed by its first word.
    Scratch,
    /// The names of places that one program serves: what `func` and `probe` are at each.
    Names,
    /// What probes have taken up of what their rate limit allows.
    Rates,
}

/// The beginning of a span map's value.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanEntry {
    /// The plugin's generation at the entry; an entry of another generation is no entry.
    pub generation: u64,
    /// When the span began, CLOCK_MONOTONIC ns.
    pub time: u64,
    /// The thread that began it.
    pub thread: u64,
}

/// The shape of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Which one.
    pub map: MapRef,
    /// Its type.
    pub kind: MapKind,
    /// In bytes.
    pub key_size: u32,
    /// In bytes.
    pub value_size: u32,
    /// In elements.
    pub max_entries: u32,
    /// What its only element holds from the beginning; empty for zeroes.
    pub content: Vec<u8>,
}

impl MapSpec {
    /// How much memory of the kernel its keys and values take, in bytes; a little more comes for each element.
    pub fn bytes(&self, cpus: u32) -> u64 {
        let value = u64::from(self.value_size) * if self.kind.per_cpu() { u64::from(cpus) } else { 1 };
        u64::from(self.max_entries) * (u64::from(self.key_size) + value)
    }
}

/// The types of map there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// BPF_MAP_TYPE_ARRAY with BPF_F_MMAPABLE.
    MappedArray,
    /// BPF_MAP_TYPE_ARRAY.
    Array,
    /// BPF_MAP_TYPE_PERCPU_ARRAY.
    PerCpuArray,
    /// BPF_MAP_TYPE_HASH, preallocated.
    Hash,
    /// BPF_MAP_TYPE_PERCPU_HASH, preallocated.
    PerCpuHash,
    /// BPF_MAP_TYPE_LRU_HASH.
    LruHash,
    /// BPF_MAP_TYPE_LRU_PERCPU_HASH.
    LruPerCpuHash,
    /// BPF_MAP_TYPE_RINGBUF.
    RingBuf,
}

impl MapKind {
    /// Every CPU has values of its own.
    pub fn per_cpu(self) -> bool {
        matches!(self, MapKind::PerCpuArray | MapKind::PerCpuHash | MapKind::LruPerCpuHash)
    }
}

/// A map that probes name: `@name`. Its elements stand in [`MapRef::Plugin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginMap {
    /// Without the `@`; empty for the map `@`.
    pub name: String,
    /// What its values are.
    pub content: Content,
    /// The type of the kernel's map.
    pub kind: MapKind,
    /// The parts of its key, offsets from the key's first byte. Without any, the map has one element, or one for each bucket.
    pub keys: Vec<Field>,
    /// The number of the bucket within the key, for contents that have buckets ([`Content::buckets`]).
    pub bucket: Option<Slot>,
    /// With [`Content::Value`] the value, offset from its first byte. Else an integer that says whether what is aggregated has a
    /// sign; the words of the value are those of [`Content`].
    pub value: Field,
    /// In bytes.
    pub key_size: u32,
    /// In bytes, a multiple of 8; on each CPU where the map is per CPU.
    pub value_size: u32,
}
