//! `portcullis run`.

use std::{os::fd::AsFd, sync::Arc};

use anyhow::Context as _;

use super::{Exit, Run, signals::Signals};
use crate::{
    contract::Level,
    kernel::RunningKernel,
    output::Printer,
    report,
    run::{self, Ending, Plan, Ready},
};

/// Runs a bundle or a plugin to its end.
pub fn run(arguments: &Run) -> anyhow::Result<Exit> {
    let plan = Plan { manifest: arguments.manifest()?, command: arguments.command.clone(), system_wide: arguments.system_wide };
    let signals = Signals::install().context("can't handle signals")?;
    let level = if arguments.verbose { Level::Debug } else { Level::Info };
    let printer = Printer::stdio(plan.manifest.format, plan.manifest.plugins.len(), level).context("can't print")?;
    let printer = Arc::new(printer);
    if let Some(path) = &arguments.report {
        // Found out now, and not when there is something to lose.
        report::check_writable(path).context("nothing was run")?;
    }
    let kernel = RunningKernel::open()?;
    let ready = run::load(&plan, &kernel, &printer)?;
    if arguments.dry_run {
        printer.message(&would_run(&plan, &ready));
        return Ok(Exit::Ok);
    }
    signals.orderly();
    let ended = ready.run(&plan, &printer, signals.as_fd(), || signals.received())?;
    let report = &ended.report;
    let violations = run::write_report(report, arguments.report.as_deref());
    printer.message(&format!("\nThe run ended: {}.\n{}", ended.ending, report.to_text()));
    let violations = violations?;
    let exit = if !violations.is_empty() {
        Exit::Accounting
    } else if report.any_failed() {
        Exit::Plugin
    } else if matches!(&ended.ending, Ending::Output(error) if error.kind() != std::io::ErrorKind::BrokenPipe) {
        Exit::Failed
    } else {
        Exit::Ok
    };
    ended.detach();
    Ok(exit)
}

fn would_run(plan: &Plan, ready: &Ready<'_>) -> String {
    let plugins = ready.plugins();
    let points: usize = plugins.iter().map(|p| p.compiled.needs.attach.len()).sum();
    let programs: usize = plugins.iter().map(|p| p.compiled.programs.len()).sum();
    let names: Vec<&str> = plugins.iter().map(|p| p.plugin.name.as_str()).collect();
    let command = match plan.command.first() {
        Some(command) => format!(" for `{}`", command.to_string_lossy()),
        None => String::new(),
    };
    format!(
        "{}: would run {}{command}: {points} attach points, {programs} programs, all accepted by this kernel. Nothing was attached.",
        plan.manifest.name,
        names.join(", ")
    )
}
