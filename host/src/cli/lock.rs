//! `portcullis lock`: approves what the plugins of a bundle are, need and are granted.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use anyhow::Context as _;
use portcullis_ebpf::Scope;

use super::{Exit, Lock as Arguments, UsageError};
use crate::{
    bundle,
    contract::Level,
    kernel::RunningKernel,
    lock::{self, Lock, LockError},
    manifest::{Manifest, Source},
    output::Printer,
    scope::Limits,
};

/// Writes the lock of a bundle. One that is there is changed only if nothing more is needed or granted, or that is
/// approved.
pub fn lock(arguments: &Arguments) -> anyhow::Result<Exit> {
    let manifest = Manifest::read(&arguments.bundle)?;
    let path = lock::path(&arguments.bundle);
    let before = match Lock::read(&path) {
        Ok(before) => Some(before),
        Err(LockError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let printer = Arc::new(Printer::stdio(manifest.format, manifest.plugins.len(), Level::Warn).context("can't print")?);
    let kernel = RunningKernel::open()?;
    let declared = bundle::declare(&bundle::to_be_looked_at(&manifest.plugins), &(Arc::clone(&printer) as _), None)?;
    let mut built = bundle::compile(declared, &kernel, bundle::bits(manifest.start.gate), Scope::System, Limits::default())?;
    bundle::with_grants(&mut built, &manifest.plugins);
    let now = Lock::of(&built);
    let new = now.additions(before.as_ref().unwrap_or(&Lock::nothing()));
    let mut out = io::stdout();
    let mut say = |text: &str| out.write_all(text.as_bytes()).context("can't print");
    if before.is_some() && !new.is_empty() && !arguments.approve {
        let lines = new.join("\n");
        say(&format!("This needs or is granted more than {} has approved:\n{lines}\n", path.display()))?;
        printer.message("portcullis: nothing was written; `--approve` approves it");
        return Ok(Exit::Grants);
    }
    if !new.is_empty() {
        say(&format!("Approved:\n{}\n", new.join("\n")))?;
    }
    if before.as_ref() == Some(&now) {
        say(&format!("{} is up to date.\n", path.display()))?;
    } else {
        now.write(&path)?;
        say(&format!("Wrote {}.\n", path.display()))?;
    }
    Ok(Exit::Ok)
}

/// The lock of a bundle that is to be run as it was approved.
pub(super) fn of(manifest: &Manifest) -> anyhow::Result<Lock> {
    match &manifest.source {
        Source::Bundle(bundle) => Ok(Lock::read(&lock::path(bundle))?),
        Source::Plugin(_) => Err(UsageError("--locked is for a bundle; a single plugin has no lock".into()).into()),
    }
}
