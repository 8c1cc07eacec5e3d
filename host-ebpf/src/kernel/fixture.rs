//! A kernel for tests: a few types and tracepoints as Linux 6.18 on x86-64 has them, and what is needed to make more.

use crate::attach::glob;

use super::{Btf, Features, Function, Kernel, SourceError, UserFunction, UserProbe};

/// Writes a BTF file type by type; each call returns the new type's number.
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder { types: Vec::new(), strings: vec![0], count: 0 }
    }

    pub(crate) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    pub(crate) fn add(&mut self, name: &str, info: u32, size_or_type: u32, elements: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [&[name, info, size_or_type], elements].concat() {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, size: u32, signed: bool) -> u32 {
        self.add(name, 1 << 24, size, &[(u32::from(signed) << 24) | (size * 8)])
    }

    pub(crate) fn link(&mut self, kind: u32, name: &str, to: u32) -> u32 {
        self.add(name, kind << 24, to, &[])
    }

    /// A struct (4) or union (5) with members (name, type, offset in bits).
    pub(crate) fn members(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let words: Vec<u32> = members.iter().flat_map(|(name, t, bits)| [self.name(name), *t, *bits]).collect();
        self.add(name, kind << 24 | members.len() as u32, 64, &words)
    }

    pub(crate) fn signature(&mut self, parameters: &[(&str, u32)]) -> u32 {
        let words: Vec<u32> = parameters.iter().flat_map(|(name, t)| [self.name(name), *t]).collect();
        self.add("", 13 << 24 | parameters.len() as u32, 0, &words)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(0xeb9f_u16.to_ne_bytes());
        file.extend([1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            file.extend(word.to_ne_bytes());
        }
        [file, self.types.clone(), self.strings.clone()].concat()
    }
}

/// The format files of the fixture, as (category, name, text).
const FORMATS: [(&str, &str, &str); 11] = [
    ("sched", "sched_process_exec", include_str!("../../tests/formats/sched_process_exec")),
    ("sched", "sched_switch", include_str!("../../tests/formats/sched_switch")),
    ("syscalls", "sys_enter_getppid", include_str!("../../tests/formats/sys_enter_getppid")),
    ("syscalls", "sys_enter_openat", include_str!("../../tests/formats/sys_enter_openat")),
    ("syscalls", "sys_enter_read", include_str!("../../tests/formats/sys_enter_read")),
    ("syscalls", "sys_enter_write", include_str!("../../tests/formats/sys_enter_write")),
    ("syscalls", "sys_exit_getppid", include_str!("../../tests/formats/sys_exit_getppid")),
    ("syscalls", "sys_exit_openat", include_str!("../../tests/formats/sys_exit_openat")),
    ("syscalls", "sys_exit_read", include_str!("../../tests/formats/sys_exit_read")),
    ("syscalls", "sys_exit_write", include_str!("../../tests/formats/sys_exit_write")),
    ("task", "task_rename", include_str!("../../tests/formats/task_rename")),
];

/// A kernel with four CPUs.
pub(crate) struct FixtureKernel {
    btf: Btf,
    tracepoints: Vec<(String, String)>,
    functions: Vec<Function>,
    pub(crate) features: Features,
}

impl FixtureKernel {
    pub(crate) fn new() -> Self {
        let btf = Btf::parse(types().bytes()).unwrap();
        let functions = ["tcp_connect", "vfs_read", "vfs_write"];
        FixtureKernel {
            btf,
            tracepoints: FORMATS.iter().map(|(c, n, _)| ((*c).to_owned(), (*n).to_owned())).collect(),
            functions: functions.map(|name| Function { name: name.to_owned(), module: None }).to_vec(),
            features: Features::ALL,
        }
    }
}

impl Kernel for FixtureKernel {
    fn btf(&self) -> &Btf {
        &self.btf
    }

    fn tracepoints(&self) -> Result<&[(String, String)], SourceError> {
        Ok(&self.tracepoints)
    }

    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError> {
        Ok(FORMATS.iter().find(|(c, n, _)| *c == category && *n == name).map(|(.., text)| (*text).to_owned()))
    }

    fn possible_cpus(&self) -> u32 {
        4
    }

    fn features(&self) -> Features {
        self.features
    }

    fn functions(&self) -> Result<&[Function], SourceError> {
        Ok(&self.functions)
    }

    fn user_functions(&self, binary: &str, pattern: &str) -> Result<Vec<UserFunction>, SourceError> {
        let path = format!("/usr/lib/{binary}");
        let all = [("malloc", 0x1000, true), ("free", 0x2000, false), ("getaddrinfo", 0x3000, true)];
        let found = all.into_iter().filter(|(name, ..)| glob::matches(pattern, name));
        Ok(found.map(|(name, offset, endbr)| UserFunction { path: path.clone(), name: name.to_owned(), offset, endbr }).collect())
    }

    fn user_probes(&self, binary: &str, provider: &str, name: &str) -> Result<Vec<UserProbe>, SourceError> {
        let found = glob::matches(provider, "libc") && glob::matches(name, "setjmp");
        Ok(found
            .then(|| UserProbe {
                path: format!("/usr/lib/{binary}"),
                provider: "libc".to_owned(),
                name: "setjmp".to_owned(),
                offset: 0x4000,
                semaphore: 0,
                arguments: "8@%rdi -4@%esi 8@%rax".to_owned(),
            })
            .into_iter()
            .collect())
    }

    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError> {
        Ok((path == "/sys/fs/cgroup/system.slice").then_some(42))
    }
}

/// Offsets and widths are made up where a test should not depend on them.
fn types() -> Builder {
    let mut b = Builder::new();
    let int = b.int("int", 4, true);
    let uint = b.int("unsigned int", 4, false);
    let long = b.int("long int", 8, true);
    let ulong = b.int("long unsigned int", 8, false);
    let ushort = b.int("short unsigned int", 2, false);
    let bool = b.int("_Bool", 1, false);
    b.link(8, "umode_t", ushort);
    b.link(8, "size_t", ulong);
    b.link(8, "bool", bool);
    let counter = b.members(4, "", &[("counter", int, 0)]);
    let atomic = b.link(8, "atomic_t", counter);
    let signal = b.members(4, "signal_struct", &[("live", atomic, 32)]);
    let signal = b.link(2, "", signal);
    let info = b.members(4, "thread_info", &[("flags", ulong, 0), ("syscall_work", ulong, 64), ("status", uint, 128)]);
    let task = b.members(
        4,
        "task_struct",
        &[("thread_info", info, 0), ("pid", int, 20_480), ("tgid", int, 20_512), ("signal", signal, 24_576)],
    );
    let task = b.link(2, "", task);
    let regs = b.members(4, "pt_regs", &[]);
    let regs = b.link(2, "", regs);
    let data = b.link(2, "", 0);
    for (name, parameters) in [
        ("sys_enter", vec![("regs", regs), ("id", long)]),
        ("sys_exit", vec![("regs", regs), ("ret", long)]),
        ("sched_switch", vec![("preempt", bool), ("prev", task), ("next", task), ("prev_state", uint)]),
    ] {
        let parameters: Vec<(&str, u32)> = std::iter::once(("__data", data)).chain(parameters).collect();
        let signature = b.signature(&parameters);
        b.add(&format!("__bpf_trace_{name}"), 12 << 24, signature, &[]);
        let pointer = b.link(2, "", signature);
        b.link(8, &format!("btf_trace_{name}"), pointer);
    }
    b
}
