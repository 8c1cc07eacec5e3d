//! Integers: every value is computed into r0; r1 to r5 are free to use.

use aya_obj::generated::bpf_func_id::{
    BPF_FUNC_get_current_cgroup_id, BPF_FUNC_get_current_task, BPF_FUNC_get_current_uid_gid, BPF_FUNC_get_numa_node_id,
    BPF_FUNC_get_prandom_u32, BPF_FUNC_get_smp_processor_id, BPF_FUNC_jiffies64, BPF_FUNC_ktime_get_boot_ns,
    BPF_FUNC_ktime_get_tai_ns, BPF_FUNC_probe_read_kernel,
};

use super::{function::Generator, whole::Whole};
use crate::{
    assemble::{Alu, Cond, FP, Label, R0, R1, R2, R3, R6, R8, Reg, Width},
    attach::Place,
    check::ir::{Helper, TaskField, Value},
    gate,
    kernel::btf::Int,
    output::MapRef,
    syntax::ast::{BinaryOp, UnaryOp},
};

impl Generator<'_> {
    /// r0: the value.
    pub(super) fn value(&mut self, value: &Value) {
        if is_simple(value) {
            return self.simple(value, R0);
        }
        match value {
            Value::Task(TaskField::Uid) => {
                self.asm.call(BPF_FUNC_get_current_uid_gid);
                self.asm.zero_extend_32(R0);
            }
            Value::Task(_) => {
                self.asm.call(BPF_FUNC_get_current_uid_gid);
                self.asm.alu_imm(Alu::Rsh, R0, 32);
            }
            Value::Cpu => self.asm.call(BPF_FUNC_get_smp_processor_id),
            Value::Pointer(place) => self.pointer(*place),
            Value::Unary(UnaryOp::Negate, operand) => {
                self.value(operand);
                self.asm.negate(R0);
            }
            Value::Unary(UnaryOp::Complement, operand) => {
                self.value(operand);
                self.asm.alu_imm(Alu::Xor, R0, -1);
            }
            Value::Helper(helper) => self.asm.call(match helper {
                Helper::CurrentTask => BPF_FUNC_get_current_task,
                Helper::CgroupId => BPF_FUNC_get_current_cgroup_id,
                Helper::Random => BPF_FUNC_get_prandom_u32,
                Helper::Jiffies => BPF_FUNC_jiffies64,
                Helper::NumaNode => BPF_FUNC_get_numa_node_id,
                Helper::BootTime => BPF_FUNC_ktime_get_boot_ns,
                Helper::TaiTime => BPF_FUNC_ktime_get_tai_ns,
            }),
            Value::Choose(condition, then, otherwise) => {
                let (no, end) = (self.asm.label(), self.asm.label());
                self.branch(condition, false, no);
                self.value(then);
                self.asm.jump(end);
                self.asm.place(no);
                self.value(otherwise);
                self.asm.place(end);
            }
            Value::Convert(int, operand) => {
                self.value(operand);
                self.convert(*int, R0);
            }
            Value::Swap(size, operand) => {
                self.value(operand);
                self.asm.swap(R0, *size);
            }
            Value::Field(field) => self.memory_field(field),
            Value::Element(map, key) => self.element(*map, key),
            Value::HasKey(map, key) => self.has_key(*map, key),
            Value::Len(map) => self.whole_map(Whole::Len, *map),
            Value::TextLength(text) => self.text_length(text),
            Value::Contains(text, needle) => self.contains(text, needle),
            Value::TextIs { text, literal, equal, whole } => self.text_is(text, literal, *equal, *whole),
            Value::SameText { left, right, equal } => self.same_text(left, right, *equal),
            Value::SameBytes { left, right, equal } => self.same_bytes(left, right, *equal),
            Value::Unary(UnaryOp::Not, _) => self.truth(value),
            Value::Binary { op, .. } if condition(*op, false).is_some() || matches!(op, BinaryOp::And | BinaryOp::Or) => {
                self.truth(value);
            }
            Value::Binary { op, signed, left, right } => {
                self.operands(left, right);
                self.arithmetic(*op, *signed, right);
            }
            // The simple ones.
            _ => {}
        }
    }

    /// r0: 1 or 0.
    fn truth(&mut self, value: &Value) {
        let (no, end) = (self.asm.label(), self.asm.label());
        self.branch(value, false, no);
        self.asm.set(R0, 1);
        self.asm.jump(end);
        self.asm.place(no);
        self.asm.set(R0, 0);
        self.asm.place(end);
    }

    /// Jumps if the value's truth is `when`, and goes on otherwise.
    pub(super) fn branch(&mut self, value: &Value, when: bool, to: Label) {
        match value {
            Value::Const(n) => {
                if (*n != 0) == when {
                    self.asm.jump(to);
                }
            }
            Value::Unary(UnaryOp::Not, operand) => self.branch(operand, !when, to),
            // `a && b` is false as soon as a is; `a || b` true as soon as a is.
            Value::Binary { op: op @ (BinaryOp::And | BinaryOp::Or), left, right, .. } => {
                let decides = *op == BinaryOp::Or;
                if decides == when {
                    self.branch(left, when, to);
                    self.branch(right, when, to);
                } else {
                    let end = self.asm.label();
                    self.branch(left, decides, end);
                    self.branch(right, when, to);
                    self.asm.place(end);
                }
            }
            Value::Binary { op, signed, left, right } => match condition(*op, *signed) {
                Some(cond) => {
                    let cond = if when { cond } else { inverse(cond) };
                    match small_constant(right) {
                        Some(imm) => {
                            self.value(left);
                            self.asm.jump_if_imm(cond, R0, imm, to);
                        }
                        None => {
                            self.operands(left, right);
                            self.asm.jump_if(cond, R0, R1, to);
                        }
                    }
                }
                None => self.branch_value(value, when, to),
            },
            _ => self.branch_value(value, when, to),
        }
    }

    fn branch_value(&mut self, value: &Value, when: bool, to: Label) {
        self.value(value);
        self.asm.jump_if_imm(if when { Cond::Ne } else { Cond::Eq }, R0, 0, to);
    }

    /// r0 and r1: both operands.
    fn operands(&mut self, left: &Value, right: &Value) {
        if is_simple(right) {
            self.value(left);
            self.simple(right, R1);
        } else {
            self.value(left);
            let slot = self.allocate(8);
            self.asm.store(Width::W8, FP, slot, R0);
            self.value(right);
            self.asm.mov(R1, R0);
            self.asm.load(Width::W8, R0, FP, slot);
            self.release(8);
        }
    }

    /// r0 = r0 op r1
    pub(super) fn arithmetic(&mut self, op: BinaryOp, signed: bool, right: &Value) {
        let alu = match op {
            BinaryOp::Divide | BinaryOp::Remainder if signed => return self.signed_division(op),
            BinaryOp::Add => Alu::Add,
            BinaryOp::Subtract => Alu::Sub,
            BinaryOp::Multiply => Alu::Mul,
            BinaryOp::Divide => Alu::Div,
            BinaryOp::Remainder => Alu::Mod,
            BinaryOp::BitAnd => Alu::And,
            BinaryOp::BitOr => Alu::Or,
            BinaryOp::BitXor => Alu::Xor,
            BinaryOp::ShiftLeft => Alu::Lsh,
            BinaryOp::ShiftRight if signed => Alu::Arsh,
            _ => Alu::Rsh,
        };
        if matches!(alu, Alu::Lsh | Alu::Rsh | Alu::Arsh) && !matches!(right, Value::Const(_)) {
            // A shift goes by the low six bits of its count, as on every machine we know.
            self.asm.alu_imm(Alu::And, R1, 63);
        }
        self.asm.alu(alu, R0, R1);
    }

    /// Only new kernels divide with sign (6.6): divide the magnitudes, then put the sign back. By zero: 0, and the remainder is
    /// the dividend, as for the unsigned instructions. Without jumps: in a loop the verifier would follow each way through it.
    fn signed_division(&mut self, op: BinaryOp) {
        // A mask of the sign, by which `(x ^ mask) - mask` is the magnitude and takes it back.
        for (operand, mask) in [(R0, R2), (R1, R3)] {
            self.asm.mov(mask, operand);
            self.asm.alu_imm(Alu::Arsh, mask, 63);
            self.asm.alu(Alu::Xor, operand, mask);
            self.asm.alu(Alu::Sub, operand, mask);
        }
        if op == BinaryOp::Divide {
            self.asm.alu(Alu::Xor, R2, R3);
        }
        self.asm.alu(if op == BinaryOp::Divide { Alu::Div } else { Alu::Mod }, R0, R1);
        self.asm.alu(Alu::Xor, R0, R2);
        self.asm.alu(Alu::Sub, R0, R2);
    }

    /// Any register: a value that takes no helper and no other register.
    fn simple(&mut self, value: &Value, dst: Reg) {
        match value {
            Value::Const(n) => self.asm.set(dst, *n),
            Value::Task(TaskField::Pid) => {
                self.asm.load(Width::W8, dst, FP, self.pid_tgid);
                self.asm.alu_imm(Alu::Rsh, dst, 32);
            }
            Value::Task(_) => {
                self.asm.load(Width::W8, dst, FP, self.pid_tgid);
                self.asm.zero_extend_32(dst);
            }
            Value::Time => self.asm.mov(dst, R8),
            Value::Duration => {
                self.asm.load(Width::W8, dst, FP, self.entry_time);
                self.asm.negate(dst);
                self.asm.alu(Alu::Add, dst, R8);
            }
            Value::Elapsed => {
                let bit = self.context.options.gate.unwrap_or_default();
                self.asm.map_value(dst, MapRef::Gate, gate::opened(bit));
                self.asm.load(Width::W8, dst, dst, 0);
                self.asm.negate(dst);
                self.asm.alu(Alu::Add, dst, R8);
            }
            Value::Saved(i) => {
                let slot = self.saved(*i);
                self.asm.load(Width::W8, dst, FP, slot);
            }
            Value::Variable(i) => {
                let slot = self.variable(*i);
                self.asm.load(Width::W8, dst, FP, slot);
            }
            Value::Load(place, int) => self.load(*place, *int, dst),
            Value::Pointer(Place::Context(offset)) => self.asm.load(Width::W8, dst, R6, *offset as i16),
            Value::Pointer(Place::Regs(offset)) => self.regs(*offset, dst),
            // `is_simple` knows no others.
            _ => {}
        }
    }

    fn regs(&mut self, offset: u32, dst: Reg) {
        self.asm.load(Width::W8, dst, R6, 0);
        self.asm.load(Width::W8, dst, dst, offset as i16);
    }

    fn load(&mut self, place: Place, int: Int, dst: Reg) {
        match place {
            Place::Context(offset) => self.asm.load(Width::of(int.size), dst, R6, offset as i16),
            // The context of a raw tracepoint is read in whole slots.
            Place::Slot(slot) => self.asm.load(Width::W8, dst, R6, 8 * slot as i16),
            Place::Regs(offset) => self.regs(offset, dst),
        }
        // A narrow load extends with zeroes.
        if int.signed || !matches!(place, Place::Context(_)) {
            self.convert(int, dst);
        }
    }

    /// Extends the low bytes as the type's sign asks.
    pub(super) fn convert(&mut self, int: Int, reg: Reg) {
        let shift = 64 - 8 * i32::from(int.size);
        match (int.size, int.signed) {
            (8, _) => {}
            (4, false) => self.asm.zero_extend_32(reg),
            (_, signed) => {
                self.asm.alu_imm(Alu::Lsh, reg, shift);
                self.asm.alu_imm(if signed { Alu::Arsh } else { Alu::Rsh }, reg, shift);
            }
        }
    }

    /// r0: a pointer that a raw tracepoint passes. The verifier knows its type and allows no arithmetic with it, so it is read
    /// from the context as the plain number that it is.
    fn pointer(&mut self, place: Place) {
        let Place::Slot(slot) = place else { return };
        let copy = self.allocate(8);
        self.asm.mov(R3, R6);
        self.asm.alu_imm(Alu::Add, R3, 8 * slot as i32);
        self.asm.set(R2, 8);
        self.stack_address(R1, copy);
        self.asm.call(BPF_FUNC_probe_read_kernel);
        self.asm.load(Width::W8, R0, FP, copy);
        self.release(8);
    }
}

