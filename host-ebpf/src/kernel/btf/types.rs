//! The types of the kernel with all of its modules.

use std::sync::OnceLock;

use super::{Btf, CType, Constant, Member, Named, Shape, Signature, TypeId, text};
use crate::kernel::{Kernel, SourceError};

/// The name of the kernel itself where modules are named.
const KERNEL: &str = "vmlinux";

/// The modules of a kernel that describe their types. A module's file is read when something is not found in the kernel's own.
pub struct Modules {
    all: Vec<(String, OnceLock<Result<Btf, SourceError>>)>,
}

impl Modules {
    /// No modules.
    pub fn none() -> &'static Modules {
        static NONE: Modules = Modules { all: Vec::new() };
        &NONE
    }

    /// The modules of these names. Those beyond the 65,535th are left out.
    pub fn new(mut names: Vec<String>) -> Modules {
        names.sort_unstable();
        names.dedup();
        names.truncate(usize::from(u16::MAX));
        Modules { all: names.into_iter().map(|name| (name, OnceLock::new())).collect() }
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| name.as_str())
    }
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The types of a kernel and of its modules: the kernel's own come first, and a module is read only for what they have not. Modules
/// that can't be read count as having no types; see [`Types::failures`].
#[derive(Clone, Copy)]
pub struct Types<'k> {
    kernel: &'k dyn Kernel,
}

/// A function of the kernel or of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'k> {
    /// By its number ([`TypeId::number`]) bpf(2) knows it.
    pub id: TypeId,
    /// The module that it is in; `None` for the kernel itself.
    pub module: Option<&'k str>,
    /// What it takes and returns.
    pub signature: Signature,
}

impl<'k> Types<'k> {
    /// The types of that kernel.
    pub fn new(kernel: &'k dyn Kernel) -> Types<'k> {
        Types { kernel }
    }

    /// A type by its C text, as [`Btf::find_type`]; also of a struct or union that is declared and nowhere defined.
    pub fn find_type(self, ctype: &str) -> Option<CType> {
        let written = text::parse(ctype)?;
        let whole = self.files().find_map(|btf| btf.by_words(&written.words, true));
        let base = whole.or_else(|| self.files().find_map(|btf| btf.by_words(&written.words, false)))?;
        Some(CType { base, pointers: written.pointers, length: written.length, user: written.user })
    }

    /// The type behind typedefs, qualifiers and tags, and the definition of a struct that is only declared where it was found.
    /// `None` for a reference to nothing, and for a circle.
    pub fn resolve(self, id: TypeId) -> Option<TypeId> {
        let btf = self.btf(id)?;
        let id = btf.resolve(id)?;
        if btf.shape(id) != Some(Shape::Forward) {
            return Some(id);
        }
        let name = btf.ctype(id);
        let words = text::words(&name);
        Some(self.files().find_map(|btf| btf.by_words(&words, true)).unwrap_or(id))
    }

    /// What a type is, as [`Btf::shape`].
    pub fn shape(self, id: TypeId) -> Option<Shape> {
        let id = self.resolve(id)?;
        self.btf(id)?.shape(id)
    }

    /// The size in bytes, as [`Btf::size`].
    pub fn size(self, id: TypeId) -> Option<u32> {
        let id = self.resolve(id)?;
        self.btf(id)?.size(id)
    }

    /// Is it `char`? As [`Btf::is_char`].
    pub fn is_char(self, id: TypeId) -> bool {
        self.btf(id).is_some_and(|btf| btf.is_char(id))
    }

    /// Is it a pointer to what carries that tag? As [`Btf::is_tagged`].
    pub fn is_tagged(self, id: TypeId, tag: &str) -> bool {
        self.btf(id).is_some_and(|btf| btf.is_tagged(id, tag))
    }

    /// Is it a pointer to user memory, as far as the kernel's build says so? As [`Btf::is_user_pointer`].
    pub fn is_user_pointer(self, id: TypeId) -> bool {
        self.is_tagged(id, "user")
    }

    /// A type as C writes it.
    pub fn ctype(self, id: TypeId) -> String {
        self.btf(id).map_or_else(|| "?".to_owned(), |btf| btf.ctype(id))
    }

    /// A member of a struct or union, as [`Btf::member_of`].
    pub fn member_of(self, id: TypeId, name: &str) -> Option<Member> {
        let id = self.resolve(id)?;
        self.btf(id)?.member_of(id, name)
    }

    /// The named members of a struct or union, as [`Btf::members`].
    pub fn members(self, id: TypeId) -> Vec<(&'k str, Member)> {
        let id = self.resolve(id);
        id.and_then(|id| Some(self.btf(id)?.members(id))).unwrap_or_default()
    }

    /// The constants of an enum, as [`Btf::constants`].
    pub fn constants(self, id: TypeId) -> Vec<(&'k str, u64)> {
        self.btf(id).map_or_else(Vec::new, |btf| btf.constants(id))
    }

    /// A constant of any enum by its name.
    pub fn enum_constant(self, name: &str) -> Option<Constant> {
        self.files().find_map(|btf| btf.enum_constant(name))
    }

    /// What a function takes and returns, as [`Btf::signature`].
    pub fn signature(self, id: TypeId) -> Option<Signature> {
        self.btf(id)?.signature(id)
    }

    /// A function by its name, of the kernel or of the first module that has it.
    pub fn function(self, name: &str) -> Option<Function<'k>> {
        self.files().find_map(|btf| self.function_of(btf, name))
    }

