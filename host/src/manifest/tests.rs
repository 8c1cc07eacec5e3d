//! Manifest in, bundle or error text out.
#![allow(clippy::unwrap_used, clippy::panic)]

mod grants;
mod lifetime;
mod limits;
mod mistakes;
mod sandbox;
mod whole;

use std::path::Path;

use super::Manifest;

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
