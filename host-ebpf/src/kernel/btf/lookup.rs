//! What a name means: types, constants of enums, functions.

use super::{
    Btf, Int, TypeId,
    names::{ConstantIndex, Index},
    scan::{File, Kind},
    text,
};

/// A type by its C text: `struct sock *` is one pointer level on `struct sock`. The kernel may have no such pointer or array type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CType {
    /// Without its stars and its length.
    pub base: TypeId,
    /// How many stars.
    pub pointers: u32,
    /// The number of elements of an array (of pointers, if there are stars).
    pub length: Option<u32>,
    /// `__user` was written.
    pub user: bool,
}

/// A constant of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Constant {
    /// Its value, extended to 64 bits as the enum's sign asks.
    pub value: u64,
    /// Width and sign of its enum.
    pub int: Int,
    /// Its enum.
    pub id: TypeId,
}

/// What has names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    /// `struct NAME`.
    Struct,
    /// `union NAME`.
    Union,
    /// `enum NAME`.
    Enum,
    /// Typedefs.
    Typedef,
    /// Constants of enums.
    Constant,
    /// Functions.
    Function,
}

/// Width and sign of an integer type that C or the kernel has under that name whatever a build describes: `unsigned int`, `int8`,
/// `uint64_t`. `None` for other types, and for pointers.
pub(crate) fn written_int(ctype: &str) -> Option<Int> {
    let written = text::parse(ctype).filter(|written| written.pointers == 0 && written.length.is_none())?;
    match (text::base_type(&written.words), written.words.as_slice()) {
        (Some((_, int)), _) => Some(int),
        (None, [name]) => text::fixed_width(name),
        (None, _) => None,
    }
}

impl Btf {
    /// A type by its C text: a base type in any usual spelling (`unsigned int`, `uint64_t`), `struct X`, `union X`, `enum X`, a
    /// typedef, `void`; stars and one array length may follow. Qualifiers count for nothing. `None` for what the kernel does not
    /// have.
    pub fn find_type(&self, ctype: &str) -> Option<CType> {
        let written = text::parse(ctype)?;
        let base = self.by_words(&written.words, true)?;
        Some(CType { base, pointers: written.pointers, length: written.length, user: written.user })
    }

    /// A type by the words of its name; `whole`: not one that is only declared.
    pub(super) fn by_words(&self, words: &[&str], whole: bool) -> Option<TypeId> {
        let tagged = |name, kinds: &[Kind]| self.named(name, |kind| kinds.contains(&kind));
        let forward = |name, union| self.find(name, |t| !whole && t.kind == Kind::Forward && t.flag == union);
        match words {
            ["void"] => Some(TypeId::VOID),
            ["struct", name] => tagged(name, &[Kind::Struct]).or_else(|| forward(name, false)),
            ["union", name] => tagged(name, &[Kind::Union]).or_else(|| forward(name, true)),
            ["enum", name] => tagged(name, &[Kind::Enum, Kind::Enum64]),
            ["char"] => tagged("char", &[Kind::Int]),
            _ => match text::base_type(words) {
                Some((name, int)) => self.integer(name, int),
                None => {
                    let [name] = words else { return None };
                    let own = tagged(name, &[Kind::Typedef, Kind::Int, Kind::Float]);
                    own.or_else(|| text::fixed_width(name).and_then(|int| self.integer("", int)))
                }
            },
        }
    }

    /// The integer type of that name; where the kernel has none of the name, another of the same width and sign.
    fn integer(&self, name: &str, int: Int) -> Option<TypeId> {
        let short = text::SPELLINGS.iter().find(|(long, _)| *long == name).map(|(_, short)| *short);
        let is_int = |kind| kind == Kind::Int;
        let own = self.named(name, is_int).or_else(|| self.named(short?, is_int));
        own.or_else(|| self.all().find(|t| self.get(*t).is_some_and(|t| t.is_whole(int))))
    }

