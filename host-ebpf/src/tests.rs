//! The language by data: a spec in `tests/specs/*.spec`, what becomes of it behind a line of dashes.
//!
//! `UPDATE_EXPECT=1 cargo test -p portcullis-ebpf` writes what comes out now.

use std::{fmt::Write, fs, path::Path};

use crate::{
    Broken, Compiled, Field, Limit, MapRef, Naming, Options, ProbeSpec, Program, Scope, Slot, compile, gate,
    kernel::{
        Features,
        fixture::{self, FixtureKernel},
    },
    scope,
    spec::{Cgroup, Process, Rate},
    syntax,
};

const LINE: &str = "----\n";

/// Lines `probe NAME`, `attach POINT`, `when EXPR`, `optional`, `option no-gate|marked|limits|granted|rate N BURST`, `kernel VERSION`, and a body,
/// which is all that follows `body` up to the next `probe`.
fn parse(text: &str) -> (Vec<ProbeSpec>, Options) {
    let mut specs: Vec<ProbeSpec> = Vec::new();
    let mut options = Options { gate: Some(3), ..Options::default() };
    let mut body = false;
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let spec = specs.last_mut();
        match (word, spec) {
            ("probe", _) => {
                specs.push(ProbeSpec { name: rest.to_owned(), ..ProbeSpec::default() });
                body = false;
            }
            ("option", _) if rest == "no-gate" => options.gate = None,
            ("option", _) if rest == "marked" => options.scope = Scope::Marked,
            ("option", _) if rest == "limits" => {
                options.limits = vec![Limit::User(1000), Limit::Cgroup(Cgroup { id: 42, level: 2 })];
            }
            ("option", _) if rest.starts_with("rate ") => {
                let mut numbers = rest.split(' ').skip(1).map(|number| number.parse().unwrap());
                options.rate = Some(Rate { a_second: numbers.next().unwrap(), burst: numbers.next().unwrap() });
            }
            ("option", _) if rest == "granted" => {
                let process = Limit::Process(Process { id: 4711, started: 99 });
                options.granted = vec![process, Limit::User(1000), Limit::Cgroup(Cgroup { id: 42, level: 2 })];
            }
            (_, Some(spec)) if body => {
                spec.body.push('\n');
                spec.body.push_str(line);
            }
            ("attach", Some(spec)) => spec.attach.push(rest.to_owned()),
            ("when", Some(spec)) => spec.when = Some(rest.to_owned()),
            ("optional", Some(spec)) => spec.optional = true,
            ("body", Some(spec)) => {
                spec.body = rest.to_owned();
                body = true;
            }
            // Kernels before that one lack what the case needs; this one has it.
            ("" | "#" | "kernel", _) => {}
            _ => panic!("no such line in a spec: {line}"),
        }
    }
    (specs, options)
}

fn describe(compiled: &Compiled, listing: bool) -> String {
    let mut out = String::new();
    for probe in &compiled.probes {
        let span = if probe.span { ", a span" } else { "" };
        writeln!(out, "probe {}: {} by {}{span}", probe.name, probe.attach.join(" "), probe.mechanism).unwrap();
    }
    for missing in &compiled.missing {
        writeln!(out, "missing {}: {}", missing.probe, missing.reason).unwrap();
    }
    for stream in &compiled.streams {
        let fields = stream.fields.iter().map(|f| format!("{} {}: {}", f.ctype, f.name, slot(f)));
        writeln!(out, "stream {} {{ {} }} {} bytes", stream.name, fields.collect::<Vec<_>>().join(", "), stream.size).unwrap();
    }
    for need in &compiled.needs.data {
        let probe = need.probe.as_deref().unwrap();
        writeln!(out, "reads {}: `{}` in {probe}", need.class, need.text).unwrap();
    }
    for map in &compiled.maps {
        writeln!(out, "map {}: {:?} {}+{} x {}", map.map, map.kind, map.key_size, map.value_size, map.max_entries).unwrap();
    }
    for (number, map) in compiled.plugin_maps.iter().enumerate() {
        let keys = map.keys.iter().map(|key| format!("{} {}: {}", key.ctype, key.name, slot(key)));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let bucket = map.bucket.map(|_| ", bucket").unwrap_or_default();
        writeln!(
            out,
            "@{} is map{number}: {:?} [{keys}{bucket}] {} {}",
            map.name,
            map.content,
            map.value.ctype,
            slot(&map.value)
        )
        .unwrap();
    }
    for program in &compiled.programs {
        writeln!(out, "program {} at {:?}, {} instructions", program.name, program.hook, program.insns.len()).unwrap();
        if listing {
            out.push_str(&program.listing());
        }
    }
    out
}

