//! Attach points: text to targets, one file per kind behind the `Kind` interface.
//!
//! A target says at which hooks its probe's program halves run and where that code finds its arguments.

mod arguments;
pub mod glob;
mod rawtracepoint;
mod syscall;
mod tracepoint;

use std::ops::Range;

pub(crate) use arguments::{Argument, ArgumentValue, Place, Space};

use crate::{
    diagnostic::suggest,
    kernel::{Kernel, SourceError},
    output::Hook,
};

/// One kind of attach point.
pub(crate) trait Kind: Sync {
    /// The first part of the notation, and its short forms.
    fn names(&self) -> &'static [&'static str];

    /// What stands behind it, for people.
    fn notation(&self) -> &'static str;

    /// The targets that `rest`, what stands behind `KIND:`, names on this kernel. A pattern without a match is an error.
    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError>;

    /// All targets that fit the pattern of `probes`, as the texts behind `KIND:`.
    fn list(&self, kernel: &dyn Kernel) -> Result<Vec<String>, SourceError>;
}

const KINDS: [&dyn Kind; 3] = [&tracepoint::Tracepoint, &rawtracepoint::RawTracepoint, &syscall::SyscallSpan];

/// How each kind is written.
#[cfg(test)]
pub(crate) fn notations() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.notation())
}

/// One attach point, with everything that the later passes need to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As grants and reports name it: `KIND:TARGET`.
    pub(crate) point: String,
    /// Where the body runs; for a span, at its exit.
    pub(crate) site: Site,
    /// For a span, where it begins.
    pub(crate) entry: Option<Site>,
    /// For a span that another key joins than the thread.
    pub(crate) key: Option<SpanKey>,
}

/// What joins the entries and exits of a span: `key EXPR`, or `key ENTRY-EXPR .. EXIT-EXPR`. Each is a list with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpanKey {
    /// As seen at the entry, and where it begins in the attach point's text.
    pub(crate) entry: (String, usize),
    /// As seen at the exit.
    pub(crate) exit: (String, usize),
}

/// What a program's context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ContextKind {
    /// The record of a trace event.
    Record,
    /// 8-byte slots; those that BTF describes as pointers to structs are typed pointers for the verifier.
    Slots,
    /// A `struct pt_regs` at its beginning.
    Registers,
    /// Nothing.
    Nothing,
}

/// A place where a probe half runs.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) hook: Hook,
    /// The hook serves all system calls; this half wants one.
    pub(crate) syscall: Option<u32>,
    pub(crate) context: ContextKind,
    /// The running task is the one that is traced: its process must be in scope.
    pub(crate) task: bool,
    /// What `func` says: a function's name; empty where none is traced.
    pub(crate) function: String,
    pub(crate) arguments: Vec<Argument>,
    /// `arg0`, `arg1` and so on.
    pub(crate) positional: Vec<Argument>,
    /// What the traced call returns, at an exit.
    pub(crate) retval: Option<Argument>,
}

/// An attach point that can't be.
#[derive(Debug)]
pub(crate) struct AttachError {
    /// The bytes of the attach point's text that are wrong.
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The notation is right, but this kernel has no such thing.
    pub(crate) missing: bool,
}

impl AttachError {
    /// The span is relative to what stands behind `KIND:`, as for [`Kind::expand`].
    fn missing(span: Range<usize>, message: impl Into<String>) -> Self {
        AttachError { span, message: message.into(), help: None, missing: true }
    }

    fn wrong(span: Range<usize>, message: impl Into<String>) -> Self {
        AttachError { span, message: message.into(), help: None, missing: false }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn help_name<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match suggest(name, candidates) {
            Some(like) => self.help(format!("did you mean `{like}`?")),
            None => self,
        }
    }

    fn source(span: Range<usize>, error: &SourceError) -> Self {
        AttachError::wrong(span, error.to_string())
    }
}

