//! The other side: finding a run, and asking it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Line, Request, Status, place};

/// How long a run has to say how it goes. What it is asked to do may take as long as compiling a plugin does.
const STATUS: Duration = Duration::from_secs(5);

/// How long an answer can be, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// Why nothing was asked, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no run, or none that is meant.
    #[error("no run {}; `portcullis status` lists those of this user", match .0 { Some(name) => format!("is named `{name}` or has this process id"), None => "goes on".to_owned() })]
    None(Option<String>),
    /// Which of them?
    #[error("there are several runs: {}; say which with --run NAME or --run PID", .0.join(", "))]
    Several(Vec<String>),
    /// The run does not do it.
    #[error("{0}")]
    Refused(String),
    /// The socket.
    #[error("the run of process {pid} can't be asked: {error}")]
    Socket {
        /// The run's process.
        pid: u32,
        /// Why.
        error: io::Error,
    },
}

/// The runs of this user that go on, by process id.
pub fn runs() -> Vec<Status> {
    runs_in(&place::directory()).into_iter().map(|(_, status)| status).collect()
}

fn runs_in(directory: &Path) -> Vec<(PathBuf, Status)> {
    let ask = |(pid, path): (u32, PathBuf)| match talk(pid, &path, &Request::Status, Some(STATUS)) {
        Ok(Answer::Status(status)) => Some((path, status)),
        // It was killed, or it ends now.
        _ => None,
    };
    place::sockets(directory).into_iter().filter_map(ask).collect()
}

/// Asks a run, by the bundle's name or the host's process id; without either the only one there is.
pub fn ask(run: Option<&str>, request: &Request) -> Result<Answer, ClientError> {
    let mut found = runs_in(&place::directory());
    if let Some(run) = run {
        found.retain(|(_, status)| status.name == run || status.pid.to_string() == run);
    }
    match found.as_slice() {
        [] => Err(ClientError::None(run.map(str::to_owned))),
        [(path, status)] => talk(status.pid, path, request, None),
        several => {
            let name = |(_, status): &(PathBuf, Status)| format!("{} ({})", status.name, status.pid);
            Err(ClientError::Several(several.iter().map(name).collect()))
        }
    }
}

fn talk(pid: u32, path: &Path, request: &Request, timeout: Option<Duration>) -> Result<Answer, ClientError> {
    let fail = |error| ClientError::Socket { pid, error };
    let line = || {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(timeout)?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        (&stream).write_all(&text)?;
        let mut line = Vec::new();
        BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::other("it hung up"));
        }
        Ok(serde_json::from_slice::<Line>(&line)?)
    };
    line().map_err(fail)?.map_err(ClientError::Refused)
}
