//! The reader against files made for it, and against the running kernel's.

use super::{scan::MAGIC, *};
use crate::kernel::{
    Kernel as _,
    fixture::{Builder, FixtureKernel},
};

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
            ask_all(&btf, 50);
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

/// The id of a type by its C text, without stars and length.
fn base(types: Types<'_>, ctype: &str) -> TypeId {
    types.find_type(ctype).unwrap_or_else(|| unreachable!("{ctype} is not there")).base
}

/// Types by every form of their C text; what is none, or not there, is none.
#[test]
fn types_by_text() {
    let kernel = FixtureKernel::new();
    let types = Types::new(&kernel);
    let check = |ctype: &str, expect: Option<(&str, u32, Option<u32>, bool)>| {
        let found = types.find_type(ctype).map(|t| (types.ctype(t.base), t.pointers, t.length, t.user));
        assert_eq!(found, expect.map(|(base, pointers, length, user)| (base.to_owned(), pointers, length, user)), "{ctype}");
        if types.modules().all(|module| !ctype.contains(module)) && found.is_some() {
            assert_eq!(kernel.btf().find_type(ctype), types.find_type(ctype), "{ctype}");
        }
    };
    check("void", Some(("void", 0, None, false)));
    check("void *", Some(("void", 1, None, false)));
    check("int", Some(("int", 0, None, false)));
    check("unsigned", Some(("unsigned int", 0, None, false)));
    check("unsigned long", Some(("unsigned long", 0, None, false)));
    check("long unsigned int", Some(("unsigned long", 0, None, false)));
    check("long long", Some(("long long", 0, None, false)));
    check("unsigned char*", Some(("unsigned char", 1, None, false)));
    check("signed short int", Some(("short", 0, None, false)));
    check("char", Some(("char", 0, None, false)));
    check("bool", Some(("bool", 0, None, false)));
    check("_Bool", Some(("bool", 0, None, false)));
    check("uint64_t", Some(("uint64_t", 0, None, false)));
    check("u32", Some(("u32", 0, None, false)));
    // No typedef of the kernel: a language's own name for a width.
    check("uint16", Some(("unsigned short", 0, None, false)));
    check("int8", Some(("signed char", 0, None, false)));
    check("pid_t", Some(("pid_t", 0, None, false)));
    check("struct sock *", Some(("struct sock", 1, None, false)));
    check(" const  struct sock*const *restrict ", Some(("struct sock", 2, None, false)));
    check("union shortname_store", Some(("union shortname_store", 0, None, false)));
    check("enum pid_type", Some(("enum pid_type", 0, None, false)));
    check("char[16]", Some(("char", 0, Some(16), false)));
    check("const char __user *", Some(("char", 1, None, true)));
    check("struct file *[ 4 ]", Some(("struct file", 1, Some(4), false)));
    for none in [
        "",
        "*",
        "[4]",
        "struct",
        "struct sock sock",
        "sock",
        "struct shortname_store",
        "union sock",
        "enum sock",
        "char[]",
        "char[-1]",
        "char[4][4]",
        "char (*)[4]",
        "int (*)(void)",
        "long char",
        "unsigned pid_t",
        "int * int",
        "struct nothing *",
        "int]",
        "char[99999999999]",
    ] {
        check(none, None);
    }
}

/// What types are, and how large, through typedefs and qualifiers.
#[test]
fn shapes() {
    let kernel = FixtureKernel::new();
    let types = Types::new(&kernel);
    let check = |ctype: &str, shape: Shape, size: Option<u32>| {
        let id = base(types, ctype);
        assert_eq!((types.shape(id), types.size(id)), (Some(shape), size), "{ctype}");
    };
    let int = |size, signed| Shape::Int(Int { size, signed });
    check("void", Shape::Void, None);
    check("pid_t", int(4, true), Some(4));
    check("uint64_t", int(8, false), Some(8));
    check("umode_t", int(2, false), Some(2));
    check("bool", Shape::Bool, Some(1));
    check("kuid_t", Shape::Struct { size: 4 }, Some(4));
    check("struct task_struct", Shape::Struct { size: 3264 }, Some(3264));
    check("union shortname_store", Shape::Union { size: 40 }, Some(40));
    check("enum pid_type", Shape::Enum(Int { size: 4, signed: false }), Some(4));
    let member = |structure: &str, name: &str| types.member_of(base(types, structure), name).map(|m| m.id);
    let comm = member("struct task_struct", "comm").unwrap();
    assert!(matches!(types.shape(comm), Some(Shape::Array { element, length: 16 }) if types.is_char(element)));
    assert_eq!((types.size(comm), types.is_char(base(types, "unsigned char"))), (Some(16), false));
    let parent = member("struct task_struct", "parent").unwrap();
    assert_eq!(types.shape(parent), Some(Shape::Pointer(base(types, "struct task_struct"))));
    assert_eq!((types.size(parent), types.ctype(parent)), (Some(8), "struct task_struct *".to_owned()));
    let state = member("struct sock_common", "skc_state").unwrap();
    assert_eq!((types.shape(state), types.ctype(state).as_str()), (Some(int(1, false)), "volatile unsigned char"));
    let read = types.function("vfs_read").unwrap().id;
    assert_eq!((types.shape(read), types.size(read)), (Some(Shape::Function), None));
}

