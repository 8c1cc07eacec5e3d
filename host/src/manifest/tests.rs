//! Manifest in, bundle or error text out.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use portcullis_ebpf::Rate;

use crate::{
    cage::User,
    doors::{Directory, Door, Doors},
    grants::{Deny, GrantedBy},
    scope::Granted,
};

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text, Path::new("dir/bundle.toml")).map_err(|error| error.to_string())
}

const HEAD: &str = "schema = 1\n[[plugin]]\nname = \"a\"\nsource = \"a.wasm\"\n";

/// The error text of the least manifest with `more` added.
#[track_caller]
fn wrong(more: &str, expect: &str) {
    wrong_whole(&format!("{HEAD}{more}"), expect);
}

#[track_caller]
fn wrong_whole(text: &str, expect: &str) {
    assert_eq!(parse(text).unwrap_err(), expect.trim_start_matches('\n'));
}

const WHOLE: &str = r#"
schema = 1
name = "slow-io"
sandbox = { layers = "required", uid = 4242, gid = 17 }
[start]
gate = true
open = { after = "2s" }
settle = "20ms"
[stop]
after = "30s"
drain = "2s"
[output]
format = "json"
[[plugin]]
name = "opensnoop"
source = "plugins/opensnoop.wasm"
essential = true
restart = { times = 3, backoff = "100ms" }
config = { min-latency = "1ms", list = [1, 2.5, true, { at = 2027-01-01 }], big = 0x7fff_ffff_ffff_ffff }
[plugin.grants]
scope = { uid = 1000, cgroup = "a.service" }
maps = "64MiB"
deny = { probes = ["kprobe:*"], read = ["stacks"], wasi = ["network"] }
wasi = { environment = ["LANG"], network = ["[::1]:9090"], directories = [{ path = "out", as = "/out", write = true }, { path = "/etc" }] }
probes = ["span:syscall:open*"]
read = ["user-memory", "arguments"]
[plugin.limits]
memory = "32MiB"
table-elements = 1000
stack = "1MiB"
call = "100ms"
ring = "1MiB"
maps = "16MiB"
attach-points = 5000
probes = 20
instructions = 5000
output-rows = 100
output-bytes = "1MiB"
log-messages = 10
host-calls = "5s"
rate = 10_000
burst = 500
[[plugin]]
name = "second"
source = "/abs/second.wasm"
"#;

