//! `path(p)`: the path of a `struct path`, and where its parts stand in the kernel's structs.

use std::ops::Range;

use super::{
    Checker, DEFAULT_TEXT, Half, MAX_TEXT, Result,
    ir::{Block, Path, PathLayout, Text, Value},
    types::{IntType, Typed},
};
use crate::{
    attach::Space,
    diagnostic::{Diagnostic, Part},
    kernel::{Btf, btf::TypeId},
    syntax::ast::Expr,
};

/// How `path` is called.
const EXAMPLE: &str = "as in `path(args.file->f_path)`, `path(curtask->mm->exe_file->f_path)`";

impl Checker<'_> {
    pub(super) fn path(&mut self, path: &Expr, length: Option<&Expr>, span: &Range<usize>, half: Half) -> Result<Typed> {
        if let Part::Attach(_) = self.part {
            let message = "the key of a span joins its ends, so it can't be made of paths";
            return Err(self.error_help(
                span,
                message,
                "make it of numbers and pointers: a `struct file *` is the same at both ends",
            ));
        }
        let keep = match length {
            None => DEFAULT_TEXT,
            Some(length) => self.constant(length, "the length", MAX_TEXT, half)?,
        };
        let address = self.path_address(path, half)?;
        let layout = layout(self.kernel.btf()).map_err(|lacking| {
            let message = format!("this kernel does not describe `{lacking}`, by which paths are found");
            Diagnostic { missing: true, ..self.error(span, message) }
        })?;
        self.read_memory(Space::Kernel, span);
        self.paths = true;
        Ok(Typed::Text(Text::Path(Box::new(Path { address, keep, layout })), format!("char[{keep}]")))
    }

    /// The address of a `struct path` that is named, or pointed to.
    fn path_address(&mut self, path: &Expr, half: Half) -> Result<Value> {
        let (value, typ, id) = match self.expr(path, half)? {
            Typed::Object(object) => {
                let id = object.id;
                let (value, typ) = self.address_of(object);
                (value, typ, Some(id))
            }
            Typed::Int(value, typ) => {
                let id = typ.to.filter(|to| to.levels == 0 && to.id != TypeId::VOID).map(|to| to.id);
                (value, typ, id)
            }
            other => {
                let message = format!("`path` needs a `struct path`, and this is {}", other.describe());
                return Err(self.error_help(&path.span, message, EXAMPLE));
            }
        };
        if typ.space == Some(Space::User) {
            let message = "`path` needs a `struct path` of the kernel, and this points to memory of the process";
            return Err(self.error_help(&path.span, message, "text in memory of the process is `str(x)`"));
        }
        match id.map(|id| self.types().ctype(self.types().resolve(id).unwrap_or(id))) {
            Some(ctype) if ctype == "struct path" => Ok(value),
            Some(ctype) => Err(self.no_path(&ctype, path)),
            None => Err(self.unknown_path(&typ, path)),
        }
    }

    fn unknown_path(&self, typ: &IntType, path: &Expr) -> Diagnostic {
        let message = format!("`path` needs a `struct path`, and this is of type `{}`", typ.ctype);
        let help = match typ.is_no_pointer() {
            true => EXAMPLE.to_owned(),
            false => "say what it points to: `path((struct path *)x)`, `path(((struct file *)x)->f_path)`".to_owned(),
        };
        self.error_help(&path.span, message, help)
    }

    fn no_path(&self, ctype: &str, path: &Expr) -> Diagnostic {
        let message = format!("`path` needs a `struct path`, and this is a `{ctype}`");
        let help = match ctype {
            "struct file" => "a file's is its `f_path`: `path(x->f_path)`",
            "struct dentry" => "a dentry may be seen in several mounts; its own name is `str(x->d_name.name)`",
            "struct inode" => "an inode does not know its names",
            _ => EXAMPLE,
        };
        self.error_help(&path.span, message, help)
    }
}

/// What is found of the kernel's structs; else what they lack.
fn layout(btf: &Btf) -> Result<PathLayout, String> {
    let member = |structure: &str, path: &str| {
        let found = btf.member(structure, path).map(|(offset, int)| (offset, u32::from(int.size)));
        found.ok_or_else(|| format!("{path}` of `struct {structure}"))
    };
    let (path, [mnt, dentry]) = block([member("path", "mnt")?, member("path", "dentry")?]);
    let names = [member("dentry", "d_parent")?, member("dentry", "d_name.name")?, member("dentry", "d_name.len")?];
    let (entry, [parent, name, length]) = block(names);
    let inner = member("mount", "mnt.mnt_root")?;
    let (mount, [above, mountpoint, root]) = block([member("mount", "mnt_parent")?, member("mount", "mnt_mountpoint")?, inner]);
    let vfsmount = inner.0.saturating_sub(member("vfsmount", "mnt_root")?.0);
    Ok(PathLayout { path, mnt, dentry, entry, parent, name, length, mount, above, mountpoint, root, vfsmount })
}

/// What has all of these members, each an offset and a size, and where they are in it.
fn block<const N: usize>(members: [(u32, u32); N]) -> (Block, [u32; N]) {
    let start = members.iter().map(|(offset, _)| *offset).min().unwrap_or(0);
    let end = members.iter().map(|(offset, size)| offset.saturating_add(*size)).max().unwrap_or(0);
    (Block { start, size: end - start }, members.map(|(offset, _)| offset - start))
}
