//! Any number of expressions, and of inputs that lie where widths and signs end.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    interpret::{Inputs, capacity, constant},
    tree::{Binary, Bound, Expr, INTEGERS, Place, Side, Statement, TEXT_CAPACITY, TEXTS, TYPES, Target, Text, Unary},
};

/// How long a needle can be.
const MAX_NEEDLE: usize = 32;
/// How long the name of a thread can be.
const COMM: usize = 15;

/// Integers, most of them at the edges of widths, near powers of two, and small.
pub fn integer() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![
        4 => 0_u64..4,
        2 => (0_u64..4).prop_map(|n| 0_u64.wrapping_sub(n)),
        4 => (0_u32..64, 0_u64..3).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add(off).wrapping_sub(1)),
        2 => (7_u32..64, 0_u64..3).prop_map(|(bit, off)| 0_u64.wrapping_sub(1 << bit).wrapping_add(off).wrapping_sub(1)),
        1 => 0_u64..1000,
        2 => any::<u64>(),
    ]
}

/// Text that is often the same.
pub fn string(most: usize) -> impl Strategy<Value = String> + Clone {
    let letters = vec(select(vec!['a', 'a', 'a', 'b', 'B', ' ', '"', '\\', '\n', 'é']), 0..=most);
    prop_oneof![2 => Just(String::new()), 3 => select(vec!["a", "ab", "aab", "abcdefgh", "abcdefghi", "é"]).prop_map(str::to_owned), 5 => letters.prop_map(String::from_iter)]
        .prop_map(move |text| cut(&text, most))
}

/// The arguments of `lhist`: from, to, and the step.
pub fn linear() -> impl Strategy<Value = (i64, i64, i64)> {
    let step = prop_oneof![1_i64..20, (0_u32..53).prop_map(|bit| 1 << bit)];
    (prop_oneof![-50_i64..50, integer().prop_map(u64::cast_signed)], step, 1_i64..30, 0_i64..20).prop_filter_map(
        "it ends behind all integers",
        |(from, step, buckets, more)| {
            let to = step.checked_mul(buckets)?.checked_add(more % step)?.checked_add(from)?;
            Some((from, to, step))
        },
    )
}

/// An expression of a few parts.
pub fn small_expr(whole: bool) -> impl Strategy<Value = Expr> {
    tree(4, whole).prop_map(sound)
}

/// Inputs.
pub fn inputs() -> impl Strategy<Value = Inputs> {
    let texts = [string(TEXT_CAPACITY), string(TEXT_CAPACITY)];
    let key = (prop_oneof![3 => 0_u64..3, 1 => integer()], proptest::option::of(string(2)));
    let elements = proptest::collection::btree_map(key, integer(), 0..5);
    (proptest::array::uniform4(integer()), texts, elements, string(COMM)).prop_map(|(integers, texts, elements, comm)| Inputs {
        integers,
        texts,
        elements,
        comm,
    })
}

/// An expression that compiles. `whole`: the kernel can go through maps.
pub fn expr(whole: bool) -> impl Strategy<Value = Expr> {
    tree(24, whole).prop_map(sound)
}

/// An expression of about so many parts at most, which may have to be made [`sound`].
fn tree(size: u32, whole: bool) -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![
        3 => integer().prop_map(Expr::Literal),
        4 => (0..INTEGERS).prop_map(Expr::Variable),
        2 => (0..INTEGERS).prop_map(Expr::Input),
        1 => (0..TYPES.len()).prop_map(Expr::SizeOf),
        1 => (0..TEXTS).prop_map(|n| Expr::Length(Text::Variable(n))),
        1 => Just(Expr::Fault),
        u32::from(whole) => any::<bool>().prop_map(Expr::Len),
    ];
    let all = leaf.prop_recursive(5, size, 3, |inner| {
        let inner = inner.prop_map(Box::new).boxed();
        let text = || text(inner.clone());
        let place = || place(inner.clone());
        prop_oneof![
            6 => (0..TYPES.len(), inner.clone()).prop_map(|(to, operand)| Expr::Cast(to, operand)),
            4 => (select(vec![Unary::Negate, Unary::Complement, Unary::Not]), inner.clone()).prop_map(|(op, operand)| Expr::Unary(op, operand)),
            20 => (select(Binary::ALL.to_vec()), inner.clone(), inner.clone()).prop_map(|(op, left, right)| Expr::Binary(op, left, right)),
            3 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| Expr::Choose(a, b, c)),
            1 => inner.clone().prop_map(Expr::Swap),
            1 => place().prop_map(Expr::Element),
            1 => place().prop_map(Expr::HasKey),
            2 => (text(), string(TEXT_CAPACITY), any::<bool>(), any::<bool>())
                .prop_map(|(text, string, equal, swapped)| Expr::TextIs { text, string, equal, swapped }),
            1 => (text(), text(), any::<bool>()).prop_map(|(left, right, equal)| Expr::SameText(left, right, equal)),
            1 => (text(), string(TEXT_CAPACITY), 1_usize..20).prop_map(|(text, string, length)| Expr::BeginsAlike(text, string, length)),
            1 => (text(), string(3)).prop_map(|(text, needle)| Expr::Contains(text, needle)),
            1 => text().prop_map(Expr::Length),
        ]
    });
    all.boxed()
}

