//! `portcullis doctor`: what this kernel lets this user do.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;

use super::{Doctor, Exit};
use crate::doctor;

/// Examines the machine and says what was found.
pub fn doctor(arguments: &Doctor) -> anyhow::Result<Exit> {
    let findings = doctor::examine();
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match arguments.json {
        true => serde_json::to_writer_pretty(&mut out, &findings).map_err(Into::into).and_then(|()| writeln!(out)),
        false => doctor::write(&findings, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error).context("can't print what was found"),
        _ => {}
    }
    Ok(if doctor::can_trace(&findings) { Exit::Ok } else { Exit::Failed })
}
