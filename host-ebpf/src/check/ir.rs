//! Typed trees: what the checker makes of a body at one target. Equal trees are equal programs, so they are compared and hashed.

use std::hash::{Hash, Hasher};

use crate::{
    attach::{Place, Space},
    kernel::btf::Int,
    record::{Naming, Slot},
    syntax::ast::{BinaryOp, UnaryOp},
};

/// An expression whose value is an integer, 64 bits wide once it is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Const(u64),
    Task(TaskField),
    /// The number of the CPU.
    Cpu,
    /// When this run happened: `nsecs`.
    Time,
    /// The time since the span's entry.
    Duration,
    /// An argument, or what the traced call returns.
    Load(Place, Int),
    /// A pointer that the context holds. (A typed pointer of the verifier's, unlike [`Value::Load`].)
    Pointer(Place),
    /// What the span's entry half kept, by position in [`Body::saves`].
    Saved(usize),
    Variable(usize),
    /// What one helper returns.
    Helper(Helper),
    /// The time since the gate opened.
    Elapsed,
    /// The first if the condition is not 0, else the second.
    Choose(Box<Value>, Box<Value>, Box<Value>),
    /// The low bytes, extended as the type's sign asks.
    Convert(Int, Box<Value>),
    /// The low `size` bytes in the other order.
    Swap(u8, Box<Value>),
    /// An integer in memory.
    Field(Box<MemoryField>),
    /// The value of a map's element; 0 for one that is not there.
    Element(usize, Key),
    /// Whether the element is there.
    HasKey(usize, Key),
    /// How many keys the map has.
    Len(usize),
    /// How many bytes a text has.
    TextLength(Text),
    /// Whether the literal is in the text.
    Contains(Text, Vec<u8>),
    Unary(UnaryOp, Box<Value>),
    Binary {
        op: BinaryOp,
        /// For division, right shift and order.
        signed: bool,
        left: Box<Value>,
        right: Box<Value>,
    },
    /// Whether the text is the literal, or, with `equal` false, is not.
    TextIs {
        text: Text,
        literal: Vec<u8>,
        equal: bool,
        /// The text ends where the literal does; else it may go on.
        whole: bool,
    },
    /// Whether two texts are the same, or, with `equal` false, are not.
    SameText {
        left: Text,
        right: Text,
        equal: bool,
    },
    /// The same of bytes, as many on each side. What can't be read is the same as nothing.
    SameBytes {
        left: Bytes,
        right: Bytes,
        equal: bool,
    },
}

/// Values that one call without arguments returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Helper {
    /// The address of the running `struct task_struct`.
    CurrentTask,
    CgroupId,
    Random,
    Jiffies,
    NumaNode,
    BootTime,
    TaiTime,
}

/// How memory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// Directly: the base is a pointer whose type the verifier knows.
    Typed,
    /// By a helper that finds out whether the memory is there.
    Kernel,
    User,
}

/// An integer in memory. What can't be read is 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemoryField {
    pub(crate) base: Value,
    pub(crate) access: Access,
    /// In bytes from the base.
    pub(crate) offset: u32,
    pub(crate) int: Int,
    /// Of a bit field: its lowest bit within the integer, and its width.
    pub(crate) bits: Option<(u32, u32)>,
    /// It is a pointer: as a number it is not to be a typed one.
    pub(crate) pointer: bool,
}

/// The key of an element, part by part.
pub(crate) type Key = Vec<KeyPart>;

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyPart {
    Int(Value),
    Text(Text),
    Bytes(Bytes),
    Stack(Stack),
}

/// Bytes in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bytes {
    /// So many from that address on.
    Memory { address: Box<Value>, space: Space, length: u32 },
    /// So many from that byte of the context on.
    Context { offset: u32, length: u32 },
    /// The low bytes of an integer, in the order in which they stand in memory.
    Int { value: Box<Value>, length: u32 },
    /// Fixed bytes.
    Literal(Vec<u8>),
}

impl Bytes {
    pub(crate) fn length(&self) -> u32 {
        match self {
            Bytes::Memory { length, .. } | Bytes::Context { length, .. } | Bytes::Int { length, .. } => *length,
            Bytes::Literal(bytes) => bytes.len() as u32,
        }
    }
}

/// A call stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stack {
    /// The kernel's, so many frames at most.
    Kernel(u32),
    /// The process's.
    User(u32),
    /// One address of the process.
    Address(Box<Value>),
    /// What the span's entry half kept, by position in [`Body::saves`].
    Saved { index: usize, depth: u32 },
}

