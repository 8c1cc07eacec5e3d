//! Manifests that are right, as a whole.

use std::{path::Path, time::Duration};

use portcullis_ebpf::Rate;

use super::{HEAD, WHOLE, parse};
use crate::{
    cage::{Layers, Sandbox, User},
    contract::Limits,
    doors::{Directory, Door, Doors},
    grants::{Deny, GrantedBy, Grants},
    manifest::{DEFAULT_SETTLE, Format, Manifest, Open, Plugin, Restart, Source, Start, Stop, reader},
    scope::Granted,
};

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

/// What the reference shows is read: manifests, and parts of them below `[plugin.grants]` and `[plugin.limits]`.
#[test]
fn the_reference() {
    let text = include_str!("../../../../docs/bundle.md");
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
        } else if block.starts_with("[plugin.limits]") {
            parse(&format!("{HEAD}{block}")).unwrap();
            parts += 1;
        } else {
            Manifest::parse(block, path).unwrap();
            manifests += 1;
        }
    }
    assert!(manifests > 0 && parts > 1 && locks > 0, "{manifests}, {parts}, {locks}");
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