    /// Width and sign of an integer type by its C text: a base type in any usual spelling (`unsigned int`), a typedef (`umode_t`),
    /// `enum X`, a pointer to anything.
    pub fn int(&self, ctype: &str) -> Option<Int> {
        if ctype.contains('*') {
            return Some(Int::POINTER);
        }
        let words = text::words(ctype);
        match text::base_type(&words) {
            Some((_, int)) => Some(int),
            None => self.int_of(self.by_words(&words, true)?),
        }
    }

    /// The byte offset and type of a member of a struct or union, by path through nested ones: `member("task_struct",
    /// "thread_info.status")`. Anonymous structs on the way need not be named. `None` for a bit field and for what is no integer.
    pub fn member(&self, structure: &str, path: &str) -> Option<(u32, Int)> {
        let mut id = self.named(structure, |kind| matches!(kind, Kind::Struct | Kind::Union))?;
        let mut offset = 0_u32;
        for name in path.split('.') {
            let member = self.member_of(id, name).filter(|m| m.bit_width.is_none() && m.bit_offset % 8 == 0)?;
            offset = offset.checked_add(member.bit_offset / 8)?;
            id = member.id;
        }
        Some((offset, self.int_of(id)?))
    }

    /// A constant of any enum by its name; of several, that of the first enum.
    pub fn enum_constant(&self, name: &str) -> Option<Constant> {
        self.files().find_map(|file| {
            let index = file.constants.get_or_init(|| ConstantIndex::new(file, |name| self.text_hash(name)));
            index.find(name.as_bytes()).find_map(|(number, i)| {
                let id = self.id(number);
                let found = self.get(id)?;
                let (_, value) = found.constant(i as usize).filter(|(own, _)| *own == name)?;
                Some(Constant { value, int: found.int()?, id })
            })
        })
    }

    /// A function of the kernel by its name.
    pub fn function(&self, name: &str) -> Option<TypeId> {
        self.named(name, |kind| kind == Kind::Function)
    }

    /// All names of that kind that are `wanted`, sorted; of a module, its own alone.
    pub fn names(&self, of: Named, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        let all = self.own.all();
        let mut names: Vec<&str> = match of {
            Named::Constant => {
                let enums = all.filter(|(_, t)| matches!(t.kind, Kind::Enum | Kind::Enum64)).map(|(number, _)| self.id(number));
                enums.flat_map(|id| self.constants(id)).map(|(name, _)| name).collect()
            }
            _ => {
                let is_one = |kind| match of {
                    Named::Struct => kind == Kind::Struct,
                    Named::Union => kind == Kind::Union,
                    Named::Enum => matches!(kind, Kind::Enum | Kind::Enum64),
                    Named::Typedef => kind == Kind::Typedef,
                    Named::Function => kind == Kind::Function,
                    Named::Constant => false,
                };
                all.filter(|(_, t)| is_one(t.kind)).map(|(_, t)| self.text(t.name)).collect()
            }
        };
        names.retain(|name| !name.is_empty() && wanted(name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The type of that name and kind with the lowest number.
    pub(super) fn named(&self, name: &str, kind: impl Fn(Kind) -> bool) -> Option<TypeId> {
        self.find(name, |t| kind(t.kind))
    }

    fn find(&self, name: &str, wanted: impl Fn(&super::graph::Type<'_>) -> bool) -> Option<TypeId> {
        self.files().find_map(|file| {
            let index = file.names.get_or_init(|| Index::new(file.all().map(|(_, t)| self.text_hash(t.name))));
            let same = index.find(name.as_bytes()).map(|i| self.id(file.first + i));
            same.into_iter().find(|id| self.get(*id).is_some_and(|t| wanted(&t) && t.name() == name))
        })
    }

    fn all(&self) -> impl Iterator<Item = TypeId> {
        self.files().flat_map(|file| file.all().map(|(number, _)| self.id(number)))
    }

    /// The kernel's file, then the module's.
    fn files(&self) -> impl Iterator<Item = &File> {
        self.base.iter().chain([&self.own]).map(AsRef::as_ref)
    }
}
