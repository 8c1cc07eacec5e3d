//! Raw tracepoints: how the kernel's types describe them.

use super::{Btf, Int, Shape, TypeId, lookup::Named, scan::Kind};

/// The typedef of a pointer to a function that takes what a tracepoint passes.
const TYPEDEF: &str = "btf_trace_";

/// An argument of a raw tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type.
    pub id: TypeId,
    /// Its type as C writes it.
    pub ctype: String,
    /// `None` for what is neither an integer, nor a pointer, an enum or a boolean.
    pub int: Option<Int>,
    /// It is a pointer.
    pub pointer: bool,
}

impl Btf {
    /// The raw tracepoints that have a typedef `btf_trace_NAME`, sorted.
    pub fn raw_tracepoints(&self) -> Vec<&str> {
        let names = self.names(Named::Typedef, |name| name.starts_with(TYPEDEF));
        names.into_iter().filter_map(|name| name.strip_prefix(TYPEDEF)).collect()
    }

    /// The number of the typedef `btf_trace_NAME`, as bpf(2) asks for it.
    pub fn raw_tracepoint_id(&self, name: &str) -> Option<u32> {
        self.raw_tracepoint(name).map(TypeId::number)
    }

    fn raw_tracepoint(&self, name: &str) -> Option<TypeId> {
        self.named(&format!("{TYPEDEF}{name}"), |kind| kind == Kind::Typedef)
    }

    /// The arguments of a raw tracepoint, without the `void *__data` before them: types from the typedef `btf_trace_NAME`, names
    /// from a function that the kernel defines per tracepoint; where it has none, `arg0`, `arg1` and so on.
    pub fn raw_tracepoint_arguments(&self, name: &str) -> Option<Vec<Argument>> {
        let Shape::Pointer(signature) = self.shape(self.raw_tracepoint(name)?)? else { return None };
        let signature = self.resolve_type(signature).filter(|t| t.kind == Kind::FunctionType)?;
        // `__bpf_trace_` is there only for a tracepoint that has an event class of its own; the others since Linux 6.4 and 5.10.
        let named = ["__bpf_trace_", "__probestub_", "__traceiter_"].iter().find_map(|prefix| {
            let function = self.named(&format!("{prefix}{name}"), |kind| kind == Kind::Function)?;
            self.function_type(function).filter(|t| t.count == signature.count)
        });
        let arguments = (1..signature.count).map(|i| {
            let (_, id) = signature.parameter(i)?;
            let own = named.and_then(|t| t.parameter(i)).map_or("", |(name, _)| name);
            Some(Argument {
                name: if own.is_empty() { format!("arg{}", i - 1) } else { own.to_owned() },
                id,
                ctype: self.ctype(id),
                int: self.int_of(id),
                pointer: matches!(self.shape(id), Some(Shape::Pointer(_))),
            })
        });
        arguments.collect()
    }
}
