//! Instructions with labels to instructions with offsets.
//!
//! The verifier refuses code that no path reaches (`unreachable insn`), so the assembler leaves out whatever follows an exit or a
//! jump up to the next label that something jumps to.

use aya_obj::generated::{
    BPF_ADD, BPF_ALU, BPF_ALU64, BPF_AND, BPF_ARSH, BPF_ATOMIC, BPF_B, BPF_CALL, BPF_CMPXCHG, BPF_DIV, BPF_DW, BPF_END, BPF_EXIT,
    BPF_H, BPF_IMM, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JLE, BPF_JLT, BPF_JMP, BPF_JNE, BPF_JSGE, BPF_JSGT, BPF_JSLE,
    BPF_JSLT, BPF_K, BPF_LD, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MOD, BPF_MOV, BPF_MUL, BPF_NEG, BPF_OR, BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC, BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, BPF_RSH, BPF_ST, BPF_STX, BPF_SUB,
    BPF_TO_BE, BPF_TO_LE, BPF_W, BPF_X, BPF_XCHG, BPF_XOR, bpf_func_id, bpf_insn,
};

use crate::{functions::Function, output::MapRef};

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg(u8);

pub(crate) const R0: Reg = Reg(0);
pub(crate) const R1: Reg = Reg(1);
pub(crate) const R2: Reg = Reg(2);
pub(crate) const R3: Reg = Reg(3);
pub(crate) const R4: Reg = Reg(4);
pub(crate) const R6: Reg = Reg(6);
pub(crate) const R7: Reg = Reg(7);
pub(crate) const R8: Reg = Reg(8);
pub(crate) const R9: Reg = Reg(9);
/// The frame pointer, read only.
pub(crate) const FP: Reg = Reg(10);

/// The width of a memory access, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    W1,
    W2,
    W4,
    W8,
}

impl Width {
    /// The width of a type of 1, 2, 4 or 8 bytes.
    pub(crate) fn of(size: u8) -> Width {
        match size {
            1 => Width::W1,
            2 => Width::W2,
            4 => Width::W4,
            _ => Width::W8,
        }
    }

