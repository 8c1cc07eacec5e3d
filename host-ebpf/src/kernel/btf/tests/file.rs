//! One file by itself, and the running kernel's.

use super::small;
use crate::kernel::{
    btf::{Btf, Int, Named, TypeId, written_int},
    fixture::Builder,
};

/// Raw tracepoints are listed by their typedefs; an unknown one is none.
#[test]
fn raw_tracepoints() {
    let btf = Btf::parse(small().bytes()).unwrap();
    assert_eq!(btf.raw_tracepoints(), ["alpha", "beta"]);
    let id = btf.raw_tracepoint_id("beta").unwrap();
    assert_eq!(btf.ctype(TypeId { module: 0, number: id }), "btf_trace_beta");
    assert_eq!(btf.raw_tracepoint_id("gamma"), None);
    assert_eq!(btf.raw_tracepoint_arguments("gamma"), None);
}

/// Names come from the kernel's own function where there is one.
#[test]
fn raw_tracepoint_arguments() {
    let btf = Btf::parse(small().bytes()).unwrap();
    let check = |name: &str, expect: &[(&str, &str, Option<Int>, bool)]| {
        let arguments = btf.raw_tracepoint_arguments(name).unwrap();
        let arguments: Vec<_> = arguments.iter().map(|a| (a.name.as_str(), a.ctype.as_str(), a.int, a.pointer)).collect();
        assert_eq!(arguments, expect);
    };
    let pointer = Some(Int::POINTER);
    check(
        "beta",
        &[
            ("task", "struct task_struct *", pointer, true),
            ("name", "const char *", pointer, true),
            ("copy", "struct task_struct", None, false),
        ],
    );
    let function = "void (*)(void *, struct task_struct *, const char *, struct task_struct)";
    check("alpha", &[("arg0", "int", Some(Int { size: 4, signed: true }), false), ("arg1", function, pointer, true)]);
}

/// Every spelling of an integer type, and what is none.
#[test]
fn integers() {
    let btf = Btf::parse(small().bytes()).unwrap();
    let check = |ctype: &str, expect: Option<(u8, bool)>| {
        assert_eq!(btf.int(ctype).map(|i| (i.size, i.signed)), expect, "{ctype}");
    };
    check("int", Some((4, true)));
    check("unsigned int", Some((4, false)));
    check("unsigned", Some((4, false)));
    check("long unsigned int", Some((8, false)));
    check("long long", Some((8, true)));
    check("short", Some((2, true)));
    check("unsigned short int", Some((2, false)));
    check("char", Some((1, false)));
    check("signed char", Some((1, true)));
    check("bool", Some((1, false)));
    check("const volatile int", Some((4, true)));
    check("umode_t", Some((4, true)));
    check("size_t", Some((8, false)));
    check("enum pid_type", Some((4, true)));
    check("const char *", Some((8, false)));
    check("const char __user *const __user *", Some((8, false)));
    check("struct task_struct *const", Some((8, false)));
    check("struct task_struct", None);
    check("__int128", None);
    check("task_struct", None);
    check("unsigned signed int", None);
    check("long long long", None);
    check("enum nothing", None);
    check("", None);
}

/// Members are found through nested and anonymous structs and unions; bit fields, arrays and structs are no integers.
#[test]
fn members() {
    let btf = Btf::parse(small().bytes()).unwrap();
    let check = |structure: &str, path: &str, expect: Option<(u32, u8)>| {
        assert_eq!(btf.member(structure, path).map(|(offset, int)| (offset, int.size)), expect, "{structure}.{path}");
    };
    check("task_struct", "thread_info.status", Some((24, 4)));
    check("task_struct", "pid", Some((80, 4)));
    check("task_struct", "pad", Some((32, 8)));
    check("task_struct", "half", Some((40, 4)));
    check("task_struct", "thread_info", None);
    check("task_struct", "comm", None);
    check("task_struct", "pid.status", None);
    check("task_struct", "nothing", None);
    check("task_struct", "", None);
    check("bits", "flag", None);
    check("int", "pid", None);
}

