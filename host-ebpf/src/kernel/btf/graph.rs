//! What types are and how they refer to each other.

use std::{ffi::CStr, ops::Deref};

use super::{
    Btf, MAX_LINKS, MAX_MEMBERS, MAX_NESTING, TypeId, names,
    scan::{File, Kind, Record},
};

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

/// What a type is behind its typedefs, qualifiers and tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `void`.
    Void,
    /// An integer; also `char`, see [`Btf::is_char`].
    Int(Int),
    /// `bool`: one byte that is 0 or 1.
    Bool,
    /// A pointer to that type.
    Pointer(TypeId),
    /// So many elements of that type; none for an array at a struct's end whose length is not declared.
    Array {
        /// The type of each.
        element: TypeId,
        /// How many.
        length: u32,
    },
    /// A struct.
    Struct {
        /// In bytes.
        size: u32,
    },
    /// A union.
    Union {
        /// In bytes.
        size: u32,
    },
    /// An enum, by the integer that holds it. Its sign is known since Linux 6.0; before, all enums count as unsigned.
    Enum(Int),
    /// A function, or the type of one: see [`Btf::signature`].
    Function,
    /// A floating-point number.
    Float {
        /// In bytes.
        size: u32,
    },
    /// A struct or union that is declared and not defined here.
    Forward,
    /// An integer of another width than those of [`Int`], as `__int128`.
    Wide {
        /// In bytes.
        size: u32,
    },
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// From the beginning of the struct or union that was asked for, also for a member of an anonymous one within it.
    pub bit_offset: u32,
    /// The bits of a bit field, counted from `bit_offset`, the lowest first on a little-endian machine; `None` for what is none.
    pub bit_width: Option<u32>,
    /// Its type; of a bit field, the integer or enum that it was declared with.
    pub id: TypeId,
    /// It stands in a union, where others may stand in the same place.
    pub in_union: bool,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Empty where the type of a function names none.
    pub name: String,
    /// Its type.
    pub id: TypeId,
}

/// What a function takes and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// In order.
    pub parameters: Vec<Parameter>,
    /// More arguments may follow (`...`).
    pub variadic: bool,
    /// [`TypeId::VOID`] for a function that returns nothing.
    pub returns: TypeId,
}

/// A type, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Type<'b> {
    pub(super) btf: &'b Btf,
    file: &'b File,
    record: Record,
}

