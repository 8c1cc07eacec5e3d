//! Expressions whose value is text, and how much room it takes.

use super::{
    body::NameKind,
    value::{Key, Value},
};
use crate::{attach::Space, record::Slot};

/// An expression whose value is text. `keep` is the number of bytes kept at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    Comm,
    /// A `char[size]` in the context.
    Chars {
        offset: u32,
        size: u32,
    },
    DataLoc {
        offset: u32,
        relative: bool,
        keep: u32,
    },
    Pointer {
        pointer: Box<Value>,
        space: Space,
        keep: u32,
    },
    /// A `char[size]` at an address.
    Array {
        address: Box<Value>,
        space: Space,
        size: u32,
    },
    /// The path of a `struct path`.
    Path(Box<Path>),
    /// A fixed string.
    Literal(Vec<u8>),
    /// What [`Body::names`](super::Body::names) says, which differs between the targets of a probe; at most so many bytes.
    Name(NameKind, u32),
    /// Text that the span's entry half kept, at most `keep` bytes, by position in [`Body::saves`](super::Body::saves).
    Saved {
        index: usize,
        keep: u32,
    },
    /// A variable that holds at most `keep` bytes.
    Variable {
        index: usize,
        keep: u32,
    },
    /// The value of a map's element, which has at most `keep` bytes; empty for one that is not there.
    Element {
        map: usize,
        key: Key,
        keep: u32,
    },
    /// The first if the condition is not 0, else the second.
    Choose(Box<Value>, Box<Text>, Box<Text>),
}

/// A `struct path` of the kernel, whose text has at most `keep` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    /// Where the struct is.
    pub(crate) address: Value,
    pub(crate) keep: u32,
    pub(crate) layout: PathLayout,
}

/// Where the members are by which a path is found. The offsets are those in the [`Block`] of their struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathLayout {
    /// `mnt` and `dentry` of `struct path`.
    pub(crate) path: Block,
    pub(crate) mnt: u32,
    pub(crate) dentry: u32,
    /// `d_parent` and `d_name` of `struct dentry`.
    pub(crate) entry: Block,
    pub(crate) parent: u32,
    pub(crate) name: u32,
    pub(crate) length: u32,
    /// `mnt_parent`, `mnt_mountpoint` and `mnt.mnt_root` of `struct mount`.
    pub(crate) mount: Block,
    pub(crate) above: u32,
    pub(crate) mountpoint: u32,
    pub(crate) root: u32,
    /// The `struct vfsmount` within a `struct mount`.
    pub(crate) vfsmount: u32,
}

/// So many bytes from that byte of a struct on, which are read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) start: u32,
    pub(crate) size: u32,
}

/// `TASK_COMM_LEN` of include/linux/sched.h.
pub(crate) const COMM_SIZE: u32 = 16;

impl Text {
    /// How many bytes of text it can have.
    pub(crate) fn capacity(&self) -> u32 {
        match self {
            Text::Comm => COMM_SIZE,
            Text::Chars { size, .. } | Text::Array { size, .. } => *size,
            Text::DataLoc { keep, .. } | Text::Pointer { keep, .. } | Text::Name(_, keep) => *keep,
            Text::Variable { keep, .. } | Text::Element { keep, .. } | Text::Saved { keep, .. } => *keep,
            Text::Path(path) => path.keep,
            // One that is empty has room for its NUL byte still.
            Text::Literal(bytes) => (bytes.len() as u32).max(1),
            Text::Choose(_, a, b) => a.capacity().max(b.capacity()),
        }
    }

    /// How many bytes of memory writing it takes. A text that ends with a NUL byte is read with one byte more than itself and
    /// the NUL, so that a full read says that it was longer; an array, which can't be longer, with the NUL.
    pub(crate) fn room(&self) -> u32 {
        match self {
            Text::Comm => COMM_SIZE,
            Text::Chars { size, .. } | Text::Array { size, .. } => size + 1,
            Text::DataLoc { keep, .. } | Text::Pointer { keep, .. } => keep + 2,
            _ => text_room(self.capacity()),
        }
    }
}

/// The room that text of a capacity takes in a record, a key or a variable: with the NUL byte, and one more for telling text that
/// was longer.
pub(crate) fn text_room(capacity: u32) -> u32 {
    Slot::Text { offset: 0, capacity }.size()
}
