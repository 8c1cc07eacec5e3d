//! Functions of the kernel: which there are, and what they take and return.

use super::{Argument, ArgumentValue, AttachError, Place, Space, glob};
use crate::{
    diagnostic::suggest,
    kernel::{
        Kernel,
        btf::{Int, Shape, Signature, TypeId, Types},
        registers,
    },
};

/// A function of the kernel, as an attach point names it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) module: Option<String>,
    pub(super) name: String,
    pub(super) signature: Option<Signature>,
}

impl Named {
    /// As attach points write it: one way for one function, however it was asked for.
    pub(super) fn point(&self) -> String {
        match &self.module {
            Some(module) => format!("{module}:{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The functions that `FUNCTION` or `MODULE:FUNCTION` names, each with its module or pattern; `vmlinux` is the kernel itself.
/// A pattern leaves out what `usable` says no to; for a function that is named it says why.
pub(super) fn find(
    rest: &str,
    kernel: &dyn Kernel,
    usable: impl Fn(&Named) -> Result<(), String>,
) -> Result<Vec<Named>, AttachError> {
    let (module, name) = match rest.split_once(':') {
        Some((module, name)) => (Some(module), name),
        None => (None, rest),
    };
    let at = rest.len() - name.len();
    let span = at..rest.len();
    if name.is_empty() {
        return Err(AttachError::wrong(span, "a function of the kernel belongs here").help("as in `vfs_read`, or `vfs_*`"));
    }
    let all = kernel.functions().map_err(|e| AttachError::source(span.clone(), &e))?;
    let in_module = |m: &Option<String>| module.is_none_or(|pattern| glob::matches(pattern, m.as_deref().unwrap_or(KERNEL)));
    let named = |f: &crate::kernel::Function| {
        let types = Types::new(kernel);
        let found = match &f.module {
            None => types.function_in(KERNEL, &f.name),
            Some(module) => types.function_in(module, &f.name),
        };
        Named { module: f.module.clone(), name: f.name.clone(), signature: found.map(|f| f.signature) }
    };
    if !glob::is_pattern(name) {
        let from = all.partition_point(|f| f.name.as_str() < name);
        let same: Vec<_> = all[from..].iter().take_while(|f| f.name == name).filter(|f| in_module(&f.module)).collect();
        return match same.as_slice() {
            [] => {
                let place = module.map(|m| format!(" in `{m}`")).unwrap_or_default();
                let error = AttachError::missing(span, format!("this kernel has no function `{name}`{place} that can be traced"));
                let elsewhere = all[from..].iter().take_while(|f| f.name == name).map(|f| f.module.as_deref().unwrap_or(KERNEL));
                let elsewhere: Vec<&str> = elsewhere.collect();
                if !elsewhere.is_empty() {
                    return Err(error.help(format!("it is in `{}`", elsewhere.join("`, `"))));
                }
                let candidates = all.iter().filter(|f| in_module(&f.module)).map(|f| f.name.as_str());
                // Suggesting looks at every function: tens of thousands, so only at those that begin alike.
                let alike = candidates.filter(|c| c.as_bytes().first() == name.as_bytes().first());
                Err(match suggest(name, alike.filter(|c| c.len().abs_diff(name.len()) <= 3)) {
                    Some(like) => error.help(format!("did you mean `{like}`?")),
                    None => error,
                })
            }
            [one] => {
                let one = named(one);
                usable(&one).map_err(|message| AttachError::missing(span, message))?;
                Ok(vec![one])
            }
            several => {
                let modules: Vec<&str> = several.iter().map(|f| f.module.as_deref().unwrap_or(KERNEL)).collect();
                let error = AttachError::missing(span, format!("this kernel has {} functions `{name}`", several.len()));
                let same_module = modules.windows(2).all(|m| m[0] == m[1]);
                Err(if same_module {
                    error.help("which of them is meant can't be said; probe one that calls it")
                } else {
                    error.help(format!("name the module, too: {}", modules.join(", ")))
                })
            }
        };
    }
    // A name that the kernel has more than once names none of them.
    let once = all.iter().enumerate().filter(|(i, f)| {
        let before = i.checked_sub(1).and_then(|i| all.get(i));
        let after = all.get(i + 1);
        [before, after].iter().flatten().all(|other| other.name != f.name)
    });
    let fitting = once.map(|(_, f)| f).filter(|f| in_module(&f.module) && glob::matches(name, &f.name));
    let found: Vec<Named> = fitting.map(named).filter(|f| usable(f).is_ok()).collect();
    if found.is_empty() {
        return Err(AttachError::missing(span, format!("no function of this kernel that can be traced fits `{name}`")));
    }
    Ok(found)
}

/// The kernel itself, where modules are named.
pub(super) const KERNEL: &str = "vmlinux";

/// Where arguments are: how many 8-byte places a function's arguments take, and which is whose.
pub(super) struct Arguments {
    pub(super) named: Vec<Argument>,
    /// How many 8-byte places they take.
    pub(super) slots: u32,
}

/// A function's arguments by name. `place` says where the 8-byte place of a number is; `None` for one that can't be read.
pub(super) fn arguments(signature: &Signature, kernel: &dyn Kernel, place: impl Fn(u32) -> Option<Place>) -> Arguments {
    let types = Types::new(kernel);
    let mut slots = 0;
    let mut named = Vec::new();
    for (i, parameter) in signature.parameters.iter().enumerate() {
        let shape = types.shape(parameter.id);
        let size = types.size(parameter.id).unwrap_or(8);
        let taken = match shape {
            // A struct of up to 16 bytes comes in registers, a larger one on the stack; a float in registers of its own.
            Some(Shape::Struct { .. } | Shape::Union { .. } | Shape::Wide { .. }) if size <= 16 => size.div_ceil(8),
            Some(Shape::Struct { .. } | Shape::Union { .. } | Shape::Wide { .. } | Shape::Float { .. }) => 0,
            _ => 1,
        };
        let value = place(slots).map_or(ArgumentValue::Other, |place| value(parameter.id, place, kernel));
        slots += taken;
        let name = if parameter.name.is_empty() { format!("arg{i}") } else { parameter.name.clone() };
        named.push(Argument { name, ctype: types.ctype(parameter.id), typ: Some(parameter.id), value });
    }
    Arguments { named, slots }
}

/// What a function returns; `None` for one that returns nothing.
pub(super) fn retval(signature: &Signature, kernel: &dyn Kernel, place: Place) -> Option<Argument> {
    let id = signature.returns;
    (id != TypeId::VOID).then(|| Argument {
        name: "retval".to_owned(),
        ctype: Types::new(kernel).ctype(id),
        typ: Some(id),
        value: value(id, place, kernel),
    })
}

/// Whether a function returns what no register holds.
pub(super) fn returns_struct(signature: &Signature, kernel: &dyn Kernel) -> bool {
    let shape = Types::new(kernel).shape(signature.returns);
    matches!(shape, Some(Shape::Struct { .. } | Shape::Union { .. } | Shape::Wide { .. } | Shape::Float { .. }))
}

fn value(id: TypeId, place: Place, kernel: &dyn Kernel) -> ArgumentValue {
    let types = Types::new(kernel);
    match types.shape(id) {
        Some(Shape::Pointer(_)) if types.is_user_pointer(id) => ArgumentValue::Pointer(place, Space::User),
        Some(Shape::Pointer(_)) => ArgumentValue::Pointer(place, Space::Kernel),
        Some(Shape::Int(int) | Shape::Enum(int)) => ArgumentValue::Int(place, int),
        Some(Shape::Bool) => ArgumentValue::Int(place, Int { size: 1, signed: false }),
        _ => ArgumentValue::Other,
    }
}

/// An 8-byte word of which no more is known.
pub(super) fn word(name: &str, place: Place) -> Argument {
    let value = ArgumentValue::Int(place, Int { size: 8, signed: false });
    Argument { name: name.to_owned(), ctype: "unsigned long".to_owned(), typ: None, value }
}

/// `arg0` and so on, as the calling convention passes integers.
pub(super) fn register_arguments() -> Vec<Argument> {
    let places = (0..registers::ARGUMENTS).filter_map(|i| Some((i, registers::argument_offset(i)?)));
    places.map(|(i, offset)| word(&format!("arg{i}"), Place::Context(offset))).collect()
}

/// Functions that never return: the kernel refuses a fexit there, and a kretprobe would never run.
///
/// Source: `noreturn_deny`, kernel/bpf/verifier.c.
pub(super) fn never_returns(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "__ia32_sys_exit",
        "__ia32_sys_exit_group",
        "__module_put_and_kthread_exit",
        "__x64_sys_exit",
        "__x64_sys_exit_group",
        "do_exit",
        "do_group_exit",
        "kthread_complete_and_exit",
        "kthread_exit",
        "make_task_dead",
        "rewind_stack_and_make_dead",
    ];
    NAMES.contains(&name)
}