fn place(number: BoxedStrategy<Box<Expr>>) -> impl Strategy<Value = Place> {
    // Often one that is there.
    let number = prop_oneof![(0_u64..3).prop_map(|n| Box::new(Expr::Literal(n))), number];
    (number, proptest::option::of(side())).prop_map(|(number, text)| Place { number, text })
}

/// A text without an integer in it.
fn simple() -> impl Strategy<Value = Text> {
    prop_oneof![(0..TEXTS).prop_map(Text::Variable), (0..TEXTS).prop_map(Text::Input), Just(Text::Comm)]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![simple().prop_map(Side::Text), string(TEXT_CAPACITY).prop_map(Side::Fixed)]
}

fn text(inner: BoxedStrategy<Box<Expr>>) -> impl Strategy<Value = Text> {
    let side = || side().prop_map(Box::new);
    prop_oneof![
        4 => simple(),
        1 => (inner, side(), side()).prop_map(|(condition, then, otherwise)| Text::Choose(condition, then, otherwise)),
    ]
}

/// So many whole characters that they fit.
fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

/// The same but for what the compiler refuses: constants by which one can't divide or shift, strings that a text can't have.
pub fn sound(expr: Expr) -> Expr {
    let boxed = |expr: Box<Expr>| Box::new(sound(*expr));
    match expr {
        Expr::Binary(op, left, right) => {
            let (left, mut right) = (boxed(left), boxed(right));
            match (op, constant(&right)) {
                (Binary::Divide | Binary::Remainder, Some(0)) => *right = Expr::Literal(3),
                (Binary::ShiftLeft | Binary::ShiftRight, Some(n)) if n > 63 => *right = Expr::Literal(n % 64),
                _ => {}
            }
            Expr::Binary(op, left, right)
        }
        Expr::Cast(to, operand) => Expr::Cast(to, boxed(operand)),
        Expr::Unary(op, operand) => Expr::Unary(op, boxed(operand)),
        Expr::Choose(a, b, c) => Expr::Choose(boxed(a), boxed(b), boxed(c)),
        Expr::Swap(operand) => Expr::Swap(boxed(operand)),
        Expr::Element(place) => Expr::Element(sound_place(place)),
        Expr::HasKey(place) => Expr::HasKey(sound_place(place)),
        Expr::TextIs { text, string, equal, swapped } => {
            let text = sound_text(text);
            let string = cut(&string, longest(&text));
            Expr::TextIs { text, string, equal, swapped }
        }
        Expr::SameText(left, right, equal) => Expr::SameText(sound_text(left), sound_text(right), equal),
        Expr::BeginsAlike(text, string, length) => {
            let text = sound_text(text);
            let string = cut(&string, longest(&text));
            Expr::BeginsAlike(text, string, length)
        }
        Expr::Contains(text, needle) => Expr::Contains(sound_text(text), cut(&needle, MAX_NEEDLE)),
        Expr::Length(text) => Expr::Length(sound_text(text)),
        leaf => leaf,
    }
}

fn sound_place(place: Place) -> Place {
    Place { number: Box::new(sound(*place.number)), text: place.text.map(sound_side) }
}

fn sound_side(side: Side) -> Side {
    match side {
        Side::Text(text) => Side::Text(sound_text(text)),
        fixed @ Side::Fixed(_) => fixed,
    }
}

fn sound_text(text: Text) -> Text {
    let side = |side: Box<Side>| Box::new(sound_side(*side));
    match text {
        Text::Choose(condition, then, otherwise) => Text::Choose(Box::new(sound(*condition)), side(then), side(otherwise)),
        simple => simple,
    }
}

/// The longest string that it can be compared with.
fn longest(text: &Text) -> usize {
    if *text == Text::Comm { COMM } else { capacity(text) }
}

