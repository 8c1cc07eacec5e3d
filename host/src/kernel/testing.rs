//! What tests of the kernel's side share: a lock, small programs written by hand, and the system calls that trigger them.

#![allow(clippy::unwrap_used)]

use std::{fs::File, ops::Range, os::fd::AsRawFd as _};

use aya_obj::generated::bpf_insn;
use portcullis_ebpf::{
    Compiled, Hook, Kernel, MapKind, MapRef, MapSpec, Needs, Probe, Program, Stream,
    counters::{Counter, Layout, StreamCounter},
    gate,
    kernel::{Btf, Features, Function, SourceError, UserFunction, UserProbe, UserSymbol, syscalls},
    output::SpanEntry,
};

/// Tests that attach programs run one at a time, also those of other processes. `None` where the kernel does not let us.
pub(crate) fn lock() -> Option<File> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let file = File::options().create(true).truncate(false).write(true).open("/tmp/portcullis-tests.lock").unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    Some(file)
}

/// The descriptors of this process that are BPF objects or perf events, as /proc shows them.
pub(crate) fn kernel_objects() -> Vec<String> {
    let own = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let names = own.map(|target| target.to_string_lossy().into_owned());
    let mut objects: Vec<_> = names.filter(|n| n.contains("bpf") || n.contains("perf_event")).collect();
    objects.sort();
    objects
}

/// Calls getppid(2) `count` times on this thread.
pub(crate) fn getppid(count: u64) {
    for _ in 0..count {
        // SAFETY: a call without arguments that touches nothing.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

pub(crate) fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(dst, src), off, imm }
}

/// Instructions with maps and, for jumps to the end, places to fill in.
#[derive(Default)]
pub(crate) struct Assembler {
    insns: Vec<bpf_insn>,
    maps: Vec<(usize, MapRef)>,
    to_end: Vec<usize>,
}

impl Assembler {
    pub(crate) fn op(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) -> &mut Self {
        self.insns.push(insn(code, dst, src, off, imm));
        self
    }

    /// `dst = &value[offset]` of a map of one element.
    pub(crate) fn value(&mut self, dst: u8, map: MapRef, offset: u32) -> &mut Self {
        self.maps.push((self.insns.len(), map));
        // BPF_PSEUDO_MAP_VALUE
        self.op(0x18, dst, 2, 0, 0).op(0, 0, 0, 0, offset as i32)
    }

    /// `dst = map`.
    pub(crate) fn map(&mut self, dst: u8, map: MapRef) -> &mut Self {
        self.maps.push((self.insns.len(), map));
        // BPF_PSEUDO_MAP_FD
        self.op(0x18, dst, 1, 0, 0).op(0, 0, 0, 0, 0)
    }

    /// A jump to the end.
    pub(crate) fn end_if(&mut self, code: u8, dst: u8, imm: i32) -> &mut Self {
        self.to_end.push(self.insns.len());
        self.op(code, dst, 0, 0, imm)
    }

    /// `*(u64 *)&value[offset] += 1`, atomically.
    pub(crate) fn bump(&mut self, map: MapRef, offset: u32) -> &mut Self {
        self.value(1, map, offset).op(0xb7, 2, 0, 0, 1).op(0xdb, 1, 2, 0, 0)
    }

    /// `return 0`, where all jumps to the end go.
    pub(crate) fn finish(&mut self, name: &str, hook: Hook) -> Program {
        for at in std::mem::take(&mut self.to_end) {
            self.insns[at].off = (self.insns.len() - at - 1) as i16;
        }
        self.op(0xb7, 0, 0, 0, 0).op(0x95, 0, 0, 0, 0);
        let (insns, maps) = (self.insns.clone(), self.maps.clone());
        Program {
            name: name.to_owned(),
            hook,
            probes: vec![0],
            insns,
            maps,
            notes: vec![(0, format!("listing of {name}"))],
            functions: Vec::new(),
        }
    }
}

pub(crate) fn layout() -> Layout {
    Layout { cpus: 1, probes: 1, streams: 1, shed: false }
}

