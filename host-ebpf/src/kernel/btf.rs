//! BTF, the kernel's description of its own types: `/sys/kernel/btf/vmlinux` (Documentation/bpf/btf.rst).
//!
//! The reader keeps the file's bytes and the offset of each type, so opening is one pass; the index of names is built at the first
//! question that needs it. [`Btf::parse`] checks the file's structure. A type that refers to one that is not there is found only
//! when it is asked for, and counts as absent.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    ops::Range,
    sync::OnceLock,
};

use super::SourceError;

/// How many links a walk along typedefs, qualifiers or pointers follows at most: valid types need fewer, malformed ones may run in
/// a circle.
const MAX_LINKS: usize = 64;
/// How deep anonymous structs are searched for a member, and how many members are looked at in all, for the same reason.
const MAX_NESTING: usize = 16;
const MAX_MEMBERS: usize = 1 << 16;
const MAGIC: u16 = 0xeb9f;
const HEADER_SIZE: usize = 24;
const TYPE_SIZE: usize = 12;

/// The kernel's types.
pub struct Btf {
    bytes: Vec<u8>,
    /// Where the strings are in `bytes`; the last byte is NUL.
    strings: Range<usize>,
    /// Where each type is in `bytes`; the first is type 1, as type 0 is `void`.
    types: Vec<u32>,
    /// The hash of a type's name and the type's number, sorted.
    names: OnceLock<Vec<(u64, u32)>>,
}

/// An integer type: width and sign. Pointers, booleans and enums count as such too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Int {
    /// In bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Two's complement.
    pub signed: bool,
}

impl Int {
    /// What a pointer is: every architecture that runs Portcullis has 64 bits.
    pub const POINTER: Int = Int { size: 8, signed: false };
}

/// An argument of a raw tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type as C writes it.
    pub ctype: String,
    /// `None` for what is neither an integer, nor a pointer, an enum or a boolean.
    pub int: Option<Int>,
    /// It is a pointer.
    pub pointer: bool,
}

/// What a type is (`BTF_KIND_*`, include/uapi/linux/btf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Function,
    FunctionType,
    Variable,
    Section,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn new(number: u32) -> Option<Kind> {
        Some(match number {
            1 => Kind::Int,
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Forward,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Function,
            13 => Kind::FunctionType,
            14 => Kind::Variable,
            15 => Kind::Section,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            _ => return None,
        })
    }

    /// How many bytes follow the type, of which there are `count` elements.
    fn extra(self, count: usize) -> usize {
        match self {
            Kind::Int | Kind::Variable | Kind::DeclTag => 4,
            Kind::Array => 12,
            Kind::Struct | Kind::Union | Kind::Section | Kind::Enum64 => 12 * count,
            Kind::Enum | Kind::FunctionType => 8 * count,
            _ => 0,
        }
    }
}

/// `struct btf_type`.
#[derive(Clone, Copy, Debug)]
struct Type {
    name: u32,
    kind: Kind,
    /// `kind_flag`: of an enum, its values are signed; of a struct, member offsets carry the size of bit fields.
    flag: bool,
    /// The number of elements that follow.
    count: usize,
    /// The size in bytes, or the type that this one refers to.
    size_or_type: u32,
    /// Where in the bytes its elements begin.
    elements: usize,
}