/// The same expression with the inputs written into it, which the compiler computes itself as far as it can.
pub fn written(expr: &Expr, inputs: &Inputs) -> Expr {
    let boxed = |expr: &Expr| Box::new(written(expr, inputs));
    let of_text = |text: &Text| written_text(text, inputs);
    sound(match expr {
        Expr::Variable(n) | Expr::Input(n) => {
            let value = inputs.integers[*n];
            match n.is_multiple_of(2) {
                true if value.cast_signed() < 0 => {
                    let positive = Box::new(Expr::Literal(0_u64.wrapping_sub(value)));
                    Expr::Cast(0, Box::new(Expr::Unary(Unary::Negate, positive)))
                }
                true => Expr::Cast(0, Box::new(Expr::Literal(value))),
                false => Expr::Cast(1, Box::new(Expr::Literal(value))),
            }
        }
        Expr::Cast(to, operand) => Expr::Cast(*to, boxed(operand)),
        Expr::Unary(op, operand) => Expr::Unary(*op, boxed(operand)),
        Expr::Binary(op, left, right) => Expr::Binary(*op, boxed(left), boxed(right)),
        Expr::Choose(a, b, c) => Expr::Choose(boxed(a), boxed(b), boxed(c)),
        Expr::Swap(operand) => Expr::Swap(boxed(operand)),
        Expr::Element(place) => Expr::Element(written_place(place, inputs)),
        Expr::HasKey(place) => Expr::HasKey(written_place(place, inputs)),
        Expr::TextIs { text, string, equal, swapped } => {
            Expr::TextIs { text: of_text(text), string: string.clone(), equal: *equal, swapped: *swapped }
        }
        Expr::SameText(left, right, equal) => Expr::SameText(of_text(left), of_text(right), *equal),
        Expr::BeginsAlike(text, string, length) => Expr::BeginsAlike(of_text(text), string.clone(), *length),
        Expr::Contains(text, needle) => Expr::Contains(of_text(text), needle.clone()),
        Expr::Length(text) => Expr::Length(of_text(text)),
        leaf @ (Expr::Literal(_) | Expr::SizeOf(_) | Expr::Counter(_) | Expr::Len(_) | Expr::Fault) => leaf.clone(),
    })
}

fn written_place(place: &Place, inputs: &Inputs) -> Place {
    let text = place.text.as_ref().map(|text| written_side(text, inputs));
    Place { number: Box::new(written(&place.number, inputs)), text }
}

fn written_side(side: &Side, inputs: &Inputs) -> Side {
    match side {
        Side::Text(Text::Variable(n) | Text::Input(n)) => Side::Fixed(inputs.texts[*n].clone()),
        Side::Text(text) => Side::Text(written_text(text, inputs)),
        fixed @ Side::Fixed(_) => fixed.clone(),
    }
}

fn written_text(text: &Text, inputs: &Inputs) -> Text {
    match text {
        Text::Choose(condition, then, otherwise) => {
            let side = |side: &Side| Box::new(written_side(side, inputs));
            Text::Choose(Box::new(written(condition, inputs)), side(then), side(otherwise))
        }
        simple => simple.clone(),
    }
}

/// What a body can do where it is.
#[derive(Clone, Copy)]
struct Around {
    /// Loops that count.
    counters: usize,
    /// There is a loop that can be left.
    leaves: bool,
    /// How often all that is around it repeats it at most.
    rounds: u64,
    /// There is a loop around it whose end the compiler does not know: no blocks are in that.
    open: bool,
}

/// The verifier follows every round of every loop: no more rounds than these.
const MAX_ROUNDS: u64 = 9;

/// Statements that compile. `whole`: the kernel can go through maps.
pub fn statements(whole: bool) -> impl Strategy<Value = Vec<Statement>> {
    vec(statement(3, whole), 1..8).prop_map(|statements| {
        let mut open = false;
        sound_block(statements, Around { counters: 0, leaves: false, rounds: 1, open: false }, &mut open)
    })
}