/// For getppid(2) on the calling thread: if gate bit 0 is open, waits for some 0.3 ms and counts a hit.
pub(crate) fn slow(hook: Hook) -> Program {
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    let mut a = Assembler::default();
    a.op(0xbf, 6, 1, 0, 0).op(0x85, 0, 0, 0, 14).op(0xbc, 0, 0, 0, 0).end_if(0x56, 0, tid);
    a.op(0x79, 8, 6, 8, 0).end_if(0x55, 8, syscalls::number("getppid").unwrap() as i32);
    a.value(7, MapRef::Gate, gate::WORD).op(0x79, 7, 7, 0, 0).op(0x57, 7, 0, 0, 1).end_if(0x15, 7, 0);
    // for (r9 = 8000; r9 != 0; r9--) ktime_get_ns()
    a.op(0xb7, 9, 0, 0, 8000).op(0x85, 0, 0, 0, 5).op(0x07, 9, 0, 0, -1).op(0x55, 9, 0, -3, 0);
    a.bump(MapRef::Counters, layout().probe(0, Counter::Hits));
    a.finish("slow", hook)
}

/// For getppid(2) on the calling thread: counts a hit, opens a span, and emits a record of its stream, if the gate bit is open.
pub(crate) fn counting(hook: Hook, bit: Option<u8>) -> Program {
    let layout = layout();
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    let mut a = Assembler::default();
    a.op(0xbf, 6, 1, 0, 0);
    if let Some(bit) = bit {
        a.value(7, MapRef::Gate, gate::WORD).op(0x79, 7, 7, 0, 0).op(0x77, 7, 0, 0, bit.into()).op(0x57, 7, 0, 0, 1);
        a.value(9, MapRef::Gate, gate::generation(bit)).op(0x79, 9, 9, 0, 0);
    } else {
        a.op(0xb7, 7, 0, 0, 1).op(0xb7, 9, 0, 0, 0);
    }
    // r0 = thread id
    a.op(0x85, 0, 0, 0, 14).op(0xbc, 0, 0, 0, 0).end_if(0x56, 0, tid);
    if !matches!(hook, Hook::PerfTracepoint { .. }) {
        let number = syscalls::number("getppid").unwrap() as i32;
        a.op(0x79, 8, 6, 8, 0).end_if(0x55, 8, number);
    }
    // if (!open) { hits_closed++; return }
    let closed = layout.probe(0, Counter::HitsClosed);
    a.op(0x55, 7, 0, 5, 0).bump(MapRef::Counters, closed).end_if(0x05, 0, 0);
    a.bump(MapRef::Counters, layout.probe(0, Counter::Hits));
    // { generation, time, thread } at -24, of which the last is also the key
    let hash_update = 2;
    a.op(0x7a, 10, 0, -8, tid).op(0x7b, 10, 9, -24, 0).op(0x85, 0, 0, 0, 5).op(0x7b, 10, 0, -16, 0);
    a.map(1, MapRef::Span(0)).op(0xbf, 2, 10, 0, 0).op(0x07, 2, 0, 0, -8);
    a.op(0xbf, 3, 10, 0, 0).op(0x07, 3, 0, 0, -24).op(0xb7, 4, 0, 0, 0).op(0x85, 0, 0, 0, hash_update);
    a.bump(MapRef::Counters, layout.stream(0, StreamCounter::Attempted));
    // ringbuf_output(ring, &span, 16, BPF_RB_NO_WAKEUP)
    a.map(1, MapRef::Ring)
        .op(0xbf, 2, 10, 0, 0)
        .op(0x07, 2, 0, 0, -24)
        .op(0xb7, 3, 0, 0, 16)
        .op(0xb7, 4, 0, 0, 1)
        .op(0x85, 0, 0, 0, 130);
    a.end_if(0x55, 0, 0);
    a.bump(MapRef::Counters, layout.stream(0, StreamCounter::Emitted));
    a.finish("counting", hook)
}

/// Counts every run: a hit with the gate bit open, else one with the gate closed.
pub(crate) fn bare(hook: Hook, bit: Option<u8>) -> Program {
    let layout = layout();
    let mut a = Assembler::default();
    if let Some(bit) = bit {
        a.value(7, MapRef::Gate, gate::WORD).op(0x79, 7, 7, 0, 0).op(0x77, 7, 0, 0, bit.into()).op(0x57, 7, 0, 0, 1);
        let closed = layout.probe(0, Counter::HitsClosed);
        a.op(0x55, 7, 0, 5, 0).bump(MapRef::Counters, closed).end_if(0x05, 0, 0);
    }
    a.bump(MapRef::Counters, layout.probe(0, Counter::Hits));
    a.finish("bare", hook)
}

