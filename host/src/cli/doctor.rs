//! `portcullis doctor`: what this kernel lets this user do.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;

use super::{Doctor, Exit};
use crate::{doctor, output::clean};

/// Examines the machine and says what was found.
pub fn doctor(arguments: &Doctor) -> anyhow::Result<Exit> {
    let findings = doctor::examine();
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match arguments.json {
        true => {
            serde_json::to_string_pretty(&findings).map_err(Into::into).and_then(|text| writeln!(out, "{}", clean::json(&text)))
        }
        false => doctor::write(&findings, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error).context("can't print what was found"),
        _ => {}
    }
    Ok(if doctor::can_trace(&findings) { Exit::Ok } else { Exit::Failed })
}
