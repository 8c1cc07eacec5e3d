//! Tokens to syntax trees, by recursive descent; operators by precedence climbing, as in C.

use std::ops::Range;

use super::{
    SyntaxError,
    ast::{BinaryOp, EmitField, Expr, ExprKind, Ident, MapAccess, Statement, StatementKind, TypeName, UnaryOp},
    lexer::{Spanned, Token, tokens},
};
use crate::diagnostic::suggest;

/// How deep expressions and blocks may nest: far more than anyone writes, far less than the stack holds.
const MAX_DEPTH: usize = 64;

/// How many operators of one level, or members, may follow each other: they nest to the left.
const MAX_CHAIN: usize = 256;

/// The words that statements begin with.
const STATEMENTS: [&str; 12] =
    ["emit", "if", "else", "while", "for", "unroll", "let", "delete", "clear", "return", "break", "continue"];

/// How some of them are written.
const DECLARE: &str = "`let @m = hash(10000);`";
const FOR: &str = "`for ($i : 0..10) { ... }`";

/// Why a map as a whole is nothing for a program.
pub(crate) const WHOLE_MAP: &str = "a program can't go through all elements of a map";
/// Who does it.
pub(crate) const WHOLE_MAP_HELP: &str =
    "the plugin does it by its import `maps`, and `portcullis trace` by `print`, `clear` and `zero`";

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

/// Words that a type begins with. Other types are told by their ending (`size_t`) or by a star.
pub(crate) const TYPE_WORDS: [&str; 28] = [
    "struct", "union", "enum", "const", "unsigned", "signed", "int", "char", "short", "long", "void", "bool", "int8", "int16",
    "int32", "int64", "uint8", "uint16", "uint32", "uint64", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64",
];