fn slot(field: &Field) -> String {
    let slot = match field.slot {
        Slot::Int { offset, size, signed } => format!("{}{} @{offset}", if signed { 's' } else { 'u' }, size * 8),
        Slot::Text { offset, capacity } => format!("text {capacity} @{offset}"),
        Slot::Bytes { offset, capacity } => format!("bytes {capacity} @{offset}"),
        Slot::Stack { offset, depth } => format!("stack {depth} @{offset}"),
    };
    match field.naming {
        Naming::Plain => slot,
        naming => format!("{slot} as {naming:?}"),
    }
}

fn outcome(input: &str, listing: bool) -> String {
    let (specs, options) = parse(input);
    match compile(&specs, &FixtureKernel::new(), &options) {
        Ok(compiled) => describe(&compiled, listing),
        Err(errors) => errors.iter().map(|e| format!("error: {e}\n")).collect(),
    }
}

/// Compares each case of a file with what stands below its line of dashes; cases are parted by a line of equal signs.
fn check_file(path: &Path, listing: bool) {
    const PART: &str = "====\n";
    let text = fs::read_to_string(path).unwrap();
    let mut now = Vec::new();
    let mut wrong = Vec::new();
    for case in text.split(PART) {
        let (input, expected) = case.split_once(LINE).unwrap_or((case, ""));
        let found = outcome(input, listing);
        if found != expected {
            wrong.push(format!("{input}{LINE}{found}"));
        }
        now.push(format!("{input}{LINE}{found}"));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, now.join(PART)).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}: not as expected:\n{}", path.display(), wrong.join(PART));
    }
}

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs").join(name)
}

/// What specs compile to: probes, streams, needs, maps.
#[test]
fn shapes() {
    check_file(&data("shapes.spec"), false);
}

/// Maps and aggregations.
#[test]
fn maps() {
    check_file(&data("maps.spec"), false);
}

/// Loops and branches, functions and builtins, types from the kernel.
#[test]
fn language() {
    check_file(&data("language.spec"), false);
}

/// Every kind of attach point: where its probes run.
#[test]
fn kinds() {
    check_file(&data("kinds.spec"), false);
}

/// What is wrong with specs, where, and what would be right.
#[test]
fn errors() {
    check_file(&data("errors.spec"), false);
}

/// Instructions, beside their source.
#[test]
fn listings() {
    check_file(&data("listings.spec"), true);
}

