//! Arguments of attach points: what they are, where programs find them, and what format files say of them.

use crate::kernel::{
    Kernel, SourceError,
    btf::{Int, TypeId},
    format,
};

/// An argument of an attach point: `args.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) ctype: String,
    /// Its type, where the kernel's BTF has it.
    pub(crate) typ: Option<TypeId>,
    pub(crate) value: ArgumentValue,
}

/// What an argument is and where the program finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ArgumentValue {
    Int(Place, Int),
    /// A pointer, and whose memory it points into.
    Pointer(Place, Space),
    /// A `char[N]` within the context.
    Chars {
        offset: u32,
        size: u32,
    },
    /// Integers one after the other within the context.
    Array {
        offset: u32,
        int: Int,
        length: u32,
    },
    /// Text somewhere in the context; the `u32` at `offset` says where. `relative`: from its own end.
    DataLoc {
        offset: u32,
        relative: bool,
    },
    /// A number that is the same at every hit.
    Constant(i64, Int),
    /// In the memory of the process, at an address made of its registers.
    Memory(Address, Int),
    /// A type that this version of the language can't hold.
    Other,
}

/// An address in the memory of a process: `base + index * scale + displacement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// A register, by its offset in the context.
    pub(crate) base: Option<u32>,
    /// A register, by its offset in the context, and its factor: 1, 2, 4 or 8.
    pub(crate) index: Option<(u32, u8)>,
    pub(crate) displacement: i64,
}

/// Where an integer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In the context itself, at this byte, as wide as its type.
    Context(u32),
    /// In the context, in the low bytes of the 8-byte slot of this number.
    Slot(u32),
    /// In the `struct pt_regs` that the context's first slot points to, in the low bytes of the 8 at this offset.
    Regs(u32),
}

/// Whose memory a pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    User,
    Kernel,
}

/// The record of a tracepoint that `tracepoints` listed.
pub(super) fn read_format(category: &str, name: &str, kernel: &dyn Kernel) -> Result<format::Format, SourceError> {
    let what = format!("format of tracepoint {category}:{name}");
    let text = kernel.tracepoint_format(category, name)?;
    let text = text.ok_or_else(|| SourceError { what: what.clone(), reason: "it is gone".into() })?;
    format::parse(&text).map_err(|reason| SourceError { what, reason })
}

/// Whose memory a pointer of this C type points into; `None` if it is no pointer.
pub(super) fn pointer_space(ctype: &str) -> Option<Space> {
    ctype.contains('*').then(|| if ctype.contains("__user") { Space::User } else { Space::Kernel })
}
