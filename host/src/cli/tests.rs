//! Command lines in, options or errors out.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::CommandFactory as _;
use portcullis_ebpf::{DataClass, Needs, needs::DataNeed};

use super::*;
use crate::{
    grants::{self, Grants},
    manifest::Source,
};

fn parse_words(line: &str) -> Result<Command, String> {
    let words = std::iter::once("portcullis").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.to_string())
}

fn run(line: &str) -> Run {
    match parse_words(line) {
        Ok(Command::Run(run)) => run,
        other => panic!("{other:?}"),
    }
}

/// clap finds no contradiction in the definitions.
#[test]
fn definitions_are_sound() {
    Cli::command().debug_assert();
}

/// Every option of `run` arrives, and what follows `--` is the command alone.
#[test]
fn run_options() {
    assert_eq!(run("run b.toml"), Run { target: Target { path: "b.toml".into(), ..Default::default() }, ..Default::default() });
    assert_eq!(
        run(
            "run p.wasm --duration 1m30s --format json --no-gate --ready-fd 7 --report r.json --dry-run --system-wide -v --mechanism perf --sandbox required --uid root --cgroup a.service --config {} \
             --allow-probes span:* --allow-probes x:y --allow-read user-memory --allow-read arguments -- ls -l --format x"
        ),
        Run {
            target: Target {
                path: "p.wasm".into(),
                config: Some("{}".into()),
                allow_probes: vec!["span:*".into(), "x:y".into()],
                allow_read: vec![DataClass::UserMemory, DataClass::Arguments],
                ..Target::default()
            },
            duration: Some(Duration::from_secs(90)),
            format: Some(Format::Json),
            open: None,
            watch: false,
            ready_fd: Some(7),
            no_gate: true,
            report: Some("r.json".into()),
            dry_run: true,
            system_wide: true,
            scope: Scope { uid: Some("root".into()), cgroup: Some("a.service".into()), ..Scope::default() },
            mechanism: Mechanism::Perf,
            sandbox: Some(Layers::Required),
            locked: false,
            verbose: true,
            command: ["ls", "-l", "--format", "x"].map(OsString::from).into(),
        }
    );
}

/// What has a meaning with a gate alone contradicts its absence; each action of `gate` arrives.
#[test]
fn gate_options() {
    for line in
        ["run b.toml --no-gate --watch", "run b.toml --no-gate --open manual", "run b.toml --open tomorrow", "gate", "gate shut"]
    {
        assert!(parse_words(line).is_err(), "{line}");
    }
    let options = run("run b.toml --open 2s --watch");
    assert_eq!((options.open, options.watch), (Some(Open::After(Duration::from_secs(2))), true));
    let check = |line: &str, run: Option<&str>, action: Action| match parse_words(line) {
        Ok(Command::Gate(gate)) => assert_eq!(gate, Gate { action, run: run.map(Into::into) }, "{line}"),
        other => panic!("{line}: {other:?}"),
    };
    let one = |plugin: &str| One { plugin: Some(plugin.into()) };
    check("gate open", None, Action::Open(One::default()));
    check("gate pause --plugin a --run 12", Some("12"), Action::Pause(one("a")));
    check("gate --run b resume", Some("b"), Action::Resume(One::default()));
    check("gate close --plugin x", None, Action::Close(one("x")));
    check("gate replace a a.wasm", None, Action::Replace { plugin: "a".into(), file: "a.wasm".into() });
    check("gate join more.toml", None, Action::Join { bundle: "more.toml".into() });
}

/// Every option of `trace` arrives; what follows the program are its parameters.
#[test]
fn trace_options() {
    let trace = |line: &str| match parse_words(line) {
        Ok(Command::Trace(trace)) => trace,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        trace(
            "trace FILE 1 -f json --interval 1s --top 5 --clear --rate 9 --burst 3 --duration 2s --dry-run --listing --report r -v --system-wide x -- ls -l"
        ),
        Trace {
            words: ["FILE", "1", "x"].map(String::from).into(),
            format: Format::Json,
            interval: Some(Duration::from_secs(1)),
            rate: Some(9),
            burst: Some(3),
            top: Some(5),
            clear: true,
            duration: Some(Duration::from_secs(2)),
            dry_run: true,
            listing: true,
            report: Some("r".into()),
            verbose: true,
            system_wide: true,
            command: ["ls", "-l"].map(OsString::from).into(),
            ..Trace::default()
        }
    );
    let bpftrace = Trace {
        program: Some("x{}".into()),
        scope: Scope { pid: Some(7), ..Scope::default() },
        words: vec!["a".into()],
        ..Trace::default()
    };
    assert_eq!(trace("trace -p 7 -e x{} a"), bpftrace);
    assert_eq!(trace("trace -c true FILE").command_line.as_deref(), Some("true"));
}

