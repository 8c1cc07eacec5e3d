//! What the kernel has to know of a program's functions if a helper calls one of them: their names, and which of them stand for
//! themselves (BPF_PROG_LOAD: `prog_btf_fd`, `func_info`). The verifier refuses the program otherwise ("missing btf func_info",
//! "callback function not static", kernel/bpf/verifier.c).

use aya_obj::{
    btf::{Btf, BtfType, Func, FuncLinkage, FuncProto, Int, IntEncoding},
    generated::bpf_func_info,
};

/// A function of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its first instruction, by position.
    pub start: usize,
    /// What the listing calls it.
    pub name: String,
    /// The verifier follows it once, by itself (BTF_FUNC_GLOBAL); else anew with each call. Such a function takes nothing, and what it
    /// returns is any integer. Since Linux 5.6.
    pub global: bool,
}

/// The description of a program's functions.
#[derive(Clone, Debug)]
pub struct Description {
    /// A BTF object, for BPF_BTF_LOAD.
    pub btf: Vec<u8>,
    /// Where each function begins, and its type in `btf`.
    pub info: Vec<bpf_func_info>,
}

/// Describes all functions of a program.
///
/// All are `int f()`: what those take that are not global the verifier finds out by itself.
pub fn describe(functions: &[Function]) -> Description {
    let mut btf = Btf::new();
    let name = btf.add_string("int");
    let int = btf.add_type(BtfType::Int(Int::new(name, 4, IntEncoding::Signed, 0)));
    let returns_int = btf.add_type(BtfType::FuncProto(FuncProto::new(Vec::new(), int)));
    let mut info = Vec::with_capacity(functions.len());
    for function in functions {
        // Names of C.
        let name = btf.add_string(&function.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let linkage = if function.global { FuncLinkage::Global } else { FuncLinkage::Static };
        let type_id = btf.add_type(BtfType::Func(Func::new(name, returns_int, linkage)));
        info.push(bpf_func_info { insn_off: function.start as u32, type_id });
    }
    Description { btf: btf.to_bytes(), info }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is a type for each function, under a name of C.
    #[test]
    fn description() {
        let function = |start, name: &str, global| Function { start, name: name.to_owned(), global };
        let functions = [function(0, "dispatch", false), function(7, "my-probe.entry", false), function(9, "len_map0", true)];
        let Description { btf, info } = describe(&functions);
        let info: Vec<(u32, u32)> = info.iter().map(|info| (info.insn_off, info.type_id)).collect();
        assert_eq!(info, [(0, 3), (7, 4), (9, 5)]);
        assert_eq!(&btf[..2], 0xeb9f_u16.to_ne_bytes());
        assert!(btf.ends_with(b"\0int\0dispatch\0my_probe_entry\0len_map0\0"));
    }
}
