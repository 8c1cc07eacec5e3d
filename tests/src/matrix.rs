//! What a kernel makes of every program of the language's data tests: a column of the table in docs/kernels.md.
//!
//! `cargo xtask kernels` runs it on several kernels, by the program of `src/bin/kernel-check.rs`, and merges the columns.

use std::{collections::BTreeSet, fmt, io, path::Path, process::Command};

use portcullis::{
    kernel::RunningKernel,
    session::{Compiled, Config, Plugin},
};
use portcullis_ebpf::{
    Diagnostic, Options, ProbeSpec, Scope,
    attach::kind_name,
    scope::{self, Children},
};

use crate::specs::{self, Case, File};

/// A cell of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The table that it is in.
    pub group: &'static str,
    /// Its row.
    pub name: String,
    /// What this kernel makes of it, in a few words.
    pub cell: String,
}

/// Something that this kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The file of the case.
    pub file: String,
    /// The case.
    pub case: String,
    /// What there is not.
    pub reason: String,
}

/// Something that this kernel should have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file of the case.
    pub file: String,
    /// The case.
    pub case: String,
    /// The options with which it was compiled.
    pub options: String,
    /// The error, with the verifier's log.
    pub error: String,
}

/// All of one kernel. As text it is what `cargo xtask kernels` reads: a line a fact, its parts parted by tabs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// `uname -r`.
    pub release: String,
    /// The cells, in the order of the table.
    pub rows: Vec<Row>,
    /// What it lacks.
    pub lacks: Vec<Lack>,
    /// What it refused. None if all is well.
    pub refusals: Vec<Refusal>,
    /// Programs that passed the verifier.
    pub programs: usize,
}

/// How many cases tests generate.
const GENERATED: &str = "400";

/// How often the tests of the guarantees do what they do.
const ROUNDS: &str = "2";

/// Of the tests of the guarantees, those of which kernels make the same.
const OF_THE_GATE: [&str; 8] = ["g1::", "g2::", "g3::", "g6::", "g7::", "g8::", "g10::", "nothing_is_missed"];

/// Of what a worker tries that was taken over, what it does to its host, in which the kernel has no part.
const OF_THE_HOST: [&str; 9] = [
    "no_messages",
    "out_of_order",
    "floods_and_silence",
    "eight_million_texts",
    "claims_deliveries",
    "forges",
    "asks_for_what_is_not_granted",
    "asks_and_does_not_read",
    "keeps_a_batch",
];

impl Column {
    /// Runs the tests of these executables, all that are in each, and adds a row for each.
    pub fn run<'a>(&mut self, executables: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        for executable in executables {
            let file = executable.file_name().unwrap_or_default().to_string_lossy();
            // Behind the last dash is cargo's hash.
            let name = file.rsplit_once('-').map_or(&*file, |(name, _)| name).to_owned();
            let mut command = Command::new(executable);
            // What can't be tested here is a failure; what this program does itself it need not do twice; and these machines are
            // emulated, so that generated cases are fewer.
            command.args(["--test-threads", "1", "--skip", "specs_load"]).env("CI", "1").env("PROPTEST_CASES", GENERATED);
            // Of the guarantees, those whose mechanism differs between kernels: how the two ends of a call come together.
            let skipped = OF_THE_GATE.iter().chain(&OF_THE_HOST);
            command.args(skipped.flat_map(|name| ["--skip", name])).env("GUARANTEE_ROUNDS", ROUNDS);
            let output = command.output()?;
            let cell = if output.status.success() { "ok" } else { "FAILED" };
            if !output.status.success() {
                let text = [output.stdout, output.stderr].concat();
                let error = format!("{}\n{}", output.status, String::from_utf8_lossy(&text));
                let test = Refusal { file: name.clone(), case: "tests".into(), options: "all".into(), error };
                self.refusals.push(test);
            }
            self.rows.push(Row { group: "Tests", name, cell: cell.into() });
        }
        Ok(())
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, &["release", &self.release])?;
        for Row { group, name, cell } in &self.rows {
            line(f, &["row", group, name, cell])?;
        }
        for Lack { file, case, reason } in &self.lacks {
            line(f, &["lacks", file, case, reason])?;
        }
        for Refusal { file, case, options, error } in &self.refusals {
            line(f, &["refused", file, case, options, error])?;
        }
        // The last line: without it the column is not whole.
        line(f, &["done", &self.programs.to_string()])
    }
}

/// Parts with tabs between them; what would end a part or the line is escaped.
fn line(f: &mut fmt::Formatter<'_>, parts: &[&str]) -> fmt::Result {
    let escape = |part: &&str| part.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n");
    writeln!(f, "{}", parts.iter().map(escape).collect::<Vec<_>>().join("\t"))
}

/// What became of a case.
enum Fate {
    /// All its programs were loaded; the mechanism of each probe, or `None` where an optional probe is missing.
    Loaded(Vec<Option<String>>),
    /// This kernel has not what it needs.
    Lacks,
    /// Not as it should be.
    Refused,
}

