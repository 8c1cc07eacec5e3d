//! Statements.

use super::{Parser, Result};
use crate::{
    diagnostic::suggest,
    syntax::{
        SyntaxError, WHOLE_MAP_HELP,
        ast::{BinaryOp, EmitField, Expr, ExprKind, Ident, MapAccess, Statement, StatementKind},
        last_name,
        lexer::Token,
    },
};

/// The words that statements begin with.
const STATEMENTS: [&str; 12] =
    ["emit", "if", "else", "while", "for", "unroll", "let", "delete", "clear", "return", "break", "continue"];

/// How some of them are written.
const DECLARE: &str = "`let @m = hash(10000);`";
const FOR: &str = "`for ($i : 0..10) { ... }`";

/// What bpftrace has and a body here must say in another way.
const ELSEWHERE: [(&str, &str); 14] = [
    ("printf", "a probe prints nothing: `emit STREAM { ... }` and let the plugin print"),
    ("print", "a probe prints nothing: `emit STREAM { ... }` and let the plugin print"),
    ("exit", "the plugin ends the run, through `session.stop`"),
    ("time", "every row of a stream has its `time` already"),
    ("join", "`emit` the parts and let the plugin join them"),
    ("cat", "the plugin reads files, where the bundle grants it"),
    ("system", "nothing here starts programs"),
    ("zero", WHOLE_MAP_HELP),
    ("errorf", "`emit` it and let the plugin say what is wrong"),
    ("warnf", "`emit` it and let the plugin say what is wrong"),
    ("signal", "nothing here changes what is traced"),
    ("signal_thread", "nothing here changes what is traced"),
    ("override", "nothing here changes what is traced"),
    ("config", "options are those of the bundle"),
];

/// Operators that assign.
const COMPOUND: [(&str, BinaryOp); 10] = [
    ("+=", BinaryOp::Add),
    ("-=", BinaryOp::Subtract),
    ("*=", BinaryOp::Multiply),
    ("/=", BinaryOp::Divide),
    ("%=", BinaryOp::Remainder),
    ("<<=", BinaryOp::ShiftLeft),
    (">>=", BinaryOp::ShiftRight),
    ("&=", BinaryOp::BitAnd),
    ("|=", BinaryOp::BitOr),
    ("^=", BinaryOp::BitXor),
];

impl Parser {
    pub(super) fn statements(&mut self) -> Result<Vec<Statement>> {
        let mut out = Vec::new();
        loop {
            while self.eat(";") {}
            if matches!(self.peek(), Token::End | Token::Mark("}")) {
                return Ok(out);
            }
            let statement = self.nested(Self::statement)?;
            use StatementKind::{For, If, Unroll, While};
            let block = matches!(statement.kind, If(..) | While(..) | For(..) | Unroll(..));
            out.push(statement);
            if !block && !matches!(self.peek(), Token::End | Token::Mark("}")) {
                self.expect(";", "after the statement")?;
            }
        }
    }

    fn statement(&mut self) -> Result<Statement> {
        let start = self.span().start;
        let kind = match self.peek().clone() {
            Token::Variable(_) | Token::Map(_) => self.assignment()?,
            Token::Mark("++") => {
                self.advance();
                self.step(BinaryOp::Add)?
            }
            Token::Mark("--") => {
                self.advance();
                self.step(BinaryOp::Subtract)?
            }
            Token::Mark("{") => StatementKind::Emit(None, self.emit_fields(true)?),
            Token::Ident(word) => match word.as_str() {
                "if" => return self.branch(start),
                "while" | "unroll" => {
                    self.advance();
                    if *self.peek() == Token::Mark("{") {
                        let (what, usage) = match word.as_str() {
                            "while" => ("a condition", "`while CONDITION { ... }`"),
                            _ => ("a number", "`unroll(3) { ... }`"),
                        };
                        let message = format!("expected {what} after `{word}`, found `{{`");
                        return Err(SyntaxError::new(self.span(), message).help(format!("it is written {usage}")));
                    }
                    let operand = self.expr()?;
                    let span = start..self.last_end();
                    let body = self.block()?;
                    let kind = if word == "while" { StatementKind::While } else { StatementKind::Unroll };
                    return Ok(Statement { kind: kind(operand, body), span });
                }
                "for" => return self.range_loop(start),
                "let" => {
                    self.advance();
                    self.declaration()?
                }
                "return" => {
                    self.advance();
                    if !matches!(self.peek(), Token::Mark(";" | "}") | Token::End) {
                        let message = format!("expected `;` after `return`, found {}", self.peek().describe());
                        return Err(SyntaxError::new(self.span(), message).help("a body gives no value"));
                    }
                    StatementKind::Return
                }
                "break" => {
                    self.advance();
                    StatementKind::Break
                }
                "continue" => {
                    self.advance();
                    StatementKind::Continue
                }
                "delete" => {
                    self.advance();
                    self.expect_in("(", "after `delete`", "`delete(@m[key]);`")?;
                    let mut map = self.map()?;
                    // Or delete(@m, key).
                    while self.eat(",") {
                        self.key(&mut map.keys)?;
                        map.span.end = self.last_end();
                    }
                    self.expect(")", "after the element")?;
                    StatementKind::Delete(map)
                }
                "clear" => {
                    self.advance();
                    self.expect_in("(", "after `clear`", "`clear(@m);`")?;
                    let map = self.map()?;
                    self.expect(")", "after the map")?;
                    StatementKind::Clear(map)
                }
                "emit" => {
                    self.advance();
                    let usage = match self.peek() {
                        Token::Mark("{") => "`emit STREAM { ... }`, or `{ ... }` alone for the stream with the probe's name",
                        Token::Text(_) => "without quotes: `emit STREAM { ... }`",
                        _ => "`emit STREAM { ... }`",
                    };
                    let stream = self.ident("the name of a stream").map_err(|e| e.help(format!("it is written {usage}")))?;
                    StatementKind::Emit(Some(stream), self.emit_fields(false)?)
                }
                _ => return Err(self.no_statement(&Token::Ident(word))),
            },
            other => return Err(self.no_statement(&other)),
        };
        Ok(Statement { kind, span: start..self.last_end() })
    }

