//! What the end-to-end tests share: bundles and runs of the real binary, the checks that every run has to pass, and the lock that
//! keeps tests that count from each other.

// A test ends with a panic, and these are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod accounting;
pub mod cost;
pub mod disk;
pub mod elements;
pub mod foreign;
pub mod gate;
pub mod kernel;
pub mod machine;
pub mod matrix;
pub mod oracle;
pub mod repeat;
pub mod specs;
pub mod watch;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The directory in which cargo puts executables: the tests' own is one below.
fn target() -> PathBuf {
    let mut path = std::env::current_exe().expect("this process has an executable");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path
}

fn executable(name: &str, how: &str) -> PathBuf {
    let path = target().join(name);
    assert!(path.exists(), "{} is not there: {how}", path.display());
    path
}

/// The `portcullis` executable.
pub fn portcullis() -> PathBuf {
    executable("portcullis", "cargo build --release -p portcullis")
}

/// The program of `src/bin/workload.rs`.
pub fn workload() -> PathBuf {
    executable("workload", "cargo build --release -p portcullis-tests")
}

/// A component that `cargo xtask plugins` or `cargo xtask examples` built.
pub fn component(directory: &str, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(directory).join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is not there: cargo xtask {directory}", path.display());
    path
}

/// Tests that load programs run one at a time, whichever process they are in.
///
/// Without the privilege for it they are skipped, where a person runs them; in CI (`CI` in the environment) they fail.
pub struct Lock(#[allow(dead_code)] File);

/// Takes the lock; `None` where kernel tests can't run.
pub fn lock() -> Option<Lock> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "tests of the kernel need root");
        eprintln!("skipped: tests of the kernel need root");
        return None;
    }
    let file = File::create(std::env::temp_dir().join("portcullis-tests.lock")).expect("the lock file can be made");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("the lock can be taken");
    Some(Lock(file))
}

/// The programs of ours that are in the kernel now. They may outlive their process by a moment.
pub fn programs() -> Vec<String> {
    let loaded = aya::programs::loaded_programs().filter_map(Result::ok);
    loaded.filter_map(|p| p.name_as_str().map(str::to_owned)).filter(|name| name.starts_with("pc_")).collect()
}

/// Waits until nothing of ours is in the kernel.
pub fn assert_no_programs() {
    let end = Instant::now() + Duration::from_secs(10);
    while !programs().is_empty() {
        assert!(Instant::now() < end, "programs are left: {:?}", programs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes whose parent was `parent`, or is, by their status files.
pub fn children(parent: u32) -> Vec<u32> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc can be read").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == format!("PPid:\t{parent}")) {
            out.push(pid);
        }
    }
    out
}

/// A bundle in a directory of its own, and what is written there.
pub struct Bundle {
    /// The directory.
    pub directory: tempfile::TempDir,
    path: PathBuf,
}

impl Bundle {
    /// A bundle with the text of its manifest.
    pub fn new(manifest: &str) -> Bundle {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("bundle.toml");
        fs::write(&path, manifest).expect("the manifest can be written");
        Bundle { directory, path }
    }

    /// Adds a file.
    pub fn file(self, name: &str, bytes: &[u8]) -> Bundle {
        fs::write(self.directory.path().join(name), bytes).expect("the file can be written");
        self
    }

    /// A `portcullis` subcommand on it.
    pub fn command(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(portcullis());
        command.arg(subcommand).arg(&self.path).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts `run` with a report.
    pub fn start(&self, arguments: &[&str]) -> Started {
        let report = self.directory.path().join("report.json");
        let mut all = vec!["--format", "json", "--report", report.to_str().expect("the path is text")];
        all.extend(arguments);
        let child = self.command("run", &all).spawn().expect("portcullis can be started");
        Started { child, report, _directory: None }
    }

    /// `run` to its end, with all checks.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments).finish()
    }
}

/// A run that goes on.
pub struct Started {
    /// The host's process.
    pub child: Child,
    report: PathBuf,
    /// Where the report is, if nobody else keeps it.
    _directory: Option<tempfile::TempDir>,
}

/// Starts `trace` with a report.
pub fn trace(arguments: &[&str], stdin: Stdio) -> Started {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let report = directory.path().join("report.json");
    let mut command = Command::new(portcullis());
    command.arg("trace").arg("--report").arg(&report).args(arguments);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("portcullis can be started");
    Started { child, report, _directory: Some(directory) }
}

