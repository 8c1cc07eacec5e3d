//! The one door for bpf(2) and perf_event_open(2) calls that aya does not make.
//!
//! Every function makes one kind of call, and its error carries the call and the errno. Under test, calls go through a fake that
//! a test may install on its thread.

use std::{
    ffi::{CStr, CString},
    fmt,
    mem::{size_of, zeroed},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{
    BPF_F_ALLOW_MULTI, BPF_F_KPROBE_MULTI_RETURN, BPF_F_QUERY_EFFECTIVE, BPF_F_UPROBE_MULTI_RETURN, PERF_EVENT_IOC_DISABLE,
    PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_attr,
    bpf_attr__bindgen_ty_14__bindgen_ty_3__bindgen_ty_3, bpf_attr__bindgen_ty_14__bindgen_ty_3__bindgen_ty_7, bpf_btf_info,
    bpf_cmd, bpf_func_info, bpf_insn, bpf_prog_info, bpf_prog_type, bpf_stats_type, perf_event_attr, perf_type_id,
};
use portcullis_ebpf::output::{Ends, UserPlace};
use rustix::io::Errno;

/// A call that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysError {
    /// The call, as its manual page writes it.
    pub call: &'static str,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Errno` says the text and the number: "Operation not permitted (os error 1)".
        write!(f, "{}: {}", self.call, self.errno)
    }
}

impl std::error::Error for SysError {}

/// What a call returns.
pub type Result<T> = std::result::Result<T, SysError>;

/// A system call on its way to the kernel.
pub(crate) enum Call<'a> {
    /// bpf(2).
    Bpf { cmd: bpf_cmd, attr: &'a mut bpf_attr },
    /// perf_event_open(2), for all processes on one CPU, or for one process on all.
    PerfEventOpen { attr: &'a mut perf_event_attr, pid: i32, cpu: i32 },
    /// ioctl(2) on a perf event.
    PerfEventIoctl { event: RawFd, request: u32, argument: RawFd },
}

/// A program to load.
pub(crate) struct Load<'a> {
    /// Its type.
    pub(crate) kind: bpf_prog_type,
    /// For a type that has such, where it attaches.
    pub(crate) attach: Option<u32>,
    /// The kernel type that it attaches to; 0 for none.
    pub(crate) btf_id: u32,
    /// The module whose BTF has that type; `None` for the kernel's own. Since Linux 5.11.
    pub(crate) btf_object: Option<BorrowedFd<'a>>,
    /// The program's own BTF object, and which of its types each function has; `None` if the kernel need not know. Since Linux 5.0.
    pub(crate) functions: Option<(BorrowedFd<'a>, &'a [bpf_func_info])>,
    /// At most 15 bytes are kept.
    pub(crate) name: &'a str,
    /// Complete instructions.
    pub(crate) insns: &'a [bpf_insn],
}

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its number in the kernel.
    pub id: u32,
    /// How often it ran, counted while [`enable_stats`] holds.
    pub run_count: u64,
    /// How often the kernel skipped it, since it would have run within itself. Since Linux 5.12; 0 before.
    pub recursion_misses: u64,
}

