//! Mistakes in a manifest, shown where they are.

use std::{fmt, io, ops::Range, path::PathBuf};

use crate::output::clean;

/// Why a manifest was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be read as text.
    #[error("can't read the bundle {}", clean::line(&path.to_string_lossy()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It has mistakes.
    #[error("{}", show(path, problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of their places.
        problems: Vec<Problem>,
    },
}

/// One mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in a line without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The text of that line, or of the part around the place if it is long; one character for each of its characters.
    excerpt: String,
    /// Where in `excerpt` the caret stands, and how wide it is, in characters.
    caret: (usize, usize),
}

/// How much of a long line is shown, in characters.
const EXCERPT: usize = 120;

impl Problem {
    /// A mistake at the bytes `span` of `text`.
    pub(super) fn new(text: &str, span: Range<usize>, message: String, help: Option<String>) -> Problem {
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor_boundary(text, span.end.clamp(start, line_end));
        let column = text[line_start..start].chars().count();
        let width = text[start..end].chars().count().max(1);
        let skip = if column + width > EXCERPT { column.saturating_sub(EXCERPT / 4) } else { 0 };
        let excerpt: String =
            text[line_start..line_end].trim_end_matches('\r').chars().skip(skip).take(EXCERPT).map(plain).collect();
        Problem {
            message,
            help,
            line: text[..line_start].matches('\n').count() + 1,
            column: column + 1,
            excerpt,
            caret: (column - skip, width.min(EXCERPT - (column - skip))),
        }
    }
}

impl fmt::Display for Problem {
    /// The line with a caret below it, and the help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let (at, width) = self.caret;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.excerpt.trim_end())?;
        write!(f, "{gutter} | {}{}", " ".repeat(at), "^".repeat(width))?;
        if let Some(help) = &self.help {
            write!(f, "\n{gutter} = help: {}", clean::line(help))?;
        }
        Ok(())
    }
}

fn show(path: &std::path::Path, problems: &[Problem]) -> String {
    let path = path.to_string_lossy();
    let path = clean::line(&path);
    let shown = problems.iter().map(|problem| {
        let gutter = " ".repeat(problem.line.to_string().len());
        let message = clean::line(&problem.message);
        format!("{message}\n{gutter}--> {path}, line {}, column {}\n{problem}", problem.line, problem.column)
    });
    shown.collect::<Vec<_>>().join("\n\n")
}

/// What stands for a character in an excerpt: itself, or one blank or mark, so that the caret stays below its place.
fn plain(c: char) -> char {
    match c {
        '\t' => ' ',
        c if clean::is_hidden(c) => '\u{fffd}',
        c => c,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
