//! Who approves what a plugin needs: a person at a terminal, flags, a lock; and what `inspect` says for that.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use portcullis_tests::{Bundle, component, lock, manifest, note, portcullis, workload};
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    Command::new(portcullis()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn opens() -> String {
    component("plugins", "opens").to_str().unwrap().to_owned()
}

/// Runs the plugin `opens` at a terminal that types `answer`: what the terminal shows, and how it exits.
fn at_terminal(answer: &str) -> (String, Option<i32>) {
    let line = format!("{} run {} --duration 100ms", portcullis().display(), opens());
    let mut child =
        Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It stays open until the end: a terminal that is hung up ends what runs in it.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (text(&output.stdout), output.status.code())
}

/// At a terminal the needs of a plugin without a manifest are told in plain words with their risk: a yes runs it, all else does not.
#[test]
fn a_person_is_asked() {
    let Some(_lock) = lock() else { return };
    if Command::new("script").arg("--version").output().is_err() {
        note("skipped: there is no script(1), which makes terminals");
        return;
    }
    let (shown, code) = at_terminal("n\n");
    assert_eq!(code, Some(3), "{shown}");
    for expect in [
        "plugin \"opens\" has no manifest, and asks for this",
        "high    it reads the memory of traced processes",
        "low     it attaches to span:syscall:open",
        "needs more than it is granted",
    ] {
        assert!(shown.contains(expect), "{shown}");
    }
    let (shown, code) = at_terminal("y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("The run ended: its time was over"), "{shown}");
}

/// Scripts grant by flags or by a file; without either nobody is asked, and nothing runs.
#[test]
fn scripts_grant() {
    let Some(_lock) = lock() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grants.toml");
    let grant = file.to_str().unwrap();
    let check = |arguments: &[&str]| {
        let output = run(&[&["check", &opens()], arguments].concat());
        (output.status.code(), text(&output.stderr))
    };
    let (code, refused) = check(&[]);
    assert_eq!(code, Some(3));
    assert!(refused.contains("to grant this, add to the command line:\n\n    --allow-probes"), "{refused}");
    assert_eq!(check(&["--grant-all"]), (Some(0), String::new()));
    fs::write(&file, "[plugin.grants]\nprobes = [\"span:*\"]\nread = [\"arguments\", \"user-memory\"]\n").unwrap();
    assert_eq!(check(&["--grant", grant]), (Some(0), String::new()));
    fs::write(
        &file,
        "[plugin.grants]\nprobes = [\"*\"]\nread = [\"arguments\", \"user-memory\"]\ndeny.read = [\"user-memory\"]\n",
    )
    .unwrap();
    let (code, denied) = check(&["--grant", grant]);
    assert_eq!(code, Some(3));
    assert!(denied.contains(", which is denied\nwhat `grants.deny` names stays denied"), "{denied}");
    fs::write(&file, "[grants]\nprobes = [\"*\"]\n").unwrap();
    let (code, wrong) = check(&["--grant", grant]);
    assert_eq!(code, Some(1));
    assert!(wrong.contains("unknown key `grants`"), "{wrong}");
}

/// A manifest with one plugin that is granted everything.
fn bundle(name: &str, source: &str) -> Bundle {
    let grants = "grants = { probes = [\"*\"], read = [\"arguments\", \"user-memory\"] }";
    Bundle::new(&manifest(&[format!("[[plugin]]\nname = {name:?}\nsource = {source:?}\n{grants}\n")]))
}

/// A bundle runs locked as long as it is what was approved; what is another, or needs more, is refused by exactly what is new.
#[test]
fn locks() {
    let Some(_lock) = lock() else { return };
    let bundle = bundle("p", "plugin.wasm");
    let source = bundle.directory.path().join("plugin.wasm");
    let locked = bundle.directory.path().join("bundle.lock");
    let use_component = |path: &Path| assert!(fs::copy(path, &source).unwrap() > 0);
    let lock = |arguments: &[&str]| {
        let output = bundle.command("lock", arguments).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let run = |expect: Option<&str>| {
        let ran = bundle.directory.path().join("ran");
        let outcome = bundle.run(&["--locked", "--", "touch", ran.to_str().unwrap()]);
        assert_eq!(fs::remove_file(&ran).is_ok(), expect.is_none(), "{}", outcome.stderr);
        match expect {
            None => assert_eq!(outcome.code, Some(0), "{}", outcome.stderr),
            Some(expect) => assert!(outcome.stderr.contains(expect), "{}", outcome.stderr),
        }
        outcome.code
    };
    use_component(&component("plugins", "faulty"));
    assert_eq!(run(Some("there is no lock ")), Some(1));
    let (code, said, _) = lock(&[]);
    assert_eq!(code, Some(0));
    assert!(said.starts_with("Approved:\n  plugin \"p\"\n    it attaches to tracepoint:syscalls:sys_enter_getppid\n"), "{said}");
    run(None);
    let (_, said, _) = lock(&[]);
    assert!(said.ends_with("is up to date.\n"), "{said}");

    // Another component that needs more.
    use_component(&component("plugins", "opens"));
    let code = run(Some("\n    it reads the memory of traced processes\n`portcullis lock` shows what is new, and approves it"));
    assert_eq!(code, Some(3));
    let before = fs::read(&locked).unwrap();
    let (code, said, error) = lock(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("    it attaches to span:syscall:open") && error.contains("`--approve` approves it"), "{said}{error}");
    assert_eq!(fs::read(&locked).unwrap(), before);
    let (code, ..) = lock(&["--approve"]);
    assert_eq!(code, Some(0));
    run(None);

    // Less is nothing to approve, but another content is.
    use_component(&component("plugins", "faulty"));
    assert_eq!(run(Some("plugin \"p\" is another: sha256:")), Some(3));
    use_component(&component("plugins", "opens"));
    fs::write(&locked, "schema = 1\nwhat = 2\n").unwrap();
    assert_eq!(run(Some("is no lock of this portcullis: ")), Some(1));
}

/// A plugin that is to join a run that is locked must be approved, too.
#[test]
fn who_joins_is_approved() {
    let Some(_lock) = lock() else { return };
    let one = bundle("p", component("plugins", "faulty").to_str().unwrap());
    assert!(one.command("lock", &[]).status().unwrap().success());
    let other = bundle("q", component("plugins", "opens").to_str().unwrap());
    let program = workload();
    let started = one.start(&["--locked", "--", program.to_str().unwrap(), "idle", "3", "1"]);
    let pid = started.pid().to_string();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    let joined = loop {
        let joined = run(&["gate", "join", other.directory.path().join("bundle.toml").to_str().unwrap(), "--run", &pid]);
        let said = text(&joined.stderr);
        if said.contains("approved") || std::time::Instant::now() > end {
            break said;
        }
    };
    assert!(joined.contains("plugin \"q\" is new: sha256:"), "{joined}");
    assert_eq!(started.finish().good()["plugins"].as_array().unwrap().len(), 1);
}

/// `inspect` says what a component is, asks for and shows, and what it may use: for programs and for people.
#[test]
fn inspected() {
    let Some(_lock) = lock() else { return };
    let output = run(&["inspect", &opens(), "--json", "--allow-probes", "span:*"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let plugin = &all["plugins"][0];
    let file = fs::read(opens()).unwrap();
    assert_eq!(plugin["size"], file.len());
    let sum = Command::new("sha256sum").arg(opens()).output().unwrap();
    assert_eq!(plugin["digest"], format!("sha256:{}", text(&sum.stdout).split(' ').next().unwrap()));
    assert_eq!(plugin["wit"], "0.1.0");
    let has = |key: &str, value: &str| plugin[key].as_array().unwrap().iter().any(|name| name == value);
    assert!(has("imports", "portcullis:plugin/output@0.1.0") && has("exports", "configure"), "{plugin:#}");
    assert_eq!(plugin["granted"], false);
    assert_eq!(plugin["grants"], serde_json::json!(["probes = [\"span:*\"]"]));
    assert_eq!(plugin["limits"]["ring"], 8 << 20);
    assert_eq!(plugin["tables"][0]["name"], "opens");
    assert!(plugin["read"].as_array().unwrap().iter().any(|read| read["class"] == "user-memory" && read["risk"] == "high"));

    let output = text(&run(&["inspect", &opens()]).stdout);
    for expect in [
        "is sha256:",
        "is made for portcullis:plugin 0.1.0",
        "imports ",
        "[high]",
        "shows a table opens: ",
        "    memory 64MiB, table-elements 1000000, stack 512KiB, call 1s, host-calls 60s\n",
        "is granted nothing",
        "to grant this, add to the command line:",
    ] {
        assert!(output.contains(expect), "{expect}: {output}");
    }
    // A process that a grant names need not be there.
    let gone = bundle("p", &opens());
    let path = gone.directory.path().join("bundle.toml");
    let text_of = fs::read_to_string(&path).unwrap().replace("grants = { ", "grants = { scope = { pid = 4194303 }, ");
    fs::write(&path, text_of).unwrap();
    let output = gone.command("inspect", &[]).output().unwrap();
    assert!(text(&output.stdout).contains("scope = { pid = 4194303 }"), "{}", text(&output.stderr));
}

/// A bundle that grants more than its lock approved is refused before a worker has a door open, by exactly what is new; and `inspect` and
/// `lock` say what open doors let a plugin do, and open none.
#[test]
fn doors_are_approved() {
    let Some(_lock) = lock() else { return };
    let source = component("plugins", "faulty");
    let text_of = |grants: &str| {
        let grants = format!("[plugin.grants]\nprobes = [\"*\"]\n{grants}\n");
        let config = "config = { tries = [\"env PATH\", \"read /data/file\"] }";
        manifest(&[format!("[[plugin]]\nname = \"p\"\nsource = {:?}\n{config}\n{grants}", source.to_str().unwrap())])
    };
    let bundle = Bundle::new(&text_of("wasi = { directories = [{ path = \"data\", as = \"/data\" }] }"));
    let (path, data) = (bundle.directory.path().join("bundle.toml"), bundle.directory.path().join("data"));
    let at_once = ["--locked", "--", "true"];
    // A directory that is not there ends it before anything is loaded, but is no matter to those who only look.
    let output = bundle.command("lock", &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("    it may read what is in the directory data (as /data)\n"),
        "{}",
        text(&output.stdout)
    );
    let outcome = bundle.run(&at_once);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("plugin \"p\": `grants.wasi.directories`: can't open "), "{}", outcome.stderr);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "contents").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(bundle.directory.path(), open(0o755)).unwrap();
    let outcome = bundle.run(&at_once);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for expect in ["env PATH: ok is not set", "read /data/file: ok contents", "it may read what is in the directory data"] {
        assert!(said.contains(expect), "{said}");
    }

    fs::write(&path, text_of("wasi = { environment = [\"PATH\"], directories = [{ path = \"data\", as = \"/data\" }] }"))
        .unwrap();
    let outcome = bundle.run(&at_once);
    assert_eq!(outcome.code, Some(3));
    let new = "  plugin \"p\" is granted more than was approved\n    it may read the variable PATH of the host's environment\n`portcullis lock`";
    assert!(outcome.stderr.contains(new), "{}", outcome.stderr);
    assert!(!format!("{}{}", outcome.stdout, outcome.stderr).contains("env PATH: ok"), "{}", outcome.stdout);
    let inspected = bundle.command("inspect", &[]).output().unwrap();
    let inspected = format!("{}{}", text(&inspected.stdout), text(&inspected.stderr));
    for expect in [
        "may read the variable PATH of the host's environment [medium]",
        "may read what is in the directory data (as /data) [high]",
        "env PATH: ok is not set",
        "read /data/file: NotFound",
    ] {
        assert!(inspected.contains(expect), "{expect}: {inspected}");
    }
    let output = bundle.command("lock", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let output = bundle.command("lock", &["--approve"]).output().unwrap();
    assert!(output.status.success() && !text(&output.stdout).contains("the directory data"), "{}", text(&output.stdout));
    assert_eq!(bundle.run(&at_once).code, Some(0));
}