/// Whether a type begins with the word. `__u32` and `__be32` are types of the kernel.
fn begins_type(word: &str) -> bool {
    let short = word.strip_prefix("__").unwrap_or(word);
    let width = ["be", "le", "u", "s"].iter().find_map(|start| short.strip_prefix(start));
    TYPE_WORDS.contains(&word)
        || word.ends_with("_t")
        || word.starts_with("__") && matches!(width, Some("8" | "16" | "32" | "64"))
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

    fn statements(&mut self) -> Result<Vec<Statement>> {
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
            return Err(SyntaxError::new(from.span, WHOLE_MAP).help(WHOLE_MAP_HELP));
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

    /// `@m`, `@m[a, b]`
    fn map(&mut self) -> Result<MapAccess> {
        let Token::Map(name) = self.peek().clone() else {
            let message = format!("expected a map, found {}", self.peek().describe());
            return Err(SyntaxError::new(self.span(), message).help("a map is `@name`, an element of it `@name[key]`"));
        };
        let name = Ident { name, span: self.advance().span };
        let mut keys = Vec::new();
        if self.eat("[") {
            if *self.peek() == Token::Mark("]") {
                let message = "expected a key, found `]`";
                return Err(SyntaxError::new(self.span(), message).help(format!("a map without a key is `@{}`", name.name)));
            }
            loop {
                self.key(&mut keys)?;
                if !self.eat(",") {
                    break;
                }
            }
            self.expect("]", "after the key")?;
        }
        let span = name.span.start..self.last_end();
        Ok(MapAccess { name, keys, span })
    }

    /// A part of a key, or several as a tuple: `(a, b)` is the same as `a, b`.
    fn key(&mut self, keys: &mut Vec<Expr>) -> Result<()> {
        if !self.begins_tuple() {
            keys.push(self.expr()?);
            return Ok(());
        }
        self.advance();
        while !self.eat(")") {
            self.nested(|p| p.key(keys))?;
            if !self.eat(",") {
                self.expect(")", "after the key")?;
                break;
            }
        }
        Ok(())
    }

    /// At a `(`: there is a comma before it is closed, and nothing but the key's end behind.
    fn begins_tuple(&self) -> bool {
        if *self.peek() != Token::Mark("(") {
            return false;
        }
        let (mut depth, mut comma) = (0_usize, false);
        for (i, spanned) in self.tokens[self.at..].iter().enumerate() {
            match spanned.token {
                Token::Mark("(" | "[" | "{") => depth += 1,
                Token::Mark(")" | "]" | "}") => depth = depth.saturating_sub(1),
                Token::Mark(",") if depth == 1 => comma = true,
                Token::Mark(";") | Token::End => return false,
                _ => {}
            }
            if depth == 0 {
                let next = self.tokens.get(self.at + i + 1).map(|next| &next.token);
                return comma && matches!(next, Some(Token::Mark("," | ")" | "]")));
            }
        }
        false
    }

    fn no_statement(&self, found: &Token) -> SyntaxError {
        let error = SyntaxError::new(self.span(), format!("expected a statement, found {}", found.describe()));
        let next = self.tokens.get(self.at + 1).map(|next| &next.token);
        let Token::Ident(word) = found else {
            return error.help(format!(
                "statements begin with a variable, a map, a `{{`, or {}",
                STATEMENTS.iter().filter(|word| !matches!(**word, "else" | "clear")).copied().collect::<Vec<_>>().join(", ")
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

    fn expr(&mut self) -> Result<Expr> {
        self.nested(Self::choice)
    }

    /// `a ? b : c`, which binds least.
    fn choice(&mut self) -> Result<Expr> {
        let condition = self.binary(0)?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let then = self.expr()?;
        self.expect(":", "in `condition ? x : y`")?;
        let otherwise = self.expr()?;
        let span = condition.span.start..otherwise.span.end;
        Ok(Expr { kind: ExprKind::Choose(Box::new(condition), Box::new(then), Box::new(otherwise)), span })
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
            Token::Mark("*") => UnaryOp::Dereference,
            Token::Mark("&") => UnaryOp::AddressOf,
            Token::Mark("(") if self.begins_cast() => {
                let start = self.advance().span.start;
                let to = self.type_name()?;
                self.expect(")", "after the type")?;
                let operand = self.nested(Self::unary)?;
                let span = start..operand.span.end;
                return Ok(Expr { kind: ExprKind::Cast(to, Box::new(operand)), span });
            }
            _ => return self.postfix(),
        };
        let start = self.advance().span.start;
        let operand = self.nested(Self::unary)?;
        let span = start..operand.span.end;
        Ok(Expr { kind: ExprKind::Unary(op, Box::new(operand)), span })
    }

    /// At a `(`: a type follows, and a value behind it.
    fn begins_cast(&self) -> bool {
        let rest = &self.tokens[self.at + 1..];
        let words = rest.iter().take_while(|t| matches!(t.token, Token::Ident(_) | Token::Mark("*"))).count();
        let (Some(first), Some(close), Some(value)) = (rest.first(), rest.get(words), rest.get(words + 1)) else { return false };
        let Token::Ident(word) = &first.token else { return false };
        // These begin nothing but a type.
        if matches!(word.as_str(), "struct" | "union" | "enum") {
            return true;
        }
        let last = words.checked_sub(1).map(|last| &rest[last].token);
        let typed = begins_type(word) || words > 1 && last == Some(&Token::Mark("*"));
        let operand = matches!(
            value.token,
            Token::Int(_)
                | Token::Ident(_)
                | Token::Variable(_)
                | Token::Map(_)
                | Token::Text(_)
                | Token::Mark("(" | "-" | "~" | "!" | "*" | "&")
        );
        typed && close.token == Token::Mark(")") && operand
    }

    /// Words and stars.
    fn type_name(&mut self) -> Result<TypeName> {
        let start = self.span().start;
        let mut words = Vec::new();
        loop {
            match self.peek().clone() {
                Token::Ident(word) => words.push(word),
                Token::Mark("*") if !words.is_empty() => words.push("*".to_owned()),
                _ => break,
            }
            self.advance();
        }
        if words.iter().all(|word| matches!(word.as_str(), "struct" | "union" | "enum" | "const")) {
            let what = words
                .last()
                .filter(|word| *word != "const")
                .map_or("a type".to_owned(), |word| format!("the name of the {word}"));
            let message = format!("expected {what}, found {}", self.peek().describe());
            return Err(SyntaxError::new(self.span(), message).help("as in `struct sock`, `uint32`, `enum x`"));
        }
        Ok(TypeName { text: words.join(" "), span: start..self.last_end() })
    }

    /// What takes a type between its parentheses; `None` for an ordinary function.
    fn typed_call(&mut self, function: &str) -> Result<Option<ExprKind>> {
        Ok(Some(match function {
            // `sizeof(value)` is an ordinary call.
            "sizeof" if matches!(self.peek(), Token::Ident(word) if begins_type(word)) => ExprKind::SizeOf(self.type_name()?),
            "offsetof" => {
                let of = self.type_name()?;
                self.expect_in(",", "between type and member", "`offsetof(struct task_struct, comm)`")?;
                ExprKind::OffsetOf(of, self.ident("the name of a member")?)
            }
            "container_of" => {
                let pointer = self.expr()?;
                let usage = "`container_of(pointer, struct task_struct, comm)`";
                self.expect_in(",", "after the pointer", usage)?;
                let of = self.type_name()?;
                self.expect_in(",", "between type and member", usage)?;
                ExprKind::ContainerOf(Box::new(pointer), of, self.ident("the name of a member")?)
            }
            _ => return Ok(None),
        }))
    }

    fn postfix(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        let mut links = 0;
        loop {
            links += 1;
            self.chain(links)?;
            if self.eat(".") {
                let member = self.ident("the name of a member")?;
                if *self.peek() == Token::Mark("(") {
                    let message = format!("`.{}` is a member and can't be called", member.name);
                    return Err(SyntaxError::new(member.span, message)
                        .help("functions take what they work on: `str(entry.args.filename)`"));
                }
                let span = expr.span.start..member.span.end;
                expr = Expr { kind: ExprKind::Member(Box::new(expr), member), span };
            } else if *self.peek() == Token::Mark("->") && matches!(&expr.kind, ExprKind::Name(n) if n == "args") {
                return Err(SyntaxError::new(self.span(), "`args` is no pointer").help("write `args.NAME`"));
            } else if self.eat("->") {
                let member = self.ident("the name of a member")?;
                let span = expr.span.start..member.span.end;
                expr = Expr { kind: ExprKind::Arrow(Box::new(expr), member), span };
            } else if self.eat("[") {
                let index = self.expr()?;
                self.expect("]", "after the index")?;
                let span = expr.span.start..self.last_end();
                expr = Expr { kind: ExprKind::Index(Box::new(expr), Box::new(index)), span };
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        if matches!(self.peek(), Token::Map(_)) {
            let start = self.span().start;
            let map = self.map()?;
            return Ok(Expr { kind: ExprKind::Map(map), span: start..self.last_end() });
        }
        let Spanned { token, span } = self.advance();
        let kind = match token {
            Token::Int(value) => ExprKind::Int(value),
            Token::Text(value) => ExprKind::Text(value),
            Token::Variable(name) => ExprKind::Variable(name),
            Token::Ident(name) if *self.peek() == Token::Mark("(") => {
                self.advance();
                if let Some(kind) = self.typed_call(&name)? {
                    self.expect(")", "after the arguments")?;
                    return Ok(Expr { kind, span: span.start..self.last_end() });
                }
                let arguments = self.arguments(name == "has_key")?;
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
            other => return Err(SyntaxError::new(span, format!("expected an expression, found {}", other.describe()))),
        };
        Ok(Expr { kind, span })
    }

    /// With `keys`, a tuple is its parts.
    fn arguments(&mut self, keys: bool) -> Result<Vec<Expr>> {
        let mut out = Vec::new();
        while !self.eat(")") {
            if keys {
                self.key(&mut out)?;
            } else {
                out.push(self.expr()?);
            }
            if !self.eat(",") {
                self.expect(")", "after the arguments")?;
                break;
            }
        }
        Ok(out)
    }
}

/// What a field or a part of a key without a name is called: the last name in its expression, other than that of a function.
pub(crate) fn last_name(expr: &Expr) -> Option<String> {
    match &expr.kind {
        ExprKind::Name(name) | ExprKind::Variable(name) => Some(name.clone()),
        ExprKind::Member(_, member) | ExprKind::Arrow(_, member) => Some(member.name.clone()),
        ExprKind::Call(function, arguments) => arguments.iter().find_map(last_name).or_else(|| Some(function.name.clone())),
        ExprKind::Cast(_, operand) | ExprKind::Unary(_, operand) => last_name(operand),
        ExprKind::Index(base, _) => last_name(base),
        ExprKind::Binary(_, left, _) => last_name(left),
        ExprKind::Map(map) if !map.name.name.is_empty() => Some(map.name.name.clone()),
        _ => None,
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