/// The running kernel's file: opened in milliseconds, with what the compiler asks of it.
#[test]
fn this_kernel() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
    let before = std::time::Instant::now();
    let btf = Btf::parse(bytes).unwrap();
    let opened = before.elapsed();
    assert!(opened.as_millis() < 200, "{opened:?}");
    assert!(btf.raw_tracepoints().len() > 100);
    let arguments = btf.raw_tracepoint_arguments("sys_enter").unwrap();
    let arguments: Vec<_> = arguments.iter().map(|a| (a.name.as_str(), a.ctype.as_str())).collect();
    assert_eq!(arguments, [("regs", "struct pt_regs *"), ("id", "long")]);
    assert_eq!(btf.int("umode_t"), Some(Int { size: 2, signed: false }));
    assert_eq!(btf.int("size_t"), Some(Int { size: 8, signed: false }));
    assert_eq!(btf.int("pid_t"), Some(Int { size: 4, signed: true }));
    assert_eq!(btf.member("task_struct", "thread_info.status").unwrap().1, Int { size: 4, signed: false });
    assert_eq!(btf.member("pt_regs", "orig_ax").unwrap().0, crate::kernel::syscalls::NUMBER_OFFSET);
    for (i, register) in ["di", "si", "dx", "r10", "r8", "r9"].iter().enumerate() {
        assert_eq!(btf.member("pt_regs", register).unwrap().0, crate::kernel::syscalls::argument_offset(i), "{register}");
    }
    let size = |ctype: &str| btf.size(btf.find_type(ctype)?.base);
    assert_eq!((size("struct qstr"), size("uint64_t"), size("unsigned long long")), (Some(16), Some(8), Some(8)));
    let task = btf.find_type("struct task_struct *").unwrap();
    let comm = btf.member_of(task.base, "comm").unwrap();
    assert_eq!((task.pointers, btf.ctype(comm.id).as_str(), btf.size(comm.id)), (1, "char[16]", Some(16)));
    let ipv6only = btf.member_of(btf.find_type("struct sock_common").unwrap().base, "skc_ipv6only").unwrap();
    assert_eq!(ipv6only.bit_width, Some(1));
    assert_eq!(btf.enum_constant("TCP_LISTEN").map(|c| c.value), Some(10));
    let read = btf.signature(btf.function("vfs_read").unwrap()).unwrap();
    let names: Vec<_> = read.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!((names, btf.ctype(read.returns).as_str()), (vec!["file", "buf", "count", "pos"], "ssize_t"));
    for name in btf.names(Named::Function, |_| true) {
        assert!(btf.function(name).is_some_and(|id| btf.signature(id).is_some()), "{name}");
    }
    for name in btf.names(Named::Struct, |_| true) {
        let id = btf.find_type(&format!("struct {name}")).unwrap().base;
        let size = u64::from(btf.size(id).unwrap());
        for (member, place) in btf.members(id) {
            let end = u64::from(place.bit_offset) + u64::from(place.bit_width.unwrap_or(0));
            assert!(end <= 8 * size, "{name}.{member}");
        }
    }
    for name in btf.raw_tracepoints() {
        assert!(btf.raw_tracepoint_arguments(name).is_some(), "{name}");
    }
}

/// Pointers to user memory are told where the kernel's build says so: by a tag on what they point to.
#[test]
fn type_tags() {
    let mut b = Builder::new();
    let char = b.int("char", 1, true);
    let constant = b.constant(char);
    let user = b.link(18, "user", constant);
    let both = b.link(9, "", user);
    let percpu = b.link(18, "percpu", char);
    let attribute = b.add("user", 1 << 31 | 18 << 24, char, &[]);
    let pointers = [constant, user, both, percpu, attribute].map(|to| b.pointer(to));
    let typedef = b.typedef("text", pointers[1]);
    let btf = Btf::parse(b.bytes()).unwrap();
    let id = |number| TypeId { module: 0, number };
    assert_eq!(pointers.map(|p| btf.is_user_pointer(id(p))), [false, true, true, false, false]);
    assert!(btf.is_user_pointer(id(typedef)) && btf.is_tagged(id(pointers[3]), "percpu"));
    assert!(!btf.is_user_pointer(id(user)) && !btf.is_user_pointer(TypeId::VOID));
    assert_eq!(btf.ctype(id(typedef)), "text");
}

/// The names that hash to one chain, and those of every length, are found all the same.
#[test]
fn names_of_every_length() {
    let mut b = Builder::new();
    let names: Vec<String> = (1..40).flat_map(|n| ["a".repeat(n), "ab".repeat(n), "\u{e9}".repeat(n)]).collect();
    for name in &names {
        b.int(name, 4, true);
    }
    let btf = Btf::parse(b.bytes()).unwrap();
    for (name, number) in names.iter().zip(1..) {
        let first = names.iter().position(|other| other == name).unwrap() as u32 + 1;
        assert_eq!(btf.named(name, |_| true).map(TypeId::number), Some(first), "{name} {number}");
    }
    assert_eq!(btf.named(&"a".repeat(40), |_| true), None);
}

/// Integers by the names that they have whatever a kernel describes.
#[test]
fn written_integers() {
    let check = |ctype: &str, expect: Option<(u8, bool)>| {
        assert_eq!(written_int(ctype).map(|int| (int.size, int.signed)), expect, "{ctype}");
    };
    check("int8", Some((1, true)));
    check("uint64_t", Some((8, false)));
    check("const unsigned int", Some((4, false)));
    check("s16", Some((2, true)));
    check("pid_t", None);
    check("int8 *", None);
    check("u8[4]", None);
    check("struct task_struct", None);
}