fn is_simple(value: &Value) -> bool {
    match value {
        Value::Task(field) => matches!(field, TaskField::Pid | TaskField::Tid),
        Value::Pointer(place) => !matches!(place, Place::Slot(_)),
        Value::Const(_)
        | Value::Time
        | Value::Duration
        | Value::Elapsed
        | Value::Load(..)
        | Value::Saved(_)
        | Value::Variable(_) => true,
        _ => false,
    }
}

/// The constant, if it fits into an instruction.
fn small_constant(value: &Value) -> Option<i32> {
    match value {
        Value::Const(n) => i32::try_from(*n as i64).ok(),
        _ => None,
    }
}

/// The jump that a comparison is.
fn condition(op: BinaryOp, signed: bool) -> Option<Cond> {
    Some(match (op, signed) {
        (BinaryOp::Equal, _) => Cond::Eq,
        (BinaryOp::NotEqual, _) => Cond::Ne,
        (BinaryOp::Less, false) => Cond::Lt,
        (BinaryOp::Less, true) => Cond::SignedLt,
        (BinaryOp::LessEqual, false) => Cond::Le,
        (BinaryOp::LessEqual, true) => Cond::SignedLe,
        (BinaryOp::Greater, false) => Cond::Gt,
        (BinaryOp::Greater, true) => Cond::SignedGt,
        (BinaryOp::GreaterEqual, false) => Cond::Ge,
        (BinaryOp::GreaterEqual, true) => Cond::SignedGe,
        _ => return None,
    })
}

fn inverse(cond: Cond) -> Cond {
    match cond {
        Cond::Eq => Cond::Ne,
        Cond::Ne => Cond::Eq,
        Cond::Gt => Cond::Le,
        Cond::Ge => Cond::Lt,
        Cond::Lt => Cond::Ge,
        Cond::Le => Cond::Gt,
        Cond::SignedGt => Cond::SignedLe,
        Cond::SignedGe => Cond::SignedLt,
        Cond::SignedLt => Cond::SignedGe,
        Cond::SignedLe => Cond::SignedGt,
    }
}