    /// A function of one module by its name; `vmlinux` is the kernel itself.
    pub fn function_in(self, module: &str, name: &str) -> Option<Function<'k>> {
        let btf = self.file(module)?;
        self.function_of(btf, name).filter(|function| function.id.module == btf.module)
    }

    fn function_of(self, btf: &Btf, name: &str) -> Option<Function<'k>> {
        let id = btf.function(name)?;
        Some(Function { id, module: self.module_of(id), signature: btf.signature(id)? })
    }

    /// The names of that kind in one module that are `wanted`, sorted; `vmlinux` is the kernel itself. None for an unknown module.
    pub fn names(self, module: &str, of: Named, wanted: impl Fn(&str) -> bool) -> Vec<&'k str> {
        self.file(module).map_or_else(Vec::new, |btf| btf.names(of, wanted))
    }

    /// The modules that describe their types, sorted.
    pub fn modules(self) -> impl Iterator<Item = &'k str> {
        self.kernel.modules().names()
    }

    /// The module that a type is of; `None` for the kernel itself.
    pub fn module_of(self, id: TypeId) -> Option<&'k str> {
        self.kernel.modules().all.get(usize::from(id.module).checked_sub(1)?).map(|(name, _)| name.as_str())
    }

    /// Why modules can't be read, as far as they were asked for.
    pub fn failures(self) -> impl Iterator<Item = &'k SourceError> {
        self.kernel.modules().all.iter().filter_map(|(_, btf)| btf.get()?.as_ref().err())
    }

    /// The file that has a type.
    fn btf(self, id: TypeId) -> Option<&'k Btf> {
        match id.module {
            0 => Some(self.kernel.btf()),
            module => self.module(module),
        }
    }

    fn file(self, module: &str) -> Option<&'k Btf> {
        if module == KERNEL {
            return Some(self.kernel.btf());
        }
        let i = self.kernel.modules().all.binary_search_by(|(name, _)| name.as_str().cmp(module)).ok()?;
        self.module(u16::try_from(i + 1).ok()?)
    }

    /// Module `number`, from 1, which is read now if it was not before.
    fn module(self, number: u16) -> Option<&'k Btf> {
        let (name, btf) = self.kernel.modules().all.get(usize::from(number).checked_sub(1)?)?;
        let read = || Btf::parse_module(self.kernel.btf(), number, name, self.kernel.module_btf(name)?);
        btf.get_or_init(read).as_ref().ok()
    }

    /// The kernel's, then those of the modules.
    fn files(self) -> impl Iterator<Item = &'k Btf> {
        let modules = 1..=u16::try_from(self.kernel.modules().all.len()).unwrap_or(u16::MAX);
        std::iter::once(self.kernel.btf()).chain(modules.filter_map(move |number| self.module(number)))
    }
}
