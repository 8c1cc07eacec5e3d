//! `portcullis check`: everything up to the verifier, and nothing attached.

use std::{
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context as _;

use super::{Check, Exit, lock};
use crate::{
    bundle::Built,
    contract::Level,
    kernel::RunningKernel,
    output::{Printer, clean},
    run::{self, Plan},
    scope::Limits,
};

/// Compiles every probe, has the kernel verify every program, and says so.
pub fn check(arguments: &Check) -> anyhow::Result<Exit> {
    let manifest = arguments.target.load()?;
    let printer = Arc::new(Printer::stdio(manifest.format, manifest.plugins.len(), Level::Info).context("can't print")?);
    let kernel = RunningKernel::open()?;
    let lock = arguments.locked.then(|| lock::of(&manifest)).transpose()?;
    let plan =
        Plan { manifest, command: Vec::new(), system_wide: true, limits: Limits::default(), watch: false, ask: false, lock };
    let ready = run::load(&plan, &kernel, &printer)?;
    let built = ready.plugins();
    let mut out = if arguments.listing { listing(built) } else { String::new() };
    let programs: usize = built.iter().map(|b| b.compiled.programs.len()).sum();
    let points: usize = built.iter().map(|b| b.compiled.needs.attach.len()).sum();
    out.push_str(&format!(
        "{}: good: {points} attach points, {programs} programs that this kernel's verifier accepts\n",
        plan.manifest.name
    ));
    // A listing quotes the plugins' texts.
    io::stdout().write_all(clean::lines(&out).as_bytes()).context("can't print")?;
    Ok(Exit::Ok)
}

pub(super) fn listing(built: &[Built]) -> String {
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
                program.listing()
            ));
        }
    }
    out
}