/// A plugin is started again so often, each time after twice the time.
#[test]
fn restarts() {
    let plugin = parse(WHOLE).unwrap().plugins[0].clone();
    let tries = std::iter::successors(Some((Duration::ZERO, plugin)), |(_, plugin)| plugin.again());
    let waits: Vec<u128> = tries.skip(1).map(|(after, _)| after.as_millis()).collect();
    assert_eq!(waits, [100, 200, 400]);
    wrong(
        "restart = { backoff = \"2h\" }",
        "
`plugin.restart` does not say how often
 --> dir/bundle.toml, line 5, column 11
  |
5 | restart = { backoff = \"2h\" }
  |           ^^^^^^^^^^^^^^^^^^
  = help: write `restart = { times = 3, backoff = \"1s\" }`

`plugin.restart.backoff` must be at most 1h
 --> dir/bundle.toml, line 5, column 23
  |
5 | restart = { backoff = \"2h\" }
  |                       ^^^^",
    );
}

/// A manifest that is cut anywhere, or has a wrong character anywhere, is read or refused and nothing else.
#[test]
fn damaged_manifests() {
    for at in 0..WHOLE.len() {
        let _ = parse(&WHOLE[..at]);
        for wrong in ["", "\"", "[", "]", "=", "\n", "'", "9", "\0", "\u{202e}", "漢"] {
            let _ = parse(&format!("{}{wrong}{}", &WHOLE[..at], &WHOLE[at + 1..]));
        }
    }
    assert!(parse(&format!("{HEAD}config = {}", "[".repeat(100_000))).is_err());
}

/// What the reference shows is read: manifests, and parts of them below `[plugin.grants]`.
#[test]
fn the_reference() {
    let text = include_str!("../../../docs/bundle.md");
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let (mut manifests, mut parts, mut locks) = (0, 0, 0);
    for block in blocks {
        let path = Path::new("dir/bundle.toml");
        if block.contains("digest = ") {
            crate::lock::Lock::parse(block).unwrap();
            locks += 1;
        } else if block.starts_with("[plugin.grants") {
            reader::read_grants(block, path).unwrap();
            parts += 1;
        } else {
            Manifest::parse(block, path).unwrap();
            manifests += 1;
        }
    }
    assert!(manifests > 0 && parts > 1 && locks > 0, "{manifests}, {parts}, {locks}");
}

/// Every key there is, read.
#[test]
fn a_whole_manifest() {
    let manifest = parse(WHOLE).unwrap();
    let sandbox = Sandbox { layers: Layers::Required, user: Some(User { uid: 4242, gid: 17 }) };
    let read = |classes: &[portcullis_ebpf::DataClass]| classes.iter().copied().collect();
    use portcullis_ebpf::DataClass::{Arguments, Stacks, UserMemory};
    assert_eq!(
        manifest,
        Manifest {
            source: Source::Bundle("dir/bundle.toml".into()),
            name: "slow-io".into(),
            start: Start { gate: true, open: Open::After(Duration::from_secs(2)), settle: Duration::from_millis(20) },
            stop: Stop { after: Some(Duration::from_secs(30)), drain: Duration::from_secs(2) },
            format: Format::Json,
            sandbox,
            plugins: vec![
                Plugin {
                    name: "opensnoop".into(),
                    source: "dir/plugins/opensnoop.wasm".into(),
                    shipped: None,
                    config: r#"{"big":9223372036854775807,"list":[1,2.5,true,{"at":"2027-01-01"}],"min-latency":"1ms"}"#.into(),
                    grants: Grants {
                        probes: vec!["span:syscall:open*".into()],
                        read: read(&[Arguments, UserMemory]),
                        deny: Deny { probes: vec!["kprobe:*".into()], read: read(&[Stacks]), wasi: [Door::Network].into() },
                        maps: Some(64 << 20),
                        scope: Granted { uid: Some("1000".into()), cgroup: Some("a.service".into()), pid: None },
                        wasi: Doors {
                            environment: ["LANG".to_owned()].into(),
                            network: ["[::1]:9090".parse().unwrap()].into(),
                            directories: vec![
                                Directory { written: "out".into(), path: "dir/out".into(), name: "/out".into(), write: true },
                                Directory { written: "/etc".into(), path: "/etc".into(), name: "/etc".into(), write: false },
                            ],
                        },
                        by: GrantedBy::Manifest
                    },
                    limits: Limits {
                        memory: 32 << 20,
                        table_elements: 1000,
                        stack: 1 << 20,
                        call: 100_000_000,
                        ring: 1 << 20,
                        maps: 16 << 20,
                        attach_points: 5000,
                        probes: 20,
                        instructions: 5000,
                        output_rows: 100,
                        output_bytes: 1 << 20,
                        log_messages: 10,
                        host_calls: 5_000_000_000,
                        rate: Some(Rate { a_second: 10_000, burst: 500 }),
                    },
                    essential: true,
                    restart: Some(Restart { times: 3, backoff: Duration::from_millis(100) }),
                    sandbox,
                },
                Plugin {
                    name: "second".into(),
                    source: "/abs/second.wasm".into(),
                    shipped: None,
                    config: "{}".into(),
                    grants: Grants::none(),
                    limits: Limits::default(),
                    essential: false,
                    restart: None,
                    sandbox,
                },
            ],
        }
    );
}

/// When the gate opens, in each of its forms, in a manifest and on the command line.
#[test]
fn openings() {
    let check = |toml: &str, word: &str, expect: Open| {
        assert_eq!(
            parse(&HEAD.replacen("[[plugin]]", &format!("[start]\nopen = {toml}\n[[plugin]]"), 1)).unwrap().start.open,
            expect
        );
        assert_eq!(word.parse(), Ok(expect), "{word}");
    };
    check("\"attached\"", "attached", Open::Attached);
    check("\"manual\"", "manual", Open::Manual);
    check("{ after = \"1m30s\" }", "1m30s", Open::After(Duration::from_secs(90)));
    let moment = Open::At(Moment(1_798_761_600_000_000_000));
    check("{ at = 2027-01-01T00:00:00Z }", "2027-01-01T00:00:00Z", moment);
    check("{ at = 2027-01-01T02:00:00+02:00 }", "2027-01-01T02:00:00+02:00", moment);
    let wrong = |word: &str, expect: &str| assert_eq!(word.parse::<Open>().unwrap_err(), expect);
    wrong("2027-13-01T00:00:00Z", "this is no moment; write it as 2027-01-01T00:00:00Z");
    wrong("2027-01-01", "it takes a date and a time of day");
    let help = "write `attached`, `manual`, a time as in `2s`, or a moment as in `2027-01-01T00:00:00Z`";
    wrong("never", &format!("`never` is no duration: `never` does not begin with a number; {help}"));
}

/// What is asked of cages, in each of its forms; the command line has the last word on the layers and none on the user.
#[test]
fn sandboxes() {
    let check = |toml: &str, expect: Sandbox| {
        let manifest = parse(&HEAD.replacen("[[plugin]]", &format!("sandbox = {toml}\n[[plugin]]"), 1)).unwrap();
        assert_eq!((manifest.sandbox, manifest.plugins[0].sandbox), (expect, expect), "{toml}");
    };
    let (available, required) = (Layers::Available, Layers::Required);
    check("\"available\"", Sandbox { layers: available, user: None });
    check("\"required\"", Sandbox { layers: required, user: None });
    check("{}", Sandbox::default());
    check("{ layers = \"required\" }", Sandbox { layers: required, user: None });
    let user = |uid, gid| Some(User { uid, gid });
    check("{ uid = 4242 }", Sandbox { layers: available, user: user(4242, 4242) });
    check("{ uid = 4242, gid = 17, layers = \"required\" }", Sandbox { layers: required, user: user(4242, 17) });
    let mut manifest = parse(&HEAD.replacen("[[plugin]]", "sandbox = { uid = 4242 }\n[[plugin]]", 1)).unwrap();
    manifest.require(required);
    let expect = Sandbox { layers: required, user: user(4242, 4242) };
    assert_eq!((manifest.sandbox, manifest.plugins[0].sandbox), (expect, expect));
}

/// What can't be asked of cages is told where it stands.
#[test]
fn wrong_sandboxes() {
    let check = |toml: &str, expect: &[(&str, usize, Option<&str>)]| {
        let text = HEAD.replacen("[[plugin]]", &format!("sandbox = {toml}\n[[plugin]]"), 1);
        let line = text.lines().position(|line| line.starts_with("sandbox")).unwrap() + 1;
        let Err(ManifestError::Wrong { problems, .. }) = Manifest::parse(&text, Path::new("bundle.toml")) else {
            panic!("{toml}")
        };
        let found: Vec<_> = problems.iter().map(|found| (found.message.as_str(), found.column, found.help.as_deref())).collect();
        assert_eq!(found, expect, "{toml}");
        assert!(problems.iter().all(|problem| problem.line == line), "{toml}");
    };
    let there_are = "there are `available` and `required`";
    check("\"requird\"", &[("`sandbox` can't be `requird`", 11, Some("did you mean `required`?"))]);
    check("\"off\"", &[("`sandbox` can't be `off`", 11, Some(there_are))]);
    check("true", &[("`sandbox` must be a string or a table, and this is a boolean", 11, None)]);
    check("{ layers = \"none\" }", &[("`sandbox.layers` can't be `none`", 22, Some(there_are))]);
    let own = "leave it out, and each worker gets one of its own";
    check("{ uid = 0 }", &[("`sandbox.uid` is 0, that is root", 19, Some(own))]);
    check("{ uid = 1, gid = 0 }", &[("`sandbox.gid` is 0, that is root", 28, Some(own))]);
    check("{ uid = 4294967295 }", &[("`sandbox.uid` must be between 1 and 4294967294", 19, None)]);
    let both = "write `uid` as well; without it each worker gets a user and a group of its own";
    check("{ gid = 5 }", &[("`sandbox.gid` is the group of `sandbox.uid`, which is not there", 19, Some(both))]);
    check("{ user = 5 }", &[("unknown key `sandbox.user`", 13, Some("there are `layers`, `uid` and `gid`"))]);
}

/// What a manifest does not say has the documented value.
#[test]
fn defaults() {
    let manifest = parse(HEAD).unwrap();
    assert_eq!(manifest.name, "bundle");
    assert_eq!(manifest.start, Start { gate: true, open: Open::Attached, settle: DEFAULT_SETTLE });
    assert_eq!(manifest.stop, Stop { after: None, drain: Duration::from_secs(5) });
    assert_eq!(manifest.format, Format::Table);
    assert_eq!(parse(&format!("{HEAD}[stop]\nafter = \"never\"")).unwrap().stop.after, None);
}

/// A plugin alone is a bundle of one that grants nothing of itself.
#[test]
fn a_single_plugin() {
    let grants = Grants { by: GrantedBy::CommandLine, ..Grants::none() };
    let manifest = Manifest::single(Path::new("some/my plugin.wasm"), "{}".into(), grants.clone());
    assert_eq!(manifest.name, "my-plugin");
    assert_eq!(manifest.source, Source::Plugin("some/my plugin.wasm".into()));
    assert_eq!(manifest.plugins[0].grants, grants);
    assert_eq!(manifest.plugins[0].source, Path::new("some/my plugin.wasm"));
}

/// Unknown keys are refused, at each level, with what was meant or what there is.
#[test]
fn unknown_keys() {
    wrong(
        "sorce = \"b\"\n[plugin.grants]\nscopes = 1\n",
        "
unknown key `plugin.sorce`
 --> dir/bundle.toml, line 5, column 1
  |
5 | sorce = \"b\"
  | ^^^^^
  = help: did you mean `source`?

unknown key `plugin.grants.scopes`
 --> dir/bundle.toml, line 7, column 1
  |
7 | scopes = 1
  | ^^^^^^
  = help: did you mean `scope`?",
    );
    wrong_whole(
        "schema = 1\nplugins = []\n",
        "
the bundle has no plugin
 --> dir/bundle.toml, line 1, column 1
  |
1 | schema = 1
  | ^
  = help: add a `[[plugin]]` with `name` and `source`

unknown key `plugins`
 --> dir/bundle.toml, line 2, column 1
  |
2 | plugins = []
  | ^^^^^^^
  = help: did you mean `plugin`?",
    );
    wrong(
        "[output]\nfmt = 1",
        "
unknown key `output.fmt`
 --> dir/bundle.toml, line 6, column 1
  |
6 | fmt = 1
  | ^^^
  = help: there is `format`",
    );
}

/// A value of another type is refused with both types.
#[test]
fn wrong_types() {
    wrong(
        "[start]\ngate = \"yes\"",
        "
`start.gate` must be `true` or `false`, and this is a string
 --> dir/bundle.toml, line 6, column 8
  |
6 | gate = \"yes\"
  |        ^^^^^",
    );
    wrong(
        "config = 3",
        "
`plugin.config` must be a table, and this is an integer
 --> dir/bundle.toml, line 5, column 10
  |
5 | config = 3
  |          ^",
    );
    wrong(
        "grants = { probes = \"*\", read = [1] }",
        "
`plugin.grants.probes` must be a list of strings, and this is a string
 --> dir/bundle.toml, line 5, column 21
  |
5 | grants = { probes = \"*\", read = [1] }
  |                     ^^^

`plugin.grants.read` must be a list of strings, and this is an integer
 --> dir/bundle.toml, line 5, column 34
  |
5 | grants = { probes = \"*\", read = [1] }
  |                                  ^",
    );
    wrong_whole(
        "schema = 1\n[plugin]\nname = \"a\"",
        "
`plugin` must be an array of tables
 --> dir/bundle.toml, line 2, column 1
  |
2 | [plugin]
  | ^^^^^^^^
  = help: every plugin begins with `[[plugin]]`, in two pairs of brackets",
    );
}

/// Values that can't be meant are refused with what can.
#[test]
fn impossible_values() {
    wrong(
        "[start]\nopen = \"tomorrow\"\nsettle = \"1h\"",
        "
`start.open` can't be `tomorrow`
 --> dir/bundle.toml, line 6, column 8
  |
6 | open = \"tomorrow\"
  |        ^^^^^^^^^^
  = help: the values are \"attached\", \"manual\", { after = \"2s\" } and { at = 2027-01-01T00:00:00Z }

`start.settle` must be at most 1m
 --> dir/bundle.toml, line 7, column 10
  |
7 | settle = \"1h\"
  |          ^^^^
  = help: `start.open = { after = \"...\" }` waits longer",
    );
    wrong(
        "[start]\nopen = { at = 2027-01-01T00:00:00 }\ngate = false",
        "
`start.open.at` is no moment: it has no offset from UTC, so that it is another moment on each machine; end it with `Z`
 --> dir/bundle.toml, line 6, column 15
  |
6 | open = { at = 2027-01-01T00:00:00 }
  |               ^^^^^^^^^^^^^^^^^^^",
    );
    wrong(
        "[start]\nopen = \"manual\"\ngate = false",
        "
`start.open` says when the gate opens, and there is none
 --> dir/bundle.toml, line 6, column 8
  |
6 | open = \"manual\"
  |        ^^^^^^^^
  = help: without a gate each probe records from when it is attached; leave `gate = false` out",
    );
    wrong(
        "[stop]\nafter = \"0s\"\ndrain = \"5\"",
        "
`stop.after` is no time at all
 --> dir/bundle.toml, line 6, column 9
  |
6 | after = \"0s\"
  |         ^^^^
  = help: write \"never\" for a run without an end

`stop.drain`: `5` is no duration: `5` has no unit; did you mean `5s`?
 --> dir/bundle.toml, line 7, column 9
  |
7 | drain = \"5\"
  |         ^^^",
    );
    wrong(
        "[output]\nformat = \"jsn\"",
        "
`output.format` can't be `jsn`
 --> dir/bundle.toml, line 6, column 10
  |
6 | format = \"jsn\"
  |          ^^^^^
  = help: did you mean `json`?",
    );
    wrong(
        "[plugin.grants]\nprobes = [\"openat\"]\nread = [\"argumnets\", \"identity\"]",
        "
`plugin.grants.probes`: `openat` fits no attach point
 --> dir/bundle.toml, line 6, column 11
  |
6 | probes = [\"openat\"]
  |           ^^^^^^^^
  = help: attach points are KIND:TARGET, as `span:syscall:openat` or `tracepoint:sched:*`; `*` is all

`plugin.grants.read`: there is no class `argumnets`
 --> dir/bundle.toml, line 7, column 9
  |
7 | read = [\"argumnets\", \"identity\"]
  |         ^^^^^^^^^^^
  = help: did you mean `arguments`?

`plugin.grants.read`: there is no class `identity`
 --> dir/bundle.toml, line 7, column 22
  |
7 | read = [\"argumnets\", \"identity\"]
  |                      ^^^^^^^^^^
  = help: pid, tid, uid, comm, cpu and times need no grant",
    );
    wrong(
        "[plugin.grants.deny]\nprobes = [\"openat\"]\nread = [\"identity\"]",
        "
`plugin.grants.deny.probes`: `openat` fits no attach point
 --> dir/bundle.toml, line 6, column 11
  |
6 | probes = [\"openat\"]
  |           ^^^^^^^^
  = help: attach points are KIND:TARGET, as `span:syscall:openat` or `tracepoint:sched:*`; `*` is all

`plugin.grants.deny.read`: there is no class `identity`
 --> dir/bundle.toml, line 7, column 9
  |
7 | read = [\"identity\"]
  |         ^^^^^^^^^^
  = help: pid, tid, uid, comm, cpu and times can't be denied",
    );
    wrong(
        "[plugin.grants.wasi]\nenviroment = []\nenvironment = [\"A=B\"]\nnetwork = [\"localhost:80\"]\ndirectories = [{ as = \"/a\" }, { path = \"a\" }, { path = \"b\", as = \"a\" }]\n[plugin.grants.deny]\nwasi = [\"net\"]",
        "
unknown key `plugin.grants.wasi.enviroment`
 --> dir/bundle.toml, line 6, column 1
  |
6 | enviroment = []
  | ^^^^^^^^^^
  = help: did you mean `environment`?

`plugin.grants.wasi.environment`: `A=B` is no variable
 --> dir/bundle.toml, line 7, column 16
  |
7 | environment = [\"A=B\"]
  |                ^^^^^
  = help: write the names of variables one by one, as in [\"LANG\", \"TZ\"]; there are no wildcards

`plugin.grants.wasi.network`: `localhost:80`: a name is not an address: who has it is the word of others, and plugins look up no names; write its address
 --> dir/bundle.toml, line 8, column 12
  |
8 | network = [\"localhost:80\"]
  |            ^^^^^^^^^^^^^^

this directory has no `path`
 --> dir/bundle.toml, line 9, column 16
  |
9 | directories = [{ as = \"/a\" }, { path = \"a\" }, { path = \"b\", as = \"a\" }]
  |                ^^^^^^^^^^^^^

the plugin would know two directories as `a`
 --> dir/bundle.toml, line 9, column 47
  |
9 | directories = [{ as = \"/a\" }, { path = \"a\" }, { path = \"b\", as = \"a\" }]
  |                                               ^^^^^^^^^^^^^^^^^^^^^^^^
  = help: give one of them another name by `as`

`plugin.grants.deny.wasi`: there is no door `net`
  --> dir/bundle.toml, line 11, column 9
   |
11 | wasi = [\"net\"]
   |         ^^^^^
   = help: there are `environment`, `network` and `directories`",
    );
    wrong(
        "[plugin.grants.scope]\npid = 0\nuid = -1\nuser = 1",
        "
`plugin.grants.scope.pid` is no process
 --> dir/bundle.toml, line 6, column 7
  |
6 | pid = 0
  |       ^

`plugin.grants.scope.uid` is no user
 --> dir/bundle.toml, line 7, column 7
  |
7 | uid = -1
  |       ^^

unknown key `plugin.grants.scope.user`
 --> dir/bundle.toml, line 8, column 1
  |
8 | user = 1
  | ^^^^
  = help: there are `pid`, `uid` and `cgroup`",
    );
    wrong(
        "[plugin.limits]\nmemory = \"64KiB\"\ncall = \"1us\"\nring = \"3MiB\"\nattach-points = 0",
        "
`plugin.limits.memory` must be between 1MiB and 4GiB
 --> dir/bundle.toml, line 6, column 10
  |
6 | memory = \"64KiB\"
  |          ^^^^^^^

`plugin.limits.call` must be between 1ms and 10m
 --> dir/bundle.toml, line 7, column 8
  |
7 | call = \"1us\"
  |        ^^^^^

`plugin.limits.ring` must be a power of two between 4KiB and 1GiB
 --> dir/bundle.toml, line 8, column 8
  |
8 | ring = \"3MiB\"
  |        ^^^^^^
  = help: did you mean \"4MiB\"?

`plugin.limits.attach-points` must be between 1 and 100000
 --> dir/bundle.toml, line 9, column 17
  |
9 | attach-points = 0
  |                 ^",
    );
    wrong(
        "config = { x = nan }",
        "
a plugin gets its config as JSON, which has no such number
 --> dir/bundle.toml, line 5, column 16
  |
5 | config = { x = nan }
  |                ^^^",
    );
}

/// A rate allows as much at once as in a second unless told; one of nothing or of more than can be is none, and a burst is of a rate.
#[test]
fn rates() {
    let rate = |limits: &str| parse(&format!("{HEAD}[plugin.limits]\n{limits}")).unwrap().plugins[0].limits.rate;
    assert_eq!(rate(""), None);
    assert_eq!(rate("rate = 300"), Some(Rate { a_second: 300, burst: 300 }));
    assert_eq!(rate("rate = 1\nburst = 1_000_000_000"), Some(Rate { a_second: 1, burst: 1_000_000_000 }));
    wrong(
        "[plugin.limits]\nrate = 0\nburst = 1_000_000_001",
        "
`plugin.limits.rate` must be between 1 and 1000000000
 --> dir/bundle.toml, line 6, column 8
  |
6 | rate = 0
  |        ^
  = help: without `rate` no hit is shed

`plugin.limits.burst` must be between 1 and 1000000000
 --> dir/bundle.toml, line 7, column 9
  |
7 | burst = 1_000_000_001
  |         ^^^^^^^^^^^^^
  = help: without `burst` as many come at once as `rate` says",
    );
    wrong(
        "[plugin.limits]\nrate = \"10/s\"",
        "
`plugin.limits.rate` must be a number, and this is a string
 --> dir/bundle.toml, line 6, column 8
  |
6 | rate = \"10/s\"
  |        ^^^^^^",
    );
    wrong(
        "[plugin.limits]\nburst = 5",
        "
`plugin.limits.burst` goes with `rate`, and there is none
 --> dir/bundle.toml, line 6, column 9
  |
6 | burst = 5
  |         ^
  = help: `rate` is how many a second, and `burst` how many of them may come at once",
    );
}

/// The keys that must be there, and names that must be names.
#[test]
fn missing_and_doubled() {
    wrong_whole(
        "[[plugin]]\nname = \"a b\"\n",
        "
`schema` is missing
 --> dir/bundle.toml, line 1, column 1
  |
1 | [[plugin]]
  | ^
  = help: begin the file with `schema = 1`

this plugin has no `source`
 --> dir/bundle.toml, line 1, column 1
  |
1 | [[plugin]]
  | ^^^^^^^^^^

`plugin.name` must be 1 to 64 letters, digits, `_` and `-` of ASCII
 --> dir/bundle.toml, line 2, column 8
  |
2 | name = \"a b\"
  |        ^^^^^",
    );
    wrong(
        "[[plugin]]\nname = \"a\"\nsource = \"oci://x\"",
        "
two plugins are named `a`
 --> dir/bundle.toml, line 6, column 8
  |
6 | name = \"a\"
  |        ^^^

`plugin.source` must name a file
 --> dir/bundle.toml, line 7, column 10
  |
7 | source = \"oci://x\"
  |          ^^^^^^^^^
  = help: it is a path, and begins in the directory of the bundle",
    );
    wrong_whole(
        "schema = 2\nplugin = []",
        "
`schema` 2 is newer than this portcullis, which knows 1
 --> dir/bundle.toml, line 1, column 10
  |
1 | schema = 2
  |          ^
  = help: a newer portcullis reads this bundle

the bundle has no plugin
 --> dir/bundle.toml, line 2, column 10
  |
2 | plugin = []
  |          ^^",
    );
}

/// The gate word has 64 bits.
#[test]
fn at_most_64_plugins() {
    let plugins = |n| (0..n).map(|i| format!("[[plugin]]\nname = \"p{i}\"\nsource = \"p\"\n")).collect::<String>();
    assert_eq!(parse(&format!("schema = 1\n{}", plugins(64))).unwrap().plugins.len(), 64);
    let error = parse(&format!("schema = 1\n{}", plugins(65))).unwrap_err();
    assert!(
        error.starts_with("a bundle has at most 64 plugins, and this one has 65\n   --> dir/bundle.toml, line 194,"),
        "{error}"
    );
}

/// Text that is not TOML is an error with its place too, and hostile characters don't reach the terminal.
#[test]
fn no_toml() {
    wrong_whole(
        "schema = = 1",
        "
this is not TOML: extra `=`, expected nothing
 --> dir/bundle.toml, line 1, column 10
  |
1 | schema = = 1
  |          ^",
    );
    wrong_whole(
        "\x1b[2J = 1",
        "
this is not TOML: key with no value, expected `=`
 --> dir/bundle.toml, line 1, column 2
  |
1 | \u{fffd}[2J = 1
  |  ^",
    );
}

/// A long line is shown around the place.
#[test]
fn long_lines_are_cut() {
    let error = parse(&format!("{HEAD}config = {{ a = \"{}\", b = inf }}", "x".repeat(500))).unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() < 130), "{error}");
    assert!(lines[3].ends_with("\", b = inf }") && lines[4].ends_with("^^^"), "{error}");
}

/// What can't be read as text says why.
#[test]
fn unreadable_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.toml");
    std::fs::write(&file, b"schema = 1\n\xff").unwrap();
    for (path, cause) in [
        (file.as_path(), "line 2 is not UTF-8 text"),
        (&dir.path().join("none"), "No such file or directory (os error 2)"),
        (dir.path(), "Is a directory (os error 21)"),
        (Path::new("/dev/zero"), "it is larger than 4 MiB, which no manifest is"),
    ] {
        let error = Manifest::read(path).unwrap_err();
        assert_eq!(error.to_string(), format!("can't read the bundle {}", path.display()));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), cause);
    }
}