fn statement(depth: u32, whole: bool) -> BoxedStrategy<Statement> {
    let value = move || prop_oneof![2 => tree(6, whole), 1 => (0_usize..2).prop_map(Expr::Counter)];
    let number = value().prop_map(Box::new).boxed();
    let target = || {
        prop_oneof![
            3 => (0..INTEGERS).prop_map(Target::Variable),
            1 => (0..INTEGERS).prop_map(Target::Input),
            2 => place(number.clone()).prop_map(Target::Element),
        ]
    };
    let operators = || select(Binary::ALL.into_iter().filter(|op| op.assigns()).collect::<Vec<_>>());
    let leaf = prop_oneof![
        6 => (target(), proptest::option::of(operators()), value()).prop_map(|(target, op, value)| Statement::Assign(target, op, value)),
        2 => (target(), any::<bool>()).prop_map(|(target, up)| Statement::Step(target, up)),
        1 => (0..TEXTS, side()).prop_map(|(n, text)| Statement::Text(n, text)),
        1 => (0..TEXTS, side()).prop_map(|(n, text)| Statement::TextInput(n, text)),
        1 => place(number.clone()).prop_map(Statement::Delete),
        u32::from(whole) => any::<bool>().prop_map(Statement::Clear),
        1 => value().prop_map(Statement::Emit),
        1 => Just(Statement::Break),
        1 => Just(Statement::Continue),
        1 => Just(Statement::Return),
    ];
    leaf.prop_recursive(depth, 12, 4, move |inner| {
        let block = || vec(inner.clone(), 0..4);
        let bound = prop_oneof![6 => (-2_i64..6).prop_map(Bound::Constant), 1 => (0..INTEGERS).prop_map(Bound::Variable)];
        prop_oneof![
            6 => (value(), block(), block()).prop_map(|(condition, then, otherwise)| Statement::If(condition, then, otherwise)),
            1 => (value(), block()).prop_map(|(condition, body)| Statement::While(condition, body)),
            4 => (-2_i64..3, bound, block()).prop_map(|(from, to, body)| Statement::For(from, to, body)),
            2 => (1_u8..4, block()).prop_map(|(times, body)| Statement::Unroll(times, body)),
        ]
    })
    .boxed()
}

/// `open` tells that there was a loop whose end the compiler does not know. No other comes behind it, since the verifier follows each
/// way out of it.
fn sound_block(statements: Vec<Statement>, around: Around, open: &mut bool) -> Vec<Statement> {
    statements.into_iter().filter_map(|statement| sound_statement(statement, around, open)).collect()
}

/// The same, or nothing where it can't stand.
fn sound_statement(statement: Statement, around: Around, open: &mut bool) -> Option<Statement> {
    let expr = |expr: Expr| sound(counting(expr, around.counters));
    let place = |place: Place| sound_place(Place { number: Box::new(counting(*place.number, around.counters)), ..place });
    let target = |target: Target| match target {
        Target::Element(element) => Target::Element(place(element)),
        other => other,
    };
    Some(match statement {
        Statement::Assign(to, op, value) => {
            let mut value = expr(value);
            // The cast makes no other constant of it.
            match (op, constant(&value)) {
                (Some(Binary::Divide | Binary::Remainder), Some(0)) => value = Expr::Literal(3),
                (Some(Binary::ShiftLeft | Binary::ShiftRight), Some(n)) if n > 63 => value = Expr::Literal(n % 64),
                _ => {}
            }
            Statement::Assign(target(to), op, value)
        }
        Statement::Step(to, up) => Statement::Step(target(to), up),
        Statement::Text(n, text) => Statement::Text(n, sound_side(text)),
        Statement::TextInput(n, text) => Statement::TextInput(n, sound_side(text)),
        Statement::Delete(element) => Statement::Delete(place(element)),
        Statement::Emit(value) => Statement::Emit(expr(value)),
        Statement::If(..) | Statement::While(..) | Statement::For(..) | Statement::Unroll(..) if around.open => return None,
        Statement::If(condition, then, otherwise) => {
            Statement::If(expr(condition), sound_block(then, around, open), sound_block(otherwise, around, open))
        }
        Statement::While(..) | Statement::For(..) | Statement::Unroll(..) if *open => return None,
        Statement::While(..) | Statement::For(_, Bound::Variable(_), _) if around.rounds > 1 => return None,
        Statement::While(condition, body) => {
            *open = true;
            Statement::While(expr(condition), sound_block(body, Around { leaves: true, open: true, ..around }, open))
        }
        Statement::For(from, to, body) => {
            let inner = Around { leaves: true, counters: around.counters + 1, ..around };
            let inner = match to {
                Bound::Constant(to) => Around { rounds: around.rounds * to.abs_diff(from).max(1), ..inner },
                Bound::Variable(_) => {
                    *open = true;
                    Around { open: true, ..inner }
                }
            };
            if inner.rounds > MAX_ROUNDS {
                return None;
            }
            Statement::For(from, to, sound_block(body, inner, open))
        }
        Statement::Unroll(times, body) => {
            let inner = Around { leaves: false, rounds: around.rounds * u64::from(times), ..around };
            Statement::Unroll(times, sound_block(body, inner, open))
        }
        Statement::Break | Statement::Continue if !around.leaves => return None,
        other => other,
    })
}

/// Counters of loops that are not there are 0.
fn counting(expr: Expr, counters: usize) -> Expr {
    match expr {
        Expr::Counter(n) if n >= counters => Expr::Literal(0),
        other => other,
    }
}