impl Btf {
    /// Parses the bytes of a BTF file of this machine's byte order.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, SourceError> {
        let (strings, types) = scan(&bytes).map_err(|reason| SourceError { what: "the kernel's BTF".to_owned(), reason })?;
        Ok(Btf { bytes, strings, types, names: OnceLock::new() })
    }

    /// The raw tracepoints that have a typedef `btf_trace_NAME`, sorted.
    pub fn raw_tracepoints(&self) -> Vec<&str> {
        let typedefs = self.all().filter(|(_, t)| t.kind == Kind::Typedef);
        let mut names: Vec<&str> = typedefs.filter_map(|(_, t)| self.text(t.name).strip_prefix("btf_trace_")).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The id of the typedef `btf_trace_NAME`.
    pub fn raw_tracepoint_id(&self, name: &str) -> Option<u32> {
        self.named(&format!("btf_trace_{name}"), |kind| kind == Kind::Typedef).map(|(id, _)| id)
    }

    /// The arguments of a raw tracepoint, without the `void *__data` before them: types from the typedef `btf_trace_NAME`, names
    /// from a function that the kernel defines per tracepoint; where it has none, `arg0`, `arg1` and so on.
    pub fn raw_tracepoint_arguments(&self, name: &str) -> Option<Vec<Argument>> {
        let pointer = self.resolve(self.raw_tracepoint_id(name)?)?;
        let signature = self.resolve((pointer.kind == Kind::Pointer).then_some(pointer.size_or_type)?)?;
        if signature.kind != Kind::FunctionType {
            return None;
        }
        // `__bpf_trace_` is there only for a tracepoint that has an event class of its own; the others since Linux 6.4 and 5.10.
        let named = ["__bpf_trace_", "__probestub_", "__traceiter_"].iter().find_map(|prefix| {
            let (_, function) = self.named(&format!("{prefix}{name}"), |kind| kind == Kind::Function)?;
            self.get(function.size_or_type).filter(|t| t.kind == Kind::FunctionType && t.count == signature.count)
        });
        let arguments = (1..signature.count).map(|i| {
            let parameter = self.pair(signature, i)?.1;
            let own = named.and_then(|t| self.pair(t, i)).map_or("", |(name, _)| self.text(name));
            Some(Argument {
                name: if own.is_empty() { format!("arg{}", i - 1) } else { own.to_owned() },
                ctype: self.ctype(parameter),
                int: self.int_of(parameter),
                pointer: self.resolve(parameter).is_some_and(|t| t.kind == Kind::Pointer),
            })
        });
        arguments.collect()
    }

    /// Width and sign of an integer type by its C text: a base type in any usual spelling (`unsigned int`), a typedef (`umode_t`),
    /// `enum X`, a pointer to anything.
    pub fn int(&self, ctype: &str) -> Option<Int> {
        if ctype.contains('*') {
            return Some(Int::POINTER);
        }
        let words: Vec<&str> = ctype.split_whitespace().filter(|w| !QUALIFIERS.contains(w)).collect();
        match words.as_slice() {
            ["char"] => self.named("char", |kind| kind == Kind::Int).and_then(|(id, _)| self.int_of(id)),
            ["enum", name] => self.named(name, |k| matches!(k, Kind::Enum | Kind::Enum64)).and_then(|(id, _)| self.int_of(id)),
            [name] if base_type(&words).is_none() => {
                self.named(name, |kind| matches!(kind, Kind::Typedef | Kind::Int)).and_then(|(id, _)| self.int_of(id))
            }
            _ => base_type(&words),
        }
    }

    /// The byte offset and type of a member of a struct or union, by path through nested ones: `member("task_struct",
    /// "thread_info.status")`. Anonymous structs on the way need not be named. `None` for a bit field and for what is no integer.
    pub fn member(&self, structure: &str, path: &str) -> Option<(u32, Int)> {
        let mut budget = MAX_MEMBERS;
        let (mut id, _) = self.named(structure, |kind| matches!(kind, Kind::Struct | Kind::Union))?;
        let mut offset = 0_u32;
        for name in path.split('.') {
            let (bits, member) = self.find_member(self.resolve(id)?, name, MAX_NESTING, &mut budget)?;
            offset = offset.checked_add(bits / 8)?;
            id = (bits % 8 == 0).then_some(member)?;
        }
        Some((offset, self.int_of(id)?))
    }

    /// A type as C writes it.
    pub fn ctype(&self, id: u32) -> String {
        self.declare(id, MAX_LINKS)
    }

    /// Width and sign, if it is an integer, a pointer, an enum or a boolean.
    fn int_of(&self, id: u32) -> Option<Int> {
        let found = self.resolve(id)?;
        let signed = match found.kind {
            Kind::Pointer => return Some(Int::POINTER),
            // Set since Linux 6.0. Before, all enums count as unsigned.
            Kind::Enum | Kind::Enum64 => found.flag,
            Kind::Int => self.word(found.elements)? >> 24 & 1 != 0,
            _ => return None,
        };
        let size = u8::try_from(found.size_or_type).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
        Some(Int { size, signed })
    }

    /// The type behind typedefs, qualifiers and tags; `None` for `void` and for a reference to nothing.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut found = self.get(id)?;
        for _ in 0..MAX_LINKS {
            match found.kind {
                Kind::Typedef | Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => {
                    found = self.get(found.size_or_type)?;
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// The offset in bits and the type of a member, also of one within anonymous members.
    fn find_member(&self, structure: Type, name: &str, depth: usize, budget: &mut usize) -> Option<(u32, u32)> {
        if !matches!(structure.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        (0..structure.count).find_map(|i| {
            *budget = budget.checked_sub(1)?;
            let at = structure.elements + 12 * i;
            let (own, member, position) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let (bits, width) = if structure.flag { (position & 0xff_ffff, position >> 24) } else { (position, 0) };
            match self.text(own) {
                // A bit field is no integer by itself.
                own if own == name => (width == 0).then_some((bits, member)),
                "" => {
                    let (inner, member) = self.find_member(self.resolve(member)?, name, depth.checked_sub(1)?, budget)?;
                    Some((bits.checked_add(inner)?, member))
                }
                _ => None,
            }
        })
    }

    fn declare(&self, id: u32, links: usize) -> String {
        let Some(found) = self.get(id) else { return if id == 0 { "void".to_owned() } else { "?".to_owned() } };
        let Some(links) = links.checked_sub(1) else { return "?".to_owned() };
        let own = self.text(found.name);
        let name = if own.is_empty() { "{...}" } else { own };
        let inner = || self.declare(found.size_or_type, links);
        match found.kind {
            Kind::Struct => format!("struct {name}"),
            Kind::Union => format!("union {name}"),
            Kind::Enum | Kind::Enum64 => format!("enum {name}"),
            Kind::Forward => format!("{} {name}", if found.flag { "union" } else { "struct" }),
            Kind::Const => qualify("const", &inner()),
            Kind::Volatile => qualify("volatile", &inner()),
            Kind::Restrict => qualify("restrict", &inner()),
            Kind::TypeTag => inner(),
            Kind::Pointer => {
                let inner = inner();
                match inner.split_once('(') {
                    Some((result, arguments)) => format!("{result}(*)({arguments}").replacen("(*)(*", "(**", 1),
                    None => match inner.split_once('[') {
                        Some((element, length)) => format!("{element} (*)[{length}"),
                        None if inner.ends_with('*') => format!("{inner}*"),
                        None => format!("{inner} *"),
                    },
                }
            }
            Kind::FunctionType => {
                // Only the first few arguments: their types can nest without end in malformed input, and nobody reads on.
                let arguments = (0..found.count.min(12)).filter_map(|i| self.pair(found, i));
                let arguments: Vec<_> = arguments.map(|(_, parameter)| self.declare(parameter, links / 16)).collect();
                format!("{} ({})", inner(), if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") })
            }
            Kind::Array => {
                let element = self.word(found.elements).map_or_else(|| "?".to_owned(), |id| self.declare(id, links));
                format!("{element}[{}]", self.word(found.elements + 8).unwrap_or(0))
            }
            Kind::Int => SPELLINGS.iter().find(|(long, _)| *long == name).map_or(name, |(_, short)| short).to_owned(),
            _ => name.to_owned(),
        }
    }

    /// The type of that name and kind with the lowest number.
    fn named(&self, name: &str, kind: impl Fn(Kind) -> bool) -> Option<(u32, Type)> {
        let index = self.names.get_or_init(|| {
            let named = self.all().filter(|(_, t)| t.name != 0);
            let mut index: Vec<_> = named.map(|(id, t)| (hash(self.text_bytes(t.name)), id)).collect();
            index.sort_unstable();
            index
        });
        let wanted = hash(name.as_bytes());
        let first = index.partition_point(|(hash, _)| *hash < wanted);
        let same = index.get(first..)?.iter().take_while(|(hash, _)| *hash == wanted);
        same.filter_map(|(_, id)| Some((*id, self.get(*id)?))).find(|(_, t)| kind(t.kind) && self.text(t.name) == name)
    }

    fn all(&self) -> impl Iterator<Item = (u32, Type)> {
        self.types.iter().zip(1..).filter_map(|(at, id)| Some((id, read_type(&self.bytes, *at as usize)?)))
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = self.types.get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        read_type(&self.bytes, *at as usize)
    }

    /// Element `i` of an enum or of a function type: its name, and its value or type.
    fn pair(&self, t: Type, i: usize) -> Option<(u32, u32)> {
        let at = t.elements + 8 * i;
        Some((self.word(at)?, self.word(at + 4)?))
    }

    fn word(&self, at: usize) -> Option<u32> {
        read_word(&self.bytes, at)
    }

    /// The name at that offset; empty for what has none, and for what is no text.
    fn text(&self, name: u32) -> &str {
        std::str::from_utf8(self.text_bytes(name)).unwrap_or_default()
    }

    fn text_bytes(&self, name: u32) -> &[u8] {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let rest = strings.get(name as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        rest.get(..end).unwrap_or_default()
    }
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf").field("bytes", &self.bytes.len()).field("types", &self.types.len()).finish()
    }
}

/// Words that change nothing about the width of a type, among them the annotations that format files keep.
const QUALIFIERS: [&str; 7] = ["const", "volatile", "restrict", "register", "__user", "__kernel", "__rcu"];

/// Base types as compilers write them into debug information, and as people do.
const SPELLINGS: [(&str, &str); 8] = [
    ("_Bool", "bool"),
    ("long int", "long"),
    ("long long int", "long long"),
    ("long long unsigned int", "unsigned long long"),
    ("long unsigned int", "unsigned long"),
    ("short int", "short"),
    ("short unsigned int", "unsigned short"),
    ("unsigned", "unsigned int"),
];

/// The integer types that C has without a declaration, in any order of their words. The sizes are those of the LP64 model, which
/// every 64-bit Linux has. `char` is absent: its sign depends on the kernel's build.
fn base_type(words: &[&str]) -> Option<Int> {
    let (mut signed, mut unsigned, mut long, mut kind) = (false, false, 0, None);
    for word in words {
        match *word {
            "signed" | "__signed__" if !unsigned => signed = true,
            "unsigned" if !signed => unsigned = true,
            "long" if long < 2 => long += 1,
            "int" | "char" | "short" | "bool" | "_Bool" if kind.is_none() => kind = Some(*word),
            "int" if kind == Some("short") => {}
            "short" if kind == Some("int") => kind = Some("short"),
            _ => return None,
        }
    }
    let size = match (kind, long) {
        (Some("bool" | "_Bool"), 0) if !signed && !unsigned => return Some(Int { size: 1, signed: false }),
        (Some("char"), 0) if signed || unsigned => 1,
        (Some("short"), 0) => 2,
        (Some("int"), 0) => 4,
        (None, 0) if signed || unsigned => 4,
        (None | Some("int"), 1 | 2) => 8,
        _ => return None,
    };
    Some(Int { size, signed: !unsigned })
}

/// C reads a qualifier that stands before a pointer as one of what it points to.
fn qualify(qualifier: &str, inner: &str) -> String {
    match inner.strip_suffix('*') {
        Some(_) => format!("{inner}{qualifier}"),
        None => format!("{qualifier} {inner}"),
    }
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Finds the strings and every type, and checks that each is whole.
fn scan(bytes: &[u8]) -> Result<(Range<usize>, Vec<u32>), String> {
    let magic = bytes.first_chunk().map(|b| u16::from_ne_bytes(*b)).ok_or("the file is empty")?;
    if magic == MAGIC.swap_bytes() {
        return Err("it is of another byte order than this machine".to_owned());
    }
    if magic != MAGIC {
        return Err(format!("it begins with {magic:#06x}, not with {MAGIC:#06x}"));
    }
    let word = |at| read_word(bytes, at).map(|word| word as usize).ok_or("its header is cut short");
    let header = word(4)?;
    if header < HEADER_SIZE {
        return Err(format!("its header says that it has {header} bytes, which is less than {HEADER_SIZE}"));
    }
    let section = |at: usize, name: &str| {
        let (offset, length) = (word(at)?, word(at + 4)?);
        let start = header.checked_add(offset).ok_or("its header has impossible offsets")?;
        let end = start.checked_add(length).filter(|end| *end <= bytes.len());
        end.map(|end| start..end).ok_or_else(|| format!("its {name} end beyond the file's {} bytes", bytes.len()))
    };
    let (types, strings) = (section(8, "types")?, section(16, "strings")?);
    if bytes.get(strings.clone()).and_then(<[u8]>::last) != Some(&0) {
        return Err("its strings do not end with a NUL byte".to_owned());
    }
    let mut offsets = Vec::with_capacity(types.len() / 24);
    let mut at = types.start;
    while at < types.end {
        let number = offsets.len() + 1;
        let found = read_type(bytes, at)
            .ok_or_else(|| format!("type {number} is cut short or of a kind that this version of Portcullis does not know"))?;
        let end = found.elements.checked_add(found.kind.extra(found.count)).filter(|end| *end <= types.end);
        let end = end.ok_or_else(|| format!("type {number} ends beyond the types"))?;
        if found.name as usize >= strings.len() {
            return Err(format!("the name of type {number} is beyond the strings"));
        }
        offsets.push(u32::try_from(at).map_err(|_| "it is larger than 4 GiB")?);
        at = end;
    }
    Ok((strings, offsets))
}

fn read_type(bytes: &[u8], at: usize) -> Option<Type> {
    let (name, info, size_or_type) = (read_word(bytes, at)?, read_word(bytes, at + 4)?, read_word(bytes, at + 8)?);
    let count = (info & 0xffff) as usize;
    Some(Type { name, kind: Kind::new(info >> 24 & 0x1f)?, flag: info >> 31 != 0, count, size_or_type, elements: at + TYPE_SIZE })
}

fn read_word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernel::fixture::Builder;

    /// A kernel in small: base types, a task with a nested and an anonymous struct, two raw tracepoints.
    fn small() -> Builder {
        let mut b = Builder::new();
        let int = b.int("int", 4, true);
        let long = b.int("long unsigned int", 8, false);
        let char = b.int("char", 1, false);
        b.int("__int128", 16, true);
        b.link(8, "umode_t", int);
        b.link(8, "size_t", long);
        b.add("pid_type", 6 << 24 | 1 << 31 | 1, 4, &[0, 0]);
        let comm = b.add("", 3 << 24, 0, &[char, int, 16]);
        let info = b.members(4, "thread_info", &[("flags", long, 0), ("status", int, 64)]);
        let inner = b.members(5, "", &[("raw", long, 0), ("half", int, 0)]);
        let anonymous = b.members(4, "", &[("pad", long, 0), ("", inner, 64)]);
        let fields = [("thread_info", info, 128), ("", anonymous, 256), ("comm", comm, 512), ("pid", int, 640)];
        let task = b.members(4, "task_struct", &fields);
        let pointer = b.link(2, "", task);
        let character = b.link(10, "", char);
        let text = b.link(2, "", character);
        let data = b.link(2, "", 0);
        let unnamed = b.signature(&[("", data), ("", pointer), ("", text), ("", task)]);
        let callback = b.link(2, "", unnamed);
        b.link(8, "btf_trace_beta", callback);
        let named = b.signature(&[("__data", data), ("task", pointer), ("name", text), ("copy", task)]);
        b.add("__bpf_trace_beta", 12 << 24, named, &[]);
        let plain = b.signature(&[("", data), ("", int), ("", callback)]);
        let plain = b.link(2, "", plain);
        b.link(8, "btf_trace_alpha", plain);
        // A bit field: 3 bits wide at bit 8.
        let flags = b.name("flag");
        b.add("bits", 4 << 24 | 1 << 31 | 1, 4, &[flags, int, 3 << 24 | 8]);
        b
    }

    /// Raw tracepoints are listed by their typedefs; an unknown one is none.
    #[test]
    fn raw_tracepoints() {
        let btf = Btf::parse(small().bytes()).unwrap();
        assert_eq!(btf.raw_tracepoints(), ["alpha", "beta"]);
        let id = btf.raw_tracepoint_id("beta").unwrap();
        assert_eq!(btf.ctype(id), "btf_trace_beta");
        assert_eq!(btf.raw_tracepoint_id("gamma"), None);
        assert_eq!(btf.raw_tracepoint_arguments("gamma"), None);
    }

    /// Names come from the kernel's own function where there is one.
    #[test]
    fn raw_tracepoint_arguments() {
        let btf = Btf::parse(small().bytes()).unwrap();
        let check = |name: &str, expect: &[(&str, &str, Option<Int>, bool)]| {
            let arguments = btf.raw_tracepoint_arguments(name).unwrap();
            let arguments: Vec<_> = arguments.iter().map(|a| (a.name.as_str(), a.ctype.as_str(), a.int, a.pointer)).collect();
            assert_eq!(arguments, expect);
        };
        let pointer = Some(Int::POINTER);
        check(
            "beta",
            &[
                ("task", "struct task_struct *", pointer, true),
                ("name", "const char *", pointer, true),
                ("copy", "struct task_struct", None, false),
            ],
        );
        let function = "void (*)(void *, struct task_struct *, const char *, struct task_struct)";
        check("alpha", &[("arg0", "int", Some(Int { size: 4, signed: true }), false), ("arg1", function, pointer, true)]);
    }

    /// Every spelling of an integer type, and what is none.
    #[test]
    fn integers() {
        let btf = Btf::parse(small().bytes()).unwrap();
        let check = |ctype: &str, expect: Option<(u8, bool)>| {
            assert_eq!(btf.int(ctype).map(|i| (i.size, i.signed)), expect, "{ctype}");
        };
        check("int", Some((4, true)));
        check("unsigned int", Some((4, false)));
        check("unsigned", Some((4, false)));
        check("long unsigned int", Some((8, false)));
        check("long long", Some((8, true)));
        check("short", Some((2, true)));
        check("unsigned short int", Some((2, false)));
        check("char", Some((1, false)));
        check("signed char", Some((1, true)));
        check("bool", Some((1, false)));
        check("const volatile int", Some((4, true)));
        check("umode_t", Some((4, true)));
        check("size_t", Some((8, false)));
        check("enum pid_type", Some((4, true)));
        check("const char *", Some((8, false)));
        check("const char __user *const __user *", Some((8, false)));
        check("struct task_struct *const", Some((8, false)));
        check("struct task_struct", None);
        check("__int128", None);
        check("task_struct", None);
        check("unsigned signed int", None);
        check("long long long", None);
        check("enum nothing", None);
        check("", None);
    }

    /// Members are found through nested and anonymous structs and unions; bit fields, arrays and structs are no integers.
    #[test]
    fn members() {
        let btf = Btf::parse(small().bytes()).unwrap();
        let check = |structure: &str, path: &str, expect: Option<(u32, u8)>| {
            assert_eq!(btf.member(structure, path).map(|(offset, int)| (offset, int.size)), expect, "{structure}.{path}");
        };
        check("task_struct", "thread_info.status", Some((24, 4)));
        check("task_struct", "pid", Some((80, 4)));
        check("task_struct", "pad", Some((32, 8)));
        check("task_struct", "half", Some((40, 4)));
        check("task_struct", "thread_info", None);
        check("task_struct", "comm", None);
        check("task_struct", "pid.status", None);
        check("task_struct", "nothing", None);
        check("task_struct", "", None);
        check("bits", "flag", None);
        check("int", "pid", None);
    }

    /// Types that refer to themselves, or to nothing, are absent; no walk runs for ever.
    #[test]
    fn circles() {
        let mut b = Builder::new();
        b.link(8, "loop", 1);
        b.members(4, "nest", &[("", 2, 0), ("", 2, 0), ("", 2, 0)]);
        b.link(8, "dangling", 99);
        b.link(2, "", 4);
        let signature = b.signature(&[("", 5), ("", 5), ("", 5), ("", 4)]);
        let callback = b.link(2, "", signature);
        b.link(8, "btf_trace_self", callback);
        let btf = Btf::parse(b.bytes()).unwrap();
        assert_eq!(btf.int("loop"), None);
        assert_eq!(btf.int("dangling"), None);
        assert_eq!(btf.member("nest", "x"), None);
        assert_eq!(btf.raw_tracepoint_arguments("self").unwrap().len(), 3);
        for id in 0..10 {
            assert!(btf.ctype(id).len() < 100_000);
        }
    }

    /// A file that is not whole is refused with what is wrong with it, at whatever byte it is cut or changed; nothing panics.
    #[test]
    fn malformed() {
        let whole = small().bytes();
        let error = |bytes: Vec<u8>| Btf::parse(bytes).unwrap_err().reason;
        assert_eq!(error(Vec::new()), "the file is empty");
        assert_eq!(error(vec![0, 0, 0]), "it begins with 0x0000, not with 0xeb9f");
        assert_eq!(error(MAGIC.swap_bytes().to_ne_bytes().to_vec()), "it is of another byte order than this machine");
        assert_eq!(error(whole[..10].to_vec()), "its header is cut short");
        for cut in 0..whole.len() {
            assert!(Btf::parse(whole[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let Ok(btf) = Btf::parse(bytes) else { continue };
                for name in btf.raw_tracepoints() {
                    btf.raw_tracepoint_arguments(name);
                }
                btf.member("task_struct", "half");
                btf.int("umode_t");
            }
        }
    }

    /// The running kernel's file: opened in milliseconds, with what the compiler asks of it.
    #[test]
    fn this_kernel() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let before = std::time::Instant::now();
        let btf = Btf::parse(bytes).unwrap();
        let opened = before.elapsed();
        assert!(opened.as_millis() < 200, "{opened:?}");
        assert!(btf.raw_tracepoints().len() > 100);
        let arguments = btf.raw_tracepoint_arguments("sys_enter").unwrap();
        let arguments: Vec<_> = arguments.iter().map(|a| (a.name.as_str(), a.ctype.as_str())).collect();
        assert_eq!(arguments, [("regs", "struct pt_regs *"), ("id", "long")]);
        assert_eq!(btf.int("umode_t"), Some(Int { size: 2, signed: false }));
        assert_eq!(btf.int("size_t"), Some(Int { size: 8, signed: false }));
        assert_eq!(btf.int("pid_t"), Some(Int { size: 4, signed: true }));
        assert_eq!(btf.member("task_struct", "thread_info.status").unwrap().1, Int { size: 4, signed: false });
        assert_eq!(btf.member("pt_regs", "orig_ax").unwrap().0, super::super::syscalls::NUMBER_OFFSET);
        for (i, register) in ["di", "si", "dx", "r10", "r8", "r9"].iter().enumerate() {
            assert_eq!(btf.member("pt_regs", register).unwrap().0, super::super::syscalls::argument_offset(i), "{register}");
        }
        for name in btf.raw_tracepoints() {
            assert!(btf.raw_tracepoint_arguments(name).is_some(), "{name}");
        }
    }
}
