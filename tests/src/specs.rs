//! The language's data tests, `host-ebpf/tests/specs`: as the compiler's own tests read them, for those that need a kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use portcullis_ebpf::{ProbeSpec, Rate};

/// Between what goes in and what comes out.
const LINE: &str = "----\n";
/// Between cases.
const PART: &str = "====\n";

/// A case that compiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Its first comment, or the names of its probes.
    pub title: String,
    /// What one plugin would declare.
    pub probes: Vec<ProbeSpec>,
    /// The Linux from which on kernels have what it needs, by a line `kernel 5.11`.
    pub since: Option<(u32, u32)>,
    /// It is for the scope of a command alone, by a line `option marked`.
    pub marked: bool,
    /// Its probes have a rate limit, by a line `option rate N BURST`.
    pub rate: Option<Rate>,
}

/// A file of cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the directory, without its extension: `tools/opensnoop`.
    pub name: String,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// Where they are in a checkout.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-ebpf/tests/specs")
}

/// Every file `*.spec` of a directory and of the directories in it, those with no case that compiles left out.
pub fn read(directory: &Path) -> Vec<File> {
    let mut files = Vec::new();
    walk(directory, "", &mut files);
    files
}

/// The name of the file of examples.
pub const REFERENCE: &str = "reference";

/// The examples of docs/probe-language.md. Its blocks are as the compiler's test `reference` says.
pub fn reference() -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/probe-language.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    File { name: REFERENCE.to_owned(), cases: examples(&text) }
}

fn examples(text: &str) -> Vec<Case> {
    let example = |spec: &str| Case { title: spec.replace('\n', " "), ..case(&format!("probe example\n{spec}")) };
    let mut cases = Vec::new();
    for (kind, block) in text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')) {
        match kind {
            "probe" => cases.push(example(block.trim_end())),
            "points" => cases.extend(block.lines().map(|point| example(&format!("attach {point}\nbody return")))),
            "bodies" => {
                let mut at = "";
                for line in block.lines() {
                    match line.strip_prefix("at ") {
                        Some(point) => at = point,
                        None => cases.push(example(&format!("attach {at}\nbody {line}"))),
                    }
                }
            }
            _ => {}
        }
    }
    cases
}

fn walk(directory: &Path, prefix: &str, files: &mut Vec<File>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    // Files before directories.
    paths.sort_by_key(|path| (path.is_dir(), path.clone()));
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("names of specs are text");
        if path.is_dir() {
            walk(&path, &format!("{prefix}{stem}/"), files);
        } else if path.extension().is_some_and(|extension| extension == "spec") {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let cases = cases(&text);
            if !cases.is_empty() {
                files.push(File { name: format!("{prefix}{stem}"), cases });
            }
        }
    }
}

/// The cases of a file, less those of which errors are expected.
fn cases(text: &str) -> Vec<Case> {
    let parts = text.split(PART).map(|part| part.split_once(LINE).unwrap_or((part, "")));
    parts.filter(|(_, expected)| !expected.starts_with("error: ")).map(|(input, _)| case(input)).collect()
}

/// Lines `probe NAME`, `attach POINT`, `when EXPR`, `optional`, and a body, which is all that follows `body` up to the next `probe`.
fn case(text: &str) -> Case {
    let mut case = Case::default();
    let mut body = false;
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, case.probes.last_mut()) {
            ("probe", _) => {
                case.probes.push(ProbeSpec { name: rest.to_owned(), ..ProbeSpec::default() });
                body = false;
            }
            (_, Some(probe)) if body => {
                probe.body.push('\n');
                probe.body.push_str(line);
            }
            ("attach", Some(probe)) => probe.attach.push(rest.to_owned()),
            ("when", Some(probe)) => probe.when = Some(rest.to_owned()),
            ("optional", Some(probe)) => probe.optional = true,
            ("body", Some(probe)) => {
                probe.body = rest.to_owned();
                body = true;
            }
            ("kernel", _) => case.since = Some(version(rest).unwrap_or_else(|| panic!("no version: {line}"))),
            ("#", _) if case.title.is_empty() => case.title = rest.to_owned(),
            ("option", _) if rest == "marked" => case.marked = true,
            ("option", _) if rest.starts_with("rate ") => {
                case.rate = rest[5..]
                    .split_once(' ')
                    .and_then(|(a_second, burst)| Some(Rate { a_second: a_second.parse().ok()?, burst: burst.parse().ok()? }));
            }
            // Other options of the compiler's tests: here every case is loaded with all of them.
            _ => {}
        }
    }
    if case.title.is_empty() {
        case.title = case.probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>().join(" ");
    }
    case
}

/// The first two numbers of a kernel's release.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases with all that they can say; those of errors are left out.
    #[test]
    fn files() {
        let text = "\
# What it is.
kernel 5.11
option marked
option rate 10 3
probe a
attach x:1
attach x:2
when pid
optional
body emit s { pid };
# in the body
probe b
body return
----
program
====
probe c
body retrun
----
error: no
";
        let a = ProbeSpec {
            name: "a".into(),
            attach: vec!["x:1".into(), "x:2".into()],
            when: Some("pid".into()),
            body: "emit s { pid };\n# in the body".into(),
            optional: true,
        };
        let b = ProbeSpec { name: "b".into(), body: "return".into(), ..ProbeSpec::default() };
        let rate = Some(Rate { a_second: 10, burst: 3 });
        let whole = Case { title: "What it is.".into(), probes: vec![a, b], since: Some((5, 11)), marked: true, rate };
        assert_eq!(cases(text), [whole]);
        assert_eq!(case("probe c\nprobe d").title, "c d");
    }

    /// Releases as kernels write them.
    #[test]
    fn versions() {
        let check = |text: &str, expect: Option<(u32, u32)>| assert_eq!(version(text), expect, "{text}");
        check("5.10.0-46-cloud-amd64", Some((5, 10)));
        check("6.12.117+deb13-cloud-amd64", Some((6, 12)));
        check("7.2-rc1", Some((7, 2)));
        check("7", None);
        check("", None);
    }
}
