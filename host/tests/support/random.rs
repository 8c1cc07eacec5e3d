//! WebAssembly modules made at random: valid ones, whose functions are trees of instructions of all types.
//!
//! wasm-smith would have more kinds of instruction; it can't be had without having wasmtime built a second time, since it wants another
//! feature of a crate that both use.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

use std::fmt::Write;

/// Numbers from a seed (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    I32,
    I64,
    F32,
    F64,
}

use Type::{F32, F64, I32, I64};

const TYPES: [Type; 4] = [I32, I64, F32, F64];

impl Type {
    fn name(self) -> &'static str {
        match self {
            I32 => "i32",
            I64 => "i64",
            F32 => "f32",
            F64 => "f64",
        }
    }
}

/// A function's type.
struct Signature {
    takes: Vec<Type>,
    gives: Type,
}

struct Maker<'r> {
    random: &'r mut Random,
    functions: Vec<Signature>,
    /// The locals of the function that is being made: its parameters, and one of each type.
    locals: Vec<Type>,
    depth: usize,
    out: String,
}

/// How deep expressions nest.
const DEEP: usize = 6;

/// A module with memories, tables and functions that are called when it starts, as bytes. What loops has fuel.
pub fn module(random: &mut Random) -> Vec<u8> {
    let count = 1 + random.below(8);
    let mut functions = Vec::new();
    for _ in 0..count {
        let takes = (0..random.below(4)).map(|_| random.pick(&TYPES)).collect();
        functions.push(Signature { takes, gives: random.pick(&TYPES) });
    }
    let mut maker = Maker { random, functions, locals: Vec::new(), depth: 0, out: String::new() };
    maker.module();
    wat::parse_str(&maker.out).unwrap_or_else(|error| panic!("{error}\n{}", maker.out))
}

/// A plugin's component with one module more, which is instantiated after its own (Binary.md of the component model).
pub fn beside(component: &[u8], module: &[u8]) -> Vec<u8> {
    const MODULE: u8 = 1;
    const INSTANCE: u8 = 2;
    let mut out = component.to_vec();
    let modules = sections(component).filter(|id| *id == MODULE).count();
    section(&mut out, MODULE, module);
    // One instance: of that module, with nothing to import.
    let mut instance = vec![1, 0];
    leb(&mut instance, modules);
    instance.push(0);
    section(&mut out, INSTANCE, &instance);
    out
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    leb(out, content.len());
    out.extend_from_slice(content);
}

fn leb(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The kinds of a component's sections, in order.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = &component[8..];
    std::iter::from_fn(move || {
        let (&id, mut behind) = rest.split_first()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let (&byte, more) = behind.split_first().unwrap();
            behind = more;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = &behind[length..];
        Some(id)
    })
}

