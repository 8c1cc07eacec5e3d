//! What the compiler asks of the kernel it compiles for, and the readers of the texts and tables in which kernels say it.

pub mod btf;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod fixture;
pub mod format;
pub mod syscalls;

pub use btf::{Btf, Modules, Types};

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
