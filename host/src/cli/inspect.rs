//! `portcullis inspect`: what a bundle or plugin is, what it needs, and what it is granted.
//!
//! What can be learnt of a component only by parsing it is learnt in its worker.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::Arc,
};

use anyhow::Context as _;
use portcullis_ebpf::{MapRef, Scope};
use serde_json::{Map, Value, json};

use super::{Exit, Inspect};
use crate::{
    bundle::{self, Built},
    cage::{Layers, Sandbox},
    contract::{Level, Table},
    grants::{self, Risk},
    kernel::RunningKernel,
    manifest::{
        Manifest,
        limits::{self, Amount},
    },
    output::{Printer, clean, units},
    scope::Limits,
};

/// How many imports of one package are named one by one.
const NAMED: usize = 3;

/// How many limits stand in a line.
const LIMITS_A_LINE: usize = 5;

/// Says it in plain sentences, or as JSON.
pub fn inspect(arguments: &Inspect) -> anyhow::Result<Exit> {
    let manifest = arguments.target.load()?;
    let printer = Arc::new(Printer::stdio(manifest.format, manifest.plugins.len(), Level::Warn).context("can't print")?);
    let kernel = RunningKernel::open()?;
    let declared = bundle::declare(&bundle::to_be_looked_at(&manifest.plugins), &(Arc::clone(&printer) as _), None)?;
    let mut built = bundle::compile(declared, &kernel, bundle::bits(manifest.start.gate), Scope::System, Limits::default())?;
    let tables = bundle::prepare(&mut built)?;
    bundle::with_grants(&mut built, &manifest.plugins);
    let text = match arguments.json {
        true => clean::json(&format!("{:#}\n", to_json(&manifest, &built, &tables))).into_owned(),
        false => clean::lines(&to_text(&manifest, &built, &tables)).into_owned(),
    };
    io::stdout().write_all(text.as_bytes()).context("can't print")?;
    Ok(Exit::Ok)
}

fn granted(built: &Built) -> bool {
    grants::check(&built.plugin.name, &built.compiled.needs, &built.plugin.grants).is_ok()
}

/// The memory of the kernel that a plugin's maps take, bytes.
fn map_bytes(built: &Built) -> u64 {
    let maps = built.compiled.maps.iter().filter(|map| matches!(map.map, MapRef::Plugin(_)));
    maps.map(|map| map.bytes(built.compiled.counters.cpus)).sum()
}

fn to_text(manifest: &Manifest, built: &[Built], tables: &[Vec<Table>]) -> String {
    let mut out = sandbox_text(manifest.sandbox);
    for (one, tables) in built.iter().zip(tables) {
        plugin_text(&mut out, one, tables);
    }
    out
}

/// What is asked of all workers, if anything is.
fn sandbox_text(Sandbox { layers, user }: Sandbox) -> String {
    let layers = (layers == Layers::Required).then(|| "every layer is required".to_owned());
    let user = user.map(|user| format!("each is user {} of group {}", user.uid, user.gid));
    let asked: Vec<String> = layers.into_iter().chain(user).collect();
    if asked.is_empty() { String::new() } else { format!("the sandboxes of its plugins: {}\n", asked.join("; ")) }
}

