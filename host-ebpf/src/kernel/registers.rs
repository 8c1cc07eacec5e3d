//! `struct pt_regs`: where a program on a kprobe, a uprobe or a perf event finds the registers.
//!
//! What differs between architectures is in one file for each.

#[cfg(target_arch = "x86_64")]
#[path = "registers/x86_64.rs"]
mod arch;
#[cfg(not(target_arch = "x86_64"))]
compile_error!("the registers of this architecture are missing: see host-ebpf/src/kernel/registers/");

/// The offset in `struct pt_regs` of what a function returns.
pub const RETURN_OFFSET: u32 = arch::RETURN_OFFSET;

/// The register that says where the processor was, by its offset in `struct pt_regs`, and its bits that are all set in user mode.
pub const USER_MODE: (u32, u64) = arch::USER_MODE;

/// The offset in `struct pt_regs` of the address of the instruction that is next; at a uprobe it is the one that is probed.
pub const INSTRUCTION_POINTER: u32 = arch::INSTRUCTION_POINTER;

/// How many integers a function gets in registers.
pub const ARGUMENTS: usize = arch::ARGUMENT_OFFSETS.len();

/// The bytes in front of a function's own code that only tell that it may be called: a probe behind them sees the same registers and
/// the same stack.
pub const LANDING_PAD: u64 = arch::LANDING_PAD;

/// The offset in `struct pt_regs` of a function's integer argument `index`; `None` for one that stands on the stack.
pub fn argument_offset(index: usize) -> Option<u32> {
    arch::ARGUMENT_OFFSETS.get(index).copied()
}

/// The offset in `struct pt_regs` of a register by its name, as `reg("ip")` has it.
pub fn offset(name: &str) -> Option<u32> {
    arch::REGISTERS.iter().find(|(n, _)| *n == name).map(|(_, offset)| *offset)
}

/// The names that [`offset`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    arch::REGISTERS.iter().map(|(name, _)| *name)
}

/// A register as assembler text names it, without its `%`, as offset in `struct pt_regs` and width in bytes: `eax`. `None` for
/// one that is not in `struct pt_regs`, or not at the low end of its 8 bytes.
pub fn assembler_register(name: &str) -> Option<(u32, u8)> {
    arch::ASSEMBLER.iter().find_map(|(names, offset)| {
        let width = names.iter().position(|n| *n == name)?;
        Some((*offset, 8 >> width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers have the same place under all of their names.
    #[test]
    fn names_agree() {
        let check = |name: &str, expect: Option<(u32, u8)>| assert_eq!(assembler_register(name), expect, "{name}");
        check("rax", offset("ax").map(|o| (o, 8)));
        check("eax", offset("ax").map(|o| (o, 4)));
        check("di", offset("di").map(|o| (o, 2)));
        check("dil", offset("di").map(|o| (o, 1)));
        check("r15d", offset("r15").map(|o| (o, 4)));
        check("ah", None);
        check("xmm0", None);
        assert_eq!(argument_offset(0), offset("di"));
        assert_eq!(argument_offset(ARGUMENTS), None);
        assert!(names().all(|name| offset(name).is_some_and(|o| o.is_multiple_of(8) && o <= 160)));
    }
}
