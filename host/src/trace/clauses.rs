//! Where the clauses of a program are.

use std::ops::Range;

use super::{
    error::Wrong,
    mask::{closing, skip, trimmed, word},
};

/// The places in a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// `let @m = ...;` outside of all clauses.
    pub(super) declarations: Vec<Range<usize>>,
    pub(super) clauses: Vec<Clause>,
}

/// `ATTACH /predicate/ { body }`, without the slashes and braces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) attach: Range<usize>,
    pub(super) predicate: Option<Range<usize>>,
    pub(super) body: Range<usize>,
}

/// Kinds whose attach points have a path, and therefore slashes of their own.
const WITH_PATH: [&str; 7] = ["uprobe", "u", "uretprobe", "ur", "usdt", "U", "span"];

/// Splits a masked program.
pub(super) fn split(mask: &str) -> Result<Split, Wrong> {
    let mut out = Split::default();
    let mut at = skip(mask, 0);
    while at < mask.len() {
        refuse(mask, at)?;
        let next = if is_word(mask, at, "let") { declaration(mask, at, &mut out)? } else { clause(mask, at, &mut out)? };
        at = skip(mask, next);
    }
    if out.clauses.is_empty() {
        return Err(Wrong::new(0..mask.len(), "the program has no clause")
            .help("write one as `tracepoint:sched:sched_switch { @[comm] = count(); }`"));
    }
    Ok(out)
}

fn is_word(mask: &str, at: usize, name: &str) -> bool {
    let length = word(&mask[at..]);
    mask[at..at + length] == *name && mask.as_bytes().get(at + length) != Some(&b':')
}

/// What bpftrace has at the top of a program, and this has not.
fn refuse(mask: &str, at: usize) -> Result<(), Wrong> {
    let length = word(&mask[at..]);
    let name = &mask[at..at + length];
    let behind = skip(mask, at + length);
    let line_end = mask[at..].find('\n').map_or(mask.len(), |i| at + i);
    if mask[at..].starts_with('#') {
        return Err(Wrong::new(at..line_end, "there is no preprocessor")
            .help("types and constants come from the running kernel: nothing needs to be included or defined"));
    }
    if mask[behind..].starts_with(':') || length == 0 {
        return Ok(());
    }
    let wrong = |message: String, help: &str| Err(Wrong::new(at..at + length, message).help(help));
    match name {
        "config" if mask[behind..].starts_with('=') => wrong(
            "a program has no `config` block".into(),
            "sizes are said where they matter: `str(p, 256)`, `let @m = hash(10000);`; the rest are options of the command line",
        ),
        "struct" | "union" | "enum" | "typedef" => wrong(
            format!("a program can't define a type with `{name}`"),
            "types come from the running kernel: cast to them, as in `(struct sock *)arg0`",
        ),
        "macro" | "fn" | "subprog" | "import" => {
            wrong(format!("a program can't have a `{name}` of its own"), "write it out in each body")
        }
        _ => Ok(()),
    }
}

/// `let @m = lruhash(100);`. Gives the place behind it.
fn declaration(mask: &str, at: usize, out: &mut Split) -> Result<usize, Wrong> {
    let variable = skip(mask, at + "let".len());
    let end = mask[at..].find([';', '{']).map(|i| at + i).filter(|end| mask[*end..].starts_with(';'));
    match end {
        Some(end) if mask[variable..].starts_with('@') => {
            out.declarations.push(at..end + 1);
            Ok(end + 1)
        }
        _ => {
            Err(Wrong::new(at..at + 3, "outside of the clauses only maps are declared").help("write `let @m = lruhash(10000);`"))
        }
    }
}

/// One clause. Gives the place behind it.
fn clause(mask: &str, at: usize, out: &mut Split) -> Result<usize, Wrong> {
    let end = attach_end(mask, at);
    let attach = trimmed(mask, at..end);
    if attach.is_empty() {
        return Err(Wrong::new(at..at + 1, format!("expected an attach point, found `{}`", &mask[at..at + 1]))
            .help("a clause is `ATTACH /predicate/ { body }`; the predicate can be left out"));
    }
    let (predicate, open) = match mask.as_bytes().get(end) {
        Some(b'/') => {
            let predicate = predicate(mask, end)?;
            let open = skip(mask, predicate.end + 1);
            (Some(predicate), open)
        }
        _ => (None, end),
    };
    if mask.as_bytes().get(open) != Some(&b'{') {
        return Err(Wrong::new(attach, "this attach point has no body").help("write what to do as `{ ... }` behind it"));
    }
    let close = closing(mask, open)
        .filter(|close| mask[*close..].starts_with('}'))
        .ok_or_else(|| Wrong::new(open..open + 1, "this body does not end").help("close each `{`, `(` and `[` in it"))?;
    out.clauses.push(Clause { attach, predicate, body: open + 1..close });
    Ok(close + 1)
}

/// Where the attach points end: at the predicate's slash, the body's brace, or what can't be in them.
fn attach_end(mask: &str, start: usize) -> usize {
    for (at, byte) in mask.bytes().enumerate().skip(start) {
        match byte {
            b'{' | b'}' | b';' => return at,
            b'/' if !in_path(mask, start, at) => return at,
            _ => {}
        }
    }
    mask.len()
}

/// Whether a slash is part of a path: the one of `uprobe:/bin/bash:readline /pid == 1/` that is not the last.
fn in_path(mask: &str, start: usize, at: usize) -> bool {
    let from = mask[start..at].rfind(|c: char| c.is_whitespace() || c == ',').map_or(start, |i| start + i + 1);
    let point = &mask[from..at];
    let kind = point.split(':').next().unwrap_or_default();
    if !point.contains(':') || !WITH_PATH.contains(&kind) {
        return false;
    }
    let segment = point.rsplit(':').next().unwrap_or_default();
    let rest = &mask[at..];
    let rest = &rest[..rest.find(|c: char| c.is_whitespace() || c == '{' || c == ',').unwrap_or(rest.len())];
    segment.is_empty() || segment.contains('/') || segment.starts_with('.') || rest.contains(':')
}

/// What stands between the slashes: the second one is the last before the body.
fn predicate(mask: &str, slash: usize) -> Result<Range<usize>, Wrong> {
    let ends = mask[slash + 1..].match_indices('/').map(|(i, _)| slash + 1 + i);
    let end = ends.into_iter().find(|end| mask[skip(mask, end + 1)..].starts_with('{'));
    let end = end.ok_or_else(|| {
        Wrong::new(slash..slash + 1, "this predicate does not end")
            .help("write it between slashes, before the body: `/pid == 1/ { ... }`")
    })?;
    let range = trimmed(mask, slash + 1..end);
    if range.is_empty() {
        return Err(Wrong::new(slash..end + 1, "the predicate is empty").help("leave it out to take every hit"));
    }
    Ok(range)
}
