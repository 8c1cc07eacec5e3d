//! Attach points: text to targets, one file per kind behind the `Kind` interface.
//!
//! A target says at which hooks its probe's program halves run and where that code finds its arguments.

mod arguments;
mod event;
mod fentry;
mod function;
pub mod glob;
mod iter;
mod kprobe;
mod lsm;
mod moment;
mod rawtracepoint;
mod span;
mod syscall;
mod timer;
mod tracepoint;
mod uprobe;
mod usdt;
mod watchpoint;

use std::ops::Range;

pub(crate) use arguments::{Address, Argument, ArgumentValue, Place, Space};
pub(crate) use iter::Iterated;

use crate::{
    diagnostic::suggest,
    kernel::{Kernel, SourceError},
    output::Hook,
    spec::Scope,
};

/// One kind of attach point.
pub(crate) trait Kind: Sync {
    /// The first part of the notation, and its short forms.
    fn names(&self) -> &'static [&'static str];

    /// What stands behind it, for people.
    fn notation(&self) -> &'static str;

    /// The targets that `rest`, what stands behind `KIND:`, names on this kernel. A pattern without a match is an error.
    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError>;

    /// What this kernel lacks for the whole kind, and what would do instead of `KIND:rest`.
    fn lacking(&self, _rest: &str, _kernel: &dyn Kernel) -> Option<AttachError> {
        None
    }

    /// Whether a target of `rest` means anything where every process is in scope; why not.
    fn system_wide(&self, _target: &Target, _rest: &str) -> Result<(), AttachError> {
        Ok(())
    }

    /// What `probes` lists of those that fit the pattern of what stands behind `KIND:`.
    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError>;
}

const KINDS: [&dyn Kind; 23] = [
    &tracepoint::Tracepoint,
    &rawtracepoint::RawTracepoint,
    &syscall::SyscallSpan,
    &kprobe::Kprobe,
    &kprobe::Kretprobe,
    &fentry::Fentry,
    &fentry::Fexit,
    &lsm::Lsm,
    &uprobe::Uprobe,
    &uprobe::Uretprobe,
    &usdt::Usdt,
    &timer::Profile,
    &timer::Interval,
    &event::Software,
    &event::Hardware,
    &watchpoint::Watchpoint,
    &iter::Iter,
    &moment::Begin,
    &moment::End,
    &span::KprobeSpan,
    &span::FentrySpan,
    &span::UprobeSpan,
    &span::TracepointSpan,
];

/// How each kind is written, and its names.
#[cfg(test)]
pub(crate) fn notations() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    KINDS.iter().map(|kind| (kind.notation(), kind.names()))
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

/// Whose hit it is: the process of that task must be in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// The host's, which runs it itself, once: it is one in any case.
    Host,
    /// Nobody's: it is one unless something is granted that is not this task's.
    Nobody,
    /// The running task is the one that is traced.
    Running,
    /// An iterator is at a task, and what runs is the host.
    Iterated(Iterated),
}

/// A place where a probe half runs.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) hook: Hook,
    /// A cheaper hook, for a half that reads nothing of the context.
    pub(crate) bare: Option<Hook>,
    /// One program and one link may serve this place and others: a piece of code may then be told where it runs.
    pub(crate) multi: bool,
    /// The hook serves all system calls; this half wants one.
    pub(crate) syscall: Option<u32>,
    pub(crate) context: ContextKind,
    pub(crate) whose: Whose,
    /// What `func` says: a function's name; empty where none is traced.
    pub(crate) function: String,
    pub(crate) arguments: Vec<Argument>,
    /// `arg0`, `arg1` and so on.
    pub(crate) positional: Vec<Argument>,
    /// What the traced call returns, at an exit.
    pub(crate) retval: Option<Argument>,
}

impl Site {
    /// A place of which no arguments are known.
    fn new(hook: Hook, context: ContextKind, function: &str) -> Site {
        Site {
            hook,
            bare: None,
            multi: false,
            syscall: None,
            context,
            whose: Whose::Running,
            function: function.to_owned(),
            arguments: Vec::new(),
            positional: Vec::new(),
            retval: None,
        }
    }
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

    /// A program or library is not there, or can't be read.
    fn no_binary(span: Range<usize>, error: &SourceError) -> Self {
        AttachError::missing(span, error.to_string())
    }
}

