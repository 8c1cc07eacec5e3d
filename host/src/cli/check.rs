//! `portcullis check`: everything up to the verifier, and nothing attached.

use std::{
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context as _;
use portcullis_ebpf::{Scope, scope};

use super::{Check, Exit};
use crate::{
    bundle::{self, Built},
    contract::Level,
    kernel::RunningKernel,
    output::Printer,
    session::{self, Compiled, Config},
};

/// Compiles every probe, has the kernel verify every program, and says so.
pub fn check(arguments: &Check) -> anyhow::Result<Exit> {
    let manifest = arguments.target.load()?;
    let printer = Arc::new(Printer::stdio(manifest.format, manifest.plugins.len(), Level::Info).context("can't print")?);
    let kernel = RunningKernel::open()?;
    let declared = bundle::declare(&manifest, &(Arc::clone(&printer) as _))?;
    let mut built = bundle::compile(declared, &kernel, manifest.start.gate, Scope::System)?;
    let mut out = String::new();
    if arguments.listing {
        out.push_str(&listing(&built));
    }
    bundle::check_grants(&built)?;
    bundle::prepare(&mut built)?;
    let programs: usize = built.iter().map(|b| b.compiled.programs.len()).sum();
    let points: usize = built.iter().map(|b| b.compiled.needs.attach.len()).sum();
    let plugins: Vec<session::Plugin> = built.into_iter().map(|b| session_plugin(&b)).collect();
    let config = Config { gate: manifest.start.gate, scope: Scope::System, tracker: scope::trackers(&kernel)? };
    drop(Compiled::new(plugins, config)?.load(&kernel)?);
    out.push_str(&format!(
        "{}: good: {points} attach points, {programs} programs that this kernel's verifier accepts\n",
        manifest.name
    ));
    io::stdout().write_all(out.as_bytes()).context("can't print")?;
    Ok(Exit::Ok)
}

/// A plugin as a session takes it.
pub(super) fn session_plugin(built: &Built) -> session::Plugin {
    session::Plugin { name: built.plugin.name.clone(), compiled: built.compiled.clone(), ring: built.plugin.limits.ring }
}

fn listing(built: &[Built]) -> String {
    let mut out = String::new();
    for Built { plugin, compiled, .. } in built {
        for program in &compiled.programs {
            let probes: Vec<&str> =
                program.probes.iter().filter_map(|p| compiled.probes.get(*p)).map(|p| p.name.as_str()).collect();
            out.push_str(&format!(
                "plugin \"{}\", program {} ({}), probes {}:\n{}\n",
                plugin.name,
                program.name,
                program.hook.mechanism(),
                probes.join(", "),
                program.listing
            ));
        }
    }
    out
}
