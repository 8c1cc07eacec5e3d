//! What expressions give, as the reference says it: C at 64 bits.

use std::collections::BTreeMap;

use super::tree::{
    BOOL, Binary, Bound, Expr, INTEGERS, Place, Side, Statement, TEXT_CAPACITY, TEXTS, TYPES, Target, Text, Unary,
};

/// An integer and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value, extended to 64 bits by the type's sign.
    pub bits: u64,
    /// The type's size in bytes.
    pub size: u8,
    /// The type has a sign.
    pub signed: bool,
    /// It is written as a number, or computed from such: its side is that of the other operand, if it fits there.
    literal: bool,
}

impl Value {
    fn new(bits: u64, size: u8, signed: bool) -> Value {
        Value { bits, size, signed, literal: false }
    }

    fn truth(truth: bool) -> Value {
        Value::new(truth.into(), 1, false)
    }

    /// The number that it is.
    pub fn number(self) -> i128 {
        if self.signed { self.bits.cast_signed().into() } else { self.bits.into() }
    }

    /// As a number of both signed and unsigned types.
    fn fits_both(self) -> bool {
        self.bits.cast_signed() >= 0
    }
}

/// What expressions read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// `$v0` and `@m0` and so on. Those with an even number are signed.
    pub integers: [u64; INTEGERS],
    /// `$t0` and `@t0` and so on.
    pub texts: [String; TEXTS],
    /// The elements of `@s`, and, with a text in the key, of `@p`.
    pub elements: BTreeMap<Key, u64>,
    /// The name of this thread.
    pub comm: String,
}

/// A key: a number, and perhaps a text.
pub type Key = (u64, Option<String>);

/// How often a loop runs whose end the compiler does not know.
const LOOP_LIMIT: u64 = 128;

/// An evaluation: what there is, and what became of it so far.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    comm: &'a str,
    /// `$v0` and so on.
    pub variables: [u64; INTEGERS],
    /// `@m0` and so on.
    pub inputs: [u64; INTEGERS],
    /// `$t0` and so on.
    pub texts: [String; TEXTS],
    /// `@t0` and so on.
    pub text_inputs: [String; TEXTS],
    /// `@s` and `@p`.
    pub elements: BTreeMap<Key, u64>,
    /// What was emitted.
    pub emitted: Vec<i128>,
    /// How many reads there were of memory that was not there.
    pub faults: u64,
    /// How many loops were left at their limit.
    pub truncated: u64,
    /// Where the loops are that count.
    counters: Vec<u64>,
}

/// What comes after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Flow {
    Next,
    Break,
    Continue,
    Return,
}

impl<'a> Evaluation<'a> {
    /// With these inputs.
    pub fn new(inputs: &'a Inputs) -> Self {
        Evaluation {
            comm: &inputs.comm,
            variables: inputs.integers,
            inputs: inputs.integers,
            texts: inputs.texts.clone(),
            text_inputs: inputs.texts.clone(),
            elements: inputs.elements.clone(),
            emitted: Vec::new(),
            faults: 0,
            truncated: 0,
            counters: Vec::new(),
        }
    }

    /// Runs statements.
    pub fn statements(&mut self, statements: &[Statement]) -> Flow {
        for statement in statements {
            let flow = self.statement(statement);
            if flow != Flow::Next {
                return flow;
            }
        }
        Flow::Next
    }