impl Stack {
    pub(crate) fn depth(&self) -> u32 {
        match self {
            Stack::Kernel(depth) | Stack::User(depth) | Stack::Saved { depth, .. } => *depth,
            Stack::Address(_) => 1,
        }
    }
}

/// What the kernel says of the running task for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TaskField {
    Pid,
    Tid,
    Uid,
    Gid,
}

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
    /// What [`Body::names`] says, which differs between the targets of a probe; at most so many bytes.
    Name(NameKind, u32),
    /// Text that the span's entry half kept, at most `keep` bytes, by position in [`Body::saves`].
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

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FieldValue {
    Int(Value, Int),
    Text(Text),
    Bytes(Bytes),
    Stack(Stack),
}

/// A field of an `emit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ctype: String,
    pub(crate) value: FieldValue,
    pub(crate) naming: Naming,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub(crate) kind: StatementKind,
    pub(crate) source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StatementKind {
    Assign(usize, Value),
    AssignText(usize, Text),
    If(Value, Vec<Statement>, Vec<Statement>),
    /// So many times, written out.
    Unroll(u32, Vec<Statement>),
    /// While the condition holds, and `limit` times at most.
    While {
        condition: Value,
        limit: u32,
        body: Vec<Statement>,
    },
    /// For each value of the variable from `from` to below `to`, and `limit` times at most.
    For {
        variable: usize,
        from: Value,
        to: Value,
        limit: u32,
        body: Vec<Statement>,
    },
    Break,
    Continue,
    /// `@m[k] = value`
    Set {
        map: usize,
        key: Key,
        value: Value,
    },
    SetText {
        map: usize,
        key: Key,
        value: Text,
    },
    /// `@m[k] += value`, in one indivisible step.
    Add {
        map: usize,
        key: Key,
        value: Value,
    },
    /// `@m[k] *= value`: the key is evaluated once.
    Change {
        map: usize,
        key: Key,
        op: BinaryOp,
        signed: bool,
        value: Value,
    },
    /// One more value for an aggregation.
    Aggregate {
        map: usize,
        key: Key,
        value: Value,
        /// It counts by intervals of time.
        series: bool,
    },
    Delete {
        map: usize,
        key: Key,
    },
    /// All elements of a map with keys.
    Clear {
        map: usize,
    },
    Return,
    Emit {
        stream: String,
        fields: Vec<Field>,
    },
}

/// The text that something came from, for the listing. It makes no difference between trees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source(pub(crate) String);

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A probe at one target, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    /// Of an iterator whose run is limited to a user or a control group: whether its task is within.
    pub(crate) limits: Option<Value>,
    pub(crate) when: Option<(Value, Source)>,
    pub(crate) statements: Vec<Statement>,
    /// Its variables: the text that each holds at most, 0 for an integer.
    pub(crate) variables: Vec<u32>,
    /// What a span's entry half keeps for its exit half, as seen at the entry.
    pub(crate) saves: Vec<Save>,
    /// What joins the halves of a span, as seen at the entry and at the exit; `None` for the thread.
    pub(crate) key: Option<(Vec<Value>, Vec<Value>)>,
    /// What [`Text::Name`] stands for in it.
    pub(crate) names: Names,
    /// What a span's entry half reads of its context.
    pub(crate) entry: ContextUse,
    /// The same where the body runs.
    pub(crate) here: ContextUse,
    /// It has paths, which take room in the scratch map.
    pub(crate) paths: bool,
}

impl Body {
    /// They are the same but for their names.
    pub(crate) fn same_but_names(&self, other: &Body) -> bool {
        let Body { limits, when, statements, variables, saves, key, names: _, entry, here, paths } = self;
        (when, statements, variables, saves) == (&other.when, &other.statements, &other.variables, &other.saves)
            && (limits, key, entry, here, paths) == (&other.limits, &other.key, &other.entry, &other.here, &other.paths)
    }
}

/// The names that a place has, as far as a body asks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// `func`
    pub(crate) function: Option<String>,
    /// `probe`
    pub(crate) point: Option<String>,
}

/// Which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum NameKind {
    Function,
    Point,
}

