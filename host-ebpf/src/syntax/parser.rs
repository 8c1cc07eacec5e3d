//! Tokens to syntax trees, by recursive descent: statements and expressions are in a room each.

mod expr;
mod statement;

use std::ops::Range;

pub(crate) use expr::{TYPE_WORDS, last_name};

use super::{
    SyntaxError,
    ast::{Expr, Ident, Statement},
    lexer::{Spanned, Token, tokens},
};
use crate::diagnostic::suggest;

/// How deep expressions and blocks may nest: far more than anyone writes, far less than the stack holds.
const MAX_DEPTH: usize = 64;

/// How many operators of one level, or members, may follow each other: they nest to the left.
const MAX_CHAIN: usize = 256;

/// What a body can do with a map as a whole, and who does the rest.
pub(crate) const WHOLE_MAP_HELP: &str = "of a whole map a body has `len(@m)` and `clear(@m)`; the plugin does the rest by its import `maps`, and `portcullis trace` by `print` and `zero`";

/// Parses a predicate.
pub fn parse_when(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.expr()?;
    parser.expect_end()?;
    Ok(expr)
}

/// Parses expressions with commas between them, as the key of a span has them. They stand `at` so many bytes into a longer text, by
/// which their places count.
pub fn parse_list(text: &str, at: usize) -> Result<Vec<Expr>, SyntaxError> {
    let mut parser = Parser::new(&format!("{}{text}", " ".repeat(at)))?;
    let mut out = vec![parser.expr()?];
    while parser.eat(",") {
        out.push(parser.expr()?);
    }
    parser.expect_end()?;
    Ok(out)
}

/// Parses a body.
pub fn parse_body(text: &str) -> Result<Vec<Statement>, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let statements = parser.statements()?;
    parser.expect_end()?;
    Ok(statements)
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
}

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

impl Parser {
    fn new(text: &str) -> Result<Self> {
        Ok(Parser { tokens: tokens(text)?, at: 0, depth: 0 })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn span(&self) -> Range<usize> {
        self.tokens[self.at].span.clone()
    }

    /// Where the token before this one ended.
    fn last_end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].span.end
    }

    fn advance(&mut self) -> Spanned {
        let token = self.tokens[self.at].clone();
        // The last token is `End` and stays.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn eat(&mut self, mark: &'static str) -> bool {
        let found = *self.peek() == Token::Mark(mark);
        if found {
            self.advance();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Ident(name) if name == word);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, mark: &'static str, why: &str) -> Result<()> {
        if self.eat(mark) {
            return Ok(());
        }
        let error = SyntaxError::new(self.span(), format!("expected `{mark}` {why}, found {}", self.peek().describe()));
        // A block comes behind what may well look like a cast.
        let help = if mark == "{" { None } else { self.meant() };
        Err(SyntaxError { help, ..error })
    }

    /// The same of a statement that is written as `usage` says.
    fn expect_in(&mut self, mark: &'static str, why: &str, usage: &str) -> Result<()> {
        self.expect(mark, why).map_err(|error| error.help(format!("it is written {usage}")))
    }

    fn expect_end(&self) -> Result<()> {
        let Token::End = self.peek() else {
            let error = SyntaxError::new(self.span(), format!("expected the end, found {}", self.peek().describe()));
            let help = match self.peek() {
                Token::Mark("}") => Some("there is no `{` for it".to_owned()),
                Token::Mark("#") => Some("a comment begins with `//`".to_owned()),
                _ => self.meant(),
            };
            return Err(SyntaxError { help, ..error });
        };
        Ok(())
    }

    /// What may have been meant by an expression that goes on where it should have ended.
    fn meant(&self) -> Option<String> {
        let before = |n: usize| self.at.checked_sub(n).map(|at| &self.tokens[at].token);
        match (before(1), self.peek()) {
            (_, Token::Mark("++" | "--")) => Some("`++` and `--` stand in statements of their own: `$x++;`".into()),
            (Some(Token::Mark(")")), Token::Ident(_) | Token::Variable(_) | Token::Map(_) | Token::Int(_)) => {
                match (before(3), before(2)) {
                    (Some(Token::Mark("(")), Some(Token::Ident(word))) => Some(match suggest(word, TYPE_WORDS) {
                        Some(like) => format!("if this is a cast: did you mean `({like})`?"),
                        None => format!(
                            "`({word})` is no cast: types begin with `struct`, `union` or `enum`, are `uint32` and the like, or end in `_t` or `*`"
                        ),
                    }),
                    (_, Some(Token::Mark("]"))) => Some("there are no casts to arrays".into()),
                    _ => None,
                }
            }
            (_, Token::Mark(",")) => Some("there are no tuples but as keys: `@m[a, b]`".into()),
            _ => None,
        }
    }

    fn ident(&mut self, what: &str) -> Result<Ident> {
        match self.peek().clone() {
            Token::Ident(name) => Ok(Ident { name, span: self.advance().span }),
            other => Err(SyntaxError::new(self.span(), format!("expected {what}, found {}", other.describe()))),
        }
    }

    /// Runs `f` one level deeper.
    fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(SyntaxError::new(self.span(), format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn chain(&self, links: usize) -> Result<()> {
        if links > MAX_CHAIN {
            return Err(SyntaxError::new(self.span(), format!("more than {MAX_CHAIN} operators in a row")));
        }
        Ok(())
    }
}
