//! The reader against files made for it, and against the running kernel's.

mod file;
mod malformed;
mod types;

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