/// Loads everything, and attaches everything once.
pub fn check(kernel: &RunningKernel, directory: &Path) -> Column {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut column = Column { release, ..Column::default() };
    let mut files = specs::read(directory);
    files.push(specs::reference());
    let fates: Vec<Vec<Fate>> =
        files.iter().map(|file| file.cases.iter().map(|case| case_fate(kernel, file, case, &mut column)).collect()).collect();
    // The order of the table.
    let rows = [kinds(&files, &fates), by_file(&files, &fates)];
    column.rows = rows.into_iter().flatten().collect();
    column
}

/// With the gate, at both ends of its word, and without, in both scopes. The first is also attached.
fn variants() -> impl Iterator<Item = Options> {
    let gates = [Some(0), Some(63), None];
    let scopes = [Scope::System, Scope::Marked];
    gates.into_iter().flat_map(move |gate| scopes.map(|scope| Options { gate, scope, ..Options::default() }))
}

fn case_fate(kernel: &RunningKernel, file: &File, case: &Case, column: &mut Column) -> Fate {
    let lack = |reason: String| Lack { file: file.name.clone(), case: case.title.clone(), reason };
    if let (Some(since), Some(version)) = (case.since, specs::version(&column.release))
        && version < since
    {
        column.lacks.push(lack(format!("it needs Linux {}.{}", since.0, since.1)));
        return Fate::Lacks;
    }
    let mut mechanisms = Vec::new();
    // There are many examples, and what they say in other cases is tried in other files.
    let tried = if file.name == specs::REFERENCE { 1 } else { usize::MAX };
    let fitting = variants().filter(|options| !case.marked || options.scope == Scope::Marked);
    let fitting = fitting.map(|options| Options { rate: case.rate, ..options });
    for (n, options) in fitting.take(tried).enumerate() {
        let compiled = match portcullis_ebpf::compile(&case.probes, kernel, &options) {
            Ok(compiled) => compiled,
            Err(errors) if errors.iter().all(|error| error.missing) => {
                column.lacks.push(lack(join(errors.iter().map(|error| error.message.clone()))));
                return Fate::Lacks;
            }
            Err(errors) => {
                column.refusals.push(refusal(file, case, &options, join(errors.iter().map(Diagnostic::to_string))));
                return Fate::Refused;
            }
        };
        if n == 0 {
            let mechanism = |probe: &ProbeSpec| {
                let found = compiled.probes.iter().find(|compiled| compiled.name == probe.name);
                found.map(|compiled| compiled.mechanism.clone()).filter(|mechanism| !mechanism.is_empty())
            };
            mechanisms = case.probes.iter().map(mechanism).collect();
            column.lacks.extend(compiled.missing.iter().map(|missing| lack(missing.reason.clone())));
        }
        let programs = compiled.programs.len();
        if let Err(error) = load(kernel, compiled, &options, n == 0) {
            column.refusals.push(refusal(file, case, &options, error));
            return Fate::Refused;
        }
        column.programs += programs;
    }
    Fate::Loaded(mechanisms)
}