    fn statement(&mut self, statement: &Statement) -> Flow {
        match statement {
            Statement::Assign(target, op, value) => {
                let value = self.expr(value);
                self.assign(target, *op, Value::new(value.bits, 8, target.signed()));
            }
            Statement::Step(target, up) => {
                let one = Value { literal: true, ..Value::new(1, 8, true) };
                self.assign(target, Some(if *up { Binary::Add } else { Binary::Subtract }), one);
            }
            Statement::Text(n, text) => self.texts[*n] = self.side(text),
            Statement::TextInput(n, text) => self.text_inputs[*n] = self.side(text),
            Statement::Delete(place) => {
                let key = self.key(place);
                self.elements.remove(&key);
            }
            Statement::Clear(texts) => self.elements.retain(|(_, text), _| text.is_some() != *texts),
            Statement::If(condition, then, otherwise) => {
                return if self.expr(condition).bits != 0 { self.statements(then) } else { self.statements(otherwise) };
            }
            Statement::While(condition, body) => {
                return self.rounds(LOOP_LIMIT, |this| this.expr(condition).bits != 0, |_| {}, body);
            }
            Statement::For(from, to, body) => {
                let (end, limit) = match to {
                    Bound::Constant(end) => (*end, u64::MAX),
                    Bound::Variable(n) => (self.variables[*n].cast_signed(), LOOP_LIMIT),
                };
                let at = self.counters.len();
                self.counters.push(from.cast_unsigned());
                let goes_on = |this: &mut Self| this.counters[at].cast_signed() < end;
                let flow = self.rounds(limit, goes_on, |this| this.counters[at] += 1, body);
                self.counters.truncate(at);
                return flow;
            }
            Statement::Unroll(times, body) => {
                for _ in 0..*times {
                    let flow = self.statements(body);
                    if flow != Flow::Next {
                        return flow;
                    }
                }
            }
            Statement::Emit(value) => {
                let value = self.expr(value);
                self.emitted.push(value.bits.cast_signed().into());
            }
            Statement::Break => return Flow::Break,
            Statement::Continue => return Flow::Continue,
            Statement::Return => return Flow::Return,
        }
        Flow::Next
    }

    fn rounds(
        &mut self,
        limit: u64,
        mut goes_on: impl FnMut(&mut Self) -> bool,
        mut next: impl FnMut(&mut Self),
        body: &[Statement],
    ) -> Flow {
        let mut rounds = 0;
        while goes_on(self) {
            if rounds == limit {
                self.truncated += 1;
                break;
            }
            rounds += 1;
            match self.statements(body) {
                Flow::Break => break,
                Flow::Return => return Flow::Return,
                Flow::Next | Flow::Continue => next(self),
            }
        }
        Flow::Next
    }

    fn assign(&mut self, target: &Target, op: Option<Binary>, value: Value) {
        let signed = target.signed();
        let place = match target {
            Target::Variable(n) => &mut self.variables[*n],
            Target::Input(n) => &mut self.inputs[*n],
            Target::Element(place) => {
                let key = self.key(place);
                self.elements.entry(key).or_insert(0)
            }
        };
        *place = match op {
            None => value.bits,
            Some(op) => binary(op, Value::new(*place, 8, signed), value).bits,
        };
    }

    fn key(&mut self, place: &Place) -> Key {
        let number = self.expr(&place.number).bits;
        (number, place.text.as_ref().map(|text| self.side(text)))
    }

