//! BTF, the kernel's description of its own types: `/sys/kernel/btf/vmlinux`, and `/sys/kernel/btf/MODULE` for each module
//! (Documentation/bpf/btf.rst).
//!
//! The reader keeps a file's bytes and the offset of each type, so opening is one pass; the indexes of names are built at the first
//! question that needs them. [`Btf::parse`] checks the file's structure. A type that refers to one that is not there is found only
//! when it is asked for, and counts as absent.
//!
//! [`Btf`] answers for one file, [`Types`] for the kernel with all of its modules; a [`TypeId`] is the same in both.

mod graph;
mod lookup;
mod names;
mod scan;
mod spell;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;
mod tracepoints;
mod types;

use std::sync::Arc;

use super::SourceError;

pub use graph::{Int, Member, Parameter, Shape, Signature};
pub(crate) use lookup::written_int;
pub use lookup::{CType, Constant, Named};
pub use tracepoints::Argument;
pub use types::{Function, Modules, Types};

/// How many links a walk along typedefs, qualifiers or pointers follows at most: valid types need fewer, malformed ones may run in
/// a circle.
const MAX_LINKS: usize = 64;
/// How deep anonymous structs are searched for a member, and how many members are looked at in all, for the same reason.
const MAX_NESTING: usize = 16;
const MAX_MEMBERS: usize = 1 << 16;

/// The types of the kernel, or those of a module on top of the kernel's.
#[derive(Clone)]
pub struct Btf {
    /// 0 is the kernel itself.
    module: u16,
    own: Arc<scan::File>,
    /// The kernel's, if `own` is a module's, whose types and strings go on where these end.
    base: Option<Arc<scan::File>>,
}

/// A type of the kernel or of one of its modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId {
    /// Two modules use the same numbers for different types. 0 for all that the kernel itself has, also where a module refers to it.
    module: u16,
    number: u32,
}

impl TypeId {
    /// `void`.
    pub const VOID: TypeId = TypeId { module: 0, number: 0 };

    /// The type's number in its BTF object, by which bpf(2) knows it: `attach_btf_id`. The object is that of
    /// [`Types::module_of`].
    pub fn number(self) -> u32 {
        self.number
    }
}

impl Btf {
    /// Parses the bytes of a BTF file of this machine's byte order.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, SourceError> {
        let own = scan::File::read(bytes, None).map_err(|reason| SourceError { what: "the kernel's BTF".to_owned(), reason })?;
        Ok(Btf { module: 0, own: Arc::new(own), base: None })
    }

    /// Parses the bytes of a module's BTF, whose types refer to those of `kernel`. `number` tells the module's types from those of
    /// other modules; it is not 0.
    fn parse_module(kernel: &Btf, number: u16, name: &str, bytes: Vec<u8>) -> Result<Btf, SourceError> {
        let own = scan::File::read(bytes, Some(&kernel.own))
            .map_err(|reason| SourceError { what: format!("the BTF of kernel module {name}"), reason })?;
        Ok(Btf { module: number, own: Arc::new(own), base: Some(Arc::clone(&kernel.own)) })
    }
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bytes, types) = (self.own.bytes.len(), self.own.types.len());
        f.debug_struct("Btf").field("module", &self.module).field("bytes", &bytes).field("types", &types).finish()
    }
}