/// The file and the byte in it where a function of this process is.
pub(crate) fn place(function: extern "C" fn(u64) -> u64) -> (String, u64) {
    byte_in_file(function as usize as u64)
}

/// The same for any address that a file is mapped to.
pub(crate) fn byte_in_file(address: u64) -> (String, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let found = maps.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let (start, end) = (number(start), number(end));
        (start..end).contains(&address).then(|| (words[5].to_owned(), address - start + number(words[2])))
    });
    found.unwrap()
}

/// A plugin with these programs, one span probe and one stream.
pub(crate) fn compiled(programs: Vec<Program>) -> Compiled {
    let spec = |map, kind, key_size, value_size, max_entries| MapSpec {
        map,
        kind,
        key_size,
        value_size,
        max_entries,
        content: Vec::new(),
    };
    Compiled {
        programs,
        maps: vec![
            spec(MapRef::Counters, MapKind::MappedArray, 4, layout().value_size(), 1),
            spec(MapRef::Ring, MapKind::RingBuf, 0, 0, 0),
            spec(MapRef::Span(0), MapKind::Hash, 4, size_of::<SpanEntry>() as u32, 64),
        ],
        plugin_maps: Vec::new(),
        streams: vec![Stream { name: "calls".to_owned(), fields: Vec::new(), size: 16 }],
        probes: vec![Probe {
            name: "calls".to_owned(),
            attach: vec!["span:syscall:getppid".to_owned()],
            span: true,
            mechanism: "tp_btf".to_owned(),
            skips: false,
        }],
        counters: layout(),
        needs: Needs::default(),
        missing: Vec::new(),
    }
}

pub(crate) fn sys_enter() -> Hook {
    Hook::TpBtf { name: "sys_enter".to_owned() }
}

/// The numbers of these programs that the kernel still has.
pub(crate) fn alive(ids: &[u32]) -> Vec<u32> {
    let all: Vec<u32> = aya::programs::loaded_programs().filter_map(|program| Some(program.ok()?.id())).collect();
    ids.iter().copied().filter(|id| all.contains(id)).collect()
}

/// A descriptor that is no BPF object.
pub(crate) fn null() -> File {
    let file = File::open("/dev/null").unwrap();
    assert!(file.as_raw_fd() > 2);
    file
}

/// A kernel without types that has one CPU and one tracepoint.
pub(crate) struct NoKernel(Btf);

impl NoKernel {
    pub(crate) fn new() -> NoKernel {
        // A header without types and with one empty string.
        let words = [24_u32, 0, 0, 0, 1].map(u32::to_ne_bytes).concat();
        NoKernel(Btf::parse([&0xeb9f_u16.to_ne_bytes()[..], &[1, 0], &words, &[0]].concat()).unwrap())
    }
}

impl Kernel for NoKernel {
    fn btf(&self) -> &Btf {
        &self.0
    }

    fn tracepoints(&self) -> Result<&[(String, String)], SourceError> {
        unreachable!("nothing is listed")
    }

    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError> {
        match (category, name) {
            ("sched", "sched_switch") => Ok(Some("ID: 372\n".to_owned())),
            ("sched", "broken") => Ok(Some("nonsense".to_owned())),
            _ => Ok(None),
        }
    }

    fn possible_cpus(&self) -> u32 {
        2
    }

    fn features(&self) -> Features {
        unreachable!("nobody asks for features")
    }

    fn functions(&self) -> Result<&[Function], SourceError> {
        unreachable!("nothing is listed")
    }

    fn user_binary(&self, _: &str) -> Result<String, SourceError> {
        unreachable!("nothing is looked for")
    }

    fn user_functions(&self, _: &str, _: &str) -> Result<Vec<UserFunction>, SourceError> {
        unreachable!("nothing is listed")
    }

    fn user_probes(&self, _: &str, _: &str, _: &str) -> Result<Vec<UserProbe>, SourceError> {
        unreachable!("nothing is listed")
    }

    fn user_symbol(&self, _: &str, _: &str, _: u64) -> Result<Option<UserSymbol>, SourceError> {
        unreachable!("nobody asks for an address")
    }

    fn symbol(&self, _: &str) -> Result<Option<Range<u64>>, SourceError> {
        unreachable!("nobody asks for an address")
    }

    fn cgroup_id(&self, _: &str) -> Result<Option<u64>, SourceError> {
        unreachable!("nobody asks for a cgroup")
    }
}
