//! Loading programs.

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use portcullis_ebpf::{Hook, MapRef, Program, kernel::Btf};
use rustix::io::Errno;

use super::sys::{self, Load, ProgramInfo, SysError};

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
    #[error("{0}; loading programs needs root, or the capabilities CAP_BPF and CAP_PERFMON")]
    Permission(SysError),
    /// The kernel has no such raw tracepoint.
    #[error("this kernel has no raw tracepoint `{0}`")]
    NoTracepoint(String),
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
    btf: &Btf,
    map: impl Fn(MapRef) -> Option<BorrowedFd<'m>>,
) -> Result<LoadedProgram, LoadError> {
    let mut insns = program.insns.clone();
    for (position, wanted) in &program.maps {
        let no_map = || LoadError::NoMap { program: program.name.clone(), map: *wanted, position: *position };
        let fd = map(*wanted).ok_or_else(no_map)?;
        insns.get_mut(*position).ok_or_else(no_map)?.imm = fd.as_raw_fd();
    }
    let (kind, attach, btf_id) = match &program.hook {
        Hook::TpBtf { name } => {
            let id = btf.raw_tracepoint_id(name).ok_or_else(|| LoadError::NoTracepoint(name.clone()))?;
            (bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(bpf_attach_type::BPF_TRACE_RAW_TP), id)
        }
        Hook::PerfTracepoint { .. } => (bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT, None, 0),
    };
    let load = Load { kind, attach, btf_id, name: &program.name, insns: &insns };
    let error = match try_load(&load, None) {
        Ok(fd) => return Ok(LoadedProgram { fd }),
        Err(error @ SysError { errno: Errno::PERM, .. }) => return Err(LoadError::Permission(error)),
        Err(error) => error,
    };
    // Once more for the reason. A log costs the verifier much time, so the first attempt went without.
    let mut log = vec![0; LOG_SIZE];
    if let Ok(fd) = try_load(&load, Some(&mut log)) {
        return Ok(LoadedProgram { fd });
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
    let refusal = Refusal { program: program.name.clone(), error, listing: program.listing.clone(), log };
    Err(LoadError::Refused(Box::new(refusal)))
}

/// The verifier gives up with EAGAIN when a signal waits.
fn try_load(load: &Load<'_>, mut log: Option<&mut Vec<u8>>) -> sys::Result<OwnedFd> {
    let mut attempt = 1;
    loop {
        match sys::prog_load(load, log.as_mut().map(|log| log.as_mut_slice())) {
            Err(SysError { errno: Errno::AGAIN, .. }) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}
