//! `rawtracepoint:NAME`: a tracepoint before its record is made, with the arguments that the kernel passes to it.

use super::{Argument, ArgumentValue, AttachError, ContextKind, Kind, Listed, Place, Site, Space, Target, glob, listed, select};
use crate::{
    kernel::{Kernel, SourceError},
    output::Hook,
};

pub(super) struct RawTracepoint;

impl Kind for RawTracepoint {
    fn names(&self) -> &'static [&'static str] {
        &["rawtracepoint", "rt"]
    }

    fn notation(&self) -> &'static str {
        "rawtracepoint:NAME"
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        // Most name one, and going through all types for the others takes milliseconds.
        if !glob::is_pattern(rest) && kernel.btf().raw_tracepoint_id(rest).is_some() {
            return Ok(vec![target(rest, kernel)]);
        }
        let all = kernel.btf().raw_tracepoints();
        let names = select(rest, "raw tracepoint", "", 0, all.iter().copied()).map_err(|error| match rest.split_once(':') {
            Some((_, name)) => error.help(format!("without the module: `rawtracepoint:{name}`")),
            None => error,
        })?;
        Ok(names.into_iter().map(|name| target(name, kernel)).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

fn target(name: &str, kernel: &dyn Kernel) -> Target {
    let arguments = kernel.btf().raw_tracepoint_arguments(name).unwrap_or_default();
    let arguments = arguments
        .into_iter()
        .enumerate()
        .map(|(i, argument)| {
            let place = Place::Slot(i as u32);
            let value = match argument.int {
                Some(_) if argument.pointer => ArgumentValue::Pointer(place, Space::Kernel),
                Some(int) => ArgumentValue::Int(place, int),
                None => ArgumentValue::Other,
            };
            Argument { name: argument.name, ctype: argument.ctype, typ: Some(argument.id), value }
        })
        .collect::<Vec<_>>();
    let site = Site::new(Hook::TpBtf { name: name.to_owned() }, ContextKind::Slots, "");
    let site = Site { positional: arguments.clone(), arguments, ..site };
    Target { point: format!("rawtracepoint:{name}"), site, entry: None, key: None }
}
