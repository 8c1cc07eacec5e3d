//! Errors in a program, at the place that was typed.

use std::{fmt, ops::Range};

/// What is wrong, and where in the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Bytes of the program's text.
    pub(super) span: Range<usize>,
    /// A line without a full stop.
    pub(super) message: String,
    /// What would be right.
    pub(super) help: Option<String>,
}

impl Wrong {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Wrong {
        Wrong { span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Wrong {
        self.help = Some(help.into());
        self
    }
}

/// One error. Its `Display` is several lines: the reason, the place, the source line with a caret, the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramError {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) wrong: Wrong,
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProgramError { name, text, wrong } = self;
        let start = boundary(text, wrong.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let number = text[..line_start].matches('\n').count() + 1;
        let before = &text[line_start..start];
        let width = text[start..boundary(text, wrong.span.end.clamp(start, line_end))].chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        let pad: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}", wrong.message)?;
        writeln!(f, "{gutter}--> {name}, line {number}, column {}", before.chars().count() + 1)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", &text[line_start..line_end])?;
        write!(f, "{gutter} | {pad}{}", "^".repeat(width))?;
        match &wrong.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// The last boundary of a character that is not behind `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// All that is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ProgramErrors(pub Vec<ProgramError>);