impl Names {
    /// Each that there is.
    pub(crate) fn each(&self) -> impl Iterator<Item = (NameKind, &str)> {
        let names = [(NameKind::Function, &self.function), (NameKind::Point, &self.point)];
        names.into_iter().filter_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }

    /// One of them; empty if it is not there.
    pub(crate) fn get(&self, wanted: NameKind) -> &str {
        self.each().find(|(kind, _)| *kind == wanted).map_or("", |(_, name)| name)
    }

    /// The room for such a name in bytes: the same for names of about one length, so that few programs serve many places.
    pub(crate) fn capacity(name: &str) -> u32 {
        (name.len() as u32).next_multiple_of(32).max(32)
    }
}

/// What code reads of its program's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ContextUse {
    /// Arguments, or what is returned.
    pub(crate) arguments: bool,
    /// Registers by their names.
    pub(crate) registers: bool,
}

impl ContextUse {
    /// Nothing at all.
    pub(crate) fn is_none(self) -> bool {
        self == ContextUse::default()
    }
}

/// What a span's entry half keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Save {
    Int(Value),
    Text(Text),
    Stack(Stack),
}

impl Save {
    /// How many bytes it takes.
    pub(crate) fn size(&self) -> u32 {
        match self {
            Save::Int(_) => 8,
            Save::Text(text) => text_room(text.capacity()),
            Save::Stack(stack) => Slot::Stack { offset: 0, depth: stack.depth() }.size(),
        }
    }

    /// How many bytes of the program's stack it takes in the exit half: a call stack is too large.
    pub(crate) fn on_stack(&self) -> u32 {
        if self.is_stack() { 0 } else { self.size() }
    }

    /// It is a call stack.
    pub(crate) fn is_stack(&self) -> bool {
        matches!(self, Save::Stack(_))
    }
}

impl Value {
    /// Whether any part of it satisfies the test.
    pub(crate) fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        test(self)
            || match self {
                Value::Unary(_, operand) | Value::Convert(_, operand) | Value::Swap(_, operand) => operand.any(test),
                Value::Binary { left, right, .. } => left.any(test) || right.any(test),
                Value::Choose(a, b, c) => a.any(test) || b.any(test) || c.any(test),
                Value::Field(field) => field.base.any(test),
                Value::Element(_, key) | Value::HasKey(_, key) => any_in_key(key, test),
                Value::TextIs { text, .. } | Value::TextLength(text) | Value::Contains(text, _) => text.any(test),
                Value::SameText { left, right, .. } => left.any(test) || right.any(test),
                Value::SameBytes { left, right, .. } => left.any(test) || right.any(test),
                _ => false,
            }
    }

    /// Whether computing it asks for the time of the run.
    pub(crate) fn needs_time(&self) -> bool {
        self.any(&asks_for_time)
    }

    /// Whether it reads memory that may not be there.
    pub(crate) fn can_fault(&self) -> bool {
        self.any(&|v| matches!(v, Value::Field(_)))
    }
}

/// Whether the value itself is of the time of the run.
fn asks_for_time(value: &Value) -> bool {
    matches!(value, Value::Time | Value::Duration | Value::Elapsed)
}

fn any_in_key(key: &Key, test: &dyn Fn(&Value) -> bool) -> bool {
    key.iter().any(|part| match part {
        KeyPart::Int(value) => value.any(test),
        KeyPart::Text(text) => text.any(test),
        KeyPart::Bytes(bytes) => bytes.any(test),
        KeyPart::Stack(Stack::Address(address)) => address.any(test),
        KeyPart::Stack(_) => false,
    })
}

/// Whether computing the key asks for the time of the run.
pub(crate) fn key_needs_time(key: &Key) -> bool {
    any_in_key(key, &asks_for_time)
}

impl Text {
    fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        match self {
            Text::Pointer { pointer: value, .. } | Text::Array { address: value, .. } => value.any(test),
            Text::Path(path) => path.address.any(test),
            Text::Element { key, .. } => any_in_key(key, test),
            Text::Choose(condition, a, b) => condition.any(test) || a.any(test) || b.any(test),
            _ => false,
        }
    }

    /// Whether computing it asks for the time of the run.
    pub(crate) fn needs_time(&self) -> bool {
        self.any(&asks_for_time)
    }
}

impl Bytes {
    fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        match self {
            Bytes::Memory { address: value, .. } | Bytes::Int { value, .. } => value.any(test),
            Bytes::Context { .. } | Bytes::Literal(_) => false,
        }
    }
}
