//! Spans over pairs: `span:kprobe:FUNCTION`, `span:kfunc:FUNCTION`, `span:uprobe:BINARY:FUNCTION`, and
//! `span:tracepoint:CATEGORY:NAME..CATEGORY:NAME [key EXPR]`. Those of system calls are in [`super::syscall`].

use super::{AttachError, Kind, Listed, SpanKey, Target, fentry, function, kprobe, listed, tracepoint, uprobe};
use crate::kernel::{Kernel, SourceError};

pub(super) struct KprobeSpan;
pub(super) struct FentrySpan;
pub(super) struct UprobeSpan;
pub(super) struct TracepointSpan;

impl Kind for KprobeSpan {
    fn names(&self) -> &'static [&'static str] {
        &["span:kprobe"]
    }

    fn notation(&self) -> &'static str {
        "span:kprobe:FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        kprobe::lacking(rest, kernel, "span:kfunc")
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let found = function::find(rest, kernel, kprobe::returns)?;
        let target = |f: &function::Named| Target {
            point: format!("span:kprobe:{}", f.point()),
            site: kprobe::exit(f, kernel),
            entry: Some(kprobe::entry(f, kernel)),
            key: None,
        };
        Ok(found.iter().map(target).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

impl Kind for FentrySpan {
    fn names(&self) -> &'static [&'static str] {
        &["span:kfunc", "span:fentry"]
    }

    fn notation(&self) -> &'static str {
        "span:kfunc:[MODULE:]FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        fentry::lacking(rest, kernel, "span:kprobe")
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let found = function::find(rest, kernel, |f| fentry::usable(f, true, kernel))?;
        let target = |f: &function::Named| {
            Some(Target {
                point: format!("span:kfunc:{}", f.point()),
                site: fentry::exit(f, kernel)?,
                entry: Some(fentry::entry(f, kernel)?),
                key: None,
            })
        };
        Ok(found.iter().filter_map(target).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(listed(self, pattern, kernel))
    }
}

impl Kind for UprobeSpan {
    fn names(&self) -> &'static [&'static str] {
        &["span:uprobe"]
    }

    fn notation(&self) -> &'static str {
        "span:uprobe:BINARY:FUNCTION"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        uprobe::lacking(rest, kernel)
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let (binary, name) = uprobe::parts(rest)?;
        let found = uprobe::find(binary, name, kernel)?;
        let target = |f: &crate::kernel::UserFunction| Target {
            point: format!("span:uprobe:{}:{}", f.path, f.name),
            site: uprobe::exit(f, kernel),
            entry: Some(uprobe::entry(f, kernel)),
            key: None,
        };
        Ok(found.iter().map(target).collect())
    }

    fn list(&self, pattern: &str, kernel: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        uprobe::list(self, pattern, kernel)
    }
}

impl Kind for TracepointSpan {
    fn names(&self) -> &'static [&'static str] {
        &["span:tracepoint"]
    }

    fn notation(&self) -> &'static str {
        "span:tracepoint:CATEGORY:NAME..CATEGORY:NAME"
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let (pair, key) = match rest.find(KEY) {
            // Without anything behind it.
            None if rest.ends_with(KEY.trim_end()) => (rest, Some(key(rest, rest.len())?)),
            None => (rest, None),
            Some(at) => (&rest[..at], Some(key(rest, at + KEY.len())?)),
        };
        let pair = pair.trim_end();
        let Some((entry, exit)) = pair.split_once("..") else {
            return Err(AttachError::wrong(0..pair.len(), "two tracepoints with `..` between them belong here")
                .help("as in span:tracepoint:block:block_rq_issue..block:block_rq_complete key args.dev, args.sector"));
        };
        let one = |text: &str, at: usize| {
            let lead = text.len() - text.trim_start().len();
            let text = text.trim();
            let place = at + lead;
            let mut found = tracepoint::Tracepoint.expand(text, kernel).map_err(|e| super::shifted(e, place))?;
            match (found.pop(), found.is_empty()) {
                (Some(target), true) => Ok((text.to_owned(), target.site)),
                _ => Err(AttachError::wrong(
                    place..place + text.len(),
                    "each side of a span is one tracepoint, and this fits several",
                )),
            }
        };
        let (entry, begin) = one(entry, 0)?;
        let (exit, end) = one(exit, pair.len() - exit.len())?;
        Ok(vec![Target { point: format!("span:tracepoint:{entry}..{exit}"), site: end, entry: Some(begin), key }])
    }

    /// Any two tracepoints may be a pair: there is nothing to list.
    fn list(&self, _: &str, _: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(Vec::new())
    }
}

/// What parts a span from its key.
pub(super) const KEY: &str = " key ";

/// The key that stands from byte `at` on.
fn key(rest: &str, at: usize) -> Result<SpanKey, AttachError> {
    let text = &rest[at..];
    let trimmed = |from: usize, to: usize| {
        let part = &text[from..to];
        let lead = part.len() - part.trim_start().len();
        let place = at + from + lead;
        match part.trim() {
            "" => Err(AttachError::wrong(
                place.min(rest.len())..place.min(rest.len()),
                "what joins the two ends of the span belongs here",
            )
            .help("as in `key args.dev, args.sector`, or `key args.next_pid .. args.prev_pid`")),
            part => Ok((part.to_owned(), place)),
        }
    };
    match parting(text) {
        None => {
            let both = trimmed(0, text.len())?;
            Ok(SpanKey { entry: both.clone(), exit: both })
        }
        Some(dots) => Ok(SpanKey { entry: trimmed(0, dots)?, exit: trimmed(dots + 2, text.len())? }),
    }
}

/// Where the `..` stands that is in no text and no brackets.
fn parting(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'.' if depth <= 0 && bytes.get(i + 1) == Some(&b'.') => return Some(i),
            _ => {}
        }
    }
    None
}