/// BPF_PROG_LOAD. With `log`, the verifier's words are written there, ended by a NUL byte.
pub(crate) fn prog_load(load: &Load<'_>, log: Option<&mut [u8]>) -> Result<OwnedFd> {
    let license = c"GPL";
    let mut attr = empty();
    attr.__bindgen_anon_3.prog_type = load.kind as u32;
    attr.__bindgen_anon_3.insns = load.insns.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = length(load.insns.len());
    attr.__bindgen_anon_3.license = license.as_ptr() as u64;
    attr.__bindgen_anon_3.expected_attach_type = load.attach.unwrap_or(0);
    attr.__bindgen_anon_3.attach_btf_id = load.btf_id;
    attr.__bindgen_anon_3.__bindgen_anon_1.attach_btf_obj_fd = load.btf_object.map_or(0, descriptor);
    if let Some((btf, info)) = load.functions {
        attr.__bindgen_anon_3.prog_btf_fd = descriptor(btf);
        attr.__bindgen_anon_3.func_info_rec_size = length(size_of::<bpf_func_info>());
        attr.__bindgen_anon_3.func_info = info.as_ptr() as u64;
        attr.__bindgen_anon_3.func_info_cnt = length(info.len());
    }
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(load.name.bytes().take(15)) {
        *to = from.cast_signed();
    }
    attr.__bindgen_anon_3.prog_name = name;
    if let Some(log) = log {
        attr.__bindgen_anon_3.log_level = 1;
        attr.__bindgen_anon_3.log_size = length(log.len());
        attr.__bindgen_anon_3.log_buf = log.as_mut_ptr() as u64;
    }
    bpf_fd("bpf(BPF_PROG_LOAD)", bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// BPF_BTF_LOAD: types of our own. Since Linux 4.18.
pub(crate) fn btf_load(btf: &[u8]) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attr.__bindgen_anon_7.btf_size = length(btf.len());
    bpf_fd("bpf(BPF_BTF_LOAD)", bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// BPF_RAW_TRACEPOINT_OPEN of a program that was loaded for its tracepoint or function, and so without a name. Dropping the
/// descriptor detaches.
pub(crate) fn raw_tracepoint_open(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.raw_tracepoint.prog_fd = descriptor(program);
    bpf_fd("bpf(BPF_RAW_TRACEPOINT_OPEN)", bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
}

/// Attach types that aya-obj's bindings lack (`enum bpf_attach_type`, include/uapi/linux/bpf.h).
const BPF_TRACE_KPROBE_SESSION: u32 = 56;
const BPF_TRACE_UPROBE_SESSION: u32 = 57;

/// The attach type of a program for many functions of the kernel.
pub(crate) fn kprobe_multi(ends: Ends) -> u32 {
    match ends {
        Ends::Entry | Ends::Return => bpf_attach_type::BPF_TRACE_KPROBE_MULTI as u32,
        Ends::Both => BPF_TRACE_KPROBE_SESSION,
    }
}

/// The attach type of a program for many places in a file.
pub(crate) fn uprobe_multi(ends: Ends) -> u32 {
    match ends {
        Ends::Entry | Ends::Return => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        Ends::Both => BPF_TRACE_UPROBE_SESSION,
    }
}

/// BPF_LINK_CREATE of a program for functions of the kernel, each with its cookie. Since Linux 5.18, for both ends since 6.10. Dropping
/// the descriptor detaches.
pub(crate) fn link_kprobe_multi(program: BorrowedFd<'_>, ends: Ends, functions: &[CString], cookies: &[u64]) -> Result<OwnedFd> {
    let names: Vec<*const std::ffi::c_char> = functions.iter().map(|name| name.as_ptr()).collect();
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = descriptor(program);
    attr.link_create.attach_type = kprobe_multi(ends);
    attr.link_create.__bindgen_anon_3.kprobe_multi = bpf_attr__bindgen_ty_14__bindgen_ty_3__bindgen_ty_3 {
        flags: if ends == Ends::Return { BPF_F_KPROBE_MULTI_RETURN } else { 0 },
        cnt: length(names.len().min(cookies.len())),
        syms: names.as_ptr() as u64,
        addrs: 0,
        cookies: cookies.as_ptr() as u64,
    };
    bpf_fd("bpf(BPF_LINK_CREATE)", bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// BPF_LINK_CREATE of a program for places in a file, each with its cookie. Since Linux 6.6, for both ends since 6.13. Dropping the
/// descriptor detaches.
pub(crate) fn link_uprobe_multi(program: BorrowedFd<'_>, ends: Ends, path: &CStr, places: &[UserPlace]) -> Result<OwnedFd> {
    let offsets: Vec<u64> = places.iter().map(|place| place.offset).collect();
    let semaphores: Vec<u64> = places.iter().map(|place| place.semaphore).collect();
    let cookies: Vec<u64> = places.iter().map(|place| place.cookie).collect();
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = descriptor(program);
    attr.link_create.attach_type = uprobe_multi(ends);
    attr.link_create.__bindgen_anon_3.uprobe_multi = bpf_attr__bindgen_ty_14__bindgen_ty_3__bindgen_ty_7 {
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        ref_ctr_offsets: semaphores.as_ptr() as u64,
        cookies: cookies.as_ptr() as u64,
        cnt: length(places.len()),
        flags: if ends == Ends::Return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid: 0,
    };
    bpf_fd("bpf(BPF_LINK_CREATE)", bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// BPF_LINK_CREATE of an iterator's program, for all that there is of what it iterates. Since Linux 5.8.
pub(crate) fn link_create_iter(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = descriptor(program);
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    bpf_fd("bpf(BPF_LINK_CREATE)", bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// BPF_PROG_ATTACH to a cgroup of version 2, beside other programs there and above. It is attached until [`cgroup_detach`], or until the
/// cgroup is removed. Since Linux 4.15.
pub(crate) fn cgroup_attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: bpf_attach_type) -> Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_5.__bindgen_anon_1.target_fd = descriptor(cgroup);
    attr.__bindgen_anon_5.attach_bpf_fd = descriptor(program);
    attr.__bindgen_anon_5.attach_type = kind as u32;
    attr.__bindgen_anon_5.attach_flags = BPF_F_ALLOW_MULTI;
    bpf("bpf(BPF_PROG_ATTACH)", bpf_cmd::BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// BPF_PROG_DETACH from a cgroup.
pub(crate) fn cgroup_detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: bpf_attach_type) -> Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_5.__bindgen_anon_1.target_fd = descriptor(cgroup);
    attr.__bindgen_anon_5.attach_bpf_fd = descriptor(program);
    attr.__bindgen_anon_5.attach_type = kind as u32;
    bpf("bpf(BPF_PROG_DETACH)", bpf_cmd::BPF_PROG_DETACH, &mut attr).map(drop)
}

/// BPF_PROG_QUERY: how many programs run for what is in a cgroup, those on cgroups above among them. Since Linux 4.15.
pub(crate) fn cgroup_programs(cgroup: BorrowedFd<'_>, kind: bpf_attach_type) -> Result<u32> {
    let mut attr = empty();
    attr.query.__bindgen_anon_1.target_fd = descriptor(cgroup);
    attr.query.attach_type = kind as u32;
    attr.query.query_flags = BPF_F_QUERY_EFFECTIVE;
    bpf("bpf(BPF_PROG_QUERY)", bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the call was made with this member of the union, which is plain numbers.
    let query = unsafe { attr.query };
    // SAFETY: both members are the same number.
    Ok(unsafe { query.__bindgen_anon_2.prog_cnt })
}

/// BPF_ITER_CREATE: one pass of an iterator, whose program runs while the descriptor is read. Since Linux 5.8.
pub(crate) fn iter_create(link: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.iter_create.link_fd = descriptor(link);
    bpf_fd("bpf(BPF_ITER_CREATE)", bpf_cmd::BPF_ITER_CREATE, &mut attr)
}

/// BPF_PROG_TEST_RUN of a raw tracepoint's program, on this CPU and without arguments. Since Linux 5.10.
pub(crate) fn prog_test_run(program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = empty();
    attr.test.prog_fd = descriptor(program);
    bpf("bpf(BPF_PROG_TEST_RUN)", bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// BPF_BTF_GET_NEXT_ID: the number of the next BTF object; `None` behind the last one. Since Linux 5.4.
pub(crate) fn next_btf(after: u32) -> Result<Option<u32>> {
    let mut attr = empty();
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = after;
    match bpf("bpf(BPF_BTF_GET_NEXT_ID)", bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attr) {
        // SAFETY: the call was made with this member of the union, which is plain numbers.
        Ok(_) => Ok(Some(unsafe { attr.__bindgen_anon_6.next_id })),
        Err(SysError { errno: Errno::NOENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// BPF_BTF_GET_FD_BY_ID.
pub(crate) fn btf_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    bpf_fd("bpf(BPF_BTF_GET_FD_BY_ID)", bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr)
}

/// BPF_OBJ_GET_INFO_BY_FD of a BTF object: its name, if it is the kernel's or a module's. Since Linux 5.11.
pub(crate) fn btf_name(btf: BorrowedFd<'_>) -> Result<Option<String>> {
    // The kernel's MODULE_NAME_LEN is 56.
    let mut name = [0_u8; 64];
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut info: bpf_btf_info = unsafe { zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = length(name.len());
    let mut attr = empty();
    attr.info.bpf_fd = descriptor(btf);
    attr.info.info_len = length(size_of::<bpf_btf_info>());
    attr.info.info = (&raw mut info) as u64;
    bpf("bpf(BPF_OBJ_GET_INFO_BY_FD)", bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((info.kernel_btf != 0).then(|| String::from_utf8_lossy(text).into_owned()))
}

/// BPF_OBJ_GET_INFO_BY_FD of a program.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> Result<ProgramInfo> {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    let mut attr = empty();
    attr.info.bpf_fd = descriptor(program);
    attr.info.info_len = length(size_of::<bpf_prog_info>());
    attr.info.info = (&raw mut info) as u64;
    bpf("bpf(BPF_OBJ_GET_INFO_BY_FD)", bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(ProgramInfo { id: info.id, run_count: info.run_cnt, recursion_misses: info.recursion_misses })
}

/// BPF_ENABLE_STATS: the kernel counts the runs of programs until the descriptor is dropped. Since Linux 5.8.
pub fn enable_stats() -> Result<OwnedFd> {
    let mut attr = empty();
    attr.enable_stats.type_ = bpf_stats_type::BPF_STATS_RUN_TIME as u32;
    bpf_fd("bpf(BPF_ENABLE_STATS)", bpf_cmd::BPF_ENABLE_STATS, &mut attr)
}

/// BPF_MAP_CREATE of a hash map of one element that is made when it is written.
pub(crate) fn create_hash(key: u32, value: u32) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_1.map_type = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_HASH as u32;
    attr.__bindgen_anon_1.key_size = key;
    attr.__bindgen_anon_1.value_size = value;
    attr.__bindgen_anon_1.max_entries = 1;
    attr.__bindgen_anon_1.map_flags = aya_obj::generated::BPF_F_NO_PREALLOC;
    bpf_fd("bpf(BPF_MAP_CREATE)", bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

/// BPF_MAP_CREATE of an array of one map like `inner`.
pub(crate) fn create_array_of_maps(inner: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_1.map_type = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 4;
    attr.__bindgen_anon_1.max_entries = 1;
    attr.__bindgen_anon_1.inner_map_fd = descriptor(inner);
    bpf_fd("bpf(BPF_MAP_CREATE)", bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

/// What the kernel returns where it lacks something for a type (ENOTSUPP, include/linux/errno.h): a name of its own alone.
pub(crate) const NOT_SUPPORTED: i32 = 524;

/// Sets slot 0 of an array of maps.
pub(crate) fn set_array_of_maps(outer: BorrowedFd<'_>, inner: BorrowedFd<'_>) -> Result<()> {
    map_update(outer, &0_u32.to_ne_bytes(), &descriptor(inner).to_ne_bytes())
}

/// Every element of a hash map of up to `entries` elements, keys and values one after another. Since Linux 5.6.
pub(crate) fn map_elements(map: BorrowedFd<'_>, key: usize, value: usize, entries: u32) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut keys = vec![0; key * entries as usize];
    let mut values = vec![0; value * entries as usize];
    // Where a next call would go on; this one has room for all.
    let mut next = [0; 4];
    let batch = Batch { from: None, next: &mut next, keys: &mut keys, values: &mut values, count: entries };
    let (count, _) = map_lookup_batch(map, batch)?;
    keys.truncate(key * count as usize);
    values.truncate(value * count as usize);
    Ok((keys, values))
}

/// Room for some of a map's elements, and where the call that fills it begins.
pub(crate) struct Batch<'a> {
    /// Where the call before left off; `None` begins. At least 4 bytes, and for arrays the size of a key.
    pub(crate) from: Option<&'a [u8]>,
    /// Where the next call begins, of the same size.
    pub(crate) next: &'a mut [u8],
    /// Room for `count` keys.
    pub(crate) keys: &'a mut [u8],
    /// Room for `count` values, those of every possible CPU where the map is per CPU.
    pub(crate) values: &'a mut [u8],
    /// In elements.
    pub(crate) count: u32,
}

/// BPF_MAP_LOOKUP_BATCH: some elements of a map; how many there were, and whether they were the last. ENOSPC says that a bucket of
/// the hash table has more elements than there is room for. Since Linux 5.6, of a per-CPU array since 5.13.
pub(crate) fn map_lookup_batch(map: BorrowedFd<'_>, mut batch: Batch<'_>) -> Result<(u32, bool)> {
    map_batch("bpf(BPF_MAP_LOOKUP_BATCH)", bpf_cmd::BPF_MAP_LOOKUP_BATCH, map, &mut batch)
}

/// BPF_MAP_LOOKUP_AND_DELETE_BATCH: the same, and they are in the map no more. Of hash tables alone. Since Linux 5.6.
pub(crate) fn map_take_batch(map: BorrowedFd<'_>, mut batch: Batch<'_>) -> Result<(u32, bool)> {
    map_batch("bpf(BPF_MAP_LOOKUP_AND_DELETE_BATCH)", bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, map, &mut batch)
}

fn map_batch(call: &'static str, cmd: bpf_cmd, map: BorrowedFd<'_>, batch: &mut Batch<'_>) -> Result<(u32, bool)> {
    let mut attr = empty();
    attr.batch.in_batch = batch.from.map_or(0, |from| from.as_ptr() as u64);
    attr.batch.out_batch = batch.next.as_mut_ptr() as u64;
    attr.batch.keys = batch.keys.as_mut_ptr() as u64;
    attr.batch.values = batch.values.as_mut_ptr() as u64;
    attr.batch.count = batch.count;
    attr.batch.map_fd = descriptor(map);
    let last = match bpf(call, cmd, &mut attr) {
        Ok(_) => false,
        // It says that the map's end was reached.
        Err(SysError { errno: Errno::NOENT, .. }) => true,
        Err(error) => return Err(error),
    };
    // SAFETY: the call was made with this member of the union, and every bit pattern is a number.
    let count = unsafe { attr.batch.count };
    Ok((count.min(batch.count), last))
}

/// BPF_MAP_LOOKUP_ELEM: the value of a key, of every possible CPU where the map is per CPU, into `value`, which has room for it.
pub(crate) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = descriptor(map);
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    bpf("bpf(BPF_MAP_LOOKUP_ELEM)", bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// BPF_MAP_UPDATE_ELEM: sets the value of a key, which may be new.
pub(crate) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = descriptor(map);
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf("bpf(BPF_MAP_UPDATE_ELEM)", bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// BPF_MAP_DELETE_ELEM: ENOENT where the key is not there, EINVAL where the map is an array.
pub(crate) fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = descriptor(map);
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    bpf("bpf(BPF_MAP_DELETE_ELEM)", bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr).map(drop)
}

/// perf_event_open(2) of a tracepoint by its number. Dropping the descriptor detaches.
pub(crate) fn perf_event_open_tracepoint(id: u64) -> Result<OwnedFd> {
    let mut attr = perf_event(perf_type_id::PERF_TYPE_TRACEPOINT as u32, id);
    perf_fd(&mut attr, None, ANY_CPU)
}

/// perf_event_open(2) of a function of the kernel, so many bytes into it; `pmu` is the number of the source `kprobe`, `config` says
/// whether it is where the function returns. Since Linux 4.17. Dropping the descriptor detaches.
pub(crate) fn perf_event_open_kprobe(pmu: u32, config: u64, function: &CStr, offset: u64) -> Result<OwnedFd> {
    let mut attr = perf_event(pmu, config);
    attr.__bindgen_anon_3.kprobe_func = function.as_ptr() as u64;
    attr.__bindgen_anon_4.probe_offset = offset;
    perf_fd(&mut attr, None, ANY_CPU)
}

/// perf_event_open(2) of a byte of a file, in one process or in all; `pmu` is the number of the source `uprobe`, `config` says whether
/// it is where the function returns, and where the file counts who listens. Since Linux 4.17. Dropping the descriptor detaches.
pub(crate) fn perf_event_open_uprobe(pmu: u32, config: u64, path: &CStr, offset: u64, pid: Option<u32>) -> Result<OwnedFd> {
    let mut attr = perf_event(pmu, config);
    attr.__bindgen_anon_3.uprobe_path = path.as_ptr() as u64;
    attr.__bindgen_anon_4.probe_offset = offset;
    perf_fd(&mut attr, pid, ANY_CPU)
}

/// perf_event_open(2) of an event that is counted on one CPU: one hit in `period` of them, or `period` hits a second. It does not count
/// before [`perf_event_enable`].
pub(crate) fn perf_event_open_sampling(kind: u32, config: u64, period: u64, frequency: bool, cpu: u32) -> Result<OwnedFd> {
    let mut attr = perf_event(kind, config);
    attr.__bindgen_anon_1.sample_period = period;
    attr.set_freq(frequency.into());
    attr.set_disabled(1);
    perf_fd(&mut attr, None, i32::try_from(cpu).unwrap_or(i32::MAX))
}

/// perf_event_open(2) of memory that is touched on one CPU, in whichever process runs there: `access` is `perf_event_attr.bp_type`. It
/// counts nothing before [`perf_event_enable`]. Dropping the descriptor frees the debug register.
pub(crate) fn perf_event_open_breakpoint(address: u64, length: u8, access: u32, cpu: u32) -> Result<OwnedFd> {
    let mut attr = perf_event(perf_type_id::PERF_TYPE_BREAKPOINT as u32, 0);
    attr.bp_type = access;
    attr.__bindgen_anon_3.bp_addr = address;
    attr.__bindgen_anon_4.bp_len = length.into();
    // Each is a hit: without a period an event is only counted.
    attr.__bindgen_anon_1.sample_period = 1;
    attr.set_disabled(1);
    perf_fd(&mut attr, None, i32::try_from(cpu).unwrap_or(i32::MAX))
}

/// A program on a tracepoint or a probe runs on every CPU, whichever one the event is opened for.
const ANY_CPU: i32 = 0;

fn perf_event(kind: u32, config: u64) -> perf_event_attr {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut attr: perf_event_attr = unsafe { zeroed() };
    attr.size = length(size_of::<perf_event_attr>());
    attr.type_ = kind;
    attr.config = config;
    attr
}

/// For one process on all CPUs, or for all processes on one.
fn perf_fd(attr: &mut perf_event_attr, pid: Option<u32>, cpu: i32) -> Result<OwnedFd> {
    let (pid, cpu) = pid.map_or((-1, cpu), |pid| (pid.cast_signed(), -1));
    fd("perf_event_open(2)", Call::PerfEventOpen { attr, pid, cpu })
}

/// PERF_EVENT_IOC_SET_BPF: attaches a program.
pub(crate) fn perf_event_set_bpf(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let call = Call::PerfEventIoctl { event: event.as_raw_fd(), request: PERF_EVENT_IOC_SET_BPF, argument: program.as_raw_fd() };
    make("ioctl(PERF_EVENT_IOC_SET_BPF)", call).map(drop)
}

/// PERF_EVENT_IOC_ENABLE.
pub(crate) fn perf_event_enable(event: BorrowedFd<'_>) -> Result<()> {
    let call = Call::PerfEventIoctl { event: event.as_raw_fd(), request: PERF_EVENT_IOC_ENABLE, argument: 0 };
    make("ioctl(PERF_EVENT_IOC_ENABLE)", call).map(drop)
}

/// PERF_EVENT_IOC_DISABLE.
pub(crate) fn perf_event_disable(event: BorrowedFd<'_>) -> Result<()> {
    let call = Call::PerfEventIoctl { event: event.as_raw_fd(), request: PERF_EVENT_IOC_DISABLE, argument: 0 };
    make("ioctl(PERF_EVENT_IOC_DISABLE)", call).map(drop)
}

fn empty() -> bpf_attr {
    // SAFETY: a union of plain numbers, for which zero is a value; the kernel wants what a call does not use to be zero.
    unsafe { zeroed() }
}

fn descriptor(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Sizes in calls are 32 bits. One that does not fit becomes one that the kernel refuses.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn bpf(name: &'static str, cmd: bpf_cmd, attr: &mut bpf_attr) -> Result<i64> {
    make(name, Call::Bpf { cmd, attr })
}

fn bpf_fd(name: &'static str, cmd: bpf_cmd, attr: &mut bpf_attr) -> Result<OwnedFd> {
    fd(name, Call::Bpf { cmd, attr })
}

/// A call that returns a new descriptor. All that are made here are close-on-exec.
fn fd(name: &'static str, call: Call<'_>) -> Result<OwnedFd> {
    let fd = make(name, call)?;
    let fd = RawFd::try_from(fd).map_err(|_| SysError { call: name, errno: Errno::BADF })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn make(name: &'static str, mut call: Call<'_>) -> Result<i64> {
    #[cfg(test)]
    if let Some(result) = fake::answer(&mut call) {
        return result.map_err(|errno| SysError { call: name, errno });
    }
    let result = match &mut call {
        Call::Bpf { cmd, attr } => {
            // SAFETY: the attribute is a whole `bpf_attr`; what it points to is borrowed by our caller until the call returns.
            unsafe { libc::syscall(libc::SYS_bpf, *cmd as u32, &raw mut **attr, size_of::<bpf_attr>()) }
        }
        Call::PerfEventOpen { attr, pid, cpu } => {
            // SAFETY: the attribute is a whole `perf_event_attr` that says its own size; the text that it points to lives in our
            // caller until the call returns.
            unsafe { libc::syscall(libc::SYS_perf_event_open, &raw mut **attr, *pid, *cpu, -1, PERF_FLAG_FD_CLOEXEC) }
        }
        Call::PerfEventIoctl { event, request, argument } => {
            // SAFETY: the requests take a number, not a pointer.
            unsafe { libc::syscall(libc::SYS_ioctl, *event, *request, *argument) }
        }
    };
    if result < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        return Err(SysError { call: name, errno });
    }
    Ok(result)
}

/// Calls answered by a test instead of the kernel.
#[cfg(test)]
pub(crate) mod fake {
    use std::cell::RefCell;

    use rustix::io::Errno;

    use super::Call;

    type Answer = Box<dyn FnMut(&mut Call<'_>) -> Option<Result<i64, Errno>>>;

    thread_local! {
        static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    }

    /// Ends the fake when dropped.
    pub(crate) struct Installed;

    impl Drop for Installed {
        fn drop(&mut self) {
            ANSWER.with(|answer| *answer.borrow_mut() = None);
        }
    }

    /// From now on this thread's calls are answered by `answer`; where it returns `None`, by the kernel.
    pub(crate) fn install(answer: impl FnMut(&mut Call<'_>) -> Option<Result<i64, Errno>> + 'static) -> Installed {
        ANSWER.with(|cell| *cell.borrow_mut() = Some(Box::new(answer)));
        Installed
    }

    pub(super) fn answer(call: &mut Call<'_>) -> Option<Result<i64, Errno>> {
        ANSWER.with(|cell| cell.borrow_mut().as_mut().and_then(|answer| answer(call)))
    }

    /// A new descriptor that is no kernel object of BPF, as the kernel would return one.
    pub(crate) fn descriptor() -> i64 {
        use std::os::fd::IntoRawFd as _;
        std::fs::File::open("/dev/null").map_or(-1, |file| file.into_raw_fd().into())
    }
}