fn plugin_text(out: &mut String, one: &Built, tables: &[Table]) {
    let (plugin, component) = (&one.plugin, &one.component);
    let mut line = |text: String| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{text}");
    };
    line(format!("plugin \"{}\" ({})", plugin.name, clean::line(&plugin.source.display().to_string())));
    line(format!("  is {}, {}", component.digest, units::bytes(component.size)));
    let version = component.interface.version().map_or("no version that it says".into(), |version| clean::line(version));
    line(format!("  is made for portcullis:plugin {version}"));
    line(format!("  imports {}", imports(&component.interface.imports)));
    for grants::Sentence { risk, text } in grants::describe(&one.compiled.needs) {
        line(format!("  {text} [{risk}]"));
    }
    if one.compiled.needs.attach.is_empty() {
        line("  attaches to nothing".into());
    }
    for missing in &one.compiled.missing {
        line(format!("  its optional probe \"{}\" goes without: {}", missing.probe, missing.reason));
    }
    match map_bytes(one) {
        0 => {}
        bytes => line(format!("  its maps take {} of the kernel's memory", units::bytes(bytes))),
    }
    for table in tables {
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        line(format!("  shows a table {}: {}", table.name, columns.join(", ")));
    }
    let limits = limits::entries(&plugin.limits).into_iter();
    let limits: Vec<String> = limits.filter_map(|(key, amount)| Some(format!("{key} {}", amount?))).collect();
    line("  its limits:".into());
    limits.chunks(LIMITS_A_LINE).for_each(|some| line(format!("    {}", some.join(", "))));
    let lines = plugin.grants.lines();
    if lines.is_empty() {
        line("  is granted nothing".into());
    } else {
        line("  is granted".into());
        lines.iter().for_each(|granted| line(format!("    {granted}")));
    }
    for grants::Sentence { risk, text } in grants::doors_in_words(&plugin.grants.doors()) {
        line(format!("  {text} [{risk}]"));
    }
    match grants::check(&plugin.name, &one.compiled.needs, &plugin.grants) {
        Ok(()) => line("  all that it needs is granted".into()),
        Err(refused) => line(format!("\n{refused}")),
    }
}

/// What is imported, by package; few of a package one by one.
fn imports(names: &[String]) -> String {
    let mut packages: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in names {
        let (package, interface) = name.split_once('/').unwrap_or((name, ""));
        match packages.iter_mut().find(|(known, _)| *known == package) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => packages.push((package, vec![interface])),
        }
    }
    let texts = packages.into_iter().map(|(package, interfaces)| {
        let named: Vec<&str> = interfaces.iter().take(NAMED).map(|name| name.split('@').next().unwrap_or_default()).collect();
        let more = match interfaces.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} ({}{more})", clean::line(package), clean::line(&named.join(", ")))
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(", ") }
}

fn to_json(manifest: &Manifest, built: &[Built], tables: &[Vec<Table>]) -> Value {
    let plugins: Vec<Value> = built.iter().zip(tables).map(|(built, tables)| plugin_json(built, tables)).collect();
    let Sandbox { layers, user } = manifest.sandbox;
    let sandbox = json!({ "layers": layers.as_str(), "uid": user.map(|user| user.uid), "gid": user.map(|user| user.gid) });
    json!({ "name": manifest.name, "sandbox": sandbox, "plugins": plugins })
}

fn plugin_json(built: &Built, tables: &[Table]) -> Value {
    let (plugin, component, compiled) = (&built.plugin, &built.component, &built.compiled);
    let probes = built.specs.iter().map(|spec| {
        let points: Vec<&str> =
            compiled.needs.attach.iter().filter(|need| need.probe == spec.name).map(|need| need.point.as_str()).collect();
        let risk = points.iter().map(|point| Risk::of_point(point)).max().unwrap_or(Risk::Low);
        json!({ "name": spec.name, "attach": spec.attach, "points": points, "optional": spec.optional, "risk": risk })
    });
    let read = compiled.needs.data.iter();
    let read = read
        .map(|need| json!({ "class": need.class, "probe": need.probe, "text": need.text, "risk": Risk::of_class(need.class) }));
    let tables = tables.iter().map(|table| {
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        json!({ "name": table.name, "columns": columns })
    });
    let missing = compiled.missing.iter().map(|missing| json!({ "probe": missing.probe, "reason": missing.reason }));
    let limits = limits::entries(&plugin.limits).into_iter();
    let limits: Map<String, Value> = limits.map(|(key, amount)| (key.into(), amount.map(Amount::number).into())).collect();
    let doors = grants::doors_in_words(&plugin.grants.doors()).into_iter();
    let doors = doors.map(|grants::Sentence { risk, text }| json!({ "text": text, "risk": risk }));
    json!({
        "name": plugin.name,
        "source": plugin.source,
        "digest": component.digest.to_string(),
        "size": component.size,
        "wit": component.interface.version(),
        "imports": component.interface.imports,
        "exports": component.interface.exports,
        "probes": probes.collect::<Vec<_>>(),
        "read": read.collect::<Vec<_>>(),
        "maps": map_bytes(built),
        "missing": missing.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
        "limits": limits,
        "grants": plugin.grants.lines(),
        "doors": doors.collect::<Vec<_>>(),
        "granted": granted(built),
    })
}
