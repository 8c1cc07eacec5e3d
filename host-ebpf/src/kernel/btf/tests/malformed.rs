//! Files that are cut, changed or made to go round in circles.

use super::small;
use crate::kernel::{
    btf::{Btf, MAX_MEMBERS, Named, TypeId, scan::MAGIC},
    fixture::Builder,
};

/// Types that refer to themselves, or to nothing, are absent; no walk runs for ever.
#[test]
fn circles() {
    let mut b = Builder::new();
    b.link(8, "loop", 1);
    b.members(4, "nest", &[("", 2, 0), ("", 2, 0), ("", 2, 0)]);
    b.link(8, "dangling", 99);
    b.link(2, "", 4);
    let signature = b.signature(&[("", 5), ("", 5), ("", 5), ("", 4)]);
    let callback = b.link(2, "", signature);
    b.link(8, "btf_trace_self", callback);
    let btf = Btf::parse(b.bytes()).unwrap();
    assert_eq!(btf.int("loop"), None);
    assert_eq!(btf.int("dangling"), None);
    assert_eq!(btf.member("nest", "x"), None);
    assert_eq!(btf.raw_tracepoint_arguments("self").unwrap().len(), 3);
    for id in 0..10 {
        assert!(btf.ctype(TypeId { module: 0, number: id }).len() < 100_000);
    }
}

/// A file that is not whole is refused with what is wrong with it, at whatever byte it is cut or changed; nothing panics.
#[test]
fn malformed() {
    let whole = small().bytes();
    let error = |bytes: Vec<u8>| Btf::parse(bytes).unwrap_err().reason;
    assert_eq!(error(Vec::new()), "the file is empty");
    assert_eq!(error(vec![0, 0, 0]), "it begins with 0x0000, not with 0xeb9f");
    assert_eq!(error(MAGIC.swap_bytes().to_ne_bytes().to_vec()), "it is of another byte order than this machine");
    assert_eq!(error(whole[..10].to_vec()), "its header is cut short");
    for cut in 0..whole.len() {
        assert!(Btf::parse(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let Ok(btf) = Btf::parse(bytes) else { continue };
            for name in btf.raw_tracepoints() {
                btf.raw_tracepoint_arguments(name);
            }
            btf.member("task_struct", "half");
            btf.int("umode_t");
            ask_all(&btf, 50);
        }
    }
}

/// Asks a file everything that there is to ask.
fn ask_all(btf: &Btf, limit: u32) {
    for number in 0..limit {
        for module in [0, 1] {
            let id = TypeId { module, number };
            btf.shape(id);
            btf.size(id);
            btf.signature(id);
            btf.is_user_pointer(id);
            assert!(btf.members(id).len() <= MAX_MEMBERS);
            btf.member_of(id, "half");
            btf.constants(id);
            assert!(btf.ctype(id).len() < 100_000);
        }
    }
    for of in [Named::Struct, Named::Union, Named::Enum, Named::Typedef, Named::Constant, Named::Function] {
        for name in btf.names(of, |_| true) {
            btf.find_type(name);
            btf.enum_constant(name);
            btf.function(name);
        }
    }
}

/// Circles, types that refer to nothing, and sizes beyond all measure end every question.
#[test]
fn malformed_graphs() {
    let mut b = Builder::new();
    let pointer = b.pointer(1);
    b.redirect(pointer, pointer);
    let array = b.array(3, 3, u32::MAX);
    let array = b.array(array, 9, u32::MAX);
    b.array(array, 9, u32::MAX);
    b.record(4, "self", 0, &[("", 5, u32::MAX), ("half", 99, u32::MAX), ("", 5, 1), ("", 5, 2)], &[]);
    b.record(4, "self", 0, &[("", 5, 0)], &[("", 6, 0xff_ffff, 0xff), ("half", 6, 0xff_ffff, 0xff)]);
    b.function("f", 7, &[("", 7), ("", 8)]);
    b.link(12, "g", 1);
    b.add("e", 6 << 24 | 1, 3, &[0xffff_ffff, 1]);
    b.add("e", 19 << 24 | 1, 8, &[0xffff_ffff, 1, 1]);
    b.add("i", 1 << 24, u32::MAX, &[u32::MAX]);
    let tag = b.link(18, "user", 0);
    b.redirect(tag, tag);
    b.pointer(tag);
    let btf = Btf::parse(b.bytes()).unwrap();
    ask_all(&btf, 20);
    assert_eq!(btf.find_type("self"), None);
}

/// A module's file that is cut or changed is refused, or answers without a panic; its numbers and strings go on from the kernel's.
#[test]
fn malformed_modules() {
    let kernel = small();
    let mut module = Builder::module(&kernel);
    let inner = module.record(5, "", 8, &[("half", 1, 0)], &[]);
    module.record(4, "own", 8, &[("", inner, 0), ("size", 6, 0)], &[]);
    module.enumeration("number", true, &[("ONE", 1)]);
    module.function("call", inner, &[("size", 6)]);
    let whole = module.bytes();
    let kernel = Btf::parse(kernel.bytes()).unwrap();
    let parse = |bytes| Btf::parse_module(&kernel, 1, "sample", bytes);
    let btf = parse(whole.clone()).unwrap();
    let own = btf.find_type("struct own").unwrap().base;
    let types: Vec<_> = btf.members(own).into_iter().map(|(name, m)| (name, btf.ctype(m.id), m.id.module)).collect();
    assert_eq!(types, [("half", "int".to_owned(), 0), ("size", "size_t".to_owned(), 0)]);
    assert_eq!(btf.find_type("struct task_struct"), kernel.find_type("struct task_struct"));
    assert_eq!(btf.names(Named::Struct, |_| true), ["own"]);
    // A module that needs no names has no strings.
    let mut unnamed = Builder::module(&small());
    unnamed.pointer(1);
    assert!(parse(unnamed.bytes()).is_ok());
    assert_eq!(Btf::parse(unnamed.bytes()).unwrap_err().reason, "its strings do not end with a NUL byte");
    for cut in 0..whole.len() {
        assert!(parse(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            if let Ok(btf) = parse(bytes) {
                ask_all(&btf, 40);
            }
        }
    }
}