/// What the reference shows: blocks of `probe` compile, each line of a block of `points` as an attach point and each of a block of
/// `bodies` as a body at the attach point of the last line `at POINT`; and blocks of `error` have the errors below their line of
/// dashes. There are no other blocks.
#[test]
fn reference() {
    let mut wrong = Vec::new();
    let mut compiles = |spec: String| {
        let found = outcome(&format!("probe example\n{spec}"), false);
        if found.starts_with("error") {
            wrong.push(format!("{spec}\n{found}"));
        }
    };
    let mut examples = 0;
    for (kind, block) in reference_blocks() {
        match kind {
            "probe" => compiles(block.to_owned()),
            "points" => block.lines().for_each(|point| compiles(format!("attach {point}\nbody return"))),
            "bodies" => {
                let mut at = "";
                for line in block.lines() {
                    match line.strip_prefix("at ") {
                        Some(point) => at = point,
                        None => compiles(format!("attach {at}\nbody {line}")),
                    }
                }
            }
            "error" => {
                let (input, expected) = block.split_once(LINE).unwrap();
                let found = outcome(&format!("probe example\n{input}"), false);
                assert_eq!(found.strip_prefix("error: "), Some(expected), "{input}");
            }
            other => panic!("blocks of `{other}` are not tested"),
        }
        examples += block.lines().count();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(examples > 100, "{examples} lines are not the whole reference");
}

/// The blocks of code of the reference, each with its kind.
fn reference_blocks() -> impl Iterator<Item = (&'static str, &'static str)> {
    let text = include_str!("../../docs/probe-language.md");
    text.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap())
}

/// The reference has every builtin, function and kind of attach point, and an example of each.
#[test]
fn reference_is_whole() {
    let text = include_str!("../../docs/probe-language.md");
    let lines: Vec<&str> = reference_blocks().filter(|(kind, _)| *kind != "error").flat_map(|(_, block)| block.lines()).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for name in crate::check::names() {
        assert!(["`", ".", "("].iter().any(|end| text.contains(&format!("`{name}{end}"))), "{name} is not said");
        assert!(lines.iter().any(|line| line.split(|c| !is_word(c)).any(|word| word == name)), "{name} has no example");
    }
    for (notation, names) in crate::attach::notations() {
        assert!(text.contains(&format!("`{notation}`")), "{notation} is not said");
        for name in names {
            let begins = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
            assert!(lines.iter().any(begins), "{name} has no example");
        }
    }
}

/// What a kernel lacks that a body names is said with the way out, and an optional probe goes without.
#[test]
fn lacking() {
    let check = |features: Features, body: &str, message: &str, help: &str| {
        let mut kernel = FixtureKernel::new();
        kernel.features = features;
        let attach = vec!["tracepoint:syscalls:sys_enter_read".into()];
        let spec = ProbeSpec { name: "p".into(), attach, body: body.into(), ..ProbeSpec::default() };
        let errors = compile(std::slice::from_ref(&spec), &kernel, &Options::default()).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!((errors[0].message.as_str(), errors[0].help.as_deref(), errors[0].missing), (message, Some(help), true));
        let optional = compile(&[ProbeSpec { optional: true, ..spec }], &kernel, &Options::default()).unwrap();
        assert_eq!(optional.missing[0].reason, message);
    };
    let without = Features { for_each_map: false, time_boot: false, ..Features::ALL };
    let through = "this kernel's programs can't go through a map: that takes bpf_for_each_map_elem, of Linux 5.13";
    check(without, "@m[pid] = 1; clear(@m)", through, "the plugin does it, by `clear` of its import `maps`");
    let count = "if !has_key(@m, pid) && len(@m) < 9 { @m[pid] = 1; }";
    check(without, count, through, "the plugin counts what it reads by its import `maps`");
    let clock = "this kernel's programs can't ask that clock; it takes Linux 5.8";
    check(without, "emit s { x: nsecs(boot) }", clock, "`nsecs` is CLOCK_MONOTONIC");
    // A map without keys takes nothing of it.
    let mut kernel = FixtureKernel::new();
    kernel.features = without;
    let attach = vec!["tracepoint:syscalls:sys_enter_read".into()];
    let spec = ProbeSpec { name: "p".into(), attach, body: "@x = 1; clear(@x)".into(), ..ProbeSpec::default() };
    assert!(compile(&[spec], &kernel, &Options::default()).is_ok());
}

