//! `portcullis probes`: the attach points that a pattern fits.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use portcullis_ebpf::attach::{self, Listed, glob};

use super::{Exit, Probes, UsageError};
use crate::{kernel::RunningKernel, output::clean};

/// Lists them, each with its arguments.
pub fn probes(arguments: &Probes) -> anyhow::Result<Exit> {
    let pattern = &arguments.pattern;
    let found = attach::list(pattern, &RunningKernel::open()?)?;
    if found.is_empty() {
        let help =
            if glob::is_pattern(pattern) { "" } else { "; patterns have wildcards, as in 'tracepoint:block:*' or 'span:*'" };
        return Err(UsageError(format!("nothing fits `{pattern}`{help}")).into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if arguments.json { json(&found, &mut out) } else { text(&found, &mut out) };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("can't print the list"),
        _ => Ok(Exit::Ok),
    }
}

fn json(found: &[Listed], out: &mut impl Write) -> io::Result<()> {
    for point in found {
        writeln!(out, "{}", clean::json(&serde_json::to_string(point)?))?;
    }
    Ok(())
}

fn text(found: &[Listed], out: &mut impl Write) -> io::Result<()> {
    for point in found {
        writeln!(out, "{}", clean::line(&point.point))?;
        let prefix = if point.point.starts_with("span:") { "entry.args" } else { "args" };
        for argument in &point.arguments {
            writeln!(out, "    {prefix}.{}: {}", clean::line(&argument.name), clean::line(&argument.ctype))?;
        }
        if let Some(retval) = &point.retval {
            writeln!(out, "    retval: {}", clean::line(retval))?;
        }
    }
    Ok(())
}
