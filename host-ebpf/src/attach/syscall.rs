//! System calls: `span:syscall:NAME`, and the tracepoints `sys_enter_NAME` and `sys_exit_NAME` of category `syscalls`.
//!
//! All of them ride on the two raw tracepoints `sys_enter` and `sys_exit`, where one program per plugin finds the probes of a
//! call by its number: the perf tracepoints of system calls take 65 to 100 ms each to detach.

use super::{
    Argument, ArgumentValue, AttachError, ContextKind, Kind, Listed, Place, Site, Space, Target,
    arguments::{pointer_space, read_format},
    listed_names, select,
};
use crate::{
    kernel::{Kernel, SourceError, btf::Int, syscalls},
    output::Hook,
};

pub(super) struct SyscallSpan;

impl Kind for SyscallSpan {
    fn names(&self) -> &'static [&'static str] {
        &["span:syscall"]
    }

    fn notation(&self) -> &'static str {
        "span:syscall:NAME"
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let whole = 0..rest.len();
        let all = calls(kernel).map_err(|e| AttachError::source(whole.clone(), &e))?;
        let names = select(rest, "system call", "", 0, all.iter().copied())?;
        let mut out = Vec::new();
        for name in names {
            let half = |prefix: &str| {
                if !kernel.features().raw_tracepoint {
                    return perf_site(&format!("{prefix}{name}"), kernel).map_err(|e| AttachError::source(whole.clone(), &e));
                }
                site(&format!("{prefix}{name}"), kernel).map_err(|e| AttachError::source(whole.clone(), &e))?.ok_or_else(|| {
                    AttachError::missing(whole.clone(), format!("the number of system call `{name}` is not known"))
                })
            };
            let entry = half("sys_enter_")?;
            out.push(Target { point: format!("span:syscall:{name}"), site: half("sys_exit_")?, entry: Some(entry), key: None });
        }
        Ok(out)
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed_names(self, pattern, kernel, calls(kernel)?.into_iter()))
    }
}

/// The calls that have tracepoints and a known number.
fn calls(kernel: &dyn Kernel) -> Result<Vec<&str>, SourceError> {
    let names = kernel.tracepoints()?.iter().filter(|(category, _)| category == "syscalls");
    let names = names.filter_map(|(_, name)| name.strip_prefix("sys_enter_"));
    Ok(names.filter(|name| syscalls::number(name).is_some()).collect())
}

/// Where the system call tracepoint `sys_enter_X` or `sys_exit_X` rides; `None` where the number of `X` is not known.
pub(super) fn site(tracepoint: &str, kernel: &dyn Kernel) -> Result<Option<Site>, SourceError> {
    let (hook, name) = match (tracepoint.strip_prefix("sys_enter_"), tracepoint.strip_prefix("sys_exit_")) {
        (Some(name), _) => ("sys_enter", name),
        (None, Some(name)) => ("sys_exit", name),
        (None, None) => return Ok(None),
    };
    let Some(number) = syscalls::number(name) else { return Ok(None) };
    let hook = Hook::TpBtf { name: hook.to_owned() };
    if tracepoint.starts_with("sys_exit_") {
        // The raw tracepoint's second argument: `long ret`.
        let value = ArgumentValue::Int(Place::Slot(1), Int { size: 8, signed: true });
        let ret = Argument { name: "ret".into(), ctype: "long".into(), typ: None, value };
        return Ok(Some(site_of(hook, name, number, vec![ret.clone()], Some(ret))));
    }
    let format = read_format("syscalls", tracepoint, kernel)?;
    let arguments = format.fields.iter().filter(|f| f.name != "__syscall_nr").take(6).enumerate();
    let arguments = arguments.map(|(i, field)| {
        let place = Place::Regs(syscalls::argument_offset(i));
        let value = match pointer_space(&field.ctype) {
            // What a process passes to the kernel points into its own memory, whatever the type says.
            Some(_) => ArgumentValue::Pointer(place, Space::User),
            // The file says 8 bytes of everything; the call itself looks at its own type.
            None => ArgumentValue::Int(place, kernel.btf().int(&field.ctype).unwrap_or(Int { size: 8, signed: false })),
        };
        Argument { name: field.name.clone(), ctype: field.ctype.clone(), typ: None, value }
    });
    Ok(Some(site_of(hook, name, number, arguments.collect(), None)))
}

/// The same by the perf tracepoint of this one call.
fn perf_site(tracepoint: &str, kernel: &dyn Kernel) -> Result<Site, SourceError> {
    let mut site = super::tracepoint::target("syscalls", tracepoint, kernel)?.site;
    site.function = tracepoint.trim_start_matches("sys_enter_").trim_start_matches("sys_exit_").to_owned();
    site.retval = site.arguments.iter().find(|argument| argument.name == "ret").cloned();
    Ok(site)
}

/// What a process passes to the kernel points into its own memory, whatever the type says.
pub(super) fn point_into_process(arguments: &mut [Argument]) {
    for argument in arguments {
        if let ArgumentValue::Pointer(_, space) = &mut argument.value {
            *space = Space::User;
        }
    }
}

fn site_of(hook: Hook, name: &str, number: u32, arguments: Vec<Argument>, retval: Option<Argument>) -> Site {
    // All calls have one link.
    Site { syscall: Some(number), multi: true, arguments, retval, ..Site::new(hook, ContextKind::Slots, name) }
}
