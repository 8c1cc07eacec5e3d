//! Expressions: operators by precedence climbing, as in C, and what stands in brackets.

use super::{Parser, Result};
use crate::syntax::{
    SyntaxError,
    ast::{BinaryOp, Expr, ExprKind, Ident, MapAccess, TypeName, UnaryOp},
    lexer::{Spanned, Token},
};

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

impl Parser {
    pub(super) fn expr(&mut self) -> Result<Expr> {
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
    pub(super) fn type_name(&mut self) -> Result<TypeName> {
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
    pub(super) fn arguments(&mut self, keys: bool) -> Result<Vec<Expr>> {
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

    /// `@m`, `@m[a, b]`
    pub(super) fn map(&mut self) -> Result<MapAccess> {
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
    pub(super) fn key(&mut self, keys: &mut Vec<Expr>) -> Result<()> {
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
