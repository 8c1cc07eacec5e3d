//! The listing: a program's instructions in the notation of the kernel's own logs, between the lines of source that they came from.

use std::{
    collections::HashMap,
    fmt::{self, Write},
};

use aya_obj::generated::{
    BPF_ADD, BPF_ALU, BPF_ALU64, BPF_AND, BPF_ATOMIC, BPF_B, BPF_CALL, BPF_CMPXCHG, BPF_DIV, BPF_END, BPF_EXIT, BPF_H, BPF_JA,
    BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JLE, BPF_JLT, BPF_JNE, BPF_JSGE, BPF_JSGT, BPF_JSLE, BPF_JSLT, BPF_LD, BPF_LDX, BPF_LSH,
    BPF_MOD, BPF_MOV, BPF_MUL, BPF_NEG, BPF_OR, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_VALUE,
    BPF_RSH, BPF_ST, BPF_STX, BPF_SUB, BPF_W, BPF_X, BPF_XCHG, BPF_XOR, bpf_func_id, bpf_insn,
};

use crate::output::{MapRef, Program};

/// As [`Program::listing`].
pub(crate) fn listing(program: &Program) -> String {
    let functions = program.notes.iter().filter(|(_, text)| !text.starts_with(' '));
    let functions: HashMap<usize, &str> = functions.map(|(at, text)| (*at, text.trim_end_matches(':'))).collect();
    let mut notes = program.notes.iter().peekable();
    let mut listing = String::new();
    let mut at = 0;
    while let Some(rest @ [insn, ..]) = program.insns.get(at..) {
        while let Some((_, text)) = notes.next_if(|(before, _)| *before <= at) {
            let _ = writeln!(listing, "{text}");
        }
        let map = program.maps.binary_search_by_key(&at, |(slot, _)| *slot).ok().map(|i| program.maps[i].1);
        let _ = writeln!(listing, "{at:5}: {}", disassemble(rest, at, map, &functions));
        // What loads 64 bits takes two.
        at += if u32::from(insn.code) & 0x07 == BPF_LD { 2 } else { 1 };
    }
    listing
}

impl fmt::Display for MapRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapRef::Gate => f.write_str("gate"),
            MapRef::Processes => f.write_str("processes"),
            MapRef::Counters => f.write_str("counters"),
            MapRef::Ring => f.write_str("ring"),
            MapRef::Span(probe) => write!(f, "span{probe}"),
            MapRef::Plugin(number) => write!(f, "map{number}"),
            MapRef::Scratch => f.write_str("scratch"),
            MapRef::Names => f.write_str("names"),
            MapRef::Rates => f.write_str("rates"),
        }
    }
}

