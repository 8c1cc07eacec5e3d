//! Sessions without workers: specs compiled, loaded, run over a workload in this process, and their records read here.

use std::{
    ffi::OsString,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use portcullis::{
    clock, command,
    contract::{ProbeCounts, StreamCounts},
    kernel::{Processes, Ring, RunningKernel},
    report::{self, Report},
    session::{Closed, Compiled, Config, Plugin},
    symbols::{self, Symbols},
};
use portcullis_ebpf::{
    Kernel, Options, ProbeSpec, Scope, Slot, Stream, processes, record,
    scope::{self, Children},
};

use crate::{elements, portcullis, workload};

/// A spec with one attach point.
pub fn probe(name: &str, attach: &str, when: Option<&str>, body: &str) -> ProbeSpec {
    ProbeSpec { name: name.into(), attach: vec![attach.into()], when: when.map(Into::into), body: body.into(), optional: false }
}

/// The kernel that runs here. Programs and libraries are looked into by the real host's process for that.
pub fn running() -> RunningKernel {
    let symbols = symbols::Options { executable: Some(portcullis()), ..symbols::Options::default() };
    RunningKernel::open().expect("the kernel can be read").with_symbols(Arc::new(Symbols::new(&symbols)))
}

/// What is run while the session is attached, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Workloads<'a> {
    /// While the gate is closed, before the opening.
    pub before: &'a [&'a [&'a str]],
    /// While it is open.
    pub open: &'a [&'a [&'a str]],
}

/// A session that was closed, with what it recorded.
#[derive(Debug)]
pub struct Traced {
    /// The records, as (stream, row), in ring order.
    pub rows: Vec<(String, Vec<String>)>,
    /// The kernel's call stacks in them, in the same order.
    pub stacks: Vec<Vec<u64>>,
    /// The elements of the maps after the close, where they were asked for: as [`elements::read`] has them.
    pub elements: Vec<(String, Vec<String>)>,
    /// The probes' counts.
    pub probes: Vec<ProbeCounts>,
    /// The streams' counts.
    pub streams: Vec<StreamCounts>,
    /// A report with these counts, in which all records count as delivered.
    pub report: Report,
    /// The session itself.
    pub closed: Closed,
    /// Possible CPUs.
    pub cpus: usize,
}

/// Compiles for this kernel.
pub fn compile(kernel: &dyn Kernel, specs: &[ProbeSpec], options: &Options) -> portcullis_ebpf::Compiled {
    match portcullis_ebpf::compile(specs, kernel, options) {
        Ok(compiled) => compiled,
        Err(errors) => panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// Traces workloads. Each is started stopped and is in scope from its first instruction, with its children.
pub fn trace(specs: &[ProbeSpec], options: &Options, workloads: Workloads<'_>) -> Traced {
    trace_with(specs, options, workloads, 16 << 20)
}

/// The same with a ring of a given size, which nobody reads before the close.
pub fn trace_with(specs: &[ProbeSpec], options: &Options, workloads: Workloads<'_>, ring: u32) -> Traced {
    trace_on(&running(), specs, options, workloads, ring)
}

/// The same on a kernel that may be attached to by another mechanism.
pub fn trace_on(kernel: &RunningKernel, specs: &[ProbeSpec], options: &Options, workloads: Workloads<'_>, ring: u32) -> Traced {
    let compiled = compile(kernel, specs, options);
    let mut loaded = session(kernel, compiled.clone(), options, ring).load(kernel).unwrap_or_else(|e| panic!("{e}"));
    let (before, open) = (start(&loaded.processes(), workloads.before), start(&loaded.processes(), workloads.open));
    let ring = loaded.take_ring(0);
    let mut maps = loaded.maps(0).expect("maps can be read");
    let attached = loaded.attach().unwrap_or_else(|e| panic!("{e}"));
    before.into_iter().for_each(|one| wait(release(one)));
    let session = attached.open();
    open.into_iter().for_each(|one| wait(release(one)));
    let mut traced = traced(&compiled, ring, session.close());
    traced.elements = elements::read(&mut maps, &compiled, kernel.symbols());
    traced
}

/// Traces workloads and calls `around` after the opening, with true, and once they have ended, with false; both times with their
/// process ids.
pub fn trace_around(
    specs: &[ProbeSpec],
    options: &Options,
    workloads: Workloads<'_>,
    mut around: impl FnMut(bool, &[u32]),
) -> Traced {
    let kernel = running();
    let compiled = compile(&kernel, specs, options);
    let mut loaded = session(&kernel, compiled.clone(), options, 16 << 20).load(&kernel).unwrap_or_else(|e| panic!("{e}"));
    let open = start(&loaded.processes(), workloads.open);
    let ring = loaded.take_ring(0);
    let session = loaded.attach().unwrap_or_else(|e| panic!("{e}")).open();
    let pids: Vec<u32> = open.iter().map(command::Stopped::pid).collect();
    around(true, &pids);
    open.into_iter().for_each(|one| wait(release(one)));
    around(false, &pids);
    traced(&compiled, ring, session.close())
}

/// A workload that runs, says something, and then does what it does once for each line that it is sent.
#[derive(Debug)]
pub struct Told {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Told {
    /// Starts it; and what it says.
    pub fn start(arguments: &[&str]) -> (Told, String) {
        let mut command = std::process::Command::new(workload());
        let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the workload starts");
        let says = BufReader::new(child.stdout.take().expect("it has a pipe"));
        let mut told = Told { child, says };
        let said = told.listen();
        (told, said)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do its work, and waits until it says that it is done.
    pub fn work(&mut self) {
        self.tell();
        self.listen();
    }

    /// Has it do its work.
    pub fn tell(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("it has a pipe");
        stdin.write_all(b"\n").expect("the workload listens");
    }

    /// Waits until it says something, and what.
    pub fn listen(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("the workload speaks");
        line.trim_end().to_owned()
    }
}

impl Drop for Told {
    /// Without its standard input it ends.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Traces a workload that runs already. It is told to work before the opening, and `times` after it.
pub fn trace_running(specs: &[ProbeSpec], options: &Options, workload: &mut Told, times: usize) -> Traced {
    let kernel = running();
    let compiled = compile(&kernel, specs, options);
    let mut loaded = session(&kernel, compiled.clone(), options, 16 << 20).load(&kernel).unwrap_or_else(|e| panic!("{e}"));
    loaded.processes().mark(workload.pid(), processes::IN_SCOPE);
    let ring = loaded.take_ring(0);
    let attached = loaded.attach().unwrap_or_else(|e| panic!("{e}"));
    workload.work();
    let session = attached.open();
    (0..times).for_each(|_| workload.work());
    traced(&compiled, ring, session.close())
}

/// Traces two workloads across the gate: the one runs already when it opens, the other still when it closes; half a second each.
pub fn across(specs: &[ProbeSpec], opening: &[&str], closing: &[&str]) -> Traced {
    let options = options();
    let kernel = running();
    let compiled = compile(&kernel, specs, &options);
    let loaded = session(&kernel, compiled.clone(), &options, 1 << 20).load(&kernel);
    let mut loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
    let (first, second) = (start_one(&loaded.processes(), opening), start_one(&loaded.processes(), closing));
    let ring = loaded.take_ring(0);
    let attached = loaded.attach().unwrap_or_else(|e| panic!("{e}"));
    let first = release(first);
    thread::sleep(Duration::from_millis(500));
    let session = attached.open();
    wait(first);
    let second = release(second);
    thread::sleep(Duration::from_millis(500));
    let traced = traced(&compiled, ring, session.close());
    wait(second);
    traced
}

/// A session that was closed while its workload went on.
#[derive(Debug)]
pub struct Stopped {
    /// The session.
    pub traced: Traced,
    /// The times of the records of the first stream.
    pub times: Vec<u64>,
    /// Programs still wrote after the store that closed the gate.
    pub wrote_after_the_store: bool,
    /// Nothing was written or counted after the quiesced time, though the workload went on.
    pub quiet: bool,
}

/// Traces a workload that does not end, closes after `open`, and looks what happens then.
pub fn stop_while(specs: &[ProbeSpec], endless: &[&str], open: Duration, ring: u32) -> Stopped {
    let options = options();
    let kernel = running();
    let compiled = compile(&kernel, specs, &options);
    let mut loaded = session(&kernel, compiled.clone(), &options, ring).load(&kernel).unwrap_or_else(|e| panic!("{e}"));
    let workload = start_one(&loaded.processes(), endless);
    let ring = loaded.take_ring(0).expect("the probes emit");
    let attached = loaded.attach().unwrap_or_else(|e| panic!("{e}"));
    let mut workload = release(workload);
    let session = attached.open();
    thread::sleep(open);
    // The close waits out the grace period; meanwhile another thread looks at what waits in the ring.
    let (closed, samples) = thread::scope(|scope| {
        let close = scope.spawn(|| session.close());
        let mut samples = Vec::new();
        while !close.is_finished() {
            // The time first: what is seen was so at that time or later.
            samples.push((clock::now(), ring.waiting()));
            thread::yield_now();
        }
        (close.join().expect("the session closes"), samples)
    });
    let counts = |closed: &Closed| {
        let (mut probes, streams) = closed.counts(0).expect("counts can be read");
        // Hits go on, and are those of a closed gate.
        probes.iter_mut().for_each(|p| p.hits_closed = 0);
        (probes, streams)
    };
    let (waiting, counted) = (ring.waiting(), counts(&closed));
    thread::sleep(Duration::from_millis(5));
    let quiet = (ring.waiting(), counts(&closed)) == (waiting, counted);
    workload.kill().expect("the workload can be killed");
    let _ = workload.wait();
    let store = closed.interval().expect("there is a gate").latest;
    let after = samples.iter().find(|(time, _)| *time >= store).map_or(waiting, |(_, seen)| *seen);
    let mut times = Vec::new();
    let traced = traced_each(&compiled, Some(ring), closed, |bytes| {
        if bytes[record::STREAM as usize..][..4] == [0; 4] {
            times.push(u64::from_ne_bytes(bytes[record::TIME as usize..][..8].try_into().expect("eight bytes")));
        }
    });
    Stopped { traced, times, wrote_after_the_store: waiting > after, quiet }
}

/// A session of one plugin.
pub fn session(kernel: &RunningKernel, compiled: portcullis_ebpf::Compiled, options: &Options, ring: u32) -> Compiled {
    let tracker = scope::tracker(kernel, Children::Follow).expect("the tracker can be made");
    let plugin = Plugin { name: "test".into(), compiled, ring };
    let config = Config { gate: options.gate.is_some(), scope: options.scope, tracker: Some(tracker) };
    Compiled::new(vec![plugin], config).expect("the session is sound")
}

fn start(processes: &Processes, workloads: &[&[&str]]) -> Vec<command::Stopped> {
    workloads.iter().map(|arguments| start_one(processes, arguments)).collect()
}

fn start_one(processes: &Processes, arguments: &[&str]) -> command::Stopped {
    let mut argv: Vec<OsString> = vec![workload().into()];
    argv.extend(arguments.iter().map(OsString::from));
    let stopped = command::start(&argv, command::Output::Inherit).expect("the workload starts");
    processes.mark(stopped.pid(), processes::IN_SCOPE);
    stopped
}

fn release(stopped: command::Stopped) -> command::Running {
    stopped.release().expect("the workload runs")
}

fn wait(mut running: command::Running) {
    let status = running.wait().expect("the workload ends");
    assert!(status.0.success(), "the workload {status}");
}

fn traced(compiled: &portcullis_ebpf::Compiled, ring: Option<Ring>, closed: Closed) -> Traced {
    let (mut rows, mut stacks) = (Vec::new(), Vec::new());
    let mut traced = traced_each(compiled, ring, closed, |bytes| {
        rows.push(row(&compiled.streams, bytes));
        stacks.extend(kernel_stacks(&compiled.streams, bytes));
    });
    (traced.rows, traced.stacks) = (rows, stacks);
    traced
}

/// The same without rows; each record is handed over as it is.
fn traced_each(compiled: &portcullis_ebpf::Compiled, ring: Option<Ring>, closed: Closed, mut each: impl FnMut(&[u8])) -> Traced {
    let mut records = 0;
    if let Some(mut ring) = ring {
        ring.read(usize::MAX, |bytes| {
            records += 1;
            each(bytes);
        });
        assert!(ring.is_drained());
    }
    let (probes, streams) = closed.counts(0).expect("counts can be read");
    let report = report_of(compiled, &closed, &probes, &streams, records);
    Traced {
        rows: Vec::new(),
        stacks: Vec::new(),
        elements: Vec::new(),
        probes,
        streams,
        report,
        closed,
        cpus: compiled.counters.cpus as usize,
    }
}

/// The options of tests: the scope is that of the workloads.
pub fn options() -> Options {
    Options { scope: Scope::Marked, ..Options::default() }
}

fn report_of(
    compiled: &portcullis_ebpf::Compiled,
    closed: &Closed,
    probes: &[ProbeCounts],
    streams: &[StreamCounts],
    delivered: u64,
) -> Report {
    let gate = report::Gate {
        enabled: closed.opened().is_some(),
        open: closed.opened(),
        close: closed.interval(),
        quiesced: closed.quiesced().expect("the kernel waits"),
        appointment: None,
    };
    let probes = compiled.probes.iter().zip(probes).map(|(probe, counts)| report::Probe {
        attach: probe.attach.clone(),
        mechanism: probe.mechanism.clone(),
        before: counts.hits_closed,
        counts: counts.clone(),
    });
    let streams = compiled
        .streams
        .iter()
        .zip(streams)
        .map(|(stream, counts)| report::Stream { name: stream.name.clone(), counts: *counts });
    let plugin = report::Plugin {
        name: "test".into(),
        delivered,
        probes: probes.collect(),
        streams: streams.collect(),
        ..report::Plugin::default()
    };
    Report { gate, plugins: vec![plugin], ..Report::default() }
}

fn kernel_stacks(streams: &[Stream], bytes: &[u8]) -> Vec<Vec<u64>> {
    let u32_at = |at: u32| u32::from_ne_bytes(bytes[at as usize..at as usize + 4].try_into().expect("four bytes"));
    let stream = &streams[u32_at(record::STREAM) as usize];
    let stacks = stream.fields.iter().filter_map(|field| match field.slot {
        Slot::Stack { offset, .. } if u32_at(offset + 4) == 0 => {
            let (from, length) = ((offset + record::LENGTH_HEADER) as usize, u32_at(offset).cast_signed().max(0) as usize);
            let words = bytes[from..from + length].chunks(8);
            Some(words.map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))).collect())
        }
        _ => None,
    });
    stacks.collect()
}

/// A record in words, decoded here by the published layout: apart from the host's own reader.
fn row(streams: &[Stream], bytes: &[u8]) -> (String, Vec<String>) {
    let u32_at = |at: u32| u32::from_ne_bytes(bytes[at as usize..at as usize + 4].try_into().expect("four bytes"));
    let stream = &streams[u32_at(record::STREAM) as usize];
    assert_eq!(bytes.len(), stream.size as usize);
    let (absent, cut) = (u32_at(record::ABSENT), u32_at(record::CUT));
    let fields = stream.fields.iter().enumerate().map(|(i, field)| {
        let mut out = format!("{}=", field.name);
        match field.slot {
            _ if absent >> i & 1 == 1 => out.push_str("(absent)"),
            Slot::Int { offset, size, signed } => {
                let mut wide = [0; 8];
                let size = usize::from(size);
                wide[..size].copy_from_slice(&bytes[offset as usize..offset as usize + size]);
                let value = u64::from_ne_bytes(wide);
                let shift = 64 - 8 * size as u32;
                let _ = if signed { write!(out, "{}", (value << shift) as i64 >> shift) } else { write!(out, "{value}") };
            }
            Slot::Bytes { offset, capacity } => {
                let at = (offset + record::LENGTH_HEADER) as usize;
                let length = u32_at(offset).min(capacity) as usize;
                let _ = write!(out, "{:02x?}", &bytes[at..at + length]);
            }
            Slot::Stack { offset, depth } => {
                let frames = (u32_at(offset).cast_signed() / 8).clamp(0, depth.cast_signed());
                let _ = write!(out, "({frames} frames of {})", u32_at(offset + 4));
            }
            Slot::Text { offset, capacity } => {
                let text = &bytes[offset as usize..(offset + capacity) as usize];
                let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
                let _ = write!(out, "{:?}", String::from_utf8_lossy(&text[..end]));
                if cut >> i & 1 == 1 {
                    out.push_str("...");
                }
            }
        }
        out
    });
    (stream.name.clone(), fields.collect())
}