    /// `++@m` and the like, the operator being behind us.
    fn step(&mut self, op: BinaryOp) -> Result<StatementKind> {
        let one = Expr { kind: ExprKind::Int(1), span: self.span() };
        match self.peek().clone() {
            Token::Variable(name) => {
                let ident = Ident { name, span: self.advance().span };
                Ok(StatementKind::Assign(ident, Some(op), one))
            }
            Token::Map(_) => Ok(StatementKind::AssignMap(self.map()?, Some(op), one)),
            other => {
                let message = format!("expected a variable or a map, found {}", other.describe());
                Err(SyntaxError::new(self.span(), message).help("`++$x;` or `++@m;`"))
            }
        }
    }

    /// What begins with a variable or a map.
    fn assignment(&mut self) -> Result<StatementKind> {
        enum Left {
            Variable(Ident),
            Map(MapAccess),
        }
        let left = match self.peek().clone() {
            Token::Variable(name) => Left::Variable(Ident { name, span: self.advance().span }),
            _ => Left::Map(self.map()?),
        };
        let span = self.span();
        let one = Expr { kind: ExprKind::Int(1), span: span.clone() };
        let (op, value) = match self.peek() {
            Token::Mark("++") => {
                self.advance();
                (Some(BinaryOp::Add), one)
            }
            Token::Mark("--") => {
                self.advance();
                (Some(BinaryOp::Subtract), one)
            }
            Token::Mark("=") => {
                self.advance();
                (None, self.expr()?)
            }
            other => match COMPOUND.iter().find(|(mark, _)| *other == Token::Mark(mark)) {
                Some((_, op)) => {
                    self.advance();
                    (Some(*op), self.expr()?)
                }
                None => {
                    let what = if matches!(left, Left::Variable(_)) { "variable" } else { "map" };
                    let message = format!("expected `=` after the {what}, found {}", other.describe());
                    return Err(
                        SyntaxError::new(span, message).help("a value alone is no statement: assign it, or record it by `emit`")
                    );
                }
            },
        };
        Ok(match left {
            Left::Variable(variable) => StatementKind::Assign(variable, op, value),
            Left::Map(map) => StatementKind::AssignMap(map, op, value),
        })
    }

    /// `let $x;`, `let $x = 1;`, `let @m = hash(100);`, the `let` being behind us.
    fn declaration(&mut self) -> Result<StatementKind> {
        match self.peek().clone() {
            Token::Variable(name) => {
                let ident = Ident { name, span: self.advance().span };
                if self.eat("=") {
                    return Ok(StatementKind::Assign(ident, None, self.expr()?));
                }
                Ok(StatementKind::Let(ident))
            }
            Token::Map(name) => {
                let ident = Ident { name, span: self.advance().span };
                self.expect_in("=", "after the map", DECLARE)?;
                let kind = self.ident("a kind of map").map_err(|e| e.help(format!("it is written {DECLARE}")))?;
                self.expect_in("(", "after the kind of map", DECLARE)?;
                let size = self.expr()?;
                self.expect_in(")", "after the number of elements", DECLARE)?;
                Ok(StatementKind::Declare(ident, kind, size))
            }
            other => {
                let message = format!("expected a variable or a map, found {}", other.describe());
                Err(SyntaxError::new(self.span(), message).help("`let $x = 1;` or `let @m = lruhash(10000);`"))
            }
        }
    }