impl Started {
    /// The host's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the host a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the host is there");
    }

    /// Waits for its end and checks the report, if there is one.
    pub fn finish(self) -> Outcome {
        let output = self.child.wait_with_output().expect("portcullis can be waited for");
        let stdout = String::from_utf8(output.stdout).expect("rows are text");
        let stderr = String::from_utf8(output.stderr).expect("messages are text");
        let report = fs::read_to_string(&self.report).ok();
        let report = report.map(|text| serde_json::from_str::<Value>(&text).expect("the report is JSON"));
        let outcome = Outcome { code: output.status.code(), stdout, stderr, report };
        if outcome.report.is_some() {
            outcome.assert_equations();
        }
        outcome
    }
}

/// A run that ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code.
    pub code: Option<i32>,
    /// Rows.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
    /// The report.
    pub report: Option<Value>,
}

impl Outcome {
    /// That it went well, and the report.
    pub fn good(&self) -> &Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.report.as_ref().expect("there is a report")
    }

    /// The rows.
    pub fn rows(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// A plugin of the report.
    pub fn plugin(&self, name: &str) -> &Value {
        let report = self.report.as_ref().expect("there is a report");
        let plugins = report["plugins"].as_array().expect("plugins are a list");
        plugins.iter().find(|p| p["name"] == name).expect("the plugin is there")
    }

    /// A probe of a plugin.
    pub fn probe(&self, plugin: &str, probe: &str) -> &Value {
        let probes = self.plugin(plugin)["probes"].as_array().expect("probes are a list");
        probes.iter().find(|p| p["name"] == probe).expect("the probe is there")
    }

    /// The three equations of G6 and the order of times, from the report's own text: apart from the host's own check.
    pub fn assert_equations(&self) {
        let report = self.report.as_ref().expect("there is a report");
        let n = |value: &Value, key: &str| value[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {value}"));
        for plugin in report["plugins"].as_array().expect("plugins are a list") {
            for probe in plugin["probes"].as_array().expect("probes are a list") {
                let unpaired = probe["unpaired"].as_u64().unwrap_or(0);
                assert_eq!(
                    n(probe, "hits"),
                    unpaired + n(probe, "filtered") + n(probe, "shed") + n(probe, "completed"),
                    "{probe}"
                );
                let lost = probe["lost"].as_u64().unwrap_or(0);
                assert_eq!(n(probe, "entered"), n(probe, "matched") + n(probe, "in_flight") + lost, "{probe}");
                if let Some(entry) = probe.get("entry") {
                    assert_eq!(n(entry, "hits"), n(entry, "entered"), "{probe}");
                }
            }
            let mut emitted = 0;
            for stream in plugin["streams"].as_array().expect("streams are a list") {
                assert_eq!(n(stream, "attempted"), n(stream, "emitted") + n(stream, "ring_full"), "{stream}");
                emitted += n(stream, "emitted");
            }
            assert_eq!(n(plugin, "emitted"), emitted, "{plugin}");
            assert_eq!(emitted, n(plugin, "delivered") + n(plugin, "undelivered"), "{plugin}");
        }
        let gate = &report["gate"];
        let times: Vec<u64> = [&gate["open"], &gate["close"]]
            .iter()
            .filter_map(|interval| interval.as_array())
            .flatten()
            .chain([&gate["quiesced"]])
            .map(|t| t.as_u64().expect("times are numbers"))
            .collect();
        assert!(times.is_sorted(), "{gate}");
    }
}

/// A manifest's plugin that runs `adhoc` with probes of (name, attach, when, body).
pub fn adhoc(name: &str, ring: &str, probes: &[(&str, &str, Option<&str>, &str)]) -> String {
    let mut out = String::new();
    let source = component("plugins", "adhoc");
    out.push_str(&format!("[[plugin]]\nname = {name:?}\nsource = {:?}\n", source.to_str().expect("the path is text")));
    out.push_str("grants = { probes = [\"*\"], read = [\"arguments\", \"user-memory\", \"kernel-memory\", \"stacks\"] }\n");
    out.push_str(&format!("limits = {{ ring = {ring:?} }}\n"));
    for (name, attach, when, body) in probes {
        out.push_str(&format!("[[plugin.config.probes]]\nname = {name:?}\nattach = [{attach:?}]\n"));
        if let Some(when) = when {
            out.push_str(&format!("when = {when:?}\n"));
        }
        out.push_str(&format!("body = {body:?}\n"));
    }
    out
}

/// A manifest of plugins.
pub fn manifest(plugins: &[String]) -> String {
    format!("schema = 1\nname = \"test\"\n{}", plugins.join("\n"))
}

/// Writes to standard error what a person who reads the log wants to know.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