    fn code(self) -> u32 {
        match self {
            Width::W1 => BPF_B,
            Width::W2 => BPF_H,
            Width::W4 => BPF_W,
            Width::W8 => BPF_DW,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Sub,
    Mul,
    /// Unsigned.
    Div,
    /// Unsigned.
    Mod,
    Or,
    And,
    Xor,
    Lsh,
    Rsh,
    Arsh,
}

impl Alu {
    fn code(self) -> u32 {
        match self {
            Alu::Add => BPF_ADD,
            Alu::Sub => BPF_SUB,
            Alu::Mul => BPF_MUL,
            Alu::Div => BPF_DIV,
            Alu::Mod => BPF_MOD,
            Alu::Or => BPF_OR,
            Alu::And => BPF_AND,
            Alu::Xor => BPF_XOR,
            Alu::Lsh => BPF_LSH,
            Alu::Rsh => BPF_RSH,
            Alu::Arsh => BPF_ARSH,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cond {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    SignedGt,
    SignedGe,
    SignedLt,
    SignedLe,
}

impl Cond {
    fn code(self) -> u32 {
        match self {
            Cond::Eq => BPF_JEQ,
            Cond::Ne => BPF_JNE,
            Cond::Gt => BPF_JGT,
            Cond::Ge => BPF_JGE,
            Cond::Lt => BPF_JLT,
            Cond::Le => BPF_JLE,
            Cond::SignedGt => BPF_JSGT,
            Cond::SignedGe => BPF_JSGE,
            Cond::SignedLt => BPF_JSLT,
            Cond::SignedLe => BPF_JSLE,
        }
    }
}

/// A place to jump to, or a function to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label(usize);

#[derive(Debug)]
enum Item {
    Insn(bpf_insn),
    Jump(bpf_insn, Label),
    Call(Label),
    Map { dst: Reg, map: MapRef, value_offset: Option<u32> },
    Function(Reg, Label),
    Imm64(Reg, u64),
}

impl Item {
    /// How many instruction slots it takes.
    fn slots(&self) -> usize {
        match self {
            Item::Map { .. } | Item::Function(..) | Item::Imm64(..) => 2,
            _ => 1,
        }
    }
}

/// A function that grows, instruction by instruction.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    items: Vec<Item>,
    /// For each label the item before which it stands, and whether anything jumps there, calls it or loads its address.
    labels: Vec<(Option<usize>, bool)>,
    /// Texts for the listing, each before an item.
    notes: Vec<(usize, String)>,
    /// The functions, each by the item that it begins with.
    functions: Vec<Function>,
    /// Control can be here.
    alive: bool,
}

/// The code does not fit into what the instruction set can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the probe is too large: a jump over {0} instructions is out of reach")]
pub(crate) struct TooLarge(i64);

fn insn(code: u32, dst: Reg, src: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code: code as u8, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(dst.0, src), off, imm }
}

impl Assembler {
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push((None, false));
        Label(self.labels.len() - 1)
    }

    pub(crate) fn place(&mut self, label: Label) {
        // A jump to what follows it is none.
        let here = Some(self.items.len());
        if matches!(self.items.last(), Some(Item::Jump(i, to)) if *to == label && u32::from(i.code) == BPF_JMP | BPF_JA)
            && self.labels.iter().all(|(place, _)| *place != here)
        {
            self.items.pop();
            self.alive = true;
        }
        self.labels[label.0].0 = Some(self.items.len());
        self.alive |= self.labels[label.0].1;
    }

    /// Begins a function at the label; what came before it has ended.
    pub(crate) fn function(&mut self, label: Label, name: &str) {
        self.labels[label.0].0 = Some(self.items.len());
        self.alive = true;
        self.notes.push((self.items.len(), format!("{name}:")));
        self.functions.push(Function { start: self.items.len(), name: name.to_owned(), global: false });
    }

    /// The same of a function without arguments, which the verifier follows once, whoever calls it.
    pub(crate) fn global_function(&mut self, label: Label, name: &str) {
        self.function(label, name);
        self.functions.iter_mut().last().into_iter().for_each(|function| function.global = true);
    }

    /// Puts a line of the source before what follows.
    pub(crate) fn note(&mut self, text: &str) {
        if self.alive {
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            self.notes.push((self.items.len(), format!("     ; {line}")));
        }
    }

    fn push(&mut self, item: Item) {
        if self.alive {
            self.items.push(item);
        }
    }

    fn insn(&mut self, code: u32, dst: Reg, src: u8, off: i16, imm: i32) {
        self.push(Item::Insn(insn(code, dst, src, off, imm)));
    }

    pub(crate) fn mov(&mut self, dst: Reg, src: Reg) {
        if dst != src {
            self.insn(BPF_ALU64 | BPF_MOV | BPF_X, dst, src.0, 0, 0);
        }
    }

    /// Sets all 64 bits.
    pub(crate) fn set(&mut self, dst: Reg, value: u64) {
        match i32::try_from(value as i64) {
            Ok(imm) => self.insn(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm),
            Err(_) => self.push(Item::Imm64(dst, value)),
        }
    }

    /// Clears the upper 32 bits.
    pub(crate) fn zero_extend_32(&mut self, reg: Reg) {
        self.insn(BPF_ALU | BPF_MOV | BPF_X, reg, reg.0, 0, 0);
    }

    pub(crate) fn alu(&mut self, op: Alu, dst: Reg, src: Reg) {
        self.insn(BPF_ALU64 | op.code() | BPF_X, dst, src.0, 0, 0);
    }

    pub(crate) fn alu_imm(&mut self, op: Alu, dst: Reg, imm: i32) {
        self.insn(BPF_ALU64 | op.code() | BPF_K, dst, 0, 0, imm);
    }

    pub(crate) fn negate(&mut self, dst: Reg) {
        self.insn(BPF_ALU64 | BPF_NEG, dst, 0, 0, 0);
    }

    /// Zero-extends to 64 bits.
    pub(crate) fn load(&mut self, width: Width, dst: Reg, base: Reg, offset: i16) {
        self.insn(BPF_LDX | BPF_MEM | width.code(), dst, base.0, offset, 0);
    }

    pub(crate) fn store(&mut self, width: Width, base: Reg, offset: i16, src: Reg) {
        self.insn(BPF_STX | BPF_MEM | width.code(), base, src.0, offset, 0);
    }

    pub(crate) fn store_imm(&mut self, width: Width, base: Reg, offset: i16, imm: i32) {
        self.insn(BPF_ST | BPF_MEM | width.code(), base, 0, offset, imm);
    }

    /// Adds 64 bits in one indivisible step.
    pub(crate) fn atomic_add(&mut self, base: Reg, offset: i16, src: Reg) {
        self.insn(BPF_STX | BPF_ATOMIC | BPF_DW, base, src.0, offset, BPF_ADD as i32);
    }

    /// Puts `src` there; `src` is then what was there. Since Linux 5.12.
    pub(crate) fn exchange(&mut self, base: Reg, offset: i16, src: Reg) {
        self.insn(BPF_STX | BPF_ATOMIC | BPF_DW, base, src.0, offset, BPF_XCHG as i32);
    }

    /// Puts `src` there if r0 is there; r0 is then what was there. Since Linux 5.12.
    pub(crate) fn compare_exchange(&mut self, base: Reg, offset: i16, src: Reg) {
        self.insn(BPF_STX | BPF_ATOMIC | BPF_DW, base, src.0, offset, BPF_CMPXCHG as i32);
    }

    /// Puts the low `size` bytes (2, 4 or 8) in the other order; the rest becomes 0.
    pub(crate) fn swap(&mut self, reg: Reg, size: u8) {
        let other = if cfg!(target_endian = "little") { BPF_TO_BE } else { BPF_TO_LE };
        self.insn(BPF_ALU | BPF_END | other, reg, 0, 0, i32::from(size) * 8);
    }

    pub(crate) fn jump(&mut self, to: Label) {
        if self.alive {
            self.labels[to.0].1 = true;
            self.push(Item::Jump(insn(BPF_JMP | BPF_JA, R0, 0, 0, 0), to));
            self.alive = false;
        }
    }

    pub(crate) fn jump_if(&mut self, cond: Cond, left: Reg, right: Reg, to: Label) {
        if self.alive {
            self.labels[to.0].1 = true;
            self.push(Item::Jump(insn(BPF_JMP | cond.code() | BPF_X, left, right.0, 0, 0), to));
        }
    }

    pub(crate) fn jump_if_imm(&mut self, cond: Cond, left: Reg, imm: i32, to: Label) {
        if self.alive {
            self.labels[to.0].1 = true;
            self.push(Item::Jump(insn(BPF_JMP | cond.code() | BPF_K, left, 0, 0, imm), to));
        }
    }

    pub(crate) fn call(&mut self, helper: bpf_func_id) {
        self.insn(BPF_JMP | BPF_CALL, R0, 0, 0, helper as i32);
    }

    /// Calls a function of the kernel's own, by its number in BTF (a kfunc). Since Linux 5.13.
    pub(crate) fn call_kernel(&mut self, function: u32) {
        self.insn(BPF_JMP | BPF_CALL, R0, BPF_PSEUDO_KFUNC_CALL as u8, 0, function.cast_signed());
    }

    pub(crate) fn call_function(&mut self, function: Label) {
        if self.alive {
            self.labels[function.0].1 = true;
            self.push(Item::Call(function));
        }
    }

    pub(crate) fn exit(&mut self) {
        self.insn(BPF_JMP | BPF_EXIT, R0, 0, 0, 0);
        self.alive = false;
    }

    /// Loads a map, as helpers take it.
    pub(crate) fn map(&mut self, dst: Reg, map: MapRef) {
        self.push(Item::Map { dst, map, value_offset: None });
    }

    /// Loads the address of a byte in the one value of an array map.
    pub(crate) fn map_value(&mut self, dst: Reg, map: MapRef, offset: u32) {
        self.push(Item::Map { dst, map, value_offset: Some(offset) });
    }

    /// Loads the address of a function, for a helper that calls it. Since Linux 5.13.
    pub(crate) fn function_address(&mut self, dst: Reg, function: Label) {
        if self.alive {
            self.labels[function.0].1 = true;
            self.push(Item::Function(dst, function));
        }
    }

    /// Whether something jumps there, calls it, or loads its address.
    pub(crate) fn is_wanted(&self, label: Label) -> bool {
        self.labels[label.0].1
    }

    pub(crate) fn finish(self) -> Result<Assembled, TooLarge> {
        let mut starts = Vec::with_capacity(self.items.len() + 1);
        let mut slot = 0;
        for item in &self.items {
            starts.push(slot);
            slot += item.slots();
        }
        starts.push(slot);
        // A label that was never placed is one that nothing alive jumps to.
        let target = |label: Label| self.labels[label.0].0.map_or(0, |item| starts[item]) as i64;
        let mut out = Assembled { insns: Vec::with_capacity(slot), maps: Vec::new(), notes: Vec::new(), functions: Vec::new() };
        for (item, &at) in self.items.iter().zip(&starts) {
            match item {
                Item::Insn(i) => out.insns.push(*i),
                Item::Jump(i, label) => {
                    let distance = target(*label) - at as i64 - 1;
                    let off = i16::try_from(distance).map_err(|_| TooLarge(distance))?;
                    out.insns.push(bpf_insn { off, ..*i });
                }
                Item::Call(label) => {
                    let distance = target(*label) - at as i64 - 1;
                    let imm = i32::try_from(distance).map_err(|_| TooLarge(distance))?;
                    out.insns.push(insn(BPF_JMP | BPF_CALL, R0, BPF_PSEUDO_CALL as u8, 0, imm));
                }
                Item::Map { dst, map, value_offset } => {
                    out.maps.push((at, *map));
                    let pseudo = if value_offset.is_some() { BPF_PSEUDO_MAP_VALUE } else { BPF_PSEUDO_MAP_FD };
                    out.insns.push(insn(BPF_LD | BPF_IMM | BPF_DW, *dst, pseudo as u8, 0, 0));
                    out.insns.push(insn(0, R0, 0, 0, value_offset.unwrap_or(0) as i32));
                }
                Item::Function(dst, label) => {
                    // Counted as a call is.
                    let distance = target(*label) - at as i64 - 1;
                    let imm = i32::try_from(distance).map_err(|_| TooLarge(distance))?;
                    out.insns.push(insn(BPF_LD | BPF_IMM | BPF_DW, *dst, BPF_PSEUDO_FUNC as u8, 0, imm));
                    out.insns.push(insn(0, R0, 0, 0, 0));
                }
                Item::Imm64(dst, value) => {
                    out.insns.push(insn(BPF_LD | BPF_IMM | BPF_DW, *dst, 0, 0, *value as u32 as i32));
                    out.insns.push(insn(0, R0, 0, 0, (*value >> 32) as i32));
                }
            }
        }
        if self.items.iter().any(|item| matches!(item, Item::Function(..))) {
            let functions = self.functions.into_iter();
            out.functions = functions.map(|function| Function { start: starts[function.start], ..function }).collect();
        }
        out.notes = self.notes.iter().map(|(item, text)| (starts[*item], text.clone())).collect();
        Ok(out)
    }
}

/// What the assembler made.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) insns: Vec<bpf_insn>,
    pub(crate) maps: Vec<(usize, MapRef)>,
    pub(crate) notes: Vec<(usize, String)>,
    /// The functions, if the address of one is loaded; else none.
    pub(crate) functions: Vec<Function>,
}
