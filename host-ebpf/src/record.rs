//! Streams and the layout of their records in the ring: what programs write and the host reads.
//!
//! A record is a header and the stream's fields at fixed offsets; every record of a stream has the same size. Numbers are in the
//! machine's byte order.

/// Header: when the event happened, `u64`, CLOCK_MONOTONIC.
pub const TIME: u32 = 0;
/// Header: the stream's position in [`crate::Compiled::streams`], `u32`.
pub const STREAM: u32 = 8;
/// Header: bit *i* says that field *i* could not be read, `u32`.
pub const ABSENT: u32 = 12;
/// Header: bit *i* says that the text of field *i* was longer than what is kept, `u32`.
pub const CUT: u32 = 16;
/// The size of the header, with 4 bytes that mean nothing.
pub const HEADER: u32 = 24;
/// How many fields a stream can have: the bits of [`ABSENT`].
pub const MAX_FIELDS: usize = 32;

/// All `emit` statements of a plugin with one stream name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// As in `emit NAME { ... }`.
    pub name: String,
    /// The columns, in the order of the first `emit`.
    pub fields: Vec<Field>,
    /// The size of each record, a multiple of 8.
    pub size: u32,
}

/// One column of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type as C has it, for people.
    pub ctype: String,
    /// Where it stands in the record.
    pub slot: Slot,
    /// What the host makes of the value before a plugin sees it.
    pub naming: Naming,
}

/// What a value means that has a name: the kernel records the number, the host says the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Naming {
    /// The value is what it is.
    #[default]
    Plain,
    /// A system call's number of the native ABI: `openat`.
    Syscall,
    /// A signal's number: `SIGTERM`.
    Signal,
    /// An error's number, of either sign: `ENOENT`.
    Errno,
    /// 4 or 16 bytes in network order ([`Slot::Bytes`]): `127.0.0.1`, `::1`.
    Inet,
    /// 6 bytes ([`Slot::Bytes`]): `00:16:3e:5e:6c:00`.
    Mac,
    /// An address in the kernel ([`Slot::Int`]): `vfs_read`.
    KernelSymbol,
    /// An address in a process ([`Slot::Stack`] of one frame): `malloc`.
    UserSymbol,
    /// The number of a cgroup: its path below the root of the hierarchy.
    Cgroup,
}

impl Naming {
    /// The function of the language that says so; `None` for a plain value.
    pub fn function(self) -> Option<&'static str> {
        Some(match self {
            Naming::Plain => return None,
            Naming::Syscall => "syscall_name",
            Naming::Signal => "signal_name",
            Naming::Errno => "strerror",
            Naming::Inet => "ntop",
            Naming::Mac => "macaddr",
            Naming::KernelSymbol => "ksym",
            Naming::UserSymbol => "usym",
            Naming::Cgroup => "cgroup_path",
        })
    }
}

/// Where a field stands in the record and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An integer of 1, 2, 4 or 8 bytes, aligned to its size.
    Int {
        /// From the record's first byte.
        offset: u32,
        /// In bytes.
        size: u8,
        /// Sign-extended when widened.
        signed: bool,
    },
    /// Text that ends before the first NUL byte or after `capacity` bytes, whichever comes first.
    Text {
        /// From the record's first byte.
        offset: u32,
        /// How many bytes of text are kept at most; that many bytes of the record may be read.
        capacity: u32,
    },
    /// Bytes as they were: a `u32` that says how many, 4 bytes that mean nothing, and `capacity` bytes, of which the rest is zero.
    Bytes {
        /// From the record's first byte; a multiple of 8.
        offset: u32,
        /// How many there are at most.
        capacity: u32,
    },
    /// A call stack: an `i32` with the length of the frames in bytes, negative where there is none (the `errno` of
    /// bpf_get_stack()), a `u32` with the process id, which is 0 for a kernel stack, and `depth` addresses of 8 bytes, the innermost
    /// first, of which the rest is zero.
    Stack {
        /// From the record's first byte; a multiple of 8.
        offset: u32,
        /// How many frames are kept at most.
        depth: u32,
    },
}

/// What stands before the bytes of [`Slot::Bytes`] and before the frames of [`Slot::Stack`].
pub const LENGTH_HEADER: u32 = 8;

impl Slot {
    /// How many bytes it takes.
    pub fn size(self) -> u32 {
        match self {
            Slot::Int { size, .. } => size.into(),
            // With the NUL byte, and one more that tells text which was longer; see `check::ir::Text::room`.
            Slot::Text { capacity, .. } => (capacity + 2).next_multiple_of(8),
            Slot::Bytes { capacity, .. } => LENGTH_HEADER + capacity.next_multiple_of(8),
            Slot::Stack { depth, .. } => LENGTH_HEADER + 8 * depth,
        }
    }
}

/// The kind of column that a field becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Unsigned integers.
    U64,
    /// Signed integers.
    S64,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Call stacks.
    Stack,
}

impl Field {
    /// The kind of column that it becomes.
    pub fn kind(&self) -> FieldKind {
        match self.slot {
            _ if self.naming != Naming::Plain => FieldKind::Text,
            Slot::Int { signed: false, .. } => FieldKind::U64,
            Slot::Int { signed: true, .. } => FieldKind::S64,
            Slot::Text { .. } => FieldKind::Text,
            Slot::Bytes { .. } => FieldKind::Bytes,
            Slot::Stack { .. } => FieldKind::Stack,
        }
    }
}
