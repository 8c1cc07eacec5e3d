//! The language by data: a spec in `tests/specs/*.spec`, what becomes of it behind a line of dashes.
//!
//! `UPDATE_EXPECT=1 cargo test -p portcullis-ebpf` writes what comes out now.

use std::{fmt::Write, fs, path::Path};

use crate::{Compiled, Options, ProbeSpec, Scope, Slot, compile, kernel::fixture::FixtureKernel, scope};

const LINE: &str = "----\n";

/// Lines `probe NAME`, `attach POINT`, `when EXPR`, `optional`, `option no-gate|marked`, and a body, which is all that follows
/// `body` up to the next `probe`.
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
            ("" | "#", _) => {}
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
        let fields = stream.fields.iter().map(|f| match f.slot {
            Slot::Int { offset, size, signed } => {
                format!("{} {}: {}{} @{offset}", f.ctype, f.name, if signed { 's' } else { 'u' }, size * 8)
            }
            Slot::Text { offset, capacity } => format!("{} {}: text {capacity} @{offset}", f.ctype, f.name),
        });
        writeln!(out, "stream {} {{ {} }} {} bytes", stream.name, fields.collect::<Vec<_>>().join(", "), stream.size).unwrap();
    }
    for need in &compiled.needs.data {
        writeln!(out, "reads {}: `{}` in {}", need.class, need.text, need.probe).unwrap();
    }
    for map in &compiled.maps {
        writeln!(out, "map {}: {:?} {}+{} x {}", map.map, map.kind, map.key_size, map.value_size, map.max_entries).unwrap();
    }
    for program in &compiled.programs {
        writeln!(out, "program {} at {:?}, {} instructions", program.name, program.hook, program.insns.len()).unwrap();
        if listing {
            out.push_str(&program.listing);
        }
    }
    out
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

/// The programs that follow a command's children.
#[test]
fn trackers() {
    let error = scope::trackers(&FixtureKernel::new()).map(|t| t.len());
    assert_eq!(error, Ok(2));
}
