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

/// How much of a line, and of a message that quotes a spec, is shown, in characters.
const SHOWN: usize = 1200;
/// How much of a longer line is shown before the place.
const BEFORE: usize = 60;

/// The part of a line that is shown, what stands before the place in it, and how wide the place is.
fn excerpt(line: &str, place: Range<usize>) -> (String, String, usize) {
    let before = line[..place.start].chars().count();
    let width = line[place.clone()].chars().count().max(1);
    let pad = |text: &str| text.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect::<String>();
    if line.chars().count() <= SHOWN {
        return (line.to_owned(), pad(&line[..place.start]), width);
    }
    let skipped = before.saturating_sub(BEFORE);
    let mut shown: String = line.chars().skip(skipped).take(SHOWN).collect();
    let width = width.min((skipped + SHOWN).saturating_sub(before)).max(1);
    if skipped + SHOWN < line.chars().count() {
        shown.push('…');
    }
    let (mark, beginning) = (if skipped > 0 { "…" } else { "" }, line.chars().skip(skipped).take(before - skipped));
    (format!("{mark}{shown}"), pad(&format!("{mark}{}", beginning.collect::<String>())), width)
}

/// A message without the middle of what it quotes, if that is very long.
fn shortened(message: &str) -> String {
    let count = message.chars().count();
    if count <= 2 * SHOWN {
        return message.to_owned();
    }
    let (begin, end) = (message.chars().take(SHOWN), message.chars().skip(count - SHOWN));
    begin.chain(['…']).chain(end).collect()
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
        let (shown, pad, width) = excerpt(line, start - line_start..end - line_start);
        let gutter = " ".repeat(number.to_string().len());
        writeln!(f, "{}", shortened(&self.message))?;
        writeln!(f, "{gutter}--> probe \"{}\", {}, line {number}, column {column}", self.probe, self.part)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {shown}")?;
        write!(f, "{gutter} | {pad}{}", "^".repeat(width))?;
        if let Some(help) = &self.help {
            write!(f, "\n{gutter} = help: {}", shortened(help))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a very long line what is around the place is shown, and of a name in it the begin and the end.
    #[test]
    fn long_lines() {
        let name = "x".repeat(60_000);
        let spec = ProbeSpec { name: "p".into(), body: format!("{}{name};", "é".repeat(1000)), ..ProbeSpec::default() };
        let error = Diagnostic::new(&spec, Part::Body, 2000..62_000, format!("`{name}` is not known"));
        let text = error.to_string();
        assert!(text.chars().count() < 7 * SHOWN, "{text}");
        assert!(text.contains(" line 1, column 1001\n") && text.ends_with(&"^".repeat(SHOWN - BEFORE)), "{text}");
        assert!(text.starts_with("`xxx") && text.contains("x` is not known\n"), "{text}");
        let place = |line: &str| line.find(['x', '^']).map(|at| line[..at].chars().count());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(place(lines[3]), place(lines[4]), "{text}");
    }
}
