//! The run's side: a thread that accepts, and one for each connection; the run itself takes the requests between its other work.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    net::sockopt::socket_peercred,
};

use super::{Answer, Line, MAX_REQUEST, Request, place};

/// How many connections there can be at a time.
const CONNECTIONS: usize = 16;

/// How long one who connects has to ask.
const PATIENCE: Duration = Duration::from_secs(2);

/// The socket of a run. It is gone when this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    requests: mpsc::Receiver<Asked>,
    /// Readable when there may be a request.
    wake: Arc<OwnedFd>,
    /// Its end tells the thread that accepts.
    _stop: OwnedFd,
}

/// A request, and who waits for the answer.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    answer: mpsc::Sender<Line>,
}

impl Asked {
    /// Answers it. The error is for a person.
    pub fn answer(self, answer: Result<Answer, String>) {
        // Who asked may be gone.
        let _ = self.answer.send(answer);
    }
}

impl Server {
    /// Listens for this process's run.
    ///
    /// # Errors
    /// If there is no place for the socket.
    pub fn start() -> io::Result<Server> {
        Server::in_directory(&place::directory())
    }

    fn in_directory(directory: &Path) -> io::Result<Server> {
        place::make(directory).map_err(io::Error::other)?;
        clear(directory);
        let path = place::socket(directory, std::process::id());
        // It was of a process that had this number before.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (sender, requests) = mpsc::channel();
        let told = Arc::clone(&wake);
        thread::Builder::new().name("control".to_owned()).spawn(move || accept(&listener, &stopped, &sender, &told))?;
        Ok(Server { path, requests, wake, _stop: stop })
    }

    /// The next request, if there is one.
    pub fn try_recv(&self) -> Option<Asked> {
        // Emptied before the look, so that what comes after it wakes again.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        self.requests.try_recv().ok()
    }
}

impl AsFd for Server {
    /// Readable when there may be a request.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes sockets that nobody listens on any more: of runs that were killed.
fn clear(directory: &Path) {
    for (_, path) in place::sockets(directory) {
        if UnixStream::connect(&path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(path);
        }
    }
}

fn accept(listener: &UnixListener, stopped: &OwnedFd, requests: &mpsc::Sender<Asked>, wake: &Arc<OwnedFd>) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        let polled = poll(&mut fds, None);
        if !fds[1].revents().is_empty() || polled.is_err_and(|error| error != rustix::io::Errno::INTR) {
            return;
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        let (requests, wake, count) = (requests.clone(), Arc::clone(wake), Arc::clone(&connections));
        if connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let serve = move || {
            // One who hangs up has no use for an error.
            let _ = serve(&stream, &requests, &wake);
            count.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("control connection".to_owned()).spawn(serve).is_err() {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(stream: &UnixStream, requests: &mpsc::Sender<Asked>, wake: &OwnedFd) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = hear(stream, requests, wake)?;
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    (&*stream).write_all(&text)
}

fn hear(stream: &UnixStream, requests: &mpsc::Sender<Asked>, wake: &OwnedFd) -> io::Result<Line> {
    // The directory keeps others out; root passes there, and may.
    let peer = socket_peercred(stream)?.uid;
    if peer != rustix::process::geteuid() && !peer.is_root() {
        return Ok(Err("this run is another user's".into()));
    }
    let mut text = Vec::new();
    BufReader::new(stream.take(MAX_REQUEST as u64)).read_until(b'\n', &mut text)?;
    let request = match serde_json::from_slice(&text) {
        Ok(request) => request,
        Err(error) => return Ok(Err(format!("this is no request: {error}"))),
    };
    let (answer, receiver) = mpsc::channel();
    let gone = || Err("the run ended before this was done".to_owned());
    if requests.send(Asked { request, answer }).is_err() {
        return Ok(gone());
    }
    rustix::io::write(wake, &1u64.to_ne_bytes())?;
    Ok(receiver.recv().unwrap_or_else(|_| gone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    /// Writes a line and reads the answer, while the run answers with `answer`, if it is asked.
    fn talk(text: &str, answer: Option<Line>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::in_directory(&directory.path().join("runs")).unwrap();
        let mut stream = UnixStream::connect(&server.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        if let Some(answer) = answer {
            poll(&mut [PollFd::new(&server, PollFlags::IN)], None).unwrap();
            server.try_recv().unwrap().answer(answer);
        }
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        let path = server.path.clone();
        drop(server);
        assert!(!path.exists());
        heard
    }

    /// A request comes to the run, and its answer to who asked.
    #[test]
    fn answers() {
        assert_eq!(talk("{\"ask\":\"pause\",\"plugin\":\"a\"}\n", Some(Ok(Answer::Ending))), "{\"Ok\":{\"done\":\"ending\"}}\n");
        assert_eq!(talk("{\"ask\":\"status\"}\n", Some(Err("no".into()))), "{\"Err\":\"no\"}\n");
    }

    /// What is no request does not reach the run.
    #[test]
    fn nonsense() {
        for text in ["\n", "{}\n", "{\"ask\":\"dance\"}\n", "[1,2\n", "\0\u{7f}\n"] {
            assert!(talk(text, None).starts_with("{\"Err\":\"this is no request: "), "{text:?}");
        }
        assert!(talk(&"[".repeat(MAX_REQUEST), None).starts_with("{\"Err\":\"this is no request: "));
    }

    /// A request that is dropped unanswered is answered all the same.
    #[test]
    fn unanswered() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::in_directory(&directory.path().join("runs")).unwrap();
        let mut stream = UnixStream::connect(&server.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"{\"ask\":\"status\"}\n").unwrap();
        poll(&mut [PollFd::new(&server, PollFlags::IN)], None).unwrap();
        drop(server);
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "{\"Err\":\"the run ended before this was done\"}\n");
    }

    /// The socket of a run that was killed is cleared away by the next, and that of a run that goes on is not.
    #[test]
    fn left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        let server = Server::in_directory(&runs).unwrap();
        let (alive, dead) = (place::socket(&runs, 1), place::socket(&runs, 2));
        let listener = UnixListener::bind(&alive).unwrap();
        drop(UnixListener::bind(&dead).unwrap());
        drop(server);
        let _server = Server::in_directory(&runs).unwrap();
        assert!(alive.exists() && !dead.exists());
        drop(listener);
    }
}