/// The targets of one attach text, which may be a list with commas and have wildcards; each once, in the kernel's order.
pub(crate) fn expand(text: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
    let mut out: Vec<Target> = Vec::new();
    let mut start = 0;
    for part in text.split(',') {
        let lead = part.len() - part.trim_start().len();
        let at = start + lead;
        start += part.len() + 1;
        let point = part.trim();
        let (kind, rest) = kind_of(point).map_err(|e| shifted(e, at))?;
        let rest_at = at + (point.len() - rest.len());
        out.extend(kind.expand(rest, kernel).map_err(|e| shifted(e, rest_at))?);
    }
    Ok(out)
}

fn shifted(mut error: AttachError, by: usize) -> AttachError {
    error.span = error.span.start + by..error.span.end + by;
    error
}

/// The kind that an attach point begins with, and the text behind its colon.
fn kind_of(point: &str) -> Result<(&'static dyn Kind, &str), AttachError> {
    for kind in KINDS {
        for name in kind.names() {
            if let Some(rest) = point.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')) {
                return Ok((kind, rest));
            }
        }
    }
    let all = || KINDS.iter().map(|k| k.notation()).collect::<Vec<_>>().join(", ");
    if point.is_empty() {
        return Err(AttachError::wrong(0..0, "an attach point is empty").help(format!("there are {}", all())));
    }
    let name = match point.strip_prefix("span:") {
        Some(rest) => &point[..5 + rest.find(':').unwrap_or(rest.len())],
        None => &point[..point.find(':').unwrap_or(point.len())],
    };
    let error = AttachError::wrong(0..name.len(), format!("`{name}` is no kind of attach point"));
    Err(match suggest(name, KINDS.iter().flat_map(|k| k.names().iter().copied())) {
        Some(like) => error.help(format!("did you mean `{like}`?")),
        None => error.help(format!("there are {}", all())),
    })
}

/// The name of the kind that an attach point begins with, which may be written in its short form; `None` if there is no such kind.
pub fn kind_name(point: &str) -> Option<&'static str> {
    let (kind, _) = kind_of(point.trim()).ok()?;
    kind.names().first().copied()
}

/// An attach point as `portcullis probes` lists it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// `KIND:TARGET`
    pub point: String,
    /// What `args` has there, and `entry.args` of a span.
    pub arguments: Vec<ListedArgument>,
    /// The type of `retval`, where there is one.
    pub retval: Option<String>,
}

/// An argument of an attach point.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedArgument {
    /// Behind `args.`
    pub name: String,
    /// As C has it.
    #[serde(rename = "type")]
    pub ctype: String,
}

/// All attach points that fit a pattern over `KIND:TARGET`, with their arguments.
pub fn list(pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
    let mut out = Vec::new();
    // A short form of a kind stands for its name.
    let pattern = match kind_of(pattern) {
        Ok((kind, rest)) => format!("{}:{rest}", kind.names()[0]),
        Err(_) => pattern.to_owned(),
    };
    for kind in KINDS {
        let name = kind.names()[0];
        for rest in kind.list(kernel)? {
            let point = format!("{name}:{rest}");
            if !glob::matches(&pattern, &point) {
                continue;
            }
            // A target that can be listed and not expanded went away in between.
            for target in kind.expand(&rest, kernel).unwrap_or_default() {
                let site = target.entry.as_ref().unwrap_or(&target.site);
                let arguments =
                    site.arguments.iter().map(|a| ListedArgument { name: a.name.clone(), ctype: a.ctype.clone() }).collect();
                let retval = target.site.retval.as_ref().map(|r| r.ctype.clone());
                out.push(Listed { point: target.point.clone(), arguments, retval });
            }
        }
    }
    Ok(out)
}

/// The names among `all` that fit the pattern; an error that suggests one when none does.
fn select<'a>(
    pattern: &str,
    what: &str,
    place: &str,
    at: usize,
    all: impl Iterator<Item = &'a str> + Clone,
) -> Result<Vec<&'a str>, AttachError> {
    let span = at..at + pattern.len();
    let found: Vec<&str> = all.clone().filter(|name| glob::matches(pattern, name)).collect();
    if !found.is_empty() {
        Ok(found)
    } else if glob::is_pattern(pattern) {
        Err(AttachError::missing(span, format!("no {what}{place} fits `{pattern}`")))
    } else {
        Err(AttachError::missing(span, format!("this kernel has no {what} `{pattern}`{place}")).help_name(pattern, all))
    }
}
