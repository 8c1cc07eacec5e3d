//! What the compiler asks of the kernel it compiles for, and the readers of the texts and tables in which kernels say it.

pub mod btf;
mod features;
#[cfg(any(test, feature = "fixture"))]
#[allow(clippy::unwrap_used)]
pub mod fixture;
pub mod format;
pub mod registers;
pub mod syscalls;

use std::ops::Range;

pub use btf::{Btf, Modules, Types};
pub use features::{Features, SESSION_IS_RETURN};

/// A kernel: the running one, or a fixture in a test.
pub trait Kernel {
    /// Its types (`/sys/kernel/btf/vmlinux`).
    fn btf(&self) -> &Btf;

    /// Its tracepoints as (category, name), sorted (`events/` of tracefs).
    fn tracepoints(&self) -> Result<&[(String, String)], SourceError>;

    /// The text of `events/CATEGORY/NAME/format`; `None` if there is no such tracepoint.
    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError>;

    /// Its modules that describe their types (`/sys/kernel/btf/`), which [`Types`] reads when it needs them.
    fn modules(&self) -> &Modules {
        Modules::none()
    }

    /// The bytes of a module's BTF (`/sys/kernel/btf/MODULE`).
    fn module_btf(&self, module: &str) -> Result<Vec<u8>, SourceError> {
        let reason = "there is no such module, or it does not describe its types".to_owned();
        Err(SourceError { what: format!("the BTF of kernel module {module}"), reason })
    }

    /// CPUs that can ever be online.
    fn possible_cpus(&self) -> u32;

    /// What it can do.
    fn features(&self) -> Features;

    /// The functions that can be traced (`available_filter_functions` of tracefs), sorted by name. Those of one name that are in the
    /// kernel more than once are here as often.
    fn functions(&self) -> Result<&[Function], SourceError>;

    /// The addresses from a symbol of the kernel up to the next one (`/proc/kallsyms`); `None` if there is none of that name.
    fn symbol(&self, name: &str) -> Result<Option<Range<u64>>, SourceError>;

    /// The path of a program or library, which may be given by its name, as the host opens it.
    fn user_binary(&self, binary: &str) -> Result<String, SourceError>;

    /// The functions of a program or library that a name or pattern fits. The host finds the file by path, by the name of a program or
    /// of a library (`libc`), and asks a caged process what is in it.
    fn user_functions(&self, binary: &str, pattern: &str) -> Result<Vec<UserFunction>, SourceError>;

    /// The statically defined probes of a program or library that patterns fit.
    fn user_probes(&self, binary: &str, provider: &str, name: &str) -> Result<Vec<UserProbe>, SourceError>;

    /// Where a symbol of a program or library is, a function or a variable, seen from the byte of its file at which a probe stands;
    /// `None` if it has none of that name. A name that has no one address there is an error.
    fn user_symbol(&self, path: &str, name: &str, from: u64) -> Result<Option<UserSymbol>, SourceError>;

    /// The number of a cgroup by its path; `None` if there is none.
    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError>;
}

/// A function of the kernel that can be traced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The module that has it; `None` for the kernel itself.
    pub module: Option<String>,
}

/// A function of a program or library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFunction {
    /// The file, as the host opens it.
    pub path: String,
    /// Its name, demangled if it was mangled.
    pub name: String,
    /// The byte in the file where it begins.
    pub offset: u64,
    /// It begins with `endbr64`, behind which a probe costs a twentieth (x86-64).
    pub endbr: bool,
}

/// A statically defined probe (USDT) of a program or library, one per place that it stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserProbe {
    /// The file, as the host opens it.
    pub path: String,
    /// Its provider.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// The byte in the file where it stands.
    pub offset: u64,
    /// The byte in the file of the counter that says whether anyone listens; 0 for none.
    pub semaphore: u64,
    /// Where its arguments are, as the note has it: `-4@%eax 8@16(%rbp)`.
    pub arguments: String,
}

/// A symbol of a program or library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSymbol {
    /// How far it is from where it was asked from, bytes: the same in the file's addresses and in every process.
    pub distance: i64,
    /// The size of a variable, bytes; 0 for a function, and where the file does not say.
    pub size: u64,
}

/// The kernel's own description could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct SourceError {
    /// The file or table.
    pub what: String,
    /// Why not, and what to do.
    pub reason: String,
}