/// The other subcommands.
#[test]
fn subcommands() {
    for (line, expect) in [
        (
            "check b --listing",
            "Check(Check { target: Target { path: \"b\", config: None, allow_probes: [], allow_read: [], grant: None, grant_all: false }, listing: true, locked: false })",
        ),
        (
            "inspect b --json",
            "Inspect(Inspect { target: Target { path: \"b\", config: None, allow_probes: [], allow_read: [], grant: None, grant_all: false }, json: true })",
        ),
        ("lock b.toml --approve", "Lock(Lock { bundle: \"b.toml\", approve: true })"),
        ("doctor --json", "Doctor(Doctor { json: true })"),
        ("probes tracepoint:block:* --json", "Probes(Probes { pattern: \"tracepoint:block:*\", json: true })"),
    ] {
        assert_eq!(format!("{:?}", parse_words(line).unwrap()), expect);
    }
}

/// Wrong command lines say what is wrong.
#[test]
fn wrong_usage() {
    for (line, expect) in [
        ("run", "the following required arguments were not provided:\n  <BUNDLE|PLUGIN.wasm>"),
        (
            "run b --duration 5",
            "invalid value '5' for '--duration <TIME>': `5` is no duration: `5` has no unit; did you mean `5s`?",
        ),
        ("run b --duration 0s", "invalid value '0s' for '--duration <TIME>': a run takes some time"),
        (
            "run b --fromat json",
            "unexpected argument '--fromat' found\n\n  tip: a similar argument exists: '--format'\n  \
             tip: to pass '--fromat' as a value, use '-- --fromat'",
        ),
        ("run b --format xml", "invalid value 'xml' for '--format <FORMAT>'\n  [possible values: table, json]"),
        (
            "run b --allow-read all",
            "invalid value 'all' for '--allow-read <CLASS>'\n  [possible values: arguments, user-memory, kernel-memory, stacks, process]",
        ),
        ("trace", "the following required arguments were not provided:\n  <PROGRAM|FILE>..."),
        ("trace f --burst 3", "the following required arguments were not provided:\n  --rate <N>"),
        ("trace f --rate 0", "invalid value '0' for '--rate <N>': 0 is not in 1..=1000000000"),
        ("trace f --clear", "the following required arguments were not provided:\n  --interval <TIME>"),
        ("trace f -p 1 -- x", "the argument '--pid <PID>' cannot be used with '[COMMAND]...'"),
        ("run b --system-wide", "the following required arguments were not provided:\n  <COMMAND>..."),
        ("inspct b", "unrecognized subcommand 'inspct'\n\n  tip: a similar subcommand exists: 'inspect'"),
    ] {
        let error = parse_words(line).unwrap_err();
        let error =
            error.strip_prefix("error: ").unwrap().split("\n\nUsage:").next().unwrap().split("\n\nFor more").next().unwrap();
        assert_eq!(error, expect, "for {line}");
    }
}

