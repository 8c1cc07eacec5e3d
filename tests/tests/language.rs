//! The probe language on the running kernel: cases are data in `language/*.cases`, a workload and a probe, and the rows that come
//! out behind a line of dashes. A line `kernel 5.13` says that kernels before that one lack what the case needs. `UPDATE_EXPECT=1` writes what comes out now.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{fs, path::Path};

use portcullis_ebpf::ProbeSpec;
use portcullis_tests::{
    kernel::{self, Workloads},
    lock, matrix, specs,
};

const LINE: &str = "----\n";
const PART: &str = "====\n";

/// Lines `word rest`; what follows `body` is all of the body.
fn words(text: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match out.last_mut() {
            Some((word, body)) if word == "body" && !line.starts_with("probe ") => {
                body.push('\n');
                body.push_str(line);
            }
            _ => {
                let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
                out.push((word.to_owned(), rest.to_owned()));
            }
        }
    }
    out
}

fn check_file(name: &str) {
    let Some(_lock) = lock() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("language").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let mut now = Vec::new();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    'cases: for case in text.split(PART) {
        let (input, expected) = case.split_once(LINE).unwrap();
        let mut spec = ProbeSpec { name: "probe".into(), ..ProbeSpec::default() };
        let mut workload = String::new();
        for (word, rest) in words(input) {
            match word.as_str() {
                "workload" => workload = rest,
                "kernel" if specs::version(&release) < specs::version(&rest) => {
                    now.push(case.to_owned());
                    continue 'cases;
                }
                "kernel" => {}
                "attach" => spec.attach.push(rest),
                "when" => spec.when = Some(rest),
                "body" => spec.body = rest,
                other => panic!("{other}"),
            }
        }
        let workload: Vec<&str> = workload.split(' ').collect();
        let traced = kernel::trace(&[spec], &kernel::options(), Workloads { before: &[], open: &[&workload] });
        let found: String = traced.rows.iter().map(|(stream, fields)| format!("{stream} {}\n", fields.join(" "))).collect();
        assert_eq!(traced.report.check(), [], "{input}");
        if std::env::var_os("UPDATE_EXPECT").is_none() {
            assert_eq!(found, expected, "{input}");
        }
        now.push(format!("{input}{LINE}{found}"));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, now.join(PART)).unwrap();
    }
}

#[test]
fn arithmetic() {
    check_file("arithmetic.cases");
}

#[test]
fn control() {
    check_file("control.cases");
}

#[test]
fn text() {
    check_file("text.cases");
}

#[test]
fn maps() {
    check_file("maps.cases");
}

#[test]
fn spans() {
    check_file("spans.cases");
}

/// A span keeps the call stacks of its entry, whole: at the exit the process stands where it did.
#[test]
fn stacks() {
    let Some(_lock) = lock() else { return };
    let body = "emit s { kernel: entry.kstack, user: entry.ustack, after: ustack }; @by[entry.kstack] = count();".to_owned();
    let spec = ProbeSpec { name: "probe".into(), attach: vec!["span:syscall:getppid".into()], body, ..ProbeSpec::default() };
    let traced = kernel::trace(&[spec], &kernel::options(), Workloads { before: &[], open: &[&["getppid", "3"]] });
    assert_eq!(traced.report.check(), []);
    assert_eq!(traced.rows.len(), 3);
    for (_, fields) in &traced.rows {
        let [kernel, user, after] = [0, 1, 2].map(|i| fields[i].split_once('=').unwrap().1);
        assert_eq!(user, after);
        assert!(!kernel.starts_with("(0 ") && kernel.ends_with(" of 0)"), "{kernel}");
        assert!(!user.starts_with("(0 ") && !user.ends_with(" of 0)"), "{user}");
    }
}

/// Paths of files that a workload opens, by their descriptors.
fn paths(body: &str, workload: &[&str]) -> Vec<String> {
    let body = format!("$file = curtask->files->fdt->fd[args.ret]; {body}");
    let spec = kernel::probe("probe", "tracepoint:syscalls:sys_exit_openat", Some("args.ret >= 0"), &body);
    let traced = kernel::trace(&[spec], &kernel::options(), Workloads { before: &[], open: &[workload] });
    assert_eq!(traced.report.check(), []);
    traced.rows.into_iter().map(|(_, fields)| fields.join(" ")).collect()
}

/// A path leads from the file to the root, through every mount between them.
#[test]
fn paths_through_mounts() {
    let Some(_lock) = lock() else { return };
    let directory = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(directory.path()).unwrap();
    let directory = directory.to_str().unwrap();
    let found = paths("emit s { path: path($file->f_path, 512) }", &["opens-mounted", directory]);
    let expect = |path: &str| found.contains(&format!("path={path:?}"));
    for path in ["mounted", "mounted/one/two/file", "again", "again/two/file"] {
        assert!(expect(&format!("{directory}/{path}")), "{path}: {found:?}");
    }
    assert!(expect("/"), "{found:?}");
}

/// A path that is longer than what is kept, or has more names than are looked at, has its end, and says so.
#[test]
fn long_paths() {
    let Some(_lock) = lock() else { return };
    let root = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(root.path()).unwrap();
    let check = |names: &[&str], body: &str, expect: &dyn Fn(&str) -> String| {
        let directory = names.iter().fold(root.clone(), |path, name| path.join(name));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        let found = paths(body, &["opens", "1", file]);
        let expect = expect(file);
        assert!(found.contains(&expect), "{expect} in {found:?}");
    };
    let cut = |file: &str, keep: usize| format!("path={:?}...", format!("...{}", &file[file.len() - keep + 3..]));
    let emit = |keep: usize| format!("emit s {{ path: path($file->f_path, {keep}) }}");
    let long = "n".repeat(250);
    let deep = ["d"; 70];
    let whole = |file: &str| format!("path={file:?}");
    // By the length of the path.
    check(&[&long], &emit(1024), &whole);
    check(&[&long], &emit(100), &|file| cut(file, 100));
    check(&[&long], &emit(4), &|file| cut(file, 4));
    check(&[&long], &emit(2), &|_| "path=\"..\"...".to_owned());
    let length = root.to_str().unwrap().len() + "/file".len();
    check(&[], &emit(length), &whole);
    check(&[], &emit(length - 1), &|file| cut(file, length - 1));
    check(&[&long, &long, &long, &long, "x"], &emit(1024), &|file| cut(file, 1024));
    // By the number of its names.
    check(&deep[..58 - root.components().count()], &emit(512), &whole);
    check(&deep, &emit(512), &|_| format!("path=\"...{}/file\"...", "/d".repeat(63)));
    // Strings are compared with all of it.
    let begin = root.to_str().unwrap();
    let alike = format!("strncmp(path($file->f_path), {begin:?}, {}) == 0", begin.len());
    check(&[&long], &format!("if {alike} {{ emit s {{ ok: 1 }} }}"), &|_| "ok=1".to_owned());
}

/// Every program that the compiler's own data tests make passes this kernel's verifier, with the gate and without, in both scopes.
#[test]
fn specs_load() {
    let Some(_lock) = lock() else { return };
    let column = matrix::check(&kernel::running(), &specs::directory());
    assert_eq!(column.refusals, []);
    assert!(column.programs > 50, "{column}");
}
