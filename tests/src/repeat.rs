//! Generated code, run again and again in the kernel, to measure what it takes.
//!
//! The kernel repeats programs of the network alone (BPF_PROG_TEST_RUN), so the code of an interval, which reads nothing of its context,
//! is loaded as one of those. To the processor it is the same. Between two runs the kernel does more than such code does itself, in whose
//! shadow much of it would be hidden; so a loop around the code is loaded with it.

use std::{
    io,
    mem::zeroed,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Instant,
};

use aya::maps::MapData;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
use portcullis::kernel::{Counters, Gate, RunningKernel, map};
use portcullis_ebpf::{Compiled, MapRef, Options, Probe, Program, Rate};

use crate::kernel::{compile, probe};

/// No packet of the network is shorter than its header.
const PACKET: [u8; 64] = [0; 64];
/// How often the code is called each time that the kernel runs the program.
const CALLS: u32 = 250;
/// Instructions (Documentation/bpf/standardization/instruction-set.rst).
const SET: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const GOTO: u8 = 0x05;
const GOTO_UNLESS: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The gate's outcome stays in r7.
const OUTCOME: u8 = 7;

/// What stands in the place of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gate itself, open.
    Open,
    /// The same, closed.
    Closed,
    /// Nothing: the program is compiled without a gate.
    Without,
    /// A closed gate that is known beforehand: the verifier takes out the branch and all that is behind an open one.
    KnownClosed,
}

/// A program with the maps that it uses.
#[derive(Debug)]
pub struct Repeated {
    program: OwnedFd,
    _gate: Gate,
    _rates: Option<MapData>,
    counters: Counters,
    probe: Probe,
}

impl Repeated {
    /// A probe with this body, which may have a rate limit.
    ///
    /// # Errors
    /// What the kernel says against it.
    pub fn load(
        kernel: &RunningKernel,
        body: &str,
        rate: Option<Rate>,
        outcome: Outcome,
        counting: bool,
    ) -> io::Result<Repeated> {
        let gate = (outcome != Outcome::Without).then_some(0);
        let options = Options { gate, rate, without_counters: !counting, ..Options::default() };
        let Compiled { programs, probes, counters: layout, maps: specs, .. } =
            compile(kernel, &[probe("probe", "interval:s:1", None, body)], &options);
        let program = programs.into_iter().next().ok_or_else(|| io::Error::other("there is no program"))?;
        let Program { mut insns, mut maps, .. } = program;
        if outcome == Outcome::KnownClosed {
            know(&mut insns, &mut maps);
        }
        let gate = Gate::create().map_err(io::Error::other)?;
        if outcome == Outcome::Open {
            gate.open(1);
        }
        let counters = Counters::create(layout, layout.value_size()).map_err(io::Error::other)?;
        let rates = specs.iter().find(|spec| spec.map == MapRef::Rates);
        let rates = rates.map(|spec| map::create(spec, 0)).transpose().map_err(io::Error::other)?;
        let looped = looped(&insns);
        let before = looped.len() - insns.len();
        let mut insns = looped;
        for (position, map) in maps {
            insns[before + position].imm = match map {
                MapRef::Gate => gate.fd().as_raw_fd(),
                MapRef::Counters => counters.fd().as_raw_fd(),
                other => match &rates {
                    Some(rates) if other == MapRef::Rates => rates.fd().as_fd().as_raw_fd(),
                    _ => return Err(io::Error::other(format!("there is no {other:?}"))),
                },
            };
        }
        let probe = probes.into_iter().next().ok_or_else(|| io::Error::other("there is no probe"))?;
        Ok(Repeated { program: load(&insns)?, _gate: gate, _rates: rates, counters, probe })
    }

    /// What it has counted: hits, and those with the gate closed.
    pub fn hits(&self) -> (u64, u64) {
        let counts = self.counters.probe(0, &self.probe);
        (counts.hits, counts.hits_closed)
    }

    /// Of the hits, how many went into the body, and how many the rate limit kept from it.
    pub fn completed_and_shed(&self) -> (u64, u64) {
        let counts = self.counters.probe(0, &self.probe);
        (counts.completed, counts.shed)
    }

    /// Runs the code on this CPU, `times` being how often the kernel runs the program, and says how long one run of the code took, in
    /// ns, and how many there were.
    ///
    /// # Errors
    /// What the kernel says against it.
    pub fn run(&self, times: u32) -> io::Result<(f64, u64)> {
        let mut attr = empty();
        attr.test.prog_fd = descriptor(self.program.as_fd());
        attr.test.data_in = PACKET.as_ptr() as u64;
        attr.test.data_size_in = PACKET.len() as u32;
        attr.test.repeat = times;
        let start = Instant::now();
        call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
        let runs = u64::from(times) * u64::from(CALLS);
        Ok((start.elapsed().as_nanos() as f64 / runs as f64, runs))
    }
}

/// Puts a constant where the gate word is loaded: `r1 = gate` of two slots, `r7 = *r1`, `r7 &= 1`.
fn know(insns: &mut [bpf_insn], maps: &mut Vec<(usize, MapRef)>) {
    let at = maps.iter().position(|(_, map)| *map == MapRef::Gate).expect("it has a gate");
    let (at, _) = maps.remove(at);
    assert!(insns[at + 2].dst_reg() == OUTCOME && insns[at + 3].dst_reg() == OUTCOME && insns[at + 3].imm == 1, "another load");
    insns[at..at + 4].fill(insn(GOTO, (0, 0), 0, 0));
    insns[at] = insn(SET, (OUTCOME, 0), 0, 0);
}

/// Calls the code again and again, as a function of the program.
fn looped(code: &[bpf_insn]) -> Vec<bpf_insn> {
    let (context, left) = (6, 7);
    let mut insns = vec![
        insn(MOVE, (context, 1), 0, 0),
        insn(SET, (left, 0), 0, CALLS as i32),
        insn(MOVE, (1, context), 0, 0),
        // Behind all of these.
        insn(CALL, (0, 1), 0, 4),
        insn(ADD, (left, 0), 0, -1),
        // Back to where the context is handed over.
        insn(GOTO_UNLESS, (left, 0), -4, 0),
        insn(SET, (0, 0), 0, 0),
        insn(EXIT, (0, 0), 0, 0),
    ];
    insns.extend_from_slice(code);
    insns
}

/// `registers`: the one that is written, and the one that is read.
fn insn(code: u8, registers: (u8, u8), off: i16, imm: i32) -> bpf_insn {
    let (dst, src) = registers;
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(dst, src), off, imm }
}

fn load(insns: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    attr.__bindgen_anon_3.insns = insns.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = insns.len() as u32;
    attr.__bindgen_anon_3.license = c"GPL".as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: the call made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: what the attributes point to outlives the call, and is as large as they say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, attr as *mut bpf_attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn empty() -> bpf_attr {
    // SAFETY: it is a union of plain numbers, for which zero is a value.
    unsafe { zeroed() }
}

fn descriptor(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