impl Deref for Type<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl<'b> Type<'b> {
    pub(super) fn name(&self) -> &'b str {
        self.btf.text(self.record.name)
    }

    /// The type that this one refers to.
    pub(super) fn to(&self) -> TypeId {
        self.btf.id(self.size_or_type)
    }

    /// Is it another name or a qualifier of the type that it refers to?
    fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Typedef | Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag)
    }

    /// Word `word` of element `i`, of which each has `stride` words.
    fn element(&self, stride: usize, i: usize, word: usize) -> Option<u32> {
        self.file.word(self.elements + 4 * (stride * i + word))
    }

    /// The length of an array and the type of its elements.
    pub(super) fn array(&self) -> Option<(TypeId, u32)> {
        Some((self.btf.id(self.element(3, 0, 0)?), self.element(3, 0, 2)?))
    }

    /// The name and type of parameter `i` of a function type. The last one of a variadic function has no type.
    pub(super) fn parameter(&self, i: usize) -> Option<(&'b str, TypeId)> {
        Some((self.btf.text(self.element(2, i, 0)?), self.btf.id(self.element(2, i, 1)?)))
    }

    /// The name and value of constant `i` of an enum; the value is extended to 64 bits.
    pub(super) fn constant(&self, i: usize) -> Option<(&'b str, u64)> {
        let i = (i < self.count).then_some(i)?;
        match self.kind {
            Kind::Enum => {
                let value = self.element(2, i, 1)?;
                let value = if self.flag { i64::from(value.cast_signed()).cast_unsigned() } else { u64::from(value) };
                Some((self.btf.text(self.element(2, i, 0)?), value))
            }
            Kind::Enum64 => {
                let value = u64::from(self.element(3, i, 1)?) | u64::from(self.element(3, i, 2)?) << 32;
                Some((self.btf.text(self.element(3, i, 0)?), value))
            }
            _ => None,
        }
    }

    /// The name and place of member `i` of a struct or union.
    fn member(&self, i: usize) -> Option<(&'b str, Member)> {
        let (name, number, position) = (self.element(3, i, 0)?, self.element(3, i, 1)?, self.element(3, i, 2)?);
        let id = self.btf.id(number);
        let (bit_offset, width) = if self.flag {
            (position & 0xff_ffff, position >> 24)
        } else {
            // Before Linux 5.1, a bit field was a member of an integer type with fewer bits, which may not begin at its bit 0.
            let (offset, width) = self.btf.resolve_type(id).and_then(|t| t.narrow()).unwrap_or((0, 0));
            (position.checked_add(offset)?, width)
        };
        Some((
            self.btf.text(name),
            Member { bit_offset, bit_width: (width != 0).then_some(width), id, in_union: self.kind == Kind::Union },
        ))
    }

    /// The first bit and the width of an integer that does not fill its bytes.
    fn narrow(&self) -> Option<(u32, u32)> {
        let encoding = self.encoding()?;
        let (offset, bits) = (encoding >> 16 & 0xff, encoding & 0xff);
        (bits != 0 && (offset != 0 || u64::from(bits) != 8 * u64::from(self.size_or_type))).then_some((offset, bits))
    }

    /// `BTF_INT_SIGNED` and the like in bits 24 to 27, the first bit in 16 to 23, the width in bits in 0 to 7.
    fn encoding(&self) -> Option<u32> {
        (self.kind == Kind::Int).then(|| self.element(1, 0, 0))?
    }

    fn is_bool(&self) -> bool {
        self.encoding().is_some_and(|encoding| encoding >> 26 & 1 != 0)
    }

    /// Width and sign, if it is an integer, a pointer, an enum or a boolean.
    pub(super) fn int(&self) -> Option<Int> {
        let signed = match self.kind {
            Kind::Pointer => return Some(Int::POINTER),
            // Set since Linux 6.0. Before, all enums count as unsigned.
            Kind::Enum | Kind::Enum64 => self.flag,
            // Of `signed char`, the BTF of kernels about Linux 5.10 does not say it.
            Kind::Int => self.encoding()? >> 24 & 1 != 0 || self.name() == "signed char",
            _ => return None,
        };
        let size = u8::try_from(self.size_or_type).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
        Some(Int { size, signed })
    }

    /// Is it an integer of that width and sign, all of whose bits count, and no character?
    pub(super) fn is_whole(&self, int: Int) -> bool {
        self.kind == Kind::Int && self.int() == Some(int) && !self.is_bool() && self.narrow().is_none() && self.name() != "char"
    }

    fn shape(&self) -> Option<Shape> {
        let size = self.size_or_type;
        Some(match self.kind {
            Kind::Int if self.is_bool() && size == 1 => Shape::Bool,
            Kind::Int => self.int().map_or(Shape::Wide { size }, Shape::Int),
            Kind::Pointer => Shape::Pointer(self.to()),
            Kind::Array => self.array().map(|(element, length)| Shape::Array { element, length })?,
            Kind::Struct => Shape::Struct { size },
            Kind::Union => Shape::Union { size },
            Kind::Enum | Kind::Enum64 => self.int().map_or(Shape::Wide { size }, Shape::Enum),
            Kind::Function | Kind::FunctionType => Shape::Function,
            Kind::Float => Shape::Float { size },
            Kind::Forward => Shape::Forward,
            _ => return None,
        })
    }
}

