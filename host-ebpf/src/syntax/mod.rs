//! Text to syntax trees: the lexer, the trees, and the parser of predicates and bodies.

pub mod ast;
mod lexer;
mod parser;

pub(crate) use parser::{TYPE_WORDS, WHOLE_MAP_HELP, last_name};
pub use parser::{parse_body, parse_list, parse_when};

use std::ops::Range;

/// A syntax error: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The bytes that are wrong.
    pub span: Range<usize>,
    /// What is wrong with them.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl SyntaxError {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        SyntaxError { span, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