/// The targets of one attach text, which may be a list with commas and have wildcards; each once, in the kernel's order.
pub(crate) fn expand(text: &str, kernel: &dyn Kernel, scope: Scope) -> Result<Vec<Target>, AttachError> {
    let mut out: Vec<Target> = Vec::new();
    for part in parts(text) {
        let point = text[part.clone()].trim();
        let at = part.start + (text[part.clone()].len() - text[part].trim_start().len());
        let (kind, rest) = kind_of(point).map_err(|e| shifted(e, at))?;
        let rest_at = at + (point.len() - rest.len());
        if let Some(error) = kind.lacking(rest, kernel) {
            return Err(shifted(error, rest_at));
        }
        let found = kind.expand(rest, kernel).map_err(|e| shifted(e, rest_at))?;
        if scope == Scope::System {
            found.iter().try_for_each(|target| kind.system_wide(target, rest)).map_err(|e| shifted(e, rest_at))?;
        }
        out.extend(found.into_iter().map(|mut target| {
            if let Some(key) = &mut target.key {
                key.entry.1 += rest_at;
                key.exit.1 += rest_at;
            }
            target
        }));
    }
    Ok(out)
}

/// The parts between commas. Those in brackets are of a function's own name, and those behind ` key ` part the key.
fn parts(text: &str) -> Vec<Range<usize>> {
    let end = text.find(span::KEY).unwrap_or(text.len());
    let (mut out, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (i, byte) in text.bytes().enumerate().take(end) {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth <= 0 => {
                out.push(start..i);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(start..text.len());
    out
}

/// A number, decimal or, behind `0x`, hexadecimal; also `1e6`.
fn number(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        // `from_str_radix` would take a sign.
        text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, radix).ok()).flatten()
    };
    match text.strip_prefix("0x") {
        Some(text) => digits(text, 16),
        None => match text.split_once('e') {
            Some((text, power)) => digits(text, 10)?.checked_mul(10_u64.checked_pow(u32::try_from(digits(power, 10)?).ok()?)?),
            None => digits(text, 10),
        },
    }
}

fn shifted(mut error: AttachError, by: usize) -> AttachError {
    error.span = error.span.start + by..error.span.end + by;
    error
}