impl Btf {
    /// The type behind typedefs, qualifiers and tags; `None` for a reference to nothing, and for a circle.
    pub fn resolve(&self, id: TypeId) -> Option<TypeId> {
        let mut id = id;
        for _ in 0..MAX_LINKS {
            if id == TypeId::VOID {
                return Some(id);
            }
            let found = self.get(id)?;
            if !found.is_link() {
                return Some(id);
            }
            id = found.to();
        }
        None
    }

    /// What a type is behind its typedefs, qualifiers and tags; `None` for what is no type, and for a reference to nothing.
    pub fn shape(&self, id: TypeId) -> Option<Shape> {
        match self.resolve(id)? {
            TypeId::VOID => Some(Shape::Void),
            id => self.get(id)?.shape(),
        }
    }

    /// The size in bytes; `None` for what has none: `void`, functions, what is only declared.
    pub fn size(&self, id: TypeId) -> Option<u32> {
        let (mut id, mut elements) = (id, 1_u32);
        for _ in 0..MAX_NESTING {
            let size = match self.shape(id)? {
                Shape::Array { element, length } => {
                    elements = elements.checked_mul(length)?;
                    id = element;
                    continue;
                }
                Shape::Int(int) | Shape::Enum(int) => u32::from(int.size),
                Shape::Bool => 1,
                Shape::Pointer(_) => u32::from(Int::POINTER.size),
                Shape::Struct { size } | Shape::Union { size } | Shape::Float { size } | Shape::Wide { size } => size,
                Shape::Void | Shape::Function | Shape::Forward => return None,
            };
            return elements.checked_mul(size);
        }
        None
    }

    /// Width and sign, if it is an integer, a pointer, an enum or a boolean.
    pub fn int_of(&self, id: TypeId) -> Option<Int> {
        self.resolve_type(id)?.int()
    }

    /// Is it `char`, of which arrays are text? `u8` and `signed char` are not.
    pub fn is_char(&self, id: TypeId) -> bool {
        self.resolve_type(id).is_some_and(|t| t.kind == Kind::Int && t.name() == "char")
    }

    /// Is it a pointer to what carries that tag: `user` (`__user`), `percpu` (`__percpu`), `rcu` (`__rcu`)? Kernels that were built
    /// by clang have these tags, since Linux 5.17; those built by GCC, before its version 16, have none.
    pub fn is_tagged(&self, id: TypeId, tag: &str) -> bool {
        let Some(Shape::Pointer(mut to)) = self.shape(id) else { return false };
        for _ in 0..MAX_LINKS {
            match self.get(to) {
                // With the flag it is another attribute, not a tag of the kernel's annotations.
                Some(t) if t.kind == Kind::TypeTag && !t.flag && t.name() == tag => return true,
                Some(t) if t.is_link() && t.kind != Kind::Typedef => to = t.to(),
                _ => return false,
            }
        }
        false
    }

    /// Is it a pointer to user memory, as far as the kernel's build says so? See [`Btf::is_tagged`].
    pub fn is_user_pointer(&self, id: TypeId) -> bool {
        self.is_tagged(id, "user")
    }

    /// A member of a struct or union by its name, also of an anonymous struct or union within it.
    pub fn member_of(&self, id: TypeId, name: &str) -> Option<Member> {
        let mut found = None;
        self.visit(id, (0, false), MAX_NESTING, &mut MAX_MEMBERS.clone(), &mut |own, member| {
            found = (own == name).then_some(member);
            found.is_none()
        });
        found
    }

    /// The named members of a struct or union in order, with those of anonymous structs and unions within it.
    pub fn members(&self, id: TypeId) -> Vec<(&str, Member)> {
        let mut all = Vec::new();
        self.visit(id, (0, false), MAX_NESTING, &mut MAX_MEMBERS.clone(), &mut |name, member| {
            all.push((name, member));
            true
        });
        all
    }