    /// What an expression gives.
    pub fn expr(&mut self, expr: &Expr) -> Value {
        match expr {
            // A number has a sign unless it is too large for that.
            Expr::Literal(n) => Value { literal: true, ..Value::new(*n, 8, n.cast_signed() >= 0) },
            Expr::SizeOf(of) => Value { literal: true, ..Value::new(TYPES[*of].1.into(), 8, false) },
            Expr::Variable(n) => Value::new(self.variables[*n], 8, n.is_multiple_of(2)),
            Expr::Input(n) => Value::new(self.inputs[*n], 8, n.is_multiple_of(2)),
            Expr::Counter(n) => Value::new(self.counters.get(*n).copied().unwrap_or(0), 8, true),
            Expr::Element(place) => {
                let key = self.key(place);
                Value::new(self.elements.get(&key).copied().unwrap_or(0), 8, place.text.is_none())
            }
            Expr::HasKey(place) => {
                let key = self.key(place);
                Value::truth(self.elements.contains_key(&key))
            }
            Expr::Len(texts) => {
                let keys = self.elements.keys().filter(|(_, text)| text.is_some() == *texts);
                Value::new(keys.count() as u64, 8, true)
            }
            Expr::Cast(to, operand) => cast(*to, self.expr(operand)),
            Expr::Unary(op, operand) => unary(*op, self.expr(operand)),
            // The right side counts only if the left did not decide.
            Expr::Binary(op @ (Binary::And | Binary::Or), left, right) => {
                let decides = *op == Binary::Or;
                let left = self.expr(left).bits != 0;
                let truth = if left == decides { left } else { self.expr(right).bits != 0 };
                Value::truth(truth)
            }
            Expr::Binary(op, left, right) => {
                let (left, right) = (self.expr(left), self.expr(right));
                binary(*op, left, right)
            }
            Expr::Choose(condition, then, otherwise) => {
                let condition = self.expr(condition).bits != 0;
                // The type is that of both sides; only one is evaluated.
                let faults = self.faults;
                let then = self.expr(then);
                let after_then = std::mem::replace(&mut self.faults, faults);
                let otherwise = self.expr(otherwise);
                if condition {
                    self.faults = after_then;
                }
                let bits = if condition { then.bits } else { otherwise.bits };
                match (then.size, then.signed) == (otherwise.size, otherwise.signed) {
                    true => Value::new(bits, then.size, then.signed),
                    false => Value::new(bits, 8, common_sign(then, otherwise)),
                }
            }
            Expr::Swap(operand) => {
                let value = self.expr(operand);
                match value.size {
                    1 => value,
                    size => Value::new(value.bits.swap_bytes() >> (64 - 8 * u32::from(size)), size, false),
                }
            }
            Expr::TextIs { text, string, equal, .. } => Value::truth((self.text(text) == *string) == *equal),
            Expr::SameText(left, right, equal) => {
                let (left, right) = (self.text(left), self.text(right));
                Value::truth((left == right) == *equal)
            }
            Expr::BeginsAlike(text, string, length) => {
                // As strncmp(3): both end with a NUL byte.
                let begin = |text: &str| text.bytes().chain([0]).take(*length).collect::<Vec<u8>>();
                let text = self.text(text);
                Value::truth(begin(&text) != begin(string))
            }
            // Everything has the empty string, whatever it is.
            Expr::Contains(_, needle) if needle.is_empty() => Value::truth(true),
            Expr::Contains(text, needle) => Value::truth(self.text(text).contains(needle)),
            Expr::Length(text) => Value::new(self.text(text).len() as u64, 8, false),
            Expr::Fault => {
                self.faults += 1;
                Value::truth(true)
            }
        }
    }

    /// What a text is.
    pub fn text(&mut self, text: &Text) -> String {
        match text {
            Text::Variable(n) => self.texts[*n].clone(),
            Text::Input(n) => self.text_inputs[*n].clone(),
            Text::Comm => self.comm.to_owned(),
            Text::Choose(condition, then, otherwise) => {
                let side = if self.expr(condition).bits != 0 { then } else { otherwise };
                self.side(side)
            }
        }
    }

    fn side(&mut self, side: &Side) -> String {
        match side {
            Side::Fixed(string) => string.clone(),
            Side::Text(text) => self.text(text),
        }
    }
}

fn cast(to: usize, value: Value) -> Value {
    let (_, size, signed) = TYPES[to];
    if to == BOOL {
        return Value::truth(value.bits != 0);
    }
    let bytes = value.bits.to_le_bytes();
    let mut wide = if signed && bytes[usize::from(size) - 1] >= 0x80 { [0xff; 8] } else { [0; 8] };
    wide[..size.into()].copy_from_slice(&bytes[..size.into()]);
    Value::new(u64::from_le_bytes(wide), size, signed)
}

fn unary(op: Unary, value: Value) -> Value {
    let literal = value.literal;
    match op {
        Unary::Negate => Value { literal, ..Value::new(0_u64.wrapping_sub(value.bits), 8, true) },
        Unary::Complement => Value { literal, ..Value::new(u64::MAX - value.bits, 8, value.signed || literal) },
        Unary::Not => Value::truth(value.bits == 0),
    }
}

/// Whether an operation on both is signed.
fn common_sign(left: Value, right: Value) -> bool {
    if left.signed == right.signed {
        return left.signed;
    }
    let (signed, unsigned) = if left.signed { (left, right) } else { (right, left) };
    if signed.literal && signed.fits_both() {
        return false;
    }
    // Every value of a narrow type, and this one number, fit into the signed side.
    unsigned.size < 8 || unsigned.literal && unsigned.fits_both()
}

