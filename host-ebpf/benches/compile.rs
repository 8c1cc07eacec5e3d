//! How long the compiler takes for the running kernel: `cargo bench -p portcullis-ebpf`. Figures: docs/performance.md.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    fs,
    hint::black_box,
    ops::Range,
    time::{Duration, Instant},
};

use portcullis_ebpf::{
    Kernel, Options, ProbeSpec, compile,
    kernel::{Btf, Features, Function, SourceError, UserFunction, UserProbe, UserSymbol},
};

const EVENTS: &str = "/sys/kernel/tracing/events";

/// The running kernel, as far as the specs below ask for it; its files are read before the clock runs.
struct Running {
    btf: Btf,
    tracepoints: Vec<(String, String)>,
    formats: Vec<(String, String)>,
}

impl Running {
    fn open(btf: Btf) -> Running {
        let names = |path: &str| -> Vec<String> {
            let entries = fs::read_dir(path).unwrap().flatten().filter(|entry| entry.path().is_dir());
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let categories = names(EVENTS).into_iter();
        let mut tracepoints: Vec<(String, String)> =
            categories.flat_map(|c| names(&format!("{EVENTS}/{c}")).into_iter().map(move |n| (c.clone(), n))).collect();
        tracepoints.sort_unstable();
        let asked = tracepoints
            .iter()
            .filter(|(_, name)| BODIES.iter().any(|(attach, ..)| attach.contains(name.as_str()) || name.ends_with("_read")));
        let formats =
            asked.filter_map(|(c, n)| Some((format!("{c}/{n}"), fs::read_to_string(format!("{EVENTS}/{c}/{n}/format")).ok()?)));
        let formats = formats.collect();
        Running { btf, tracepoints, formats }
    }
}

fn none(what: &str) -> SourceError {
    SourceError { what: what.to_owned(), reason: "not asked for here".to_owned() }
}

impl Kernel for Running {
    fn btf(&self) -> &Btf {
        &self.btf
    }

    fn tracepoints(&self) -> Result<&[(String, String)], SourceError> {
        Ok(&self.tracepoints)
    }

    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError> {
        let wanted = format!("{category}/{name}");
        Ok(self.formats.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text.clone()))
    }

    fn possible_cpus(&self) -> u32 {
        2
    }

    fn features(&self) -> Features {
        Features::ALL
    }

    fn functions(&self) -> Result<&[Function], SourceError> {
        Ok(&[])
    }

    fn symbol(&self, name: &str) -> Result<Option<Range<u64>>, SourceError> {
        Err(none(name))
    }

    fn user_binary(&self, binary: &str) -> Result<String, SourceError> {
        Err(none(binary))
    }

    fn user_functions(&self, binary: &str, _: &str) -> Result<Vec<UserFunction>, SourceError> {
        Err(none(binary))
    }

    fn user_probes(&self, binary: &str, _: &str, _: &str) -> Result<Vec<UserProbe>, SourceError> {
        Err(none(binary))
    }

    fn user_symbol(&self, path: &str, _: &str, _: u64) -> Result<Option<UserSymbol>, SourceError> {
        Err(none(path))
    }

    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError> {
        Err(none(path))
    }
}

/// How often each is measured; the median counts.
const ROUNDS: usize = 51;

/// Bodies as tools have them: an emit of text, a histogram of latencies, a count by name, members of structs.
const BODIES: [(&str, &str, &str); 4] = [
    ("tracepoint:syscalls:sys_enter_openat", "", "emit opens { pid, comm, path: str(args.filename), flags: args.flags }"),
    ("span:syscall:read", "retval > 0", "@ns[comm] = hist(duration); @bytes[comm] = sum(retval)"),
    ("tracepoint:sched:sched_switch", "", "@switches[args.next_comm] = count()"),
    ("rawtracepoint:sched_switch", "", "$p = args.next; if ($p->tgid != 0) { @by[$p->real_parent->tgid, $p->comm] = count() }"),
];

fn specs() -> Vec<ProbeSpec> {
    let spec = |n: usize| {
        let (attach, when, body) = BODIES[n % BODIES.len()];
        ProbeSpec {
            name: format!("probe{n}"),
            attach: vec![attach.to_owned()],
            when: (!when.is_empty()).then(|| when.to_owned()),
            // Maps and streams of its own, as probes of different plugins would have.
            body: body.replace('@', &format!("@m{n}_")).replace("emit opens", &format!("emit opens{n}")),
            optional: false,
        }
    };
    (0..100).map(spec).collect()
}

fn median(mut measure: impl FnMut()) -> Duration {
    measure();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            measure();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn main() {
    let bytes = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let open = median(|| {
        black_box(Btf::parse(bytes.clone()).unwrap());
    });
    println!("open BTF ({} KiB): {open:.2?}", bytes.len() >> 10);
    let kernel = Running::open(Btf::parse(bytes).unwrap());
    let specs = specs();
    let hundred = median(|| {
        black_box(compile(&specs, &kernel, &Options::default()).unwrap());
    });
    println!("compile 100 probes: {hundred:.2?}");
    for (attach, ..) in BODIES {
        let of_kind: Vec<ProbeSpec> = specs.iter().filter(|spec| spec.attach[0] == attach).cloned().collect();
        let time = median(|| {
            black_box(compile(&of_kind, &kernel, &Options::default()).unwrap());
        });
        println!("compile {} probes, {attach}: {time:.2?}", of_kind.len());
    }
    let one = median(|| {
        black_box(compile(&specs[..1], &kernel, &Options::default()).unwrap());
    });
    println!("compile 1 probe: {one:.2?}");
}
