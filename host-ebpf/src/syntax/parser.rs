//! Tokens to syntax trees, by recursive descent; operators by precedence climbing, as in C.

use std::ops::Range;

use super::{
    SyntaxError,
    ast::{BinaryOp, EmitField, Expr, ExprKind, Ident, Statement, StatementKind, UnaryOp},
    lexer::{Spanned, Token, tokens},
};

/// How deep expressions and blocks may nest: far more than anyone writes, far less than the stack holds.
const MAX_DEPTH: usize = 64;

/// How many operators of one level, or members, may follow each other: they nest to the left.
const MAX_CHAIN: usize = 256;

/// What the language of other tools has and a body here must say in another way.
const ELSEWHERE: [(&str, &str); 8] = [
    ("printf", "a probe prints nothing: `emit STREAM { ... }` and let the plugin print"),
    ("print", "a probe prints nothing: `emit STREAM { ... }` and let the plugin print"),
    ("exit", "the plugin ends the run, through `session.stop`"),
    ("time", "every row of a stream has its `time` already"),
    ("join", "`emit` the parts and let the plugin join them"),
    ("cat", "the plugin reads files, where the bundle grants it"),
    ("system", "nothing here starts programs"),
    ("clear", "this version of the language has no maps"),
];

/// Parses a predicate.
pub fn parse_when(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.expr()?;
    parser.expect_end()?;
    Ok(expr)
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
        Err(SyntaxError::new(self.span(), format!("expected `{mark}` {why}, found {}", self.peek().describe())))
    }

    fn expect_end(&self) -> Result<()> {
        match self.peek() {
            Token::End => Ok(()),
            other => Err(SyntaxError::new(self.span(), format!("expected the end, found {}", other.describe()))),
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

    fn statements(&mut self) -> Result<Vec<Statement>> {
        let mut out = Vec::new();
        loop {
            while self.eat(";") {}
            if matches!(self.peek(), Token::End | Token::Mark("}")) {
                return Ok(out);
            }
            let statement = self.nested(Self::statement)?;
            let block = matches!(statement.kind, StatementKind::If(..));
            out.push(statement);
            if !block && !matches!(self.peek(), Token::End | Token::Mark("}")) {
                self.expect(";", "after the statement")?;
            }
        }
    }

    fn statement(&mut self) -> Result<Statement> {
        let start = self.span().start;
        let kind = match self.peek().clone() {
            Token::Variable(name) => {
                let ident = Ident { name, span: self.advance().span };
                self.expect("=", "after the variable")?;
                StatementKind::Assign(ident, self.expr()?)
            }
            Token::Ident(word) if word == "if" => {
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
                return Ok(Statement { kind: StatementKind::If(condition, then, otherwise), span });
            }
            Token::Ident(word) if word == "return" => {
                self.advance();
                StatementKind::Return
            }
            Token::Ident(word) if word == "emit" => {
                self.advance();
                let stream = self.ident("the name of a stream")?;
                StatementKind::Emit(stream, self.emit_fields()?)
            }
            other => return Err(self.no_statement(&other)),
        };
        Ok(Statement { kind, span: start..self.last_end() })
    }

    fn no_statement(&self, found: &Token) -> SyntaxError {
        let error = SyntaxError::new(self.span(), format!("expected a statement, found {}", found.describe()));
        let elsewhere = match found {
            Token::Ident(word) => ELSEWHERE.iter().find(|(name, _)| name == word).map(|(_, help)| *help),
            Token::Mark("@") => Some("this version of the language has no maps"),
            _ => None,
        };
        error.help(elsewhere.unwrap_or("statements are `emit STREAM { ... }`, `$x = ...`, `if (...) { ... }` and `return`"))
    }

    fn block(&mut self) -> Result<Vec<Statement>> {
        self.expect("{", "before the block")?;
        let statements = self.nested(Self::statements)?;
        self.expect("}", "after the block")?;
        Ok(statements)
    }

    fn emit_fields(&mut self) -> Result<Vec<EmitField>> {
        self.expect("{", "before the fields")?;
        let mut fields = Vec::new();
        while !self.eat("}") {
            let name = self.ident("the name of a field")?;
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

    fn expr(&mut self) -> Result<Expr> {
        self.nested(|p| p.binary(0))
    }

    /// Precedence climbing: operators that bind at least as tightly as `least`.
    fn binary(&mut self, least: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        let mut links = 0;
        while let Some((op, binds)) = operator(self.peek()) {
            if binds < least {
                break;
            }
            links += 1;
            self.chain(links)?;
            self.advance();
            let right = self.nested(|p| p.binary(binds + 1))?;
            let span = left.span.start..right.span.end;
            left = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(right)), span };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr> {
        let op = match self.peek() {
            Token::Mark("-") => UnaryOp::Negate,
            Token::Mark("!") => UnaryOp::Not,
            Token::Mark("~") => UnaryOp::Complement,
            _ => return self.postfix(),
        };
        let start = self.advance().span.start;
        let operand = self.nested(Self::unary)?;
        let span = start..operand.span.end;
        Ok(Expr { kind: ExprKind::Unary(op, Box::new(operand)), span })
    }

    fn postfix(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        let mut links = 0;
        loop {
            links += 1;
            self.chain(links)?;
            if self.eat(".") {
                let member = self.ident("the name of a member")?;
                let span = expr.span.start..member.span.end;
                expr = Expr { kind: ExprKind::Member(Box::new(expr), member), span };
            } else if *self.peek() == Token::Mark("->") && matches!(&expr.kind, ExprKind::Name(n) if n == "args") {
                return Err(SyntaxError::new(self.span(), "`args` is no pointer").help("write `args.NAME`"));
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        let Spanned { token, span } = self.advance();
        let kind = match token {
            Token::Int(value) => ExprKind::Int(value),
            Token::Text(value) => ExprKind::Text(value),
            Token::Variable(name) => ExprKind::Variable(name),
            Token::Ident(name) if *self.peek() == Token::Mark("(") => {
                self.advance();
                let arguments = self.arguments()?;
                let span = span.start..self.last_end();
                let ident = Ident { span: span.start..span.start + name.len(), name };
                return Ok(Expr { kind: ExprKind::Call(ident, arguments), span });
            }
            Token::Ident(name) => ExprKind::Name(name),
            Token::Mark("(") => {
                let inner = self.expr()?;
                self.expect(")", "after the expression")?;
                return Ok(Expr { kind: inner.kind, span: span.start..self.last_end() });
            }
            Token::Mark("@") => {
                return Err(SyntaxError::new(span, "this version of the language has no maps")
                    .help("`emit` each event and count in the plugin"));
            }
            other => return Err(SyntaxError::new(span, format!("expected an expression, found {}", other.describe()))),
        };
        Ok(Expr { kind, span })
    }

    fn arguments(&mut self) -> Result<Vec<Expr>> {
        let mut out = Vec::new();
        while !self.eat(")") {
            out.push(self.expr()?);
            if !self.eat(",") {
                self.expect(")", "after the arguments")?;
                break;
            }
        }
        Ok(out)
    }
}

/// The operator that a token is, and how tightly it binds (C's order).
fn operator(token: &Token) -> Option<(BinaryOp, u8)> {
    let Token::Mark(mark) = token else { return None };
    Some(match *mark {
        "||" => (BinaryOp::Or, 0),
        "&&" => (BinaryOp::And, 1),
        "|" => (BinaryOp::BitOr, 2),
        "^" => (BinaryOp::BitXor, 3),
        "&" => (BinaryOp::BitAnd, 4),
        "==" => (BinaryOp::Equal, 5),
        "!=" => (BinaryOp::NotEqual, 5),
        "<" => (BinaryOp::Less, 6),
        "<=" => (BinaryOp::LessEqual, 6),
        ">" => (BinaryOp::Greater, 6),
        ">=" => (BinaryOp::GreaterEqual, 6),
        "<<" => (BinaryOp::ShiftLeft, 7),
        ">>" => (BinaryOp::ShiftRight, 7),
        "+" => (BinaryOp::Add, 8),
        "-" => (BinaryOp::Subtract, 8),
        "*" => (BinaryOp::Multiply, 9),
        "/" => (BinaryOp::Divide, 9),
        "%" => (BinaryOp::Remainder, 9),
        _ => return None,
    })
}