/// Has the kernel verify programs, attaches them if that is wanted, and throws them away.
fn load(kernel: &RunningKernel, compiled: portcullis_ebpf::Compiled, options: &Options, attach: bool) -> Result<(), String> {
    let tracker = scope::tracker(kernel, Children::Follow).map_err(|errors| errors.to_string())?;
    let mut plugins = Vec::new();
    // Plugin n has bit n.
    for bit in 0..options.gate.unwrap_or(0) {
        let empty = portcullis_ebpf::compile(&[], kernel, &Options { gate: Some(bit), ..options.clone() });
        let empty = empty.map_err(|errors| join(errors.iter().map(Diagnostic::to_string)))?;
        plugins.push(Plugin { name: format!("empty{bit}"), compiled: empty, ring: 4096 });
    }
    plugins.push(Plugin { name: "test".into(), compiled, ring: 1 << 20 });
    let config = Config { gate: options.gate.is_some(), scope: options.scope, tracker: Some(tracker) };
    let loaded = Compiled::new(plugins, config).and_then(|session| session.load(kernel)).map_err(|e| e.to_string())?;
    if attach {
        loaded.attach().map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn refusal(file: &File, case: &Case, options: &Options, error: String) -> Refusal {
    let gate = options.gate.map_or("no gate".to_owned(), |bit| format!("gate bit {bit}"));
    let options = format!("{gate}, scope {:?}", options.scope);
    Refusal { file: file.name.clone(), case: case.title.clone(), options, error }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("\n")
}

/// The kind of all attach points of a probe, if it is one.
fn one_kind(probe: &ProbeSpec) -> Option<&'static str> {
    let points = probe.attach.iter().flat_map(|attach| attach.split(','));
    let kinds: BTreeSet<&str> = points.filter_map(kind_name).collect();
    kinds.first().copied().filter(|_| kinds.len() == 1)
}

/// A row for each kind of attach point: by which mechanisms this kernel attaches it.
fn kinds(files: &[File], fates: &[Vec<Fate>]) -> Vec<Row> {
    let cases = || files.iter().zip(fates).flat_map(|(file, fates)| file.cases.iter().zip(fates));
    let all: BTreeSet<&str> = cases().flat_map(|(case, _)| &case.probes).filter_map(one_kind).collect();
    let row = |wanted: &str| {
        let mut mechanisms = BTreeSet::new();
        for (case, fate) in cases() {
            if let Fate::Loaded(found) = fate {
                let of_kind = case.probes.iter().zip(found).filter(|(probe, _)| one_kind(probe) == Some(wanted));
                mechanisms.extend(of_kind.filter_map(|(_, mechanism)| mechanism.as_deref()).flat_map(|all| all.split('+')));
            }
        }
        match mechanisms.is_empty() {
            true => "lacks".to_owned(),
            false => mechanisms.into_iter().collect::<Vec<_>>().join(", "),
        }
    };
    all.into_iter().map(|kind| Row { group: "Attach points", name: kind.to_owned(), cell: row(kind) }).collect()
}

/// A row for each file: how many of its cases this kernel takes.
fn by_file(files: &[File], fates: &[Vec<Fate>]) -> Vec<Row> {
    let row = |(file, fates): (&File, &Vec<Fate>)| {
        let count = |wanted: fn(&Fate) -> bool| fates.iter().filter(|fate| wanted(fate)).count();
        let loaded = count(|fate| matches!(fate, Fate::Loaded(found) if found.iter().all(Option::is_some)));
        // A case that has none of its probes has loaded nothing.
        let partly = count(
            |fate| matches!(fate, Fate::Loaded(found) if found.iter().any(Option::is_none) && found.iter().any(Option::is_some)),
        );
        let cell = match (loaded, partly, fates.len()) {
            _ if count(|fate| matches!(fate, Fate::Refused)) > 0 => "REFUSED".to_owned(),
            (loaded, _, all) if loaded == all => "ok".to_owned(),
            (0, 0, _) => "lacks".to_owned(),
            (0, partly, all) if partly == all => "in part".to_owned(),
            (loaded, partly, all) => format!("{} of {all}", loaded + partly),
        };
        let tool = file.name.strip_prefix("tools/");
        let group = if tool.is_some() { "Tools" } else { "The language's tests" };
        Row { group, name: tool.unwrap_or(&file.name).to_owned(), cell }
    };
    files.iter().zip(fates).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probe's kind is that of all its attach points, whichever way they are written.
    #[test]
    fn kinds_of_probes() {
        let check = |attach: &[&str], expect: Option<&str>| {
            let attach = attach.iter().map(|point| (*point).to_owned()).collect();
            assert_eq!(one_kind(&ProbeSpec { attach, ..ProbeSpec::default() }), expect);
        };
        check(&["tracepoint:sched:sched_switch", "t:a:b"], Some("tracepoint"));
        check(&["span:syscall:read, span:syscall:write"], Some("span:syscall"));
        check(&["tracepoint:a:b", "rawtracepoint:b"], None);
        check(&["nothing:a"], None);
        check(&[], None);
    }

    /// A column is lines of parts, whatever the parts hold; a row says what became of all cases, or of how many.
    #[test]
    fn columns() {
        let case = |name: &str, attach: &str| Case {
            probes: vec![ProbeSpec { name: name.into(), attach: vec![attach.into()], ..ProbeSpec::default() }],
            ..Case::default()
        };
        let files = [
            File { name: "all".into(), cases: vec![case("a", "rawtracepoint:x"), case("b", "tracepoint:x:y")] },
            File { name: "tools/some".into(), cases: vec![case("a", "rawtracepoint:x"), case("b", "tracepoint:x:z")] },
            File { name: "tools/none".into(), cases: vec![case("a", "span:syscall:x")] },
            File { name: "tools/part".into(), cases: vec![case("a", "rawtracepoint:x")] },
            File { name: "tools/nothing".into(), cases: vec![case("a", "rawtracepoint:x")] },
        ];
        let loaded = |mechanism: &str| Fate::Loaded(vec![Some(mechanism.into())]);
        let fates = [
            vec![loaded("raw"), loaded("tp_btf")],
            vec![Fate::Lacks, loaded("perf_tracepoint")],
            vec![Fate::Lacks],
            vec![Fate::Loaded(vec![None, Some("raw".into())])],
            vec![Fate::Loaded(vec![None])],
        ];
        let column = Column {
            release: "6.0".into(),
            rows: [kinds(&files, &fates), by_file(&files, &fates)].concat(),
            refusals: vec![refusal(&files[0], &Case::default(), &Options::default(), "a\tb\n\\".into())],
            ..Column::default()
        };
        let expect = "\
release	6.0
row	Attach points	rawtracepoint	raw
row	Attach points	span:syscall	lacks
row	Attach points	tracepoint	perf_tracepoint, tp_btf
row	The language's tests	all	ok
row	Tools	some	1 of 2
row	Tools	none	lacks
row	Tools	part	in part
row	Tools	nothing	lacks
refused	all		gate bit 0, scope System	a\\tb\\n\\\\
done	0
";
        assert_eq!(column.to_string(), expect);
    }
}
