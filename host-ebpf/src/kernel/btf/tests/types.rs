//! The types of a kernel and of its modules.

use crate::kernel::{
    Kernel as _,
    btf::{Btf, Int, Named, Shape, TypeId, Types},
    fixture::{Builder, FixtureKernel},
};

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