/// The program that says which processes are in scope: what it has of a child is a mark of its parent, or none.
#[test]
fn trackers() {
    let check = |children, loads| {
        let listing = scope::tracker(&FixtureKernel::new(), children).unwrap().listing();
        assert_eq!(
            (listing.matches("= *(u8 *)").count(), listing.matches("*(u8 *)(r2 +0) = r1").count()),
            (loads, 1),
            "{listing}"
        );
    };
    check(scope::Children::Follow, 1);
    check(scope::Children::Leave, 0);
}

/// Every program of every spec above loads the gate word in its first instructions and nowhere else; without a gate it never does. One
/// that is to read it twice does so once more in each function: so this counts what it says.
#[test]
fn one_load_of_the_gate() {
    /// Where the word's address is loaded: by an instruction whose second half has the offset.
    fn loads(program: &Program) -> Vec<usize> {
        let gate = program.maps.iter().filter(|(_, map)| *map == MapRef::Gate).map(|(position, _)| *position);
        gate.filter(|position| program.insns[position + 1].imm.cast_unsigned() == gate::WORD).collect()
    }
    let kernel = FixtureKernel::new();
    let (mut with, mut without) = (0, 0);
    for file in ["shapes.spec", "kinds.spec", "maps.spec", "language.spec", "listings.spec"] {
        for case in fs::read_to_string(data(file)).unwrap().split("====\n") {
            let (specs, options) = parse(case.split_once(LINE).unwrap().0);
            let programs = |broken| {
                compile(&specs, &kernel, &Options { broken, ..options.clone() }).map_or(Vec::new(), |compiled| compiled.programs)
            };
            for (program, twice) in programs(None).iter().zip(&programs(Some(Broken::ReadsGateTwice))) {
                let (once, twice) = (loads(program), loads(twice));
                if options.gate.is_some() {
                    assert!(matches!(once.as_slice(), [0..=2]) && twice.len() > 1, "{once:?}, {twice:?}\n{}", program.listing());
                    with += 1;
                } else {
                    assert!(once.is_empty() && twice.is_empty(), "{}", program.listing());
                    without += 1;
                }
            }
        }
    }
    assert!(with > 50 && without > 0, "{with} with a gate, {without} without");
}

/// The dispatchers of programs of uprobes have a tail call, which they never reach, and no other program has one.
#[test]
fn programs_of_uprobes_stay_on_the_stack_of_their_thread() {
    let kernel = FixtureKernel::new();
    let (mut with, mut without) = (0, 0);
    for file in ["shapes.spec", "kinds.spec", "maps.spec", "language.spec", "listings.spec"] {
        for case in fs::read_to_string(data(file)).unwrap().split("====\n") {
            let (specs, options) = parse(case.split_once(LINE).unwrap().0);
            for program in compile(&specs, &kernel, &options).map_or(Vec::new(), |compiled| compiled.programs) {
                let calls = program.listing().matches("call tail_call").count();
                assert_eq!(calls, usize::from(program.hook.is_uprobe()), "{}", program.listing());
                *if calls > 0 { &mut with } else { &mut without } += 1;
            }
        }
    }
    assert!(with > 10 && without > 50, "{with} with a tail call, {without} without");
}