/// Members through anonymous structs and unions, and bit fields in both encodings, with their place in the whole.
#[test]
fn members_by_name() {
    let kernel = FixtureKernel::new();
    let types = Types::new(&kernel);
    let check = |structure: &str, name: &str, expect: Option<(u32, Option<u32>, &str)>| {
        let found = types.member_of(base(types, structure), name).map(|m| (m.bit_offset, m.bit_width, types.ctype(m.id)));
        assert_eq!(found, expect.map(|(at, width, ctype)| (at, width, ctype.to_owned())), "{structure}.{name}");
    };
    check("struct sock_common", "skc_daddr", Some((0, None, "__be32")));
    check("struct sock_common", "skc_num", Some((112, None, "u16")));
    check("struct sock_common", "skc_reuse", Some((152, Some(4), "unsigned char")));
    check("struct sock_common", "skc_net_refcnt", Some((158, Some(1), "unsigned char")));
    check("struct sock", "__sk_common", Some((0, None, "struct sock_common")));
    check("struct sock", "skc_num", None);
    check("struct sock", "", None);
    check("struct file", "f_path", Some((512, None, "const struct path")));
    check("struct qstr", "len", Some((32, None, "u32")));
    check("pid_t", "len", None);
    let names: Vec<&str> = types.members(base(types, "struct qstr")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hash", "len", "hash_len", "name"]);
    assert!(types.members(base(types, "int")).is_empty());
    // As before Linux 5.1: 3 bits that begin at bit 4 of an integer that stands at bit 32.
    let mut b = Builder::new();
    let narrow = b.add("unsigned int", 1 << 24, 4, &[4 << 16 | 3]);
    let alias = b.typedef("flags_t", narrow);
    b.members(4, "old", &[("plain", alias, 32)]);
    let btf = Btf::parse(b.bytes()).unwrap();
    let member = btf.member_of(btf.find_type("struct old").unwrap().base, "plain").unwrap();
    assert_eq!((member.bit_offset, member.bit_width), (36, Some(3)));
    assert_eq!(btf.member("old", "plain"), None);
}

/// Constants of enums of either width and sign, by name and by enum.
#[test]
fn constants() {
    let kernel = FixtureKernel::new();
    let types = Types::new(&kernel);
    let value = |name: &str| types.enum_constant(name).map(|c| (c.value, c.int.size, c.int.signed));
    assert_eq!(value("TCP_ESTABLISHED"), Some((1, 4, false)));
    assert_eq!(value("TCP_CLOSING"), Some((11, 4, false)));
    assert_eq!(value("BPF_F_CTXLEN_MASK"), Some((0xf_ffff_0000_0000, 8, false)));
    // Of a module.
    assert_eq!(value("IP_CT_NEW"), Some((2, 4, false)));
    assert_eq!(value("TCP_"), None);
    assert_eq!(value(""), None);
    let id = types.enum_constant("PIDTYPE_SID").unwrap().id;
    assert_eq!(id, base(types, "enum pid_type"));
    assert_eq!(types.constants(id), [("PIDTYPE_PID", 0), ("PIDTYPE_TGID", 1), ("PIDTYPE_PGID", 2), ("PIDTYPE_SID", 3)]);
    assert!(types.constants(base(types, "int")).is_empty());
    let mut b = Builder::new();
    b.enumeration("first", true, &[("MINUS", -1), ("BOTH", 1)]);
    b.enumeration("second", false, &[("HIGH", -1), ("BOTH", 2)]);
    b.enumeration64("third", true, &[("FAR", u64::MAX - 1)]);
    let btf = Btf::parse(b.bytes()).unwrap();
    let value = |name: &str| btf.enum_constant(name).map(|c| (c.value, c.id.number()));
    assert_eq!(value("MINUS"), Some((u64::MAX, 1)));
    assert_eq!(value("HIGH"), Some((0xffff_ffff, 2)));
    assert_eq!(value("BOTH"), Some((1, 1)));
    assert_eq!(value("FAR"), Some((u64::MAX - 1, 3)));
    assert_eq!(btf.names(Named::Constant, |_| true), ["BOTH", "FAR", "HIGH", "MINUS"]);
}

/// Functions with the names and types of what they take, of the kernel and of its modules.
#[test]
fn functions() {
    let kernel = FixtureKernel::new();
    let types = Types::new(&kernel);
    let check = |name: &str, module: Option<&str>, expect: &str| {
        let function = types.function(name).unwrap();
        let parameters = function.signature.parameters.iter().map(|p| format!("{} {}", types.ctype(p.id), p.name));
        let parameters = parameters.chain(function.signature.variadic.then(|| "...".to_owned()));
        let text = format!("{} ({})", types.ctype(function.signature.returns), parameters.collect::<Vec<_>>().join(", "));
        assert_eq!((text.as_str(), function.module), (expect, module), "{name}");
        assert_eq!(types.function_in(module.unwrap_or("vmlinux"), name), Some(function));
    };
    check("vfs_read", None, "ssize_t (struct file * file, char * buf, size_t count, loff_t * pos)");
    check("tcp_connect", None, "int (struct sock * sk)");
    check("do_exit", None, "void (long code)");
    check("_printk", None, "int (const char * fmt, ...)");
    check("nf_ct_delete", Some("nf_conntrack"), "bool (struct nf_conn * ct, u32 portid, int report)");
    check("xfs_file_read_iter", Some("xfs"), "ssize_t (struct kiocb * iocb, struct iov_iter * to)");
    assert_eq!(types.function("vfs_nothing"), None);
    assert_eq!(types.function("task_struct"), None);
    assert_eq!(types.function_in("xfs", "vfs_read"), None);
    assert_eq!(types.function_in("nothing", "vfs_read"), None);
    let names = |module: &str| types.names(module, Named::Function, |name| name.contains("s_f"));
    assert_eq!(names("vmlinux"), ["vfs_fsync"]);
    assert_eq!(names("xfs"), ["xfs_file_fsync", "xfs_file_read_iter", "xfs_file_write_iter"]);
    assert!(names("nothing").is_empty());
    assert_eq!(types.names("vmlinux", Named::Enum, |_| true), ["hrtimer_mode", "pid_type", "sock_type"]);
    let callback = kernel.btf().find_type("btf_trace_sys_exit").unwrap().base;
    assert_eq!(types.signature(callback).unwrap().parameters.len(), 3);
    assert_eq!(types.signature(base(types, "int")), None);
}

/// Types of two modules have different ids though they have the same numbers; what both refer to in the kernel has one. A module is
/// read when it is needed, and one that can't be read is told.
#[test]
fn modules() {
    let kernel = FixtureKernel::new();
    let types = Types::new(&kernel);
    assert_eq!(types.modules().collect::<Vec<_>>(), ["broken", "nf_conntrack", "xfs"]);
    base(types, "struct task_struct");
    assert_eq!(types.failures().count(), 0);
    let conntrack = base(types, "struct nf_conn");
    let reasons: Vec<_> = types.failures().map(ToString::to_string).collect();
    assert_eq!(reasons, ["the BTF of kernel module broken: the file is empty"]);
    let declared = kernel.btf().names(Named::Struct, |name| name == "nf_conn");
    assert!(declared.is_empty());
    let pointer = types.function_in("xfs", "xfs_file_fsync").unwrap().signature.parameters.remove(0).id;
    assert_eq!(types.module_of(pointer), Some("xfs"));
    assert_eq!(types.shape(pointer), Some(Shape::Pointer(base(types, "struct file"))));
    let mut all: Vec<_> =
        ["struct nf_conn", "struct kiocb", "struct iov_iter", "enum ip_conntrack_info"].map(|t| base(types, t)).to_vec();
    assert_eq!(pointer.number(), conntrack.number());
    assert_ne!(pointer, conntrack);
    assert_eq!(
        all.iter().map(|id| types.module_of(*id).unwrap()).collect::<Vec<_>>(),
        ["nf_conntrack", "xfs", "xfs", "nf_conntrack"]
    );
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4);
    assert_eq!(types.ctype(types.member_of(base(types, "struct kiocb"), "ki_filp").unwrap().id), "struct file *");
    // A struct that the kernel only declares is that of the module.
    let forward = (1..).map(|number| TypeId { module: 0, number }).find(|id| types.ctype(*id) == "struct nf_conn").unwrap();
    assert_eq!(kernel.btf().shape(forward), Some(Shape::Forward));
    assert_eq!((types.resolve(forward), types.size(forward)), (Some(conntrack), Some(216)));
    assert_eq!(types.member_of(forward, "mark").unwrap().bit_offset, 1344);
    // Ids of no module.
    let nothing = TypeId { module: 9, number: 1 };
    assert_eq!((types.shape(nothing), types.ctype(nothing), types.module_of(nothing)), (None, "?".to_owned(), None));
    assert_eq!(kernel.btf().shape(conntrack), None);
    // A struct that is defined nowhere can still be pointed to.
    let mut b = Builder::new();
    b.add("opaque", 7 << 24, 0, &[]);
    b.add("either", 7 << 24 | 1 << 31, 0, &[]);
    let btf = Btf::parse(b.bytes()).unwrap();
    assert_eq!(btf.find_type("struct opaque"), None);
    let found = |words: &[&str]| btf.by_words(words, false).and_then(|id| btf.shape(id));
    assert_eq!(found(&["struct", "opaque"]), Some(Shape::Forward));
    assert_eq!(found(&["union", "either"]), Some(Shape::Forward));
    assert_eq!(found(&["union", "opaque"]), None);
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
