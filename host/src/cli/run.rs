//! `portcullis run`.

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;

use super::{Exit, Run, lock};
use crate::{
    cage,
    contract::Level,
    kernel::{Mechanism, RunningKernel},
    manifest::Source,
    output::{Printer, clean},
    ready::Ready,
    report,
    run::{self, Ending, Plan},
    signals::{Signals, Stage},
    symbols::{self, Symbols},
};

/// Runs a bundle or a plugin to its end.
pub fn run(arguments: &Run) -> anyhow::Result<Exit> {
    // Before anything is opened that could get its number.
    let ready = Ready::new(arguments.ready_fd)?;
    let manifest = arguments.manifest()?;
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    let plan = Plan {
        ask: terminal && matches!(manifest.source, Source::Plugin(_)),
        lock: arguments.locked.then(|| lock::of(&manifest)).transpose()?,
        manifest,
        command: arguments.command.clone(),
        system_wide: arguments.system_wide,
        limits: arguments.scope.limits()?,
        watch: arguments.watch,
    };
    let how = How {
        verbose: arguments.verbose,
        report: arguments.report.as_deref(),
        dry_run: arguments.dry_run,
        brief: false,
        mechanism: arguments.mechanism,
    };
    follow(&plan, &how, ready, |_| None)
}

/// How a run is watched.
pub(super) struct How<'a> {
    /// Show debug messages.
    pub(super) verbose: bool,
    /// Where the report is written.
    pub(super) report: Option<&'a Path>,
    /// End before anything is attached.
    pub(super) dry_run: bool,
    /// Of the report, say at the end only what was lost.
    pub(super) brief: bool,
    /// How to attach.
    pub(super) mechanism: Mechanism,
}

/// Takes a plan to its end, and tells `supervisor` how it goes. `look` sees what is loaded, and can end it there with a text to print.
pub(super) fn follow(
    plan: &Plan,
    how: &How<'_>,
    mut supervisor: Ready,
    look: impl FnOnce(&run::Ready<'_>) -> Option<String>,
) -> anyhow::Result<Exit> {
    cage::prepare();
    let signals = Signals::install().context("can't handle signals")?;
    let level = if how.verbose { Level::Debug } else { Level::Info };
    let printer = Printer::stdio(plan.manifest.format, plan.manifest.plugins.len(), level).context("can't print")?;
    let printer = Arc::new(printer);
    if let Some(path) = how.report {
        // Found out now, and not when there is something to lose.
        report::check_writable(path).context("nothing was run")?;
    }
    let options = symbols::Options { sandbox: plan.manifest.sandbox, ..symbols::Options::default() };
    let kernel = RunningKernel::open()?.with_mechanism(how.mechanism).with_symbols(Arc::new(Symbols::new(&options)));
    let kernel = Arc::new(kernel);
    let ready = run::load(plan, &kernel, &printer)?;
    if let Some(text) = look(&ready) {
        io::stdout().write_all(clean::lines(&text).as_bytes()).context("can't print")?;
        return Ok(Exit::Ok);
    }
    if how.dry_run {
        printer.message(&would_run(plan, &ready));
        return Ok(Exit::Ok);
    }
    signals.orderly();
    let ended = ready.run(plan, &kernel, &printer, &signals, &mut supervisor)?;
    let report = &ended.report;
    let violations = run::write_report(report, how.report);
    let text = if how.brief { report.to_brief_text() } else { report.to_text() };
    printer.message(&format!("\nThe run ended: {}.\n{text}", ended.ending));
    signals.at(Stage::Detaching);
    let violations = violations?;
    let exit = if !violations.is_empty() {
        Exit::Accounting
    } else if report.any_failed() {
        Exit::Plugin
    } else if matches!(&ended.ending, Ending::Output(error) if error.kind() != io::ErrorKind::BrokenPipe) {
        Exit::Failed
    } else {
        Exit::Ok
    };
    ended.leave();
    Ok(exit)
}

fn would_run(plan: &Plan, ready: &run::Ready<'_>) -> String {
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
