//! Statements.

use super::{function::Generator, room::Spot, whole::Whole};
use crate::{
    assemble::{Alu, Cond, FP, Label, R0, R1, Width},
    check::ir::{Statement, StatementKind, Value, key_needs_time},
    counters::Counter,
};

impl Generator<'_> {
    pub(super) fn statements(&mut self, statements: &[Statement]) {
        for statement in statements {
            self.asm.note(&statement.source.0);
            self.statement(&statement.kind);
        }
    }

    fn statement(&mut self, statement: &StatementKind) {
        match statement {
            StatementKind::Return => {
                let completed = self.completed;
                self.asm.jump(completed);
            }
            StatementKind::Assign(variable, value) => {
                self.value(value);
                let slot = self.variable(*variable);
                self.asm.store(Width::W8, FP, slot, R0);
            }
            StatementKind::AssignText(variable, text) => {
                let keep = self.function.body.variables.get(*variable).copied().unwrap_or_default();
                let slot = self.variable(*variable);
                self.put_text(text, Spot::stack(slot), keep, true, None);
            }
            StatementKind::If(condition, then, otherwise) => {
                let (no, end) = (self.asm.label(), self.asm.label());
                self.branch(condition, false, no);
                self.statements(then);
                if !otherwise.is_empty() {
                    self.asm.jump(end);
                }
                self.asm.place(no);
                self.statements(otherwise);
                self.asm.place(end);
            }
            StatementKind::Unroll(times, body) => {
                for _ in 0..*times {
                    self.statements(body);
                }
            }
            StatementKind::While { condition, limit, body } => {
                self.in_loop(*limit, |this, end| this.branch(condition, false, end), body, |_| {});
            }
            StatementKind::For { variable, from, to, limit, body } => self.range_loop(*variable, (from, to), *limit, body),
            StatementKind::Break => {
                if let Some((_, end)) = self.loops.last().copied() {
                    self.asm.jump(end);
                }
            }
            StatementKind::Continue => {
                if let Some((next, _)) = self.loops.last().copied() {
                    self.asm.jump(next);
                }
            }
            StatementKind::Set { map, key, value } => self.set_element(*map, key, value),
            StatementKind::SetText { map, key, value } => self.set_text_element(*map, key, value),
            StatementKind::Add { map, key, value } => self.add_to_element(*map, key, value),
            StatementKind::Change { map, key, op, signed, value } => self.change_element(*map, key, (*op, *signed), value),
            StatementKind::Aggregate { map, key, value, .. } => self.aggregate(*map, key, value),
            StatementKind::Delete { map, key } => self.delete_element(*map, key),
            StatementKind::Clear { map } => self.whole_map(Whole::Clear, *map),
            StatementKind::Emit { stream, fields } => self.emit(stream, fields),
        }
    }

    fn range_loop(&mut self, variable: usize, (from, to): (&Value, &Value), limit: u32, body: &[Statement]) {
        let end_value = self.allocate(8);
        self.value(to);
        self.asm.store(Width::W8, FP, end_value, R0);
        self.value(from);
        let slot = self.variable(variable);
        self.asm.store(Width::W8, FP, slot, R0);
        self.in_loop(
            limit,
            |this, end| {
                this.asm.load(Width::W8, R0, FP, slot);
                this.asm.load(Width::W8, R1, FP, end_value);
                this.asm.jump_if(Cond::SignedGe, R0, R1, end);
            },
            body,
            |this| {
                this.asm.load(Width::W8, R0, FP, slot);
                this.asm.alu_imm(Alu::Add, R0, 1);
                this.asm.store(Width::W8, FP, slot, R0);
            },
        );
        self.release(8);
    }

    /// Runs the body `limit` times at most. `test` leaves the loop; `next` is what comes before the next round.
    fn in_loop(&mut self, limit: u32, test: impl FnOnce(&mut Self, Label), body: &[Statement], next: impl FnOnce(&mut Self)) {
        // The verifier follows the rounds one by one, and sees by this counter that they end.
        let rounds = self.allocate(8);
        self.asm.set(R0, 0);
        self.asm.store(Width::W8, FP, rounds, R0);
        let (top, again, over, end) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.place(top);
        test(self, end);
        self.asm.load(Width::W8, R0, FP, rounds);
        self.asm.jump_if_imm(Cond::Ge, R0, limit as i32, over);
        self.asm.alu_imm(Alu::Add, R0, 1);
        self.asm.store(Width::W8, FP, rounds, R0);
        self.loops.push((again, end));
        self.statements(body);
        self.loops.pop();
        self.asm.place(again);
        next(self);
        self.asm.jump(top);
        self.asm.place(over);
        self.bump(Counter::Truncated);
        self.asm.place(end);
        self.release(8);
    }
}

/// Whether the statements ask for the time of the run; every record has it.
pub(super) fn needs_time(statements: &[Statement]) -> bool {
    statements.iter().any(|s| match &s.kind {
        StatementKind::Return | StatementKind::Break | StatementKind::Continue | StatementKind::Clear { .. } => false,
        StatementKind::Assign(_, value) => value.needs_time(),
        StatementKind::AssignText(_, text) => text.needs_time(),
        StatementKind::If(condition, then, otherwise) => condition.needs_time() || needs_time(then) || needs_time(otherwise),
        StatementKind::Unroll(_, body) => needs_time(body),
        StatementKind::While { condition, body, .. } => condition.needs_time() || needs_time(body),
        StatementKind::For { from, to, body, .. } => from.needs_time() || to.needs_time() || needs_time(body),
        StatementKind::Set { key, value, .. }
        | StatementKind::Add { key, value, .. }
        | StatementKind::Change { key, value, .. } => value.needs_time() || key_needs_time(key),
        StatementKind::Aggregate { key, value, series, .. } => *series || value.needs_time() || key_needs_time(key),
        StatementKind::SetText { key, value, .. } => value.needs_time() || key_needs_time(key),
        StatementKind::Delete { key, .. } => key_needs_time(key),
        StatementKind::Emit { .. } => true,
    })
}
