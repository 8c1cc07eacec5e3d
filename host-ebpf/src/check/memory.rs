//! What pointers point to: members, elements, casts.

use std::ops::Range;

use super::{
    Checker, Half, Result, fold,
    ir::{Access, Helper, MemoryField, Text, Value},
    types::{Array, BOOL, IntType, Object, Pointee, Typed, U64, computed},
};
use crate::{
    attach::{Argument, ContextKind, Place, Space},
    diagnostic::{Diagnostic, suggest},
    kernel::btf::{CType, Int, Named, Shape, TypeId, written_int},
    needs::DataClass,
    output::{Hook, is_kernel_address},
    syntax::{
        TYPE_WORDS,
        ast::{BinaryOp, Expr, Ident, TypeName},
    },
};

/// How a pointer to elements is cast.
const ELEMENT: &str = "`((uint32 *)x)[0]`";
/// How a pointer to a struct is cast.
const FIELD: &str = "`((struct sock *)x)->field`";

impl Checker<'_> {
    /// What an argument that is a pointer points to, where the kernel's types say.
    pub(super) fn pointee(&self, argument: &Argument) -> Option<Pointee> {
        if let Some(Shape::Pointer(to)) = argument.typ.and_then(|typ| self.types().shape(typ)) {
            return Some(Pointee { id: to, levels: 0 });
        }
        let ctype = self.types().find_type(&argument.ctype)?;
        Some(Pointee { id: ctype.base, levels: ctype.pointers.checked_sub(1)? })
    }

    pub(super) fn pointee_size(&self, to: Pointee) -> Option<u32> {
        if to.levels > 0 { Some(8) } else { self.types().size(to.id) }
    }

    pub(super) fn read_memory(&mut self, space: Space, span: &Range<usize>) {
        self.read(
            match space {
                Space::User => DataClass::UserMemory,
                Space::Kernel => DataClass::KernelMemory,
            },
            span,
        );
    }

    /// That a pointer is not known to point to anything. `cast` shows how to say it.
    fn untyped(&self, typ: &IntType, span: &Range<usize>, cast: &str) -> Diagnostic {
        let message = format!("this is of type `{}`, and what it points to is not known", typ.ctype);
        self.error_help(span, message, format!("say it by a cast: {cast}"))
    }

    /// The object that a pointer points to.
    fn target_of(&mut self, value: Value, typ: &IntType, span: &Range<usize>, cast: &str) -> Result<Object> {
        let (Some(space), Some(to)) = (typ.space, typ.to.filter(|to| to.levels > 0 || to.id != TypeId::VOID)) else {
            return Err(self.untyped(typ, span, cast));
        };
        self.read_memory(space, span);
        if to.levels > 0 {
            // A pointer in memory; there is a type for it only in C.
            return Err(self.error_help(span, "this points to a pointer", "take what it points to first: `(*x)->field`"));
        }
        let typed =
            space == Space::Kernel && self.is_typed(&value) && matches!(self.types().shape(to.id), Some(Shape::Struct { .. }));
        Ok(Object { base: value, typed, space, offset: 0, id: to.id })
    }

    /// The verifier knows the type of the pointer.
    fn is_typed(&self, value: &Value) -> bool {
        match value {
            Value::Pointer(Place::Slot(_)) => self.target.site.context == ContextKind::Slots && !self.rides_on_syscalls(),
            Value::Field(field) => field.access == Access::Typed && field.pointer,
            _ => false,
        }
    }

    fn rides_on_syscalls(&self) -> bool {
        self.target.site.syscall.is_some()
    }

    pub(super) fn arrow(&mut self, base: &Expr, member: &Ident, half: Half) -> Result<Typed> {
        let span = base.span.start..member.span.end;
        if self.is_context(base, half) {
            return self.args(member, &span, half);
        }
        match self.expr(base, half)? {
            Typed::Int(value, typ) => {
                let object = self.target_of(value, &typ, &base.span, FIELD)?;
                self.member_of(object, member, &span)
            }
            Typed::Object(_) => {
                let help = format!("write `.{}`", member.name);
                Err(self.error_help(&member.span, "this is a struct, no pointer to one", help))
            }
            other => Err(self.error(&base.span, format!("`->` takes a pointer, and this is {}", other.describe()))),
        }
    }

    /// `x.member` of what is neither `args` nor `entry`.
    pub(super) fn object_member(&mut self, base: &Expr, member: &Ident, half: Half) -> Result<Typed> {
        let span = base.span.start..member.span.end;
        match self.expr(base, half)? {
            Typed::Object(object) => self.member_of(object, member, &span),
            // As bpftrace allows, for `->`.
            Typed::Int(value, typ) if typ.space.is_some() => {
                let object = self.target_of(value, &typ, &base.span, FIELD)?;
                self.member_of(object, member, &span)
            }
            other => {
                let message = format!("{} has no members", other.describe());
                Err(self.error_help(&member.span, message, "`args.NAME`, `entry.args.NAME`, or a struct's"))
            }
        }
    }

    fn member_of(&mut self, object: Object, member: &Ident, span: &Range<usize>) -> Result<Typed> {
        let types = self.types();
        let Some(found) = types.member_of(object.id, &member.name) else {
            return Err(self.no_member(object.id, &types.ctype(object.id), member));
        };
        // In a union the verifier takes the first member that is there, whichever is meant.
        let typed = object.typed && !found.in_union && matches!(types.shape(object.id), Some(Shape::Struct { .. }));
        let Some(offset) = object.offset.checked_add(found.bit_offset / 8) else {
            return Err(self.error(span, "this is too far from the pointer"));
        };
        let member = Object { typed, offset, id: found.id, ..object };
        match found.bit_width {
            Some(width) => self.bit_field(member, found.bit_offset % 8, width, span),
            None => self.load(member, span),
        }
    }

    fn no_member(&self, id: TypeId, ctype: &str, member: &Ident) -> Diagnostic {
        /// How many names are shown where none is like the one that was asked for.
        const SHOWN: usize = 12;
        let members = self.types().members(id);
        let help = match suggest(&member.name, members.iter().map(|(name, _)| *name)) {
            Some(like) => format!("did you mean `{like}`?"),
            None if members.is_empty() => "it is no struct, or this kernel does not say what is in it".to_owned(),
            None => {
                let names: Vec<&str> = members.iter().map(|(name, _)| *name).take(SHOWN).collect();
                format!("it has {}{}", names.join(", "), if members.len() > SHOWN { " and more" } else { "" })
            }
        };
        let error = self.error_help(&member.span, format!("`{ctype}` has no member `{}`", member.name), help);
        Diagnostic { missing: true, ..error }
    }

    fn bit_field(&mut self, object: Object, shift: u32, width: u32, span: &Range<usize>) -> Result<Typed> {
        let types = self.types();
        let declared = match types.shape(object.id) {
            Some(Shape::Int(int) | Shape::Enum(int)) => int,
            Some(Shape::Bool) => Int { size: 1, signed: false },
            _ => return Err(self.error(span, "this bit field has no integer type")),
        };
        // The smallest integer that has all of its bits.
        let Some(size) = [1_u8, 2, 4, 8].into_iter().find(|size| u32::from(*size) * 8 >= shift + width) else {
            return Err(self.error(span, "this bit field is too wide"));
        };
        let int = Int { size, signed: declared.signed };
        let access = access(object.space);
        let typ = IntType::new(Int { size: declared.size, ..int }, types.ctype(object.id));
        let field =
            MemoryField { base: object.base, access, offset: object.offset, int, bits: Some((shift, width)), pointer: false };
        Ok(Typed::Int(Value::Field(Box::new(field)), typ))
    }

    /// The value of what is in memory, if it is a value; arrays of `char` are text.
    pub(super) fn load(&mut self, object: Object, span: &Range<usize>) -> Result<Typed> {
        let types = self.types();
        let ctype = types.ctype(object.id);
        let value = |int: Int, pointer: bool| {
            let fits = i16::try_from(object.offset).is_ok();
            let access = if object.typed && fits { Access::Typed } else { access(object.space) };
            let field = MemoryField { base: object.base.clone(), access, offset: object.offset, int, bits: None, pointer };
            Value::Field(Box::new(field))
        };
        match types.shape(object.id) {
            Some(Shape::Int(int) | Shape::Enum(int)) => Ok(Typed::Int(value(int, false), IntType::new(int, ctype))),
            Some(Shape::Bool) => {
                let int = Int { size: 1, signed: false };
                Ok(Typed::Int(value(int, false), IntType::new(int, ctype)))
            }
            Some(Shape::Pointer(to)) => {
                let space =
                    if types.is_user_pointer(object.id) || object.space == Space::User { Space::User } else { Space::Kernel };
                let typ = IntType::pointer(space, Some(Pointee { id: to, levels: 0 }), ctype);
                Ok(Typed::Int(value(Int::POINTER, true), typ))
            }
            Some(Shape::Array { element, length }) if types.is_char(element) && length > 0 => {
                let size = length.min(super::MAX_TEXT);
                let space = object.space;
                let (address, _) = self.address_of(object);
                Ok(Typed::Text(Text::Array { address: Box::new(address), space, size }, ctype))
            }
            Some(Shape::Struct { .. } | Shape::Union { .. } | Shape::Array { .. }) => Ok(Typed::Object(object)),
            _ => Err(self.error(span, format!("a value of type `{ctype}` can't be used here"))),
        }
    }

    /// Where an object is, as a pointer to it; of an array, to its first element.
    pub(super) fn address_of(&self, object: Object) -> (Value, IntType) {
        let types = self.types();
        let id = match types.shape(object.id) {
            Some(Shape::Array { element, .. }) => element,
            _ => object.id,
        };
        let typ = IntType::pointer(object.space, Some(Pointee { id, levels: 0 }), format!("{} *", types.ctype(id)));
        // At the very beginning of what the verifier knows there may be something else, in a union.
        let base = match !object.typed && self.is_typed(&object.base) {
            true => Value::Convert(Int::POINTER, Box::new(object.base)),
            false => object.base,
        };
        (fold::binary(BinaryOp::Add, false, base, Value::Const(object.offset.into())), typ)
    }

    /// What an expression stands for in memory; `None` for what is computed.
    pub(super) fn lvalue(&mut self, expr: &Expr, half: Half) -> Result<Option<Object>> {
        Ok(match self.expr(expr, half)? {
            Typed::Object(object) => Some(object),
            Typed::Int(Value::Field(field), typ) if field.bits.is_none() => {
                let space = if field.access == Access::User { Space::User } else { Space::Kernel };
                // A pointer to an integer of that width; its name is lost, its type is not needed.
                let id = self.types().find_type(&typ.ctype).filter(|c| c.pointers == 0).map_or(TypeId::VOID, |c| c.base);
                Some(Object { base: field.base, typed: false, space, offset: field.offset, id })
            }
            Typed::Text(Text::Array { address, space, .. }, _) => {
                let id = self.types().find_type("char").map_or(TypeId::VOID, |c| c.base);
                Some(Object { base: *address, typed: false, space, offset: 0, id })
            }
            _ => None,
        })
    }

    pub(super) fn dereference(&mut self, operand: &Expr, half: Half) -> Result<Typed> {
        match self.expr(operand, half)? {
            Typed::Int(value, typ) => self.pointed_to(value, &typ, &operand.span),
            Typed::Object(object) => {
                let (value, typ) = self.address_of(object);
                self.pointed_to(value, &typ, &operand.span)
            }
            other => Err(self.error(&operand.span, format!("`*` takes a pointer, and this is {}", other.describe()))),
        }
    }

    fn pointed_to(&mut self, value: Value, typ: &IntType, span: &Range<usize>) -> Result<Typed> {
        match (typ.space, typ.to) {
            (Some(space), Some(to)) if to.levels > 0 => {
                self.read_memory(space, span);
                let field =
                    MemoryField { base: value, access: access(space), offset: 0, int: Int::POINTER, bits: None, pointer: true };
                let to = Pointee { levels: to.levels - 1, ..to };
                let ctype = format!("{} {}", self.types().ctype(to.id), "*".repeat(to.levels as usize + 1));
                Ok(Typed::Int(Value::Field(Box::new(field)), IntType::pointer(space, Some(to), ctype)))
            }
            _ => {
                let object = self.target_of(value, typ, span, "`*(uint32 *)x`")?;
                self.load(object, span)
            }
        }
    }

    pub(super) fn index(&mut self, base: &Expr, index: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let typed = self.expr(base, half)?;
        let (index, ..) = self.int(index, half)?;
        let (value, typ) = match typed {
            Typed::Object(object) if matches!(self.types().shape(object.id), Some(Shape::Array { .. })) => {
                if let (Some(Shape::Array { length, .. }), Value::Const(i)) = (self.types().shape(object.id), &index)
                    && length > 0
                    && *i >= length.into()
                {
                    return Err(self.error(span, format!("the array has {length} elements, the last is number {}", length - 1)));
                }
                self.address_of(object)
            }
            Typed::Array(array) => return self.array_element(&array, &index, span),
            Typed::Int(value, typ) if typ.to.is_some() => (value, typ),
            Typed::Text(Text::Array { address, space, .. }, _) => {
                let to = self.types().find_type("char").map(|c| Pointee { id: c.base, levels: 0 });
                (*address, IntType::pointer(space, to, "char *"))
            }
            Typed::Object(object) => {
                let message = format!("`[ ]` takes an array or a pointer, and this is a `{}`", self.types().ctype(object.id));
                return Err(self.error_help(&base.span, message, "name a member of it: `x.member[0]`"));
            }
            Typed::Int(_, typ) => return Err(self.untyped(&typ, &base.span, ELEMENT)),
            other => {
                let message = format!("`[ ]` takes an array or a pointer, and this is {}", other.describe());
                return Err(self.error(&base.span, message));
            }
        };
        let size = typ.to.and_then(|to| self.pointee_size(to));
        let Some(size) = size else {
            return Err(self.untyped(&typ, &base.span, ELEMENT));
        };
        let offset = fold::binary(BinaryOp::Multiply, false, index, Value::Const(size.into()));
        let address = fold::binary(BinaryOp::Add, false, value, offset);
        self.pointed_to(address, &typ, span)
    }

    /// One of the integers in a tracepoint's record.
    fn array_element(&self, array: &Array, index: &Value, span: &Range<usize>) -> Result<Typed> {
        let Value::Const(index) = *index else {
            let message = "an array in a tracepoint's record is indexed by constants only";
            return Err(self.error_help(span, message, "as in `args.args[1]`"));
        };
        if index >= array.length.into() {
            let message = format!("the array has {} elements, the last is number {}", array.length, array.length - 1);
            return Err(self.error(span, message));
        }
        let place = Place::Context(array.offset + index as u32 * u32::from(array.int.size));
        let ctype = array.ctype.split('[').next().unwrap_or_default();
        Ok(Typed::Int(Value::Load(place, array.int), IntType::new(array.int, ctype)))
    }

    fn named_type(&self, name: &TypeName) -> Result<CType> {
        self.types().find_type(&name.text).ok_or_else(|| {
            let message = format!("this kernel has no type `{}`", name.text);
            let mut words = name.text.split(' ').filter(|word| !matches!(*word, "*" | "const"));
            let (first, last) = (words.next().unwrap_or_default(), words.next_back());
            let of = match first {
                "struct" => Named::Struct,
                "union" => Named::Union,
                "enum" => Named::Enum,
                _ => Named::Typedef,
            };
            let (tag, last) = match last {
                Some(last) => (format!("{first} "), last),
                None => (String::new(), first),
            };
            // Only names that begin alike: the kernel has tens of thousands.
            let begin: String = last.chars().take(2).collect();
            let types = self.types();
            let mut names = types.names("vmlinux", of, |name| name.starts_with(&begin));
            names.extend(TYPE_WORDS.into_iter().filter(|word| of == Named::Typedef && *word != last));
            let help = match suggest(last, names) {
                Some(like) => format!("did you mean `{tag}{like}`?"),
                None => "types are those of the running kernel: `struct sock`, `enum x`, `pid_t`, `uint32`".to_owned(),
            };
            Diagnostic { missing: true, ..self.error_help(&name.span, message, help) }
        })
    }

    pub(super) fn named_size(&self, name: &TypeName) -> Result<u32> {
        if let Some(int) = written_int(&name.text) {
            return Ok(int.size.into());
        }
        let ctype = self.named_type(name)?;
        if ctype.pointers > 0 {
            return Ok(8);
        }
        self.types().size(ctype.base).ok_or_else(|| self.error(&name.span, format!("`{}` has no size", name.text)))
    }

    pub(super) fn offset_of(&self, name: &TypeName, member: &Ident) -> Result<u32> {
        let ctype = self.named_type(name)?;
        match self.types().member_of(ctype.base, &member.name) {
            Some(found) => Ok(found.bit_offset / 8),
            None => Err(self.no_member(ctype.base, &name.text, member)),
        }
    }

    pub(super) fn container_of(&mut self, pointer: &Expr, of: &TypeName, member: &Ident, half: Half) -> Result<Typed> {
        let (value, typ) = self.int(pointer, half)?;
        let offset = self.offset_of(of, member)?;
        let id = self.named_type(of)?.base;
        let value = fold::binary(BinaryOp::Subtract, false, value, Value::Const(offset.into()));
        let space = typ.space.unwrap_or(Space::Kernel);
        Ok(Typed::Int(value, IntType::pointer(space, Some(Pointee { id, levels: 0 }), format!("{} *", of.text))))
    }

    pub(super) fn cast(&mut self, to: &TypeName, operand: &Expr, half: Half) -> Result<Typed> {
        let ctype = match (self.named_type(to), written_int(&to.text)) {
            (Ok(ctype), _) => ctype,
            // A build without an integer of that width and sign describes none.
            (Err(_), Some(int)) => return Ok(as_int(self.int(operand, half)?.0, int, &to.text)),
            (Err(error), None) => return Err(error),
        };
        let (value, typ) = self.int(operand, half)?;
        if let Some(levels) = ctype.pointers.checked_sub(1) {
            let space = if ctype.user { Space::User } else { typ.space.unwrap_or(self.own_space()) };
            // What the verifier knows it to be stays what it is: as something else it is a number.
            let same = levels == 0 && typ.to.is_some_and(|to| to.levels == 0 && self.same_type(to.id, ctype.base));
            let value = match self.is_typed(&value) && !same {
                true => Value::Convert(Int::POINTER, Box::new(value)),
                false => value,
            };
            return Ok(Typed::Int(value, IntType::pointer(space, Some(Pointee { id: ctype.base, levels }), &to.text)));
        }
        let int = match self.types().shape(ctype.base) {
            Some(Shape::Int(int) | Shape::Enum(int)) => int,
            // As in C: whatever is not 0 is true.
            Some(Shape::Bool) => {
                let value = fold::binary(BinaryOp::NotEqual, false, value, Value::Const(0));
                return Ok(Typed::Int(value, IntType::new(BOOL, &to.text)));
            }
            _ => {
                let message = format!("`{}` is no integer type and no pointer", to.text);
                return Err(self.error_help(&to.span, message, format!("a pointer to it is `({} *)`", to.text)));
            }
        };
        Ok(as_int(value, int, &to.text))
    }

    fn same_type(&self, a: TypeId, b: TypeId) -> bool {
        self.types().resolve(a) == self.types().resolve(b)
    }

    /// Whose memory a number points into that becomes a pointer here.
    pub(super) fn own_space(&self) -> Space {
        match self.target.site.hook {
            Hook::Uprobe { .. } => Space::User,
            Hook::Breakpoint { address, .. } if !is_kernel_address(address) => Space::User,
            _ => Space::Kernel,
        }
    }

    /// The running task, or the one that an iterator is at.
    pub(super) fn current_task(&self) -> Typed {
        let task = self.iterated().map_or(Value::Helper(Helper::CurrentTask), |at| Value::Pointer(Place::Slot(at.task)));
        let to = self.types().find_type("struct task_struct").map(|t| Pointee { id: t.base, levels: 0 });
        Typed::Int(task, IntType::pointer(Space::Kernel, to, "struct task_struct *"))
    }

    /// A member of that task, by a path through pointers. These facts of a task are its identity and need no grant.
    pub(super) fn task_member(&mut self, path: &[&str], span: &Range<usize>) -> Result<Typed> {
        let reads = self.reads.len();
        let mut at = self.current_task();
        for name in path {
            let member = Ident { name: (*name).to_owned(), span: span.clone() };
            at = match at {
                Typed::Int(value, typ) => {
                    let object = self.target_of(value, &typ, span, FIELD)?;
                    self.member_of(object, &member, span)?
                }
                Typed::Object(object) => self.member_of(object, &member, span)?,
                other => return Err(self.error(span, format!("{} has no members", other.describe()))),
            };
        }
        self.reads.truncate(reads);
        Ok(at)
    }

    /// An integer that is to be a pointer into that memory.
    pub(super) fn in_space(&mut self, operand: &Expr, space: Space, half: Half) -> Result<Typed> {
        let (value, typ) = self.int(operand, half)?;
        let typ = if typ.space.is_some() { typ } else { IntType { ctype: "void *".to_owned(), ..computed(U64) } };
        Ok(Typed::Int(value, IntType { int: Int::POINTER, space: Some(space), ..typ }))
    }
}

fn access(space: Space) -> Access {
    match space {
        Space::User => Access::User,
        Space::Kernel => Access::Kernel,
    }
}

/// An integer in another width and sign.
fn as_int(value: Value, int: Int, ctype: &str) -> Typed {
    let value = match value {
        Value::Const(n) => Value::Const(fold::convert(int, n)),
        value if int.size == 8 => value,
        value => Value::Convert(int, Box::new(value)),
    };
    Typed::Int(value, IntType::new(int, ctype))
}
