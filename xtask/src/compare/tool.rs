//! The two tools, and how each runs a program.

use std::{ffi::OsString, io::ErrorKind, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::session::Session;
use crate::{
    place::Place,
    process::{command, output},
};

/// More attach points than any experiment has.
const ATTACH_POINTS: &str = "10000";

/// A tool that runs programs in bpftrace's notation.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) kind: Kind,
    /// The program and its first arguments.
    words: Vec<OsString>,
}

/// What differs between them is by this.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Bpftrace,
    Portcullis,
}

impl Tool {
    /// bpftrace, by the environment variable BPFTRACE or in the path; `None` where it is in neither.
    ///
    /// # Errors
    /// BPFTRACE names what can't be run, or what is there fails.
    pub(super) fn bpftrace(place: &Place) -> Result<Option<Tool>> {
        let said = std::env::var("BPFTRACE").ok().filter(|words| !words.trim().is_empty());
        let words: Vec<OsString> = said.as_deref().unwrap_or("bpftrace").split_ascii_whitespace().map(OsString::from).collect();
        let mut tool = Tool { name: "bpftrace", version: String::new(), kind: Kind::Bpftrace, words };
        let mut asked = tool.command(place);
        match asked.arg("--version").output() {
            Err(error) if error.kind() == ErrorKind::NotFound && said.is_none() => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't run bpftrace as `{}`", tool.line())),
            Ok(output) if !output.status.success() => bail!(
                "`{} --version` failed: {}\n{}",
                tool.line(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            ),
            Ok(output) => tool.version = version(&String::from_utf8_lossy(&output.stdout))?,
        }
        Ok(Some(tool))
    }

    /// The host that was built last.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn portcullis(place: &Place) -> Result<Tool> {
        let host = place.target.join("release/portcullis");
        let version = version(&output(command(&host, &place.root).arg("--version"))?)?;
        Ok(Tool { name: "Portcullis", version, kind: Kind::Portcullis, words: vec![host.into()] })
    }

    /// Starts a program.
    ///
    /// # Errors
    /// The tool can't be started.
    pub(super) fn trace(&self, place: &Place, program: &str) -> Result<Session> {
        let mut command = self.command(place);
        match self.kind {
            // With each line flushed, or what is waited for would stay in a buffer.
            Kind::Bpftrace => command.args(["-B", "line"]).env("BPFTRACE_MAX_PROBES", ATTACH_POINTS),
            Kind::Portcullis => command.args(["trace", "--attach-points", ATTACH_POINTS]),
        };
        Session::start(self, command.args(["-e", program]))
    }

    /// Starts a bundle, which Portcullis alone has.
    ///
    /// # Errors
    /// The tool can't be started.
    pub(super) fn bundle(&self, place: &Place, manifest: &Path) -> Result<Session> {
        Session::start(self, self.command(place).args(["run", "--format", "json"]).arg(manifest))
    }

    fn command(&self, place: &Place) -> Command {
        let (program, arguments) = self.words.split_first().map_or((OsString::new(), &[][..]), |(p, a)| (p.clone(), a));
        let mut command = command(program, &place.root);
        // Cargo sets it, for programs of the toolchain.
        command.args(arguments).env_remove("LD_LIBRARY_PATH");
        command
    }

    /// The tool as the user has named it.
    fn line(&self) -> String {
        self.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// The version in what `--version` prints: the last word, without a `v`.
fn version(text: &str) -> Result<String> {
    let word = text.split_whitespace().next_back().context("`--version` printed nothing")?;
    Ok(word.strip_prefix('v').unwrap_or(word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::version;

    /// Both tools' ways to say their version are understood.
    #[test]
    fn versions() {
        let version = |text: &str| version(text).ok();
        assert_eq!(version("bpftrace v0.27.1\n").as_deref(), Some("0.27.1"));
        assert_eq!(version("portcullis 0.1.0\n").as_deref(), Some("0.1.0"));
        assert_eq!(version("\n"), None);
    }
}