fn binary(op: Binary, left: Value, right: Value) -> Value {
    let signed = common_sign(left, right);
    let (l, r) = (left.bits, right.bits);
    // Wide enough for every operation on either side.
    let wide = |bits: u64| -> i128 { if signed { bits.cast_signed().into() } else { bits.into() } };
    let (wl, wr) = (wide(l), wide(r));
    let computed = |n: i128| Value::new(n as u64, 8, signed);
    let count = r % 64;
    let result = match op {
        Binary::Add => computed(wl + wr),
        Binary::Subtract => computed(wl - wr),
        Binary::Multiply => computed(wl.wrapping_mul(wr)),
        Binary::Divide => computed(wl.checked_div(wr).unwrap_or(0)),
        Binary::Remainder => computed(wl.checked_rem(wr).unwrap_or(wl)),
        Binary::BitAnd => computed((l & r).into()),
        Binary::BitOr => computed((l | r).into()),
        Binary::BitXor => computed((l ^ r).into()),
        // The left side alone says what is shifted in.
        Binary::ShiftLeft => Value::new(l << count, 8, left.signed),
        Binary::ShiftRight => Value::new((left.number() >> count) as u64, 8, left.signed),
        Binary::Equal => Value::truth(l == r),
        Binary::NotEqual => Value::truth(l != r),
        Binary::Less => Value::truth(wl < wr),
        Binary::LessEqual => Value::truth(wl <= wr),
        Binary::Greater => Value::truth(wl > wr),
        Binary::GreaterEqual => Value::truth(wl >= wr),
        // Here both sides are known.
        Binary::And => Value::truth(l != 0 && r != 0),
        Binary::Or => Value::truth(l != 0 || r != 0),
    };
    Value { literal: left.literal && right.literal, ..result }
}

/// Of an expression that reads nothing.
fn size(expr: &Expr) -> u8 {
    Evaluation::new(&Inputs::default()).expr(expr).size
}

/// The value that no input changes, where the compiler has to know it.
pub fn constant(expr: &Expr) -> Option<u64> {
    let known = match expr {
        Expr::Literal(_) | Expr::SizeOf(_) => true,
        Expr::Cast(_, operand) | Expr::Unary(_, operand) => constant(operand).is_some(),
        Expr::Binary(_, left, right) => constant(left).is_some() && constant(right).is_some(),
        Expr::Contains(_, needle) => needle.is_empty(),
        Expr::Swap(operand) => constant(operand).is_some() && size(operand) == 1,
        _ => false,
    };
    known.then(|| Evaluation::new(&Inputs::default()).expr(expr).bits)
}

/// How many bytes a text can have.
pub fn capacity(text: &Text) -> usize {
    match text {
        Text::Variable(_) | Text::Input(_) => TEXT_CAPACITY,
        // With its NUL byte, which comparisons don't see.
        Text::Comm => 16,
        Text::Choose(_, then, otherwise) => side_capacity(then).max(side_capacity(otherwise)),
    }
}

fn side_capacity(side: &Side) -> usize {
    match side {
        Side::Fixed(string) => string.len().max(1),
        Side::Text(text) => capacity(text),
    }
}

/// The bucket of a value by powers of two, each in 2^`bits` parts: so many lower edges of buckets are not above it.
pub fn log2_bucket(value: i64, bits: u8) -> u64 {
    let parts = 1_i128 << bits;
    let small = 0..parts;
    let large = (u32::from(bits)..63).flat_map(|log| (0..parts).map(move |part| (1 << log) + (part << log) / parts));
    count_edges(small.chain(large), value)
}

/// The bucket of a value in steps, with one below and one above them.
pub fn linear_bucket(value: i64, (from, to, step): (i64, i64, i64)) -> u64 {
    let steps = (0..).map(|n| i128::from(from) + n * i128::from(step)).take_while(|edge| *edge < to.into());
    count_edges(steps.chain([to.into()]), value)
}

fn count_edges(edges: impl Iterator<Item = i128>, value: i64) -> u64 {
    edges.filter(|edge| *edge <= value.into()).count() as u64
}
