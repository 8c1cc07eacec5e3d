//! The kernel that runs here, for the compiler: its types, tracepoints, functions and CPUs, and what it can do.

use std::{
    fs::{self, FileType},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use portcullis_ebpf::{
    Kernel,
    kernel::{Btf, Features, Function, Modules, SourceError, UserFunction, UserProbe, UserSymbol},
};

use super::{
    binaries, features,
    functions::{self, SYMBOLS},
};
use crate::symbols::{self, Symbols, SymbolsError};

/// Beside it are the files of the modules (kernel/bpf/btf.c), since Linux 5.11.
const BTF: &str = "/sys/kernel/btf/vmlinux";
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";
/// Where tracefs is mounted: by itself, or below debugfs on older systems.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Which of several ways to attach is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mechanism {
    /// The cheapest that this kernel has and that means the same.
    #[default]
    Cheapest,
    /// A perf event for each attach point, as every kernel has it, for comparison.
    Perf,
}

/// The running kernel. What it says is read once and kept.
#[derive(Debug)]
pub struct RunningKernel {
    btf: Btf,
    /// Where `btf` was read.
    btf_path: PathBuf,
    modules: OnceLock<Modules>,
    possible_cpus: u32,
    tracefs: Vec<PathBuf>,
    tracepoints: OnceLock<Result<Vec<(String, String)>, SourceError>>,
    features: OnceLock<Features>,
    functions: OnceLock<Result<Vec<Function>, SourceError>>,
    /// The text of [`SYMBOLS`].
    symbol_table: OnceLock<Result<String, SourceError>>,
    symbols: Arc<Symbols>,
    mechanism: Mechanism,
}

impl RunningKernel {
    /// Reads the kernel's types and the number of its CPUs. Tracepoints are listed when they are asked for.
    pub fn open() -> Result<RunningKernel, SourceError> {
        RunningKernel::at(Path::new(BTF), Path::new(POSSIBLE_CPUS), TRACEFS.map(PathBuf::from).to_vec())
    }

    fn at(btf: &Path, possible_cpus: &Path, tracefs: Vec<PathBuf>) -> Result<RunningKernel, SourceError> {
        let bytes = fs::read(btf).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => error(
                btf,
                "this kernel does not describe its types, without which Portcullis can't compile probes for it; \
                 it takes a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of the large distributions are",
            ),
            _ => error(btf, e.to_string()),
        })?;
        let text = fs::read_to_string(possible_cpus).map_err(|e| error(possible_cpus, e.to_string()))?;
        let count = cpus(&text).ok_or_else(|| error(possible_cpus, format!("`{}` is no list of CPUs", text.trim())))?;
        Ok(RunningKernel {
            btf: Btf::parse(bytes)?,
            btf_path: btf.to_owned(),
            modules: OnceLock::new(),
            possible_cpus: count,
            tracefs,
            tracepoints: OnceLock::new(),
            features: OnceLock::new(),
            functions: OnceLock::new(),
            symbol_table: OnceLock::new(),
            symbols: Arc::new(Symbols::new(&symbols::Options::default())),
            mechanism: Mechanism::default(),
        })
    }

    /// The same, with others that look into programs and libraries.
    pub fn with_symbols(self, symbols: Arc<Symbols>) -> RunningKernel {
        RunningKernel { symbols, ..self }
    }

    /// The same, attached to by another mechanism.
    #[must_use]
    pub fn with_mechanism(self, mechanism: Mechanism) -> RunningKernel {
        RunningKernel { mechanism, ..self }
    }

    /// Who looks into programs and libraries. Nothing runs for that before it is asked.
    pub fn symbols(&self) -> &Arc<Symbols> {
        &self.symbols
    }

    /// The directory `events/` of tracefs.
    fn events(&self) -> Result<PathBuf, SourceError> {
        let mut reason = None;
        for mount in &self.tracefs {
            let events = mount.join("events");
            match fs::metadata(&events) {
                Ok(_) => return Ok(events),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => reason = reason.or(Some(error(&events, format!("{e}; tracefs is for root alone by default")))),
            }
        }
        let first = self.tracefs.first().map_or(Path::new("tracefs"), PathBuf::as_path);
        let way_out = || format!("tracefs is not mounted: mount -t tracefs tracefs {}", first.display());
        Err(reason.unwrap_or_else(|| error(first, way_out())))
    }

    fn list(&self) -> Result<Vec<(String, String)>, SourceError> {
        let events = self.events()?;
        let mut tracepoints = Vec::new();
        for category in directories(&events)? {
            // The records of the tracers themselves: they have formats and nothing to attach to.
            if category != "ftrace" {
                let names = directories(&events.join(&category))?;
                tracepoints.extend(names.into_iter().map(|name| (category.clone(), name)));
            }
        }
        tracepoints.sort_unstable();
        Ok(tracepoints)
    }
}

impl Kernel for RunningKernel {
    fn btf(&self) -> &Btf {
        &self.btf
    }

