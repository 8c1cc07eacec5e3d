//! Loading programs.

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use portcullis_ebpf::{Hook, Kernel, MapRef, Program, kernel::Types};
use rustix::io::Errno;

use super::{
    PRIVILEGE, features,
    sys::{self, Load, ProgramInfo, SysError},
};

/// How much the verifier may say about a program that it refused, in bytes.
const LOG_SIZE: usize = 16 << 20;
/// How many lines of that an error shows, the last ones, where the reason is.
const LOG_LINES: usize = 60;
/// How often a load is tried that a signal interrupts.
const ATTEMPTS: u32 = 5;

/// A program in the kernel. It is freed when it is dropped and nothing is attached to it.
#[derive(Debug)]
pub struct LoadedProgram {
    fd: OwnedFd,
}

impl LoadedProgram {
    /// What the kernel says of it.
    pub fn info(&self) -> sys::Result<ProgramInfo> {
        sys::program_info(self.fd.as_fd())
    }

    /// Runs it now, once, on this thread: that of a raw tracepoint, with nothing as its context.
    pub fn run(&self) -> sys::Result<()> {
        sys::prog_test_run(self.fd.as_fd())
    }
}

impl AsFd for LoadedProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A program could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// This process may not load programs.
    #[error("{0}; loading programs needs {PRIVILEGE}")]
    Permission(SysError),
    /// There is no room for it.
    #[error("{error}; {way_out}")]
    Resources {
        /// The call and why.
        error: SysError,
        /// What may help.
        way_out: &'static str,
    },
    /// The kernel has no such raw tracepoint.
    #[error("this kernel has no raw tracepoint `{0}`")]
    NoTracepoint(String),
    /// The kernel does not describe the function.
    #[error("this kernel has no function `{0}` whose types it describes")]
    NoFunction(String),
    /// The kernel lets no program there, whatever it does.
    #[error("{error}: this kernel lets no program at the security hook `{hook}`; `fentry:security_{hook}` would do")]
    NoHook {
        /// The hook.
        hook: String,
        /// The call and why.
        error: SysError,
    },
    /// The types of a module could not be asked for.
    #[error("the types of the kernel module `{module}`: {reason}")]
    NoModule {
        /// The module.
        module: String,
        /// Why not.
        reason: String,
    },
    /// A program names a map that was not made, or an instruction that it does not have.
    #[error(
        "the program `{program}` refers to a map that does not exist ({map:?} in instruction {position}): a bug of Portcullis, please report it"
    )]
    NoMap {
        /// The program.
        program: String,
        /// The map.
        map: MapRef,
        /// The instruction.
        position: usize,
    },
    /// The kernel refused the program.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

/// The kernel refused a program: whatever a plugin asks for, programs that the compiler makes must be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The program.
    pub program: String,
    /// The call and why.
    pub error: SysError,
    /// Source beside instructions.
    pub listing: String,
    /// What the verifier said, in full.
    pub log: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the kernel refused the program `{}` ({})", self.program, self.error)?;
        writeln!(
            f,
            "This is a bug of Portcullis, not of the plugin. Please report it with the text below and the kernel's version."
        )?;
        writeln!(f, "--- program ---\n{}", self.listing.trim_end())?;
        let log = self.log.trim_end();
        let lines = log.lines().count();
        match lines.checked_sub(LOG_LINES) {
            None | Some(0) => writeln!(f, "--- verifier ---")?,
            Some(left_out) => writeln!(f, "--- verifier, without its first {left_out} lines ---")?,
        }
        if log.is_empty() {
            return write!(f, "(it said nothing)");
        }
        let shown: Vec<&str> = log.lines().skip(lines.saturating_sub(LOG_LINES)).collect();
        write!(f, "{}", shown.join("\n"))
    }
}