/// The kind that an attach point begins with, and the text behind its colon.
fn kind_of(point: &str) -> Result<(&'static dyn Kind, &str), AttachError> {
    for kind in KINDS {
        for name in kind.names() {
            match point.strip_prefix(name) {
                Some("") => return Ok((kind, "")),
                Some(rest) if rest.starts_with(':') => return Ok((kind, &rest[1..])),
                _ => {}
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
///
/// # Errors
/// If the kernel's own lists can't be read, and, for a pattern of one kind, if this kernel has nothing of that kind.
pub fn list(pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
    if let Ok((kind, rest)) = kind_of(pattern) {
        if let Some(error) = kind.lacking("", kernel) {
            return Err(SourceError { what: format!("`{}`", kind.names()[0]), reason: error.message });
        }
        return kind.list(if rest.is_empty() { "*" } else { rest }, kernel);
    }
    let mut out = Vec::new();
    for kind in KINDS {
        // What the pattern's wildcards rule out for a whole kind need not be listed.
        let fits = pattern.split(['*', '?']).next().is_none_or(|start| {
            let name = kind.names()[0];
            name.starts_with(start) || start.starts_with(name)
        });
        if fits && kind.lacking("", kernel).is_none() {
            out.extend(kind.list("*", kernel)?.into_iter().filter(|listed| glob::matches(pattern, &listed.point)));
        }
    }
    Ok(out)
}

/// What a pattern expands to.
fn listed(kind: &dyn Kind, pattern: &str, kernel: &dyn Kernel) -> Vec<Listed> {
    // A pattern that fits nothing lists nothing.
    kind.expand(pattern, kernel).unwrap_or_default().iter().map(Listed::new).collect()
}

/// The same for what stands in a file, which has to be there.
fn listed_targets(kind: &dyn Kind, binary: &str, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
    kernel.user_binary(binary)?;
    let pattern = &format!("{binary}:{pattern}");
    match kind.expand(pattern, kernel) {
        Ok(targets) => Ok(targets.iter().map(Listed::new).collect()),
        Err(error) if error.missing => Ok(Vec::new()),
        Err(error) => Err(SourceError { what: format!("`{pattern}`"), reason: error.message }),
    }
}

/// Those of these names that fit the pattern.
fn listed_names<'a>(kind: &dyn Kind, pattern: &str, kernel: &dyn Kernel, names: impl Iterator<Item = &'a str>) -> Vec<Listed> {
    // A name that can't be expanded went away in between.
    let found = names.filter(|name| glob::matches(pattern, name)).flat_map(|name| kind.expand(name, kernel).unwrap_or_default());
    found.map(|target| Listed::new(&target)).collect()
}

impl Listed {
    fn new(target: &Target) -> Listed {
        let site = target.entry.as_ref().unwrap_or(&target.site);
        // Where arguments have no names, they go by their position.
        let by_name = site
            .arguments
            .iter()
            .chain(site.positional.iter().filter(|_| site.arguments.is_empty() && target.point.starts_with("usdt:")));
        Listed {
            point: target.point.clone(),
            arguments: by_name.map(|a| ListedArgument { name: a.name.clone(), ctype: a.ctype.clone() }).collect(),
            retval: target.site.retval.as_ref().map(|r| r.ctype.clone()),
        }
    }
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
    } else if pattern.is_empty() {
        Err(AttachError::wrong(span, format!("the name of a {what}{place} belongs here")))
    } else if glob::is_pattern(pattern) {
        Err(AttachError::missing(span, format!("no {what}{place} fits `{pattern}`")))
    } else {
        Err(AttachError::missing(span, format!("this kernel has no {what} `{pattern}`{place}")).help_name(pattern, all))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernel::fixture::FixtureKernel;

    /// A span's key is kept as text, with its place in the attach point; commas and dots in it part nothing else.
    #[test]
    fn keys() {
        const PAIR: &str = "span:tracepoint:sched:sched_switch..task:task_rename";
        let check = |key: &str, entry: (&str, usize), exit: (&str, usize)| {
            for before in ["", "tracepoint:sched:*, ", " "] {
                let text = format!("{before}{PAIR}{key}");
                let found = expand(&text, &FixtureKernel::new(), Scope::System).unwrap().pop().unwrap();
                assert_eq!(found.point, PAIR);
                let place = |(part, at): (&str, usize)| (part.to_owned(), before.len() + PAIR.len() + at);
                let key = found.key.unwrap();
                assert_eq!((key.entry.clone(), key.exit), (place(entry), place(exit)), "{text}");
                assert_eq!(&text[key.entry.1..][..key.entry.0.len()], key.entry.0);
            }
        };
        check(" key tid", ("tid", 5), ("tid", 5));
        check(" key  args.dev, args.sector ", ("args.dev, args.sector", 6), ("args.dev, args.sector", 6));
        check(" key args.next_pid .. args.prev_pid", ("args.next_pid", 5), ("args.prev_pid", 22));
        check(" key a[1..2]..b", ("a[1..2]", 5), ("b", 14));
        check(" key f(\"..\") .. \"..\"", ("f(\"..\")", 5), ("\"..\"", 16));
        assert_eq!(expand(PAIR, &FixtureKernel::new(), Scope::System).unwrap().pop().unwrap().key, None);
    }

    /// A pattern leaves out what can't be: names that are there twice, functions that are not described or never return.
    #[test]
    fn patterns() {
        let check = |text: &str, expect: &[&str]| {
            let found = expand(text, &FixtureKernel::new(), Scope::System).unwrap();
            let names: Vec<&str> = found.iter().map(|target| target.point.split_once(':').unwrap().1).collect();
            assert_eq!(names, expect, "{text}");
        };
        let usable = ["nf_conntrack:nf_ct_delete", "tcp_connect", "vfs_read", "vfs_write"];
        check("fexit:*", &usable);
        check(
            "kprobe:*",
            &["_printk", "do_exit", "nf_conntrack:nf_ct_delete", "tcp_connect", "untyped", "vfs_read", "vfs_write"],
        );
        check("kretprobe:n*, kretprobe:t*, kretprobe:v*", &usable);
    }

    /// What a kernel lacks is said, with what would do instead where there is that.
    #[test]
    fn lacking() {
        let check = |text: &str, kprobe: bool, fentry: bool, message: &str, help: Option<&str>| {
            let mut kernel = FixtureKernel::new();
            (kernel.features.kprobe, kernel.features.fentry, kernel.features.lsm) = (kprobe, fentry, false);
            let error = expand(text, &kernel, Scope::System).unwrap_err();
            assert!(error.missing);
            assert_eq!((error.message.as_str(), error.help.as_deref()), (message, help), "{text}");
        };
        let kprobes = "this kernel has no kprobes (CONFIG_KPROBES and CONFIG_KPROBE_EVENTS)";
        let trampolines = "this kernel has no BPF trampolines (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)";
        check("kprobe:vfs_read+5", false, true, kprobes, Some("`fentry:vfs_read` would do"));
        check("kretprobe:vfs_*", false, true, kprobes, Some("`fexit:vfs_*` would do"));
        check("span:kprobe:vfs_read", false, true, kprobes, Some("`span:kfunc:vfs_read` would do"));
        check("kfunc:vfs_read", true, false, trampolines, Some("`kprobe:vfs_read` would do"));
        check("fexit:vfs_read", true, false, trampolines, Some("`kretprobe:vfs_read` would do"));
        check("span:fentry:vfs_read", false, false, trampolines, None);
        check("kprobe:vfs_read", false, false, kprobes, None);
        let boot = "boot it with `lsm=...,bpf`, the list in /sys/kernel/security/lsm and `bpf` behind it";
        let lsm = "this kernel asks no BPF program at its security hooks: it lacks CONFIG_BPF_LSM or BPF trampolines, or was booted \
                   without `bpf` in the list `lsm=` of its command line";
        check("lsm:file_open", true, true, lsm, Some(&format!("`fentry:security_file_open` would do, or {boot}")));
        check("lsm:file_*", true, false, lsm, Some(&format!("`kprobe:security_file_*` would do, or {boot}")));
        check("lsm:file_open", false, false, lsm, Some(boot));
    }

    /// The same for kinds that nothing stands in for.
    #[test]
    fn lacking_altogether() {
        let mut kernel = FixtureKernel::new();
        (kernel.features.uprobe, kernel.features.hardware, kernel.features.moments) = (false, false, false);
        (kernel.features.watchpoint, kernel.features.iter) = (false, false);
        for text in [
            "uprobe:libc:malloc",
            "ur:libc:malloc",
            "usdt:app:app:request",
            "span:uprobe:libc:*",
            "h:cycles",
            "begin",
            "END",
            "watchpoint:jiffies_64:8:w",
            "iter:task",
        ] {
            assert!(expand(text, &kernel, Scope::System).unwrap_err().missing, "{text}");
            assert!(list(text, &kernel).is_err(), "{text}");
        }
        for text in ["uprobe:nothing:x", "usdt:nothing:a:b", "uprobe:nothing:0x10"] {
            assert!(expand(text, &FixtureKernel::new(), Scope::System).unwrap_err().missing, "{text}");
        }
    }

    /// What `probes` lists: of one kind or of several, also what is only in a file that the pattern names.
    #[test]
    fn lists() {
        let check = |pattern: &str, expect: &[&str]| {
            let found = list(pattern, &FixtureKernel::new()).unwrap();
            let lines = found.iter().map(|l| {
                let arguments: Vec<String> = l.arguments.iter().map(|a| format!("{} {}", a.ctype, a.name)).collect();
                format!("{}({}){}", l.point, arguments.join(", "), l.retval.as_ref().map(|r| format!(" {r}")).unwrap_or_default())
            });
            assert_eq!(lines.collect::<Vec<_>>(), expect, "{pattern}");
        };
        let read = "struct file * file, char * buf, size_t count, loff_t * pos";
        let read = |kind: &str, returns: &str| format!("{kind}:vfs_read({read}){returns}");
        check("kprobe:vfs_r*", &[&read("kprobe", "")]);
        check("fr:vfs_r*", &[&read("fexit", " ssize_t")]);
        check("span:k*:vfs_r*", &[&read("span:kprobe", " ssize_t"), &read("span:kfunc", " ssize_t")]);
        check("uprobe:libc:m*", &["uprobe:/usr/lib/libc:malloc()"]);
        check("usdt:app:req*", &["usdt:/usr/lib/app:app:request(int32_t arg0, uint64_t arg1)"]);
        check("uprobe:*", &[]);
        check("profile", &["profile:hz:N()", "profile:ms:N()", "profile:s:N()", "profile:us:N()"]);
        check(
            "software:*-f*",
            &[
                "software:alignment-faults()",
                "software:emulation-faults()",
                "software:major-faults()",
                "software:minor-faults()",
                "software:page-faults()",
            ],
        );
        check("begin", &["begin()"]);
        assert!(list("*", &FixtureKernel::new()).unwrap().len() > 40);
        assert!(list("uprobe:nothing:x", &FixtureKernel::new()).is_err());
    }
}
