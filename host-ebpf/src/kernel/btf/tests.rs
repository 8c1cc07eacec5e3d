//! The reader against files made for it, and against the running kernel's.

use super::{scan::MAGIC, *};
use crate::kernel::fixture::Builder;

/// A kernel in small: base types, a task with a nested and an anonymous struct, two raw tracepoints.
fn small() -> Builder {
    let mut b = Builder::new();
    let int = b.int("int", 4, true);
    let long = b.int("long unsigned int", 8, false);
    let char = b.int("char", 1, false);
    b.int("__int128", 16, true);
    b.link(8, "umode_t", int);
    b.link(8, "size_t", long);
    b.add("pid_type", 6 << 24 | 1 << 31 | 1, 4, &[0, 0]);
    let comm = b.add("", 3 << 24, 0, &[char, int, 16]);
    let info = b.members(4, "thread_info", &[("flags", long, 0), ("status", int, 64)]);
    let inner = b.members(5, "", &[("raw", long, 0), ("half", int, 0)]);
    let anonymous = b.members(4, "", &[("pad", long, 0), ("", inner, 64)]);
    let fields = [("thread_info", info, 128), ("", anonymous, 256), ("comm", comm, 512), ("pid", int, 640)];
    let task = b.members(4, "task_struct", &fields);
    let pointer = b.link(2, "", task);
    let character = b.link(10, "", char);
    let text = b.link(2, "", character);
    let data = b.link(2, "", 0);
    let unnamed = b.signature(&[("", data), ("", pointer), ("", text), ("", task)]);
    let callback = b.link(2, "", unnamed);
    b.link(8, "btf_trace_beta", callback);
    let named = b.signature(&[("__data", data), ("task", pointer), ("name", text), ("copy", task)]);
    b.add("__bpf_trace_beta", 12 << 24, named, &[]);
    let plain = b.signature(&[("", data), ("", int), ("", callback)]);
    let plain = b.link(2, "", plain);
    b.link(8, "btf_trace_alpha", plain);
    // A bit field: 3 bits wide at bit 8.
    let flags = b.name("flag");
    b.add("bits", 4 << 24 | 1 << 31 | 1, 4, &[flags, int, 3 << 24 | 8]);
    b
}

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
        }
    }
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
    for name in btf.raw_tracepoints() {
        assert!(btf.raw_tracepoint_arguments(name).is_some(), "{name}");
    }
}
