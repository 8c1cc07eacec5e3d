//! Errors of the probe language: where, what, and what would be right.

use std::{fmt, ops::Range};

use crate::spec::ProbeSpec;

/// The part of a probe spec that an error is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The probe's name.
    Name,
    /// An attach point, by position.
    Attach(usize),
    /// The predicate.
    When,
    /// The body.
    Body,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Name => f.write_str("name"),
            Part::Attach(_) => f.write_str("attach"),
            Part::When => f.write_str("when"),
            Part::Body => f.write_str("body"),
        }
    }
}

/// One error in a probe spec. Its `Display` is several lines: the reason, the place, the source line with a caret, the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostic {
    /// The name of the probe.
    pub probe: String,
    /// The part of its spec.
    pub part: Part,
    /// The whole text of that part.
    pub source_text: String,
    /// The bytes of `source_text` that are wrong.
    pub span: Range<usize>,
    /// What is wrong, in a line without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// This kernel lacks what the probe names; an optional probe may go without.
    pub missing: bool,
}

impl Diagnostic {
    /// Of those bytes of a part of a spec, without a way out.
    pub(crate) fn new(spec: &ProbeSpec, part: Part, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            probe: spec.name.clone(),
            part,
            source_text: spec.text(part).to_owned(),
            span,
            message: message.into(),
            help: None,
            missing: false,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.source_text;
        let start = floor_boundary(text, self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let line = &text[line_start..line_end];
        let number = text[..line_start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count() + 1;
        let end = floor_boundary(text, self.span.end.clamp(start, line_end));
        let width = text[start..end].chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        let pad: String = text[line_start..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{gutter}--> probe \"{}\", {}, line {number}, column {column}", self.probe, self.part)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {line}")?;
        write!(f, "{gutter} | {pad}{}", "^".repeat(width))?;
        if let Some(help) = &self.help {
            write!(f, "\n{gutter} = help: {help}")?;
        }
        Ok(())
    }
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The candidate most like `name`, if one is like enough to be what was meant; of several, one that begins alike.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(name, c), c))
        .filter(|(distance, c)| *distance <= (name.len().max(c.len()) / 3).max(1))
        .min_by_key(|(distance, c)| (*distance, c.bytes().next() != name.bytes().next()))
        .map(|(_, c)| c)
}