impl Maker<'_> {
    fn module(&mut self) {
        let pages = self.random.pick(&[0, 1, 2, 200, 300, 65_536]);
        let elements = self.random.pick(&[0, 8, 8, 1_000_000, 100_000_000]) + self.functions.len();
        let _ =
            write!(self.out, "(module (memory {pages}) (table $t {elements} funcref) (global $fuel (mut i32) (i32.const 1000))");
        for typ in TYPES {
            let name = typ.name();
            let _ = write!(self.out, "(global ${name} (mut {name}) ({name}.const 7))");
        }
        self.out.push_str("(elem (i32.const 0) ");
        for function in 0..self.functions.len() {
            let _ = write!(self.out, "$f{function} ");
        }
        self.out.push(')');
        if pages > 0 && self.random.below(2) == 0 {
            let at = self.random.pick(&[0, 65_530, 70_000]);
            let _ = write!(self.out, "(data (i32.const {at}) \"the data\")");
        }
        for function in 0..self.functions.len() {
            self.function(function);
        }
        self.out.push_str("(func $all ");
        for function in 0..self.functions.len() {
            self.out.push_str("(drop ");
            self.locals.clear();
            self.call(function);
            self.out.push(')');
        }
        self.out.push_str(") (start $all))");
    }

    fn function(&mut self, number: usize) {
        let Signature { takes, gives } = &self.functions[number];
        let gives = *gives;
        self.locals = takes.iter().copied().chain(TYPES).collect();
        let parameters: String = takes.iter().map(|typ| format!("(param {})", typ.name())).collect();
        let _ = write!(self.out, "(func $f{number} {parameters} (result {}) ", gives.name());
        for typ in TYPES {
            let _ = write!(self.out, "(local {})", typ.name());
        }
        self.fuel();
        for _ in 0..self.random.below(5) {
            self.statement();
        }
        self.value(gives);
        self.out.push(')');
    }

    /// Ends what goes on for long.
    fn fuel(&mut self) {
        self.out.push_str(
            "(if (i32.eqz (global.get $fuel)) (then (unreachable))) (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))",
        );
    }

    fn statement(&mut self) {
        self.depth += 1;
        let typ = self.random.pick(&TYPES);
        let kind = if self.depth > DEEP { self.random.below(2) } else { self.random.below(9) };
        match kind {
            0 => {
                let _ = write!(self.out, "(global.set ${} ", typ.name());
                self.value(typ);
                self.out.push(')');
            }
            1 => {
                let at = self.random.below(self.locals.len());
                let _ = write!(self.out, "(local.set {at} ");
                self.value(self.locals[at]);
                self.out.push(')');
            }
            2 => {
                let offset = self.random.pick(&[0, 8, 65_528, 4_000_000_000_u32]);
                let _ = write!(self.out, "({}.store offset={offset} ", typ.name());
                self.value(I32);
                self.value(typ);
                self.out.push(')');
            }
            3 => {
                self.out.push_str("(if ");
                self.value(I32);
                self.out.push_str(" (then ");
                self.statement();
                self.out.push_str(") (else ");
                self.statement();
                self.out.push_str("))");
            }
            4 => {
                self.out.push_str("(block (loop ");
                self.fuel();
                self.statement();
                self.out.push_str("(br_if 0 ");
                self.value(I32);
                self.out.push_str(") (br_table 1 0 1 1 ");
                self.value(I32);
                self.out.push_str(")))");
            }
            5 => {
                self.out.push_str("(drop ");
                self.value(typ);
                self.out.push(')');
            }
            6 => {
                let what = self.random.pick(&["memory.fill", "memory.copy"]);
                let _ = write!(self.out, "({what} ");
                (0..3).for_each(|_| self.value(I32));
                self.out.push(')');
            }
            7 => {
                self.out.push_str("(table.set $t ");
                self.value(I32);
                self.out.push_str("(ref.null func))");
            }
            _ => {
                self.out.push_str("(drop (table.grow $t (ref.null func) ");
                self.value(I32);
                self.out.push_str("))");
            }
        }
        self.depth -= 1;
    }

    fn value(&mut self, typ: Type) {
        self.depth += 1;
        let name = typ.name();
        let kind = if self.depth > DEEP { self.random.below(3) } else { self.random.below(9) };
        match kind {
            0 => {
                let number = self.random.pick(&["0", "1", "-1", "7", "127", "65536", "2147483647", "-2147483648"]);
                let _ = write!(self.out, "({name}.const {number})");
            }
            1 => {
                let _ = write!(self.out, "(global.get ${name})");
            }
            2 => match self.locals.iter().rposition(|of| *of == typ) {
                Some(at) => _ = write!(self.out, "(local.get {at})"),
                None => _ = write!(self.out, "({name}.const 3)"),
            },
            3 | 4 => {
                let what = match typ {
                    I32 | I64 => self.random.pick(&[
                        "add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u", "and", "or", "xor", "shl", "shr_s", "rotl",
                    ]),
                    F32 | F64 => self.random.pick(&["add", "sub", "mul", "div", "min", "max", "copysign"]),
                };
                let _ = write!(self.out, "({name}.{what} ");
                self.value(typ);
                self.value(typ);
                self.out.push(')');
            }
            5 => {
                let what = match typ {
                    I32 => [
                        ("wrap_i64", I64),
                        ("trunc_f32_s", F32),
                        ("trunc_sat_f64_u", F64),
                        ("reinterpret_f32", F32),
                        ("clz", I32),
                    ],
                    I64 => [
                        ("extend_i32_s", I32),
                        ("trunc_f64_u", F64),
                        ("trunc_sat_f32_s", F32),
                        ("reinterpret_f64", F64),
                        ("ctz", I64),
                    ],
                    F32 => [("convert_i32_s", I32), ("demote_f64", F64), ("reinterpret_i32", I32), ("sqrt", F32), ("ceil", F32)],
                    F64 => {
                        [("convert_i64_u", I64), ("promote_f32", F32), ("reinterpret_i64", I64), ("nearest", F64), ("neg", F64)]
                    }
                };
                let (what, of) = self.random.pick(&what);
                let _ = write!(self.out, "({name}.{what} ");
                self.value(of);
                self.out.push(')');
            }
            6 => {
                let offset = self.random.pick(&[0, 4, 65_532]);
                let _ = write!(self.out, "({name}.load offset={offset} ");
                self.value(I32);
                self.out.push(')');
            }
            7 => {
                let fitting: Vec<usize> =
                    self.functions.iter().enumerate().filter(|(_, of)| of.gives == typ).map(|(number, _)| number).collect();
                if fitting.is_empty() {
                    let _ = write!(self.out, "({name}.const 5)");
                } else {
                    let function = self.random.pick(&fitting);
                    self.call(function);
                }
            }
            _ => match typ {
                I32 if self.random.below(2) == 0 => {
                    self.out.push_str("(memory.grow ");
                    self.value(I32);
                    self.out.push(')');
                }
                _ => {
                    let _ = write!(self.out, "(call_indirect $t (result {name}) ");
                    self.value(I32);
                    self.out.push(')');
                }
            },
        }
        self.depth -= 1;
    }

    fn call(&mut self, function: usize) {
        let _ = write!(self.out, "(call $f{function} ");
        for at in 0..self.functions[function].takes.len() {
            self.value(self.functions[function].takes[at]);
        }
        self.out.push(')');
    }
}