    fn branch(&mut self, start: usize) -> Result<Statement> {
        self.advance();
        let condition = self.expr()?;
        let span = start..self.last_end();
        let then = self.block()?;
        let otherwise = if !self.eat_word("else") {
            Vec::new()
        } else if matches!(self.peek(), Token::Ident(word) if word == "if") {
            vec![self.nested(Self::statement)?]
        } else {
            self.block()?
        };
        Ok(Statement { kind: StatementKind::If(condition, then, otherwise), span })
    }

    /// `for ($i : a..b) { ... }`
    fn range_loop(&mut self, start: usize) -> Result<Statement> {
        self.advance();
        let parenthesis = self.eat("(");
        let variable = match self.peek().clone() {
            Token::Variable(name) => Ident { name, span: self.advance().span },
            other => {
                let message = format!("expected a variable, found {}", other.describe());
                return Err(SyntaxError::new(self.span(), message).help(format!("it is written {FOR}")));
            }
        };
        self.expect_in(":", "after the variable", FOR)?;
        let from = self.expr()?;
        if matches!(from.kind, ExprKind::Map(_)) && *self.peek() != Token::Mark("..") {
            return Err(SyntaxError::new(from.span, "a body can't go through the elements of a map").help(WHOLE_MAP_HELP));
        }
        self.expect_in("..", "after the range's begin", FOR)?;
        let to = self.expr()?;
        if parenthesis {
            self.expect_in(")", "after the range", FOR)?;
        }
        let span = start..self.last_end();
        let body = self.block()?;
        Ok(Statement { kind: StatementKind::For(variable, from, to, body), span })
    }

    fn no_statement(&self, found: &Token) -> SyntaxError {
        let error = SyntaxError::new(self.span(), format!("expected a statement, found {}", found.describe()));
        let next = self.tokens.get(self.at + 1).map(|next| &next.token);
        let Token::Ident(word) = found else {
            return error.help(format!(
                "statements begin with a variable, a map, a `{{`, or {}",
                STATEMENTS.iter().filter(|word| **word != "else").copied().collect::<Vec<_>>().join(", ")
            ));
        };
        if let Some((_, help)) = ELSEWHERE.iter().find(|(name, _)| name == word) {
            return error.help(*help);
        }
        let assigns = |mark: &str| mark == "=" || COMPOUND.iter().any(|(compound, _)| *compound == mark);
        match (suggest(word, STATEMENTS), next) {
            (_, Some(Token::Mark(mark))) if assigns(mark) => error.help(format!("a variable has a `$`: `${word} {mark} ...`")),
            (Some("else"), _) => error.help("`else` stands behind the `}` of an `if`"),
            (Some(like), _) => error.help(format!("did you mean `{like}`?")),
            _ => error.help("a value alone is no statement: assign it, or record it by `emit`"),
        }
    }

    fn block(&mut self) -> Result<Vec<Statement>> {
        self.expect("{", "before the block").map_err(|error| error.help("the braces of a block are required"))?;
        let statements = self.nested(Self::statements)?;
        self.expect("}", "after the block")?;
        Ok(statements)
    }

    /// With `bare`, a field is an expression and is named after the last name in it.
    fn emit_fields(&mut self, bare: bool) -> Result<Vec<EmitField>> {
        self.expect("{", "before the fields")?;
        let mut fields: Vec<EmitField> = Vec::new();
        while !self.eat("}") {
            if bare && !self.names_field() {
                let value = self.expr()?;
                let name = last_name(&value).unwrap_or_else(|| format!("field{}", fields.len()));
                let span = value.span.clone();
                fields.push(EmitField { name: Ident { name, span }, value });
                if !self.eat(",") {
                    self.expect("}", "after the fields")?;
                    break;
                }
                continue;
            }
            let name = self.ident("the name of a field").map_err(|error| match self.peek() {
                Token::Variable(name) | Token::Map(name) if !name.is_empty() => {
                    error.help(format!("give it a name: `{name}: {}`", self.peek().describe().trim_matches('`')))
                }
                _ => error.help("fields are written `NAME: VALUE`"),
            })?;
            let value = if self.eat(":") {
                self.expr()?
            } else if matches!(self.peek(), Token::Mark("," | "}")) {
                Expr { kind: ExprKind::Name(name.name.clone()), span: name.span.clone() }
            } else {
                let message = format!("expected `:` after the field's name, found {}", self.peek().describe());
                let help = format!("a field that is more than a builtin needs a name: `{}: ...`", "name");
                return Err(SyntaxError::new(self.span(), message).help(help));
            };
            fields.push(EmitField { name, value });
            if !self.eat(",") {
                self.expect("}", "after the fields")?;
                break;
            }
        }
        Ok(fields)
    }

    /// A field with a name of its own: `name: value`.
    fn names_field(&self) -> bool {
        let next = self.tokens.get(self.at + 1).map(|t| &t.token);
        matches!(self.peek(), Token::Ident(_)) && next == Some(&Token::Mark(":"))
    }
}