/// The help tells the exit codes and fits a terminal of 100 columns.
#[test]
fn help() {
    for line in ["--help", "run --help", "trace --help"] {
        let help = parse_words(line).unwrap_err();
        assert!(help.trim_end().ends_with(EXIT_CODES), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert!(!help.contains("worker"), "{help}");
    }
}

/// A file is a plugin by its name or by how it begins, and else a bundle; what the command line says wins over the bundle.
#[test]
fn targets() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("b.toml"), "schema = 1\n[stop]\nafter = \"9s\"\n[[plugin]]\nname = \"a\"\nsource = \"a.wasm\"\n").unwrap();
    std::fs::write(at("grants.toml"), "[plugin.grants]\nprobes = [\"begin*\"]\ndeny = { probes = [\"kprobe:*\"] }\n").unwrap();
    std::fs::write(at("component"), b"\0asm\x0d\0\x01\0").unwrap();
    std::fs::write(at("config.json"), "{\n \"a\": [1]}").unwrap();
    let load = |name: &str, more: &str| {
        let run = run(&format!("run {} {more}", at(name).display()));
        run.manifest().map_err(|error| (exit_of(&error), describe(&error).replace(&format!("{}/", dir.path().display()), "")))
    };

    let bundle = load("b.toml", "").unwrap();
    assert_eq!(
        (bundle.source, bundle.start.gate, bundle.stop.after),
        (Source::Bundle(at("b.toml")), true, Some(Duration::from_secs(9)))
    );
    let changed = load("b.toml", "--no-gate --duration 1s --format json").unwrap();
    assert_eq!((changed.start.gate, changed.stop.after, changed.format), (false, Some(Duration::from_secs(1)), Format::Json));

    let config = format!("--allow-probes * --allow-read arguments --config @{}", at("config.json").display());
    let plugin = load("component", &config).unwrap();
    assert_eq!(plugin.source, Source::Plugin(at("component")));
    assert_eq!(plugin.plugins[0].config, r#"{"a":[1]}"#);
    assert_eq!(plugin.plugins[0].grants.probes, ["*"]);
    assert!(plugin.plugins[0].grants.read.contains(&DataClass::Arguments));
    let all = load("component", "--grant-all").unwrap();
    assert_eq!(all.plugins[0].grants.read.len(), DataClass::ALL.len());
    assert_eq!(all.plugins[0].grants.probes, ["*"]);
    let file = format!("--grant {} --allow-probes end", at("grants.toml").display());
    let granted = load("component", &file).unwrap();
    assert_eq!(granted.plugins[0].grants.probes, ["begin*", "end"]);
    assert_eq!(granted.plugins[0].grants.deny.probes, ["kprobe:*"]);
    // A plugin that is not there is the worker's to miss: this names it all the same.
    assert_eq!(load("none.wasm", "").unwrap().name, "none");

    for (name, more, exit, expect) in [
        (
            "none.toml",
            "",
            Exit::Failed,
            "portcullis: error: can't read the bundle none.toml: No such file or directory (os error 2)",
        ),
        (
            "b.toml",
            "--config {}",
            Exit::Usage,
            "portcullis: error: --config is for a single plugin; a bundle says it in its manifest",
        ),
        (
            "b.toml",
            "--grant-all",
            Exit::Usage,
            "portcullis: error: --grant-all is for a single plugin; a bundle says it in its manifest",
        ),
        ("component", "--config 3", Exit::Usage, "portcullis: error: --config must be a JSON object, as in {\"key\": 1}"),
        (
            "component",
            "--config {",
            Exit::Usage,
            "portcullis: error: --config is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "component",
            "--config @none",
            Exit::Failed,
            "portcullis: error: can't read the configuration none: No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(load(name, more).unwrap_err(), (exit, expect.to_owned()));
    }
}

/// An error is told with its causes, none twice, and none that a terminal would obey.
#[test]
fn errors() {
    let chain = anyhow!("the cause").context("the effect: the cause").context("above \x1b[2J");
    assert_eq!(describe(&chain), "portcullis: error: above \\x1b[2J: the effect: the cause");
    let lines = anyhow!("no such field\n--> place\n").context("plugin \"p\"");
    assert_eq!(describe(&lines), "portcullis: error: plugin \"p\"\nno such field\n--> place");
}

/// The exit code is the error's, however deep it lies.
#[test]
fn exit_codes() {
    let needs = Needs {
        attach: vec![],
        data: vec![DataNeed { class: DataClass::Arguments, probe: Some("p".into()), text: "retval".into() }],
    };
    let one = grants::check("a", &needs, &Grants::none()).unwrap_err();
    let all = grants::check_all([("a", &needs, &Grants::none()), ("b", &needs, &Grants::none())]).unwrap_err();
    for (error, exit) in [
        (anyhow!(one).context("above"), Exit::Grants),
        (anyhow!(all), Exit::Grants),
        (anyhow!(UsageError("x".into())).context("above"), Exit::Usage),
        (Manifest::read(Path::new("/none")).context("above").unwrap_err(), Exit::Failed),
    ] {
        assert_eq!(exit_of(&error), exit);
    }
}
