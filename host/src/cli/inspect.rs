//! `portcullis inspect`: what a bundle or plugin needs, and what it is granted.

use std::{
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context as _;
use portcullis_ebpf::{Scope, needs::Needs};
use serde_json::{Value, json};

use super::{Exit, Inspect};
use crate::{
    bundle::{self, Built},
    contract::Level,
    grants,
    kernel::RunningKernel,
    manifest::Manifest,
    output::Printer,
    scope::{Granted, Limits},
};

/// Says it in plain sentences, or as JSON.
pub fn inspect(arguments: &Inspect) -> anyhow::Result<Exit> {
    let manifest = arguments.target.load()?;
    let printer = Arc::new(Printer::stdio(manifest.format, manifest.plugins.len(), Level::Warn).context("can't print")?);
    let kernel = RunningKernel::open()?;
    // Whom it sees is told as it is written; who that is need not be there now.
    let mut plugins = manifest.plugins.clone();
    plugins.iter_mut().for_each(|plugin| plugin.grants.scope = Granted::default());
    let declared = bundle::declare(&plugins, &(Arc::clone(&printer) as _))?;
    let built = bundle::compile(declared, &kernel, bundle::bits(manifest.start.gate), Scope::System, Limits::default())?;
    let text = if arguments.json { format!("{:#}\n", to_json(&manifest, &built)) } else { to_text(&built) };
    io::stdout().write_all(text.as_bytes()).context("can't print")?;
    Ok(Exit::Ok)
}

fn granted(built: &Built) -> bool {
    grants::check(&built.plugin.name, &built.compiled.needs, &built.plugin.grants).is_ok()
}

fn to_text(built: &[Built]) -> String {
    let mut out = String::new();
    for one in built {
        out.push_str(&format!("plugin \"{}\" ({})\n", one.plugin.name, one.plugin.source.display()));
        let sentences = grants::describe(&one.compiled.needs);
        for sentence in &sentences {
            out.push_str(&format!("  it {sentence}\n"));
        }
        if sentences.is_empty() {
            out.push_str("  it attaches to nothing\n");
        }
        for missing in &one.compiled.missing {
            out.push_str(&format!("  its optional probe \"{}\" goes without: {}\n", missing.probe, missing.reason));
        }
        match grants::check(&one.plugin.name, &one.compiled.needs, &one.plugin.grants) {
            Ok(()) => out.push_str("  all of this is granted\n"),
            Err(refused) => out.push_str(&format!("\n{refused}\n")),
        }
    }
    out
}

fn to_json(manifest: &Manifest, built: &[Built]) -> Value {
    let plugins: Vec<Value> = built.iter().map(plugin_json).collect();
    json!({ "name": manifest.name, "plugins": plugins })
}

fn plugin_json(built: &Built) -> Value {
    let Needs { attach, data } = &built.compiled.needs;
    let attach: Vec<Value> = attach.iter().map(|n| json!({ "point": n.point, "probe": n.probe })).collect();
    let data: Vec<Value> = data.iter().map(|n| json!({ "class": n.class, "probe": n.probe, "text": n.text })).collect();
    let missing: Vec<Value> = built.compiled.missing.iter().map(|m| json!({ "probe": m.probe, "reason": m.reason })).collect();
    json!({
        "name": built.plugin.name,
        "source": built.plugin.source,
        "needs": { "probes": attach, "read": data },
        "missing": missing,
        "granted": granted(built),
    })
}