/// One instruction in the notation of the kernel's own logs.
fn disassemble(insns: &[bpf_insn], at: usize, map: Option<MapRef>, functions: &HashMap<usize, &str>) -> String {
    let i = &insns[0];
    let code = u32::from(i.code);
    let (dst, src, imm) = (format!("r{}", i.dst_reg()), format!("r{}", i.src_reg()), i.imm);
    let operand = if code & BPF_X != 0 { src.clone() } else { imm.to_string() };
    let size = match code & 0x18 {
        BPF_B => "u8",
        BPF_H => "u16",
        BPF_W => "u32",
        _ => "u64",
    };
    let memory = |base: &str| format!("*({size} *)({base} {:+})", i.off);
    let target = at as i64 + 1 + i64::from(i.off);
    let function = || usize::try_from(at as i64 + 1 + i64::from(imm)).ok().and_then(|f| functions.get(&f)).unwrap_or(&"?");
    match code & 0x07 {
        BPF_LD => match map {
            Some(map) if u32::from(i.src_reg()) == BPF_PSEUDO_MAP_VALUE => {
                format!("{dst} = &{map}[{}]", insns.get(1).map_or(0, |next| next.imm))
            }
            Some(map) => format!("{dst} = map {map}"),
            None if u32::from(i.src_reg()) == BPF_PSEUDO_FUNC => format!("{dst} = function {}", function()),
            None => format!("{dst} = {:#x} ll", (insns.get(1).map_or(0, |next| next.imm) as u64) << 32 | u64::from(imm as u32)),
        },
        BPF_LDX => format!("{dst} = {}", memory(&src)),
        BPF_ST => format!("{} = {imm}", memory(&dst)),
        BPF_STX if code & 0xe0 == BPF_ATOMIC => match imm as u32 {
            BPF_XCHG => format!("{src} = xchg({}, {src})", memory(&dst)),
            BPF_CMPXCHG => format!("r0 = cmpxchg({}, r0, {src})", memory(&dst)),
            _ => format!("lock {} += {src}", memory(&dst)),
        },
        BPF_STX => format!("{} = {src}", memory(&dst)),
        class @ (BPF_ALU | BPF_ALU64) => {
            let dst = if class == BPF_ALU { format!("w{}", i.dst_reg()) } else { dst };
            let operand = if class == BPF_ALU { operand.replace('r', "w") } else { operand };
            match code & 0xf0 {
                BPF_NEG => format!("{dst} = -{dst}"),
                BPF_END => format!("{dst} = swap{imm} {dst}", dst = dst.replace('w', "r")),
                BPF_MOV => format!("{dst} = {operand}"),
                op => {
                    let op = match op {
                        BPF_ADD => "+",
                        BPF_SUB => "-",
                        BPF_MUL => "*",
                        BPF_DIV => "/",
                        BPF_MOD => "%",
                        BPF_OR => "|",
                        BPF_AND => "&",
                        BPF_XOR => "^",
                        BPF_LSH => "<<",
                        BPF_RSH => ">>",
                        _ => "s>>",
                    };
                    format!("{dst} {op}= {operand}")
                }
            }
        }
        _ => match code & 0xf0 {
            BPF_EXIT => "exit".to_owned(),
            BPF_CALL if u32::from(i.src_reg()) == BPF_PSEUDO_CALL => format!("call {}", function()),
            BPF_CALL if u32::from(i.src_reg()) == BPF_PSEUDO_KFUNC_CALL => format!("call kernel {imm}"),
            BPF_CALL => format!("call {}", helper_name(imm)),
            BPF_JA => format!("goto {target}"),
            op => {
                let op = match op {
                    BPF_JEQ => "==",
                    BPF_JNE => "!=",
                    BPF_JGT => ">",
                    BPF_JGE => ">=",
                    BPF_JLT => "<",
                    BPF_JLE => "<=",
                    BPF_JSGT => "s>",
                    BPF_JSGE => "s>=",
                    BPF_JSLT => "s<",
                    BPF_JSLE => "s<=",
                    _ => "&",
                };
                format!("if {dst} {op} {operand} goto {target}")
            }
        },
    }
}

/// The helpers that programs call.
fn helper_name(id: i32) -> String {
    use bpf_func_id as f;
    let known = [
        f::BPF_FUNC_map_lookup_elem,
        f::BPF_FUNC_map_update_elem,
        f::BPF_FUNC_map_delete_elem,
        f::BPF_FUNC_for_each_map_elem,
        f::BPF_FUNC_ktime_get_ns,
        f::BPF_FUNC_get_smp_processor_id,
        f::BPF_FUNC_get_current_pid_tgid,
        f::BPF_FUNC_get_current_uid_gid,
        f::BPF_FUNC_get_current_comm,
        f::BPF_FUNC_get_current_task,
        f::BPF_FUNC_get_attach_cookie,
        f::BPF_FUNC_tail_call,
        f::BPF_FUNC_probe_read_kernel,
        f::BPF_FUNC_probe_read_user,
        f::BPF_FUNC_probe_read_user_str,
        f::BPF_FUNC_get_stack,
        f::BPF_FUNC_get_prandom_u32,
        f::BPF_FUNC_get_numa_node_id,
        f::BPF_FUNC_get_current_cgroup_id,
        f::BPF_FUNC_jiffies64,
        f::BPF_FUNC_ktime_get_boot_ns,
        f::BPF_FUNC_ktime_get_tai_ns,
        f::BPF_FUNC_probe_read_kernel_str,
        f::BPF_FUNC_ringbuf_reserve,
        f::BPF_FUNC_ringbuf_submit,
        f::BPF_FUNC_ringbuf_query,
    ];
    match known.iter().find(|f| **f as i32 == id) {
        Some(f) => format!("{f:?}").trim_start_matches("BPF_FUNC_").to_owned(),
        None => format!("helper#{id}"),
    }
}