/// Loads a program, its maps given by `map`.
pub fn load<'m>(
    program: &Program,
    kernel: &dyn Kernel,
    map: impl Fn(MapRef) -> Option<BorrowedFd<'m>>,
) -> Result<LoadedProgram, LoadError> {
    let mut insns = program.insns.clone();
    for (position, wanted) in &program.maps {
        let no_map = || LoadError::NoMap { program: program.name.clone(), map: *wanted, position: *position };
        let fd = map(*wanted).ok_or_else(no_map)?;
        insns.get_mut(*position).ok_or_else(no_map)?.imm = fd.as_raw_fd();
    }
    let mut btf_object = None;
    let (kind, attach, btf_id) = match &program.hook {
        Hook::TpBtf { name } => {
            let id = kernel.btf().raw_tracepoint_id(name).ok_or_else(|| LoadError::NoTracepoint(name.clone()))?;
            (bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(bpf_attach_type::BPF_TRACE_RAW_TP as u32), id)
        }
        Hook::Fentry { module, function, returns } => {
            let types = Types::new(kernel);
            let found = types.function_in(module.as_deref().unwrap_or("vmlinux"), function);
            let id = found.ok_or_else(|| LoadError::NoFunction(function.clone()))?.id.number();
            btf_object = module.as_deref().map(module_btf).transpose()?;
            let attach = if *returns { bpf_attach_type::BPF_TRACE_FEXIT } else { bpf_attach_type::BPF_TRACE_FENTRY };
            (bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(attach as u32), id)
        }
        Hook::Iter { name } => {
            let function = format!("bpf_iter_{name}");
            let id = kernel.btf().function(&function).ok_or(LoadError::NoFunction(function))?.number();
            (bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(bpf_attach_type::BPF_TRACE_ITER as u32), id)
        }
        Hook::Lsm { hook } => {
            let function = format!("bpf_lsm_{hook}");
            let id = kernel.btf().function(&function).ok_or(LoadError::NoFunction(function))?.number();
            (bpf_prog_type::BPF_PROG_TYPE_LSM, Some(bpf_attach_type::BPF_LSM_MAC as u32), id)
        }
        Hook::PerfTracepoint { .. } => (bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT, None, 0),
        Hook::Kprobe { .. } | Hook::Uprobe { .. } => (bpf_prog_type::BPF_PROG_TYPE_KPROBE, None, 0),
        Hook::KprobeMulti { ends, .. } => (bpf_prog_type::BPF_PROG_TYPE_KPROBE, Some(sys::kprobe_multi(*ends)), 0),
        Hook::UprobeMulti { ends, .. } => (bpf_prog_type::BPF_PROG_TYPE_KPROBE, Some(sys::uprobe_multi(*ends)), 0),
        Hook::PerfEvent { .. } | Hook::Breakpoint { .. } => (bpf_prog_type::BPF_PROG_TYPE_PERF_EVENT, None, 0),
        Hook::Host(_) => (bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, None, 0),
    };
    let btf_object = btf_object.as_ref().map(AsFd::as_fd);
    let refused = |error: SysError, log: String| {
        let refusal = Refusal { program: program.name.clone(), error, listing: program.listing(), log };
        LoadError::Refused(Box::new(refusal))
    };
    let functions = program.describe_functions();
    let btf = functions.as_ref().map(|functions| sys::btf_load(&functions.btf)).transpose();
    let btf = btf.map_err(|error| outside(error).unwrap_or_else(|| refused(error, String::new())))?;
    let functions = btf.as_ref().zip(functions.as_ref()).map(|(btf, functions)| (btf.as_fd(), functions.info.as_slice()));
    let load = Load { kind, attach, btf_id, btf_object, functions, name: &program.name, insns: &insns };
    let error = match try_load(&load, None) {
        Ok(fd) => return Ok(LoadedProgram { fd }),
        Err(error) => error,
    };
    if let Some(error) = outside(error) {
        return Err(error);
    }
    if let Hook::Lsm { hook } = &program.hook
        && try_load(&Load { insns: &features::RETURN_0, ..load }, None).is_err()
    {
        return Err(LoadError::NoHook { hook: hook.clone(), error });
    }
    // Once more for the reason. A log costs the verifier much time, so the first attempt went without.
    let mut log = vec![0; LOG_SIZE];
    if let Ok(fd) = try_load(&load, Some(&mut log)) {
        return Ok(LoadedProgram { fd });
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    Err(refused(error, String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned()))
}

/// What is not the program's fault.
fn outside(error: SysError) -> Option<LoadError> {
    match error.errno {
        Errno::PERM => Some(LoadError::Permission(error)),
        Errno::MFILE | Errno::NFILE => {
            let way_out = "too many open files: raise the limit (ulimit -n), or use fewer probes";
            Some(LoadError::Resources { error, way_out })
        }
        Errno::NOMEM => Some(LoadError::Resources { error, way_out: "there is not enough memory" }),
        _ => None,
    }
}

/// The BTF object of a module.
fn module_btf(module: &str) -> Result<OwnedFd, LoadError> {
    let fail = |reason: String| LoadError::NoModule { module: module.to_owned(), reason };
    let find = || -> sys::Result<Option<OwnedFd>> {
        let mut after = 0;
        while let Some(id) = sys::next_btf(after)? {
            after = id;
            // It may be gone by now.
            let Ok(btf) = sys::btf_by_id(id) else { continue };
            if sys::btf_name(btf.as_fd())?.as_deref() == Some(module) {
                return Ok(Some(btf));
            }
        }
        Ok(None)
    };
    find().map_err(|e| fail(e.to_string()))?.ok_or_else(|| fail("it is not loaded any more".to_owned()))
}

/// The verifier gives up with EAGAIN when a signal waits.
pub(super) fn try_load(load: &Load<'_>, mut log: Option<&mut Vec<u8>>) -> sys::Result<OwnedFd> {
    let mut attempt = 1;
    loop {
        match sys::prog_load(load, log.as_mut().map(|log| log.as_mut_slice())) {
            Err(SysError { errno: Errno::AGAIN, .. }) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use aya_obj::generated::bpf_cmd;
    use portcullis_ebpf::functions::Function;

    use super::*;
    use crate::kernel::{
        sys::{Call, fake},
        testing::{Assembler, null},
    };

    fn program() -> Program {
        Assembler::default()
            .map(1, MapRef::Ring)
            .finish("sample", Hook::PerfTracepoint { category: "sched".to_owned(), name: "sched_switch".to_owned() })
    }

    /// What a load is asked for: the log it may fill, and the instructions.
    fn asked(call: &mut Call<'_>) -> (u32, u64, u64) {
        let Call::Bpf { attr, .. } = call else { unreachable!("nothing else is called") };
        // SAFETY: BPF_PROG_LOAD uses this member, and it is plain numbers.
        let load = unsafe { attr.__bindgen_anon_3 };
        (load.log_size, load.log_buf, load.insns)
    }

    /// The first attempt goes without a log, an interrupted one is repeated, and the map's descriptor is in the instruction.
    #[test]
    fn loads_without_a_log() {
        let map = null();
        let fd = map.as_raw_fd();
        let mut attempt = 0;
        let _fake = fake::install(move |call| {
            let (log, _, insns) = asked(call);
            assert_eq!(log, 0);
            // SAFETY: the instructions live until the call returns.
            assert_eq!(unsafe { *(insns as *const aya_obj::generated::bpf_insn) }.imm, fd);
            attempt += 1;
            Some(if attempt < 3 { Err(Errno::AGAIN) } else { Ok(fake::descriptor()) })
        });
        assert!(load(&program(), &crate::kernel::testing::NoKernel::new(), |_| Some(map.as_fd())).is_ok());
    }

    /// A refusal is asked for once more with a log, of which an error shows the end and keeps all.
    #[test]
    fn refusal_has_listing_and_log() {
        let map = null();
        let _fake = fake::install(|call| {
            let (size, log, _) = asked(call);
            let text: Vec<u8> = (1..=100).flat_map(|i| format!("line {i}\n").into_bytes()).chain([0]).collect();
            if size as usize >= text.len() {
                // SAFETY: the log has that much room.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), log as *mut u8, text.len()) };
            }
            Some(Err(Errno::INVAL))
        });
        let error = load(&program(), &crate::kernel::testing::NoKernel::new(), |_| Some(map.as_fd())).unwrap_err();
        let LoadError::Refused(refusal) = &error else { unreachable!("{error}") };
        assert_eq!(refusal.log.lines().count(), 100);
        let text = error.to_string();
        let expect = "the kernel refused the program `sample` (bpf(BPF_PROG_LOAD): Invalid argument (os error 22))\n\
            This is a bug of Portcullis, not of the plugin. Please report it with the text below and the kernel's version.\n\
            --- program ---\nlisting of sample\n";
        assert!(text.starts_with(expect), "{text}");
        assert!(text.contains("\n--- verifier, without its first 40 lines ---\nline 41\n"), "{text}");
        assert!(text.ends_with("\nline 100"), "{text}");
    }

    /// A program with a function that a helper calls comes with the types of its functions, and no other does.
    #[test]
    fn functions_are_described() {
        let check = |functions: &[(usize, &str)], expect: (usize, u32)| {
            let function = |(start, name): &(usize, &str)| Function { start: *start, name: (*name).to_owned(), global: false };
            let functions = functions.iter().map(function).collect();
            let program = Program { functions, maps: Vec::new(), ..program() };
            let calls = Rc::new(Cell::new((0, 0)));
            let seen = Rc::clone(&calls);
            let _fake = fake::install(move |call| {
                let Call::Bpf { cmd, attr } = call else { unreachable!("nothing else is called") };
                let (types, functions) = seen.get();
                seen.set(match cmd {
                    bpf_cmd::BPF_BTF_LOAD => (types + 1, functions),
                    _ => {
                        // SAFETY: BPF_PROG_LOAD uses this member, and it is plain numbers.
                        let load = unsafe { attr.__bindgen_anon_3 };
                        (types, load.func_info_cnt)
                    }
                });
                Some(Ok(fake::descriptor()))
            });
            assert!(load(&program, &crate::kernel::testing::NoKernel::new(), |_| None).is_ok());
            assert_eq!(calls.get(), expect);
        };
        check(&[], (0, 0));
        check(&[(0, "dispatch"), (2, "count_element")], (1, 2));
    }

    /// What is not the program's fault is not told as such, and no log is asked for.
    #[test]
    fn not_the_programs_fault() {
        let check = |errno: Errno, expect: &str| {
            let map = null();
            let _fake = fake::install(move |call| {
                assert_eq!(asked(call).0, 0);
                Some(Err(errno))
            });
            let error =
                load(&program(), &crate::kernel::testing::NoKernel::new(), |_| Some(map.as_fd())).unwrap_err().to_string();
            assert_eq!(error, expect);
        };
        check(
            Errno::PERM,
            &format!("bpf(BPF_PROG_LOAD): Operation not permitted (os error 1); loading programs needs {PRIVILEGE}"),
        );
        check(Errno::NOMEM, "bpf(BPF_PROG_LOAD): Cannot allocate memory (os error 12); there is not enough memory");
    }

    /// A program for a tracepoint or a map that does not exist never reaches the kernel.
    #[test]
    fn impossible_programs() {
        let _fake = fake::install(|_| unreachable!("no call"));
        let typed = Program { hook: Hook::TpBtf { name: "gone".to_owned() }, maps: Vec::new(), ..program() };
        assert_eq!(
            load(&typed, &crate::kernel::testing::NoKernel::new(), |_| None).unwrap_err(),
            LoadError::NoTracepoint("gone".to_owned())
        );
        let error = load(&program(), &crate::kernel::testing::NoKernel::new(), |_| None).unwrap_err();
        assert_eq!(error, LoadError::NoMap { program: "sample".to_owned(), map: MapRef::Ring, position: 0 });
    }
}
