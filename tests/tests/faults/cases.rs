//! Cases are data in `tests/faults/*.cases`: a manifest, and behind a line of dashes the exit code and all of standard error.
//! `UPDATE_EXPECT=1` writes what comes out now.

use std::{fs, path::Path, process::Command};

use portcullis_tests::{Bundle, Outcome, assert_no_programs, component, foreign, lock, portcullis, watch::Watched, workload};

use super::assert_neighbour;

const LINE: &str = "----\n";

const PART: &str = "====\n";

/// How often the workload calls getppid(2), where that is counted: some 300 ms, in which a plugin fails early.
const CALLS: u64 = 300_000;

/// Files of several kinds that are no plugins.
fn with_files(bundle: Bundle) -> Bundle {
    let core = foreign::wat(r#"(module (func (export "configure")))"#);
    let other = foreign::other_world();
    bundle
        .file("text.wasm", b"This is no plugin.\n")
        .file("empty.wasm", b"")
        .file("core.wasm", &core)
        .file("cut.wasm", &other[..other.len() / 2])
        .file("other-world.wasm", &other)
        .file("newer-world.wasm", &foreign::newer_world())
}

/// The directory in which `cargo xtask plugins` puts components.
fn plugins() -> String {
    let faulty = component("plugins", "faulty");
    faulty.parent().unwrap().to_str().unwrap().to_owned()
}

/// Runs each case of a file and holds what comes out against what is there.
fn check_file(name: &str, command: &[&str], check: impl Fn(&Outcome, &str)) {
    let Some(_lock) = lock() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults").join(name);
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut now = Vec::new();
    let mut wrong = Vec::new();
    for case in fs::read_to_string(&path).unwrap().split(PART) {
        let (input, expected) = case.split_once(LINE).unwrap();
        let outcome = run(input, command);
        // The report in words has times; it is tested elsewhere.
        let messages = outcome.1.stderr.split("\nThe run ended: ").next().unwrap();
        let messages = messages.replace(&outcome.0, "$DIR").replace(&plugins(), "$PLUGINS");
        let found = format!("exit {}\n{}\n", outcome.1.code.unwrap(), messages.trim_end());
        if !update && found != expected {
            wrong.push(format!("{input}{LINE}{found}"));
        }
        check(&outcome.1, input);
        now.push(format!("{input}{LINE}{found}"));
    }
    assert!(wrong.is_empty(), "not as in {name}:\n{}", wrong.join(PART));
    if update {
        fs::write(path, now.join(PART)).unwrap();
    }
    assert_no_programs();
}

/// One case, and the directory in which it ran. Its first lines may be a comment and `run ARGUMENTS`; the rest is the manifest.
fn run(input: &str, command: &[&str]) -> (String, Outcome) {
    let (words, manifest): (Vec<&str>, Vec<&str>) =
        input.lines().partition(|line| line.starts_with("run ") || line.starts_with('#'));
    // Comments stay lines, so that places in the manifest are those of the case.
    let text = manifest.join("\n").replace("$PLUGINS", &plugins());
    let bundle = with_files(Bundle::new(&format!("{text}\n")));
    let directory = bundle.directory.path().to_str().unwrap().to_owned();
    let arguments = words.iter().find_map(|line| line.strip_prefix("run "));
    let arguments = arguments.map(|line| line.replace("$PLUGINS", &plugins()));
    let arguments: Vec<&str> = match &arguments {
        Some(line) => line.split(' ').collect(),
        None => [&["--"], command].concat(),
    };
    let outcome = if let ["TARGET", target, rest @ ..] = arguments.as_slice() {
        let mut command = Command::new(portcullis());
        command.current_dir(&directory).arg("run").arg(target).args(rest);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), report: None }
    } else {
        let mut command = bundle.command("run", &["--format", "json"]);
        let report = bundle.directory.path().join("report.json");
        if !arguments.contains(&"--report") {
            command.arg("--report").arg(&report);
        }
        Watched::spawn(command.current_dir(&directory).args(&arguments), report).finish()
    };
    let ran = bundle.directory.path().join("RAN");
    assert!(!ran.exists(), "COMMAND ran:\n{input}");
    (directory, outcome)
}

/// What is wrong before the opening refuses the run: nothing was recorded, no report, no rows, and COMMAND never ran.
#[test]
fn refused() {
    check_file("refused.cases", &["touch", "RAN"], |outcome, input| {
        assert!(outcome.report.is_none(), "{input}");
        assert_eq!(outcome.stdout, "", "{input}");
        assert_eq!(outcome.stderr.matches("portcullis: error: ").count(), 1, "{}", outcome.stderr);
    });
}

/// Plugins that want to see more than they are granted, by whatever name, or that ask for what can't be: nothing is loaded.
#[test]
fn hostile() {
    check_file("hostile.cases", &["touch", "RAN"], |outcome, input| {
        assert!(outcome.report.is_none(), "{input}");
        assert_eq!(outcome.stdout, "", "{input}");
        assert!(outcome.stderr.lines().all(|line| !line.contains(char::is_control)), "{:?}", outcome.stderr);
    });
}

/// A plugin that fails while the gate is open ends alone: its neighbour's counts are exact, the run goes on to its end, and report
/// and exit code name the failure.
#[test]
fn failed() {
    let workload = workload();
    let calls = CALLS.to_string();
    check_file("failed.cases", &[workload.to_str().unwrap(), "getppid", &calls], |outcome, input| {
        assert_neighbour(outcome, "good", CALLS);
        let bad = outcome.plugin("bad");
        let cause = outcome.stderr.lines().next().unwrap().strip_prefix("portcullis: error: plugin \"bad\": ").unwrap();
        assert_eq!(bad["state"], format!("failed: {cause}"), "{input}");
        assert_eq!(outcome.code, Some(4), "{input}");
        let report = outcome.report.as_ref().unwrap();
        assert_eq!(report["command"]["status"], "exited with 0", "{input}");
        assert!(outcome.stderr.contains(&format!("plugin bad: FAILED: {cause}\n")), "{}", outcome.stderr);
        // When `start` or `tick` fails there may have been no event yet.
        let undelivered = bad["undelivered"].as_u64().unwrap();
        if input.contains(r#"at = "finish""#) {
            assert_eq!((&bad["delivered"], undelivered), (&CALLS.into(), 0), "{input}");
        } else if input.contains(r#"at = "handle""#) {
            assert!(undelivered > 0 && bad["delivered"] == 0 && undelivered < CALLS, "{input}{bad}");
        }
        assert_eq!(outcome.stderr.contains("that it had not taken when it failed"), undelivered > 0, "{}", outcome.stderr);
    });
}