/// Text that is not a spec is an error, never a panic: characters of the specs above, dropped, doubled and put elsewhere.
#[test]
fn garbled_specs() {
    let kernel = FixtureKernel::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below.max(1)
    };
    for file in ["shapes.spec", "kinds.spec", "maps.spec", "language.spec", "errors.spec", "listings.spec"] {
        for case in fs::read_to_string(data(file)).unwrap().split("====\n") {
            let (specs, options) = parse(case.split_once(LINE).unwrap().0);
            for _ in 0..100 {
                let mut garbled = specs.clone();
                let at = next(garbled.len());
                let spec = &mut garbled[at];
                let which = next(3);
                let text = match which {
                    0 => spec.attach.first_mut(),
                    1 => spec.when.as_mut(),
                    _ => Some(&mut spec.body),
                };
                let Some(text) = text else { continue };
                let mut chars: Vec<char> = text.chars().collect();
                for _ in 0..=next(4) {
                    let (from, to) = (next(chars.len()), next(chars.len()));
                    match next(4) {
                        0 if !chars.is_empty() => drop(chars.remove(from)),
                        1 if !chars.is_empty() => chars.insert(to, chars[from]),
                        2 if !chars.is_empty() => chars.swap(from, to),
                        _ => chars.insert(to, ['\0', '\u{e9}', '"', '(', '$', '@', '9', '-', '\n', '*'][next(10)]),
                    }
                }
                *text = chars.into_iter().collect();
                if let Err(errors) = compile(&garbled, &kernel, &options) {
                    assert!(errors.iter().all(|e| !e.to_string().is_empty()));
                }
            }
        }
    }
}

/// Nesting and length are bounded before anything recurses over them.
#[test]
fn endless_specs() {
    let check = |body: String, expect: &str| {
        let spec = ProbeSpec {
            name: "p".into(),
            attach: vec!["tracepoint:syscalls:sys_enter_read".into()],
            body,
            ..ProbeSpec::default()
        };
        let error = compile(&[spec], &FixtureKernel::new(), &Options::default()).unwrap_err().remove(0);
        assert_eq!(error.message, expect);
    };
    let deep = "nested more than 64 deep";
    check("(".repeat(10_000), "expected a statement, found `(`");
    check(format!("$x = {}1", "(".repeat(10_000)), deep);
    check(format!("$x = {}1", "- ".repeat(10_000)), deep);
    check(format!("$x = {}1", "!".repeat(10_000)), deep);
    check("if pid {".repeat(10_000), deep);
    check(format!("{}{{}}", "if pid {} else ".repeat(10_000)), deep);
    check(format!("$x = {}1", "1+".repeat(10_000)), "more than 256 operators in a row");
    check(format!("$x = args{}", ".a".repeat(10_000)), "more than 256 operators in a row");
    check(format!("$x = {}1", "str(".repeat(10_000)), deep);
}

/// What the fuzzer's corpus has, in `fuzz/corpus`, is compiled or is an error with a place in its text.
#[test]
fn fuzz_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let texts = |target: &str| -> Vec<String> {
        let files = fs::read_dir(corpus.join(target)).unwrap();
        files.map(|file| String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned()).collect()
    };
    for text in texts("parser") {
        let errors = [syntax::parse_body(&text).err(), syntax::parse_when(&text).err(), syntax::parse_list(&text, 0).err()];
        for error in errors.into_iter().flatten() {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len() + 1, "{error:?} of {text:?}");
        }
    }
    let kernel = FixtureKernel::new();
    for text in texts("compiler") {
        match compile(&fixture::specs(&text), &kernel, &Options::default()) {
            Ok(compiled) => assert!(compiled.programs.iter().all(|program| !program.listing().is_empty())),
            Err(errors) => assert!(errors.iter().all(|error| !error.to_string().is_empty())),
        }
    }
}

/// The kernel skips returns of spans alone, also where one program serves another probe of the same place.
#[test]
fn skipped_returns() {
    let mut kernel = FixtureKernel::new();
    kernel.features.uprobe_multi = true;
    kernel.features.uprobe_session = true;
    let spec = |name: &str, attach: &str| ProbeSpec {
        name: name.into(),
        attach: vec![attach.into()],
        body: "return".into(),
        ..ProbeSpec::default()
    };
    let specs = [spec("call", "uprobe:libc:malloc"), spec("span", "span:uprobe:libc:malloc")];
    let compiled = compile(&specs, &kernel, &Options::default()).unwrap();
    assert_eq!(compiled.programs.len(), 1);
    let skips: Vec<bool> = compiled.probes.iter().map(|probe| probe.skips).collect();
    assert_eq!(skips, [false, true]);
}
