//! `tracepoint:CATEGORY:NAME`: the kernel's trace events.
//!
//! Those of system calls (`tracepoint:syscalls:sys_enter_read`) ride on the raw tracepoints `sys_enter` and `sys_exit`, in one
//! program for all; see [`super::syscall`]. The others go through perf_event_open(2), with the record that the format file
//! describes as context; where nothing of that is read, they ride on the raw tracepoint that fills the record, which costs less and
//! detaches in no time.

use super::{
    Argument, ArgumentValue, AttachError, ContextKind, Kind, Listed, Place, Site, Target,
    arguments::{pointer_space, read_format},
    glob, listed_names, select, syscall,
};
use crate::{
    kernel::{
        Kernel, SourceError,
        btf::Int,
        format::{FieldShape, FormatField},
    },
    output::Hook,
};

pub(super) struct Tracepoint;

impl Kind for Tracepoint {
    fn names(&self) -> &'static [&'static str] {
        &["tracepoint", "t"]
    }

    fn notation(&self) -> &'static str {
        "tracepoint:CATEGORY:NAME"
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let whole = 0..rest.len();
        let Some((category, name)) = rest.split_once(':') else {
            return Err(AttachError::wrong(whole, "a tracepoint needs a category and a name")
                .help("tracepoint:CATEGORY:NAME, as in tracepoint:sched:sched_switch"));
        };
        let all = kernel.tracepoints().map_err(|e| AttachError::source(whole.clone(), &e))?;
        // Most name one.
        if all.binary_search_by(|(c, n)| (c.as_str(), n.as_str()).cmp(&(category, name))).is_ok() {
            return Ok(vec![target(category, name, kernel).map_err(|e| AttachError::source(whole.clone(), &e))?]);
        }
        let mut categories: Vec<&str> = all.iter().map(|(c, _)| c.as_str()).collect();
        categories.dedup();
        let categories = select(category, "tracepoint category", "", 0, categories.iter().copied())?;
        let names = all.iter().filter(|(c, _)| categories.binary_search(&c.as_str()).is_ok());
        select(name, "tracepoint", &format!(" in `{category}`"), category.len() + 1, names.clone().map(|(_, n)| n.as_str()))?;
        let found = names.filter(|(_, n)| glob::matches(name, n));
        found.map(|(c, n)| target(c, n, kernel).map_err(|e| AttachError::source(whole.clone(), &e))).collect()
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        let names: Vec<String> = kernel.tracepoints()?.iter().map(|(category, name)| format!("{category}:{name}")).collect();
        Ok(listed_names(self, pattern, kernel, names.iter().map(String::as_str)))
    }
}

pub(super) fn target(category: &str, name: &str, kernel: &dyn Kernel) -> Result<Target, SourceError> {
    let point = format!("tracepoint:{category}:{name}");
    let rides = kernel.features().raw_tracepoint;
    if category == "syscalls"
        && rides
        && let Some(site) = syscall::site(name, kernel)?
    {
        return Ok(Target { point, site, entry: None, key: None });
    }
    let format = read_format(category, name, kernel)?;
    let hook = Hook::PerfTracepoint { category: category.to_owned(), name: name.to_owned() };
    let mut arguments: Vec<Argument> = format.fields.iter().map(argument).collect();
    if category == "syscalls" {
        syscall::point_into_process(&mut arguments);
    }
    // An event has its tracepoint's name (include/trace/trace_events.h).
    let bare = (rides && kernel.btf().raw_tracepoint_id(name).is_some()).then(|| Hook::TpBtf { name: name.to_owned() });
    let site = Site { arguments, bare, ..Site::new(hook, ContextKind::Record, "") };
    Ok(Target { point, site, entry: None, key: None })
}

fn argument(field: &FormatField) -> Argument {
    let char_like = matches!(field.ctype.trim_start_matches("const ").trim(), "char" | "unsigned char" | "u8" | "__u8");
    let value = match field.shape {
        FieldShape::DataLoc if char_like => ArgumentValue::DataLoc { offset: field.offset, relative: false },
        FieldShape::RelLoc if char_like => ArgumentValue::DataLoc { offset: field.offset, relative: true },
        FieldShape::Array(_) if field.ctype.trim() == "char" => ArgumentValue::Chars { offset: field.offset, size: field.size },
        FieldShape::Array(length) if length > 0 && matches!(field.size / length, 1 | 2 | 4 | 8) => {
            let int = Int { size: (field.size / length) as u8, signed: field.signed };
            ArgumentValue::Array { offset: field.offset, int, length }
        }
        FieldShape::Value if matches!(field.size, 1 | 2 | 4 | 8) => {
            let place = Place::Context(field.offset);
            match pointer_space(&field.ctype) {
                Some(space) if field.size == 8 => ArgumentValue::Pointer(place, space),
                // The file's own word on size and sign; it knows typedefs and enums.
                _ => ArgumentValue::Int(place, Int { size: field.size as u8, signed: field.signed }),
            }
        }
        _ => ArgumentValue::Other,
    };
    let ctype = match field.shape {
        FieldShape::Value => field.ctype.clone(),
        FieldShape::Array(n) => format!("{}[{n}]", field.ctype),
        FieldShape::DataLoc | FieldShape::RelLoc => format!("{}[]", field.ctype),
    };
    Argument { name: field.name.clone(), ctype, typ: None, value }
}