    fn modules(&self) -> &Modules {
        // The kernel's own file was read there. Should the list fail all the same, its types are those that there are.
        self.modules.get_or_init(|| {
            let mut names = self.btf_path.parent().and_then(|path| files(path).ok()).unwrap_or_default();
            names.retain(|name| self.btf_path.file_name().is_none_or(|own| own != name.as_str()));
            Modules::new(names)
        })
    }

    fn module_btf(&self, module: &str) -> Result<Vec<u8>, SourceError> {
        let path = self.btf_path.with_file_name(module);
        // The module may have been unloaded since the list was made.
        fs::read(&path).map_err(|e| error(&path, e.to_string()))
    }

    fn tracepoints(&self) -> Result<&[(String, String)], SourceError> {
        self.tracepoints.get_or_init(|| self.list()).as_deref().map_err(Clone::clone)
    }

    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError> {
        // Names become a path: only what can be a name.
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if !plain(category) || !plain(name) {
            return Ok(None);
        }
        let path = self.events()?.join(category).join(name).join("format");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(error(&path, e.to_string())),
        }
    }

    fn possible_cpus(&self) -> u32 {
        self.possible_cpus
    }

    fn features(&self) -> Features {
        let features = *self.features.get_or_init(|| features::try_all(&self.btf));
        match self.mechanism {
            Mechanism::Cheapest => features,
            Mechanism::Perf => features.plain(),
        }
    }

    fn functions(&self) -> Result<&[Function], SourceError> {
        self.functions.get_or_init(|| functions::read(&self.tracefs, self)).as_deref().map_err(Clone::clone)
    }

    fn user_binary(&self, binary: &str) -> Result<String, SourceError> {
        let path = binaries::find(binary)?.into_os_string().into_string();
        path.map_err(|path| error(Path::new(&path), "its name is not text"))
    }

    fn user_functions(&self, binary: &str, pattern: &str) -> Result<Vec<UserFunction>, SourceError> {
        let path = self.user_binary(binary)?;
        let found = self.symbols.functions(Path::new(&path), None, pattern).map_err(|e| unreadable(&path, &e))?;
        let function = |f: symbols::UserFunction| UserFunction {
            path: path.clone(),
            name: f.demangled.unwrap_or(f.name),
            offset: f.file_offset,
            endbr: f.starts_with_endbr64,
        };
        Ok(found.into_iter().map(function).collect())
    }

    fn user_probes(&self, binary: &str, provider: &str, name: &str) -> Result<Vec<UserProbe>, SourceError> {
        let path = self.user_binary(binary)?;
        let found = self.symbols.usdt(Path::new(&path), None, provider, name).map_err(|e| unreadable(&path, &e))?;
        let probe = |site: symbols::UsdtSite| UserProbe {
            path: path.clone(),
            provider: site.provider,
            name: site.name,
            offset: site.file_offset,
            semaphore: site.semaphore_offset.unwrap_or(0),
            arguments: site.arguments,
        };
        Ok(found.into_iter().map(probe).collect())
    }

    fn user_symbol(&self, path: &str, name: &str, from: u64) -> Result<Option<UserSymbol>, SourceError> {
        let found = self.symbols.symbol(Path::new(path), None, name, from).map_err(|e| unreadable(path, &e))?;
        Ok(found.map(|symbols::UserSymbol { distance, size }| UserSymbol { distance, size }))
    }

    fn symbol(&self, name: &str) -> Result<Option<Range<u64>>, SourceError> {
        let path = Path::new(SYMBOLS);
        // Megabytes, and asked for at every target of a probe.
        let text = self.symbol_table.get_or_init(|| fs::read_to_string(path).map_err(|e| error(path, e.to_string())));
        let text = text.as_ref().map_err(Clone::clone)?;
        match functions::symbol(text, name) {
            Some(Range { start: 0, .. }) => Err(error(path, "addresses are hidden from this user (kernel.kptr_restrict)")),
            found => Ok(found),
        }
    }

    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError> {
        use std::os::unix::fs::MetadataExt as _;
        // The number of a cgroup is that of its directory (kernfs).
        match fs::metadata(path) {
            Ok(directory) => Ok(Some(directory.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(error(Path::new(path), e.to_string())),
        }
    }
}

fn error(what: &Path, reason: impl Into<String>) -> SourceError {
    SourceError { what: what.display().to_string(), reason: reason.into() }
}

fn unreadable(path: &str, error: &SymbolsError) -> SourceError {
    let reason = match error {
        SymbolsError::Open { source, .. } => source.to_string(),
        SymbolsError::Parse { reason, .. } => reason.clone(),
        SymbolsError::Pattern { .. } => error.to_string(),
    };
    SourceError { what: path.to_owned(), reason }
}

/// The names of the directories in a directory.
fn directories(path: &Path) -> Result<Vec<String>, SourceError> {
    names(path, FileType::is_dir)
}

/// The names of the files in a directory.
fn files(path: &Path) -> Result<Vec<String>, SourceError> {
    names(path, FileType::is_file)
}

fn names(path: &Path, wanted: impl Fn(&FileType) -> bool) -> Result<Vec<String>, SourceError> {
    let fail = |e: io::Error| error(path, e.to_string());
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if wanted(&entry.file_type().map_err(fail)?) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// One more than the largest number in a list of CPUs: `0-3,8` is 9.
fn cpus(text: &str) -> Option<u32> {
    let ends = text.trim().split(',').map(|range| range.rsplit('-').next()?.parse::<u32>().ok()?.checked_add(1));
    ends.collect::<Option<Vec<u32>>>()?.into_iter().max()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use portcullis_ebpf::kernel::Types;

    use super::*;

    /// Lists of CPUs as the kernel writes them.
    #[test]
    fn cpu_lists() {
        let check = |text: &str, expect: Option<u32>| assert_eq!(cpus(text), expect, "{text}");
        check("0\n", Some(1));
        check("0-1\n", Some(2));
        check("0-3,8-11\n", Some(12));
        check("8-11,0-3\n", Some(12));
        check("", None);
        check("0-x", None);
        check("4294967295", None);
    }

    /// A kernel without BTF, and one whose tracefs is not mounted, are told with the way out.
    #[test]
    fn what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("possible"), "0-1\n").unwrap();
        let none = RunningKernel::at(&path("btf"), &path("possible"), vec![]).unwrap_err();
        assert!(none.to_string().contains("CONFIG_DEBUG_INFO_BTF=y"), "{none}");
        let Ok(btf) = fs::read(BTF) else { return };
        fs::write(path("btf"), btf).unwrap();
        let kernel = RunningKernel::at(&path("btf"), &path("possible"), vec![path("tracefs")]).unwrap();
        let reason = kernel.tracepoints().unwrap_err().reason;
        assert_eq!(reason, format!("tracefs is not mounted: mount -t tracefs tracefs {}", path("tracefs").display()));
        assert_eq!(kernel.tracepoint_format("sched", "sched_switch").unwrap_err().reason, reason);
        assert_eq!(kernel.possible_cpus(), 2);
    }

    /// Tracepoints are listed by directory, sorted, without files; a format is found by name, and no name leaves the directory.
    #[test]
    fn tracepoints_of_a_directory() {
        let Ok(btf) = fs::read(BTF) else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("btf"), btf).unwrap();
        fs::write(path("possible"), "0").unwrap();
        for event in ["sched/sched_switch", "sched/sched_process_exec", "block/block_rq_issue", "ftrace/function"] {
            fs::create_dir_all(path("tracefs/events").join(event)).unwrap();
        }
        fs::write(path("tracefs/events/enable"), "0").unwrap();
        fs::write(path("tracefs/events/sched/enable"), "0").unwrap();
        fs::write(path("tracefs/events/sched/sched_switch/format"), "ID: 1").unwrap();
        fs::write(path("tracefs/events/format"), "ID: 2").unwrap();
        let kernel = RunningKernel::at(&path("btf"), &path("possible"), vec![path("nothing"), path("tracefs")]).unwrap();
        let tracepoints: Vec<_> = kernel.tracepoints().unwrap().iter().map(|(c, n)| format!("{c}:{n}")).collect();
        assert_eq!(tracepoints, ["block:block_rq_issue", "sched:sched_process_exec", "sched:sched_switch"]);
        let check = |category: &str, name: &str, expect: Option<&str>| {
            assert_eq!(kernel.tracepoint_format(category, name).unwrap().as_deref(), expect);
        };
        check("sched", "sched_switch", Some("ID: 1"));
        check("sched", "nothing", None);
        check("sched", "..", None);
        check("sched/sched_switch", "..", None);
        check("", "sched_switch", None);
    }
    /// The modules are the files beside the kernel's own; each is read when something is not in those before it.
    #[test]
    fn modules() {
        let Ok(btf) = fs::read(BTF) else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("btf/directory")).unwrap();
        fs::write(path("btf/vmlinux"), btf).unwrap();
        fs::write(path("btf/zram"), "nonsense").unwrap();
        fs::write(path("btf/kvm"), "").unwrap();
        fs::write(path("possible"), "0").unwrap();
        let kernel = RunningKernel::at(&path("btf/vmlinux"), &path("possible"), vec![]).unwrap();
        let types = Types::new(&kernel);
        assert_eq!(types.modules().collect::<Vec<_>>(), ["kvm", "zram"]);
        assert!(types.find_type("struct task_struct").is_some());
        assert_eq!(types.failures().count(), 0);
        assert_eq!(types.find_type("struct no_such_struct"), None);
        let reasons: Vec<String> = types.failures().map(ToString::to_string).collect();
        assert_eq!(
            reasons,
            [
                "the BTF of kernel module kvm: the file is empty",
                "the BTF of kernel module zram: it begins with 0x6f6e, not with 0xeb9f"
            ]
        );
        fs::remove_file(path("btf/kvm")).unwrap();
        assert_eq!(kernel.module_btf("kvm").unwrap_err().what, path("btf/kvm").display().to_string());
    }
}