    /// Shows each named member until `visitor` has seen enough; false if it has. `base` is the offset of this struct in bits, and whether it
    /// stands in a union.
    fn visit<'b>(
        &'b self,
        id: TypeId,
        base: (u32, bool),
        depth: usize,
        budget: &mut usize,
        visitor: &mut impl FnMut(&'b str, Member) -> bool,
    ) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return true };
        let Some(structure) = self.resolve_type(id).filter(|t| matches!(t.kind, Kind::Struct | Kind::Union)) else { return true };
        for i in 0..structure.count {
            let Some(rest) = budget.checked_sub(1) else { return false };
            *budget = rest;
            let Some((name, member)) = structure.member(i) else { return true };
            let Some(bit_offset) = base.0.checked_add(member.bit_offset) else { continue };
            let in_union = base.1 || member.in_union;
            let more = match name {
                "" => self.visit(member.id, (bit_offset, in_union), depth, budget, visitor),
                _ => visitor(name, Member { bit_offset, in_union, ..member }),
            };
            if !more {
                return false;
            }
        }
        true
    }

    /// The constants of an enum in order, with their values extended to 64 bits as its sign asks.
    pub fn constants(&self, id: TypeId) -> Vec<(&str, u64)> {
        self.resolve_type(id).map_or_else(Vec::new, |t| (0..t.count).filter_map(|i| t.constant(i)).collect())
    }

    /// What a function takes and returns, by the function, its type, or a pointer to its type.
    pub fn signature(&self, id: TypeId) -> Option<Signature> {
        let found = self.function_type(id)?;
        let all: Vec<_> = (0..found.count).map(|i| found.parameter(i)).collect::<Option<_>>()?;
        // `...` is a last parameter without name and type.
        let variadic = all.last().is_some_and(|(name, id)| name.is_empty() && *id == TypeId::VOID);
        let named = all.len() - usize::from(variadic);
        let parameters = all.into_iter().take(named).map(|(name, id)| Parameter { name: name.to_owned(), id }).collect();
        Some(Signature { parameters, variadic, returns: found.to() })
    }

    /// The type of a function, from that, from the function, or from a pointer to it.
    pub(super) fn function_type(&self, id: TypeId) -> Option<Type<'_>> {
        let found = self.resolve_type(id)?;
        let found = match found.kind {
            Kind::Pointer | Kind::Function => self.resolve_type(found.to())?,
            _ => found,
        };
        (found.kind == Kind::FunctionType).then_some(found)
    }

    /// The type behind typedefs, qualifiers and tags; `None` for `void` and for a reference to nothing.
    pub(super) fn resolve_type(&self, id: TypeId) -> Option<Type<'_>> {
        self.get(self.resolve(id)?)
    }

    /// `None` for `void`, for a reference to nothing and for a type of another module.
    pub(super) fn get(&self, id: TypeId) -> Option<Type<'_>> {
        let file = match id.module {
            0 => self.base.as_ref().unwrap_or(&self.own),
            module => (module == self.module).then_some(&self.own)?,
        };
        Some(Type { btf: self, file, record: file.get(id.number)? })
    }

    /// The type that a type of this file means by a number.
    pub(super) fn id(&self, number: u32) -> TypeId {
        TypeId { module: if number < self.own.first { 0 } else { self.module }, number }
    }

    /// The name at that offset; empty for what has none, and for what is no text.
    pub(super) fn text(&self, name: u32) -> &str {
        let bytes = CStr::from_bytes_until_nul(self.text_on(name)).map_or(b"".as_slice(), CStr::to_bytes);
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The hash of that name; `None` for what has none.
    pub(super) fn text_hash(&self, name: u32) -> Option<u64> {
        let text = self.text_on(name);
        text.first().is_some_and(|byte| *byte != 0).then(|| names::hash(text))
    }

    /// The strings from that offset on: its name, NUL, and what follows.
    fn text_on(&self, name: u32) -> &[u8] {
        let base = || self.base.as_ref().and_then(|base| base.strings_from(name));
        self.own.strings_from(name).or_else(base).unwrap_or_default()
    }
}
