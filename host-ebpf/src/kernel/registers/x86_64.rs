//! Source: `struct pt_regs`, arch/x86/include/asm/ptrace.h; the calling convention is that of the System V ABI, "Parameter Passing".

pub(super) const RETURN_OFFSET: u32 = 80;

/// `ip`.
pub(super) const INSTRUCTION_POINTER: u32 = 128;

/// `cs`, whose low bits are the privilege level: user_mode(), arch/x86/include/asm/ptrace.h.
pub(super) const USER_MODE: (u32, u64) = (136, 3);

/// rdi, rsi, rdx, rcx, r8, r9.
pub(super) const ARGUMENT_OFFSETS: [u32; 6] = [112, 104, 96, 88, 72, 64];

/// `endbr64`.
pub(super) const LANDING_PAD: u64 = 4;

/// As regs_query_register_offset() names them (arch/x86/kernel/ptrace.c), which bpftrace's `reg()` takes as well.
pub(super) const REGISTERS: [(&str, u32); 21] = [
    ("r15", 0),
    ("r14", 8),
    ("r13", 16),
    ("r12", 24),
    ("bp", 32),
    ("bx", 40),
    ("r11", 48),
    ("r10", 56),
    ("r9", 64),
    ("r8", 72),
    ("ax", 80),
    ("cx", 88),
    ("dx", 96),
    ("si", 104),
    ("di", 112),
    ("orig_ax", 120),
    ("ip", 128),
    ("cs", 136),
    ("flags", 144),
    ("sp", 152),
    ("ss", 160),
];

/// The 8, 4, 2 and 1 low bytes of each.
pub(super) const ASSEMBLER: [([&str; 4], u32); 17] = [
    (["r15", "r15d", "r15w", "r15b"], 0),
    (["r14", "r14d", "r14w", "r14b"], 8),
    (["r13", "r13d", "r13w", "r13b"], 16),
    (["r12", "r12d", "r12w", "r12b"], 24),
    (["rbp", "ebp", "bp", "bpl"], 32),
    (["rbx", "ebx", "bx", "bl"], 40),
    (["r11", "r11d", "r11w", "r11b"], 48),
    (["r10", "r10d", "r10w", "r10b"], 56),
    (["r9", "r9d", "r9w", "r9b"], 64),
    (["r8", "r8d", "r8w", "r8b"], 72),
    (["rax", "eax", "ax", "al"], 80),
    (["rcx", "ecx", "cx", "cl"], 88),
    (["rdx", "edx", "dx", "dl"], 96),
    (["rsi", "esi", "si", "sil"], 104),
    (["rdi", "edi", "di", "dil"], 112),
    (["rip", "eip", "ip", "ipl"], 128),
    (["rsp", "esp", "sp", "spl"], 152),
];
