//! A kernel for tests: a few types and tracepoints as Linux 6.18 on x86-64 has them, and what is needed to make more.

mod builder;
mod types;

#[cfg(test)]
pub(crate) use builder::Builder;

use std::ops::Range;

use super::{Btf, Features, Function, Kernel, Modules, SourceError, UserFunction, UserProbe, UserSymbol};
use crate::attach::glob;

/// The format files of the fixture, as (category, name, text).
const FORMATS: [(&str, &str, &str); 12] = [
    ("raw_syscalls", "sys_enter", include_str!("../../tests/formats/raw_sys_enter")),
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

/// A kernel with four CPUs, and with the modules `nf_conntrack`, `xfs`, and `broken`, whose BTF can't be read.
pub struct FixtureKernel {
    btf: Btf,
    modules: Modules,
    /// The names and the BTF of the modules.
    module_types: Vec<(&'static str, Vec<u8>)>,
    tracepoints: Vec<(String, String)>,
    functions: Vec<Function>,
    /// What it can do.
    pub features: Features,
}

impl FixtureKernel {
    /// As it always is.
    pub fn new() -> Self {
        let types = types::kernel();
        let btf = Btf::parse(types.bytes()).unwrap();
        let modules = types::modules(&types, |ctype| btf.find_type(ctype).unwrap().base.number());
        let mut module_types: Vec<_> = modules.into_iter().map(|(name, types)| (name, types.bytes())).collect();
        module_types.push(("broken", Vec::new()));
        let functions = [
            ("_printk", None),
            ("do_exit", None),
            ("nf_ct_delete", Some("nf_conntrack")),
            ("tcp_connect", None),
            ("twice", None),
            ("twice", None),
            ("untyped", None),
            ("vfs_read", None),
            ("vfs_write", None),
        ];
        FixtureKernel {
            modules: Modules::new(module_types.iter().map(|(name, _)| (*name).to_owned()).collect()),
            btf,
            module_types,
            tracepoints: FORMATS.iter().map(|(c, n, _)| ((*c).to_owned(), (*n).to_owned())).collect(),
            functions: functions.map(|(name, module)| Function { name: name.into(), module: module.map(Into::into) }).to_vec(),
            features: Features::ALL,
        }
    }
}

impl Default for FixtureKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for FixtureKernel {
    fn btf(&self) -> &Btf {
        &self.btf
    }

    fn modules(&self) -> &Modules {
        &self.modules
    }

    fn module_btf(&self, module: &str) -> Result<Vec<u8>, SourceError> {
        let found = self.module_types.iter().find(|(name, _)| *name == module);
        found.map(|(_, bytes)| bytes.clone()).ok_or_else(|| SourceError { what: module.to_owned(), reason: "it is gone".into() })
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

    fn user_binary(&self, binary: &str) -> Result<String, SourceError> {
        let reason = "there is no such program or library".to_owned();
        match binary {
            "nothing" => Err(SourceError { what: binary.to_owned(), reason }),
            _ => Ok(format!("/usr/lib/{binary}")),
        }
    }

    fn user_functions(&self, binary: &str, pattern: &str) -> Result<Vec<UserFunction>, SourceError> {
        let path = self.user_binary(binary)?;
        let all = [
            ("malloc", 0x1000, true),
            ("__libc_malloc", 0x1000, true),
            ("free", 0x2000, false),
            ("getaddrinfo", 0x3000, true),
            ("app::run(int, char*)", 0x3500, false),
        ];
        let found = all.into_iter().filter(|(name, ..)| glob::matches(pattern, name));
        Ok(found.map(|(name, offset, endbr)| UserFunction { path: path.clone(), name: name.to_owned(), offset, endbr }).collect())
    }

    fn user_probes(&self, binary: &str, provider: &str, name: &str) -> Result<Vec<UserProbe>, SourceError> {
        let path = self.user_binary(binary)?;
        let all = [
            ("libc", "setjmp", 0x4000, 0, "8@%rdi -4@%esi 8@%rax"),
            ("app", "request", 0x4100, 0x9000, "-4@-20(%rbp) 8@$5"),
            ("app", "request", 0x4200, 0x9000, "-4@%eax 8@16(%rsp,%rcx,8)"),
        ];
        let found = all.into_iter().filter(|(p, n, ..)| glob::matches(provider, p) && glob::matches(name, n));
        let probe = |(provider, name, offset, semaphore, arguments): (&str, &str, u64, u64, &str)| UserProbe {
            path: path.clone(),
            provider: provider.to_owned(),
            name: name.to_owned(),
            offset,
            semaphore,
            arguments: arguments.to_owned(),
        };
        Ok(found.map(probe).collect())
    }

    fn symbol(&self, name: &str) -> Result<Option<Range<u64>>, SourceError> {
        let symbol = |start, length| Some(start..start + length);
        Ok(match name {
            "jiffies_64" => symbol(0xffff_ffff_8200_0000, 8),
            "__bpf_trace_sys_enter" => symbol(0xffff_ffff_8141_5680, 0x30),
            _ if name.starts_with("__traceiter_") => symbol(0xffff_ffff_8139_9a30, 0x70),
            _ => None,
        })
    }

    fn user_symbol(&self, path: &str, name: &str, from: u64) -> Result<Option<UserSymbol>, SourceError> {
        let all = [
            ("main", 0x40_1500, 0),
            ("malloc", 0x40_1000, 0),
            ("stdout", 0x40_9000, 8),
            ("counter", 0x40_8000, 4),
            ("table", 0x40_8040, 64),
        ];
        if name == "errno" {
            let reason = "`errno` is a variable of each thread, which has no one address".to_owned();
            return Err(SourceError { what: path.to_owned(), reason });
        }
        let found = all.into_iter().find(|(own, ..)| *own == name);
        Ok(found.map(|(_, address, size)| UserSymbol { distance: address - 0x40_0000 - from.cast_signed(), size }))
    }

    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError> {
        Ok((path == "/sys/fs/cgroup/system.slice").then_some(42))
    }
}

/// Specs in the notation of the fuzzer's corpus: of each probe a line with its attach points, a line with its predicate, and its body;
/// probes are parted by a line of equal signs.
pub fn specs(text: &str) -> Vec<crate::ProbeSpec> {
    let spec = |(n, text): (usize, &str)| {
        let (attach, rest) = text.split_once('\n').unwrap_or((text, ""));
        let (when, body) = rest.split_once('\n').unwrap_or((rest, ""));
        crate::ProbeSpec {
            name: format!("probe{n}"),
            attach: vec![attach.to_owned()],
            when: (!when.is_empty()).then(|| when.to_owned()),
            body: body.to_owned(),
            optional: false,
        }
    };
    text.split("\n====\n").enumerate().map(spec).collect()
}
