//! `-- COMMAND`: a command that is started stopped and released when the gate is open, so that it is traced from its first
//! instruction and never runs if anything failed before.
//!
//! The kernel stops a traced process after execve(2) and before the new program's first instruction. So the command is forked, held
//! in the fork until this process has become its tracer, and let into execve, where it stops. Whatever happens to this process in
//! between, the command does not run: while it is held it waits on a pipe that ends with this process, and from then on
//! `PTRACE_O_EXITKILL` (ptrace(2)) ties its life to the tracer's.

use std::{
    ffi::OsString,
    fmt, io,
    marker::PhantomData,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, ExitStatus, Stdio},
    thread,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Why a command was not started or not released.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("there is no command `{0}`: it is neither a file nor in PATH")]
    NotFound(String),
    /// It is there and can't be executed.
    #[error("can't execute the command `{command}`")]
    Execute {
        /// The command's name.
        command: String,
        /// Why, as execve(2) or fork(2) has it.
        #[source]
        error: io::Error,
    },
    /// The kernel does not let it be stopped before it runs.
    #[error("can't hold the command `{command}` until the gate is open: {call} failed")]
    Hold {
        /// The command's name.
        command: String,
        /// The system call that failed.
        call: &'static str,
        /// Its error.
        #[source]
        error: io::Error,
    },
    /// It was gone before it was released.
    #[error("the command `{command}` ended before it was released: it {status}")]
    Ended {
        /// The command's name.
        command: String,
        /// How.
        status: Status,
    },
}

/// Where the command's standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Where that of this process goes.
    Inherit,
    /// To standard error, where standard output is for rows alone.
    ToStderr,
}

/// How a command ended, in words: `exited with 3`, `was killed by signal 9 (SIGKILL)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub ExitStatus);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exited with {code}"),
            (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
                Some(name) => write!(f, "was killed by signal {signal} ({name})"),
                None => write!(f, "was killed by signal {signal}"),
            },
            (None, None) => write!(f, "ended in an unknown way"),
        }
    }
}

/// A command that stands before its first instruction. Dropped, it is killed, and never ran.
#[derive(Debug)]
pub struct Stopped {
    command: String,
    /// `None` once it was released.
    child: Option<Child>,
    pid: Pid,
    end: Option<OwnedFd>,
    /// The kernel takes ptrace calls only from the thread that became the tracer.
    this_thread: PhantomData<*const ()>,
}

/// A command that runs, no longer traced by ptrace. Dropped, it goes on.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    end: OwnedFd,
}

/// Starts `argv` and stops it before its first instruction. The thread that calls this must be the one that releases it.
pub fn start(argv: &[OsString], output: Output) -> Result<Stopped, CommandError> {
    let name = argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let hold = |call| {
        let command = name.clone();
        move |error: io::Error| CommandError::Hold { command, call, error }
    };
    let Some((program, arguments)) = argv.split_first() else { return Err(CommandError::NotFound(name)) };
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    if output == Output::ToStderr {
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned().map_err(hold("dup"))?));
    }
    // The child says by `ready` who it is, and waits at `go`; both end with their process.
    let (ready, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| hold("pipe2")(error.into()))?;
    let (wait, go) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| hold("pipe2")(error.into()))?;
    held::prepare(&mut command, tell, wait, &go);

    // `spawn` returns after execve, so another thread calls it while this one becomes the tracer.
    thread::scope(|scope| {
        // The command, and with it the child's ends of the pipes, goes when the fork is done: then a read below sees the end.
        let spawn = scope.spawn(move || {
            let child = command.spawn();
            drop(command);
            child
        });
        let traced = held::pid(&ready).map(|pid| (pid, ptrace::seize(pid)));
        if let Some((_, Ok(()))) = traced {
            // If the child is gone, `spawn` says why.
            let _ = rustix::io::write(&go, &[1]);
        }
        // Without the byte the child finds the end of the pipe and exits.
        drop(go);
        let child = spawn.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")));
        let (pid, mut child) = match (traced, child) {
            (Some((_, Err(error))), child) => {
                child.map(end).unwrap_or_default();
                return Err(hold("ptrace(PTRACE_SEIZE)")(error));
            }
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(CommandError::NotFound(name.clone())),
            (_, Err(error)) => return Err(CommandError::Execute { command: name.clone(), error }),
            (None, Ok(child)) => {
                end(child);
                return Err(hold("fork")(io::Error::other("the new process did not say that it is there")));
            }
            (Some((pid, Ok(()))), Ok(child)) => (pid, child),
        };
        match ptrace::wait_for_exec(pid) {
            Ok(None) => {}
            Ok(Some(status)) => {
                let _ = child.try_wait();
                return Err(CommandError::Ended { command: name.clone(), status: Status(status) });
            }
            Err(error) => {
                end(child);
                return Err(hold("waitpid")(error));
            }
        }
        // From here on its drop kills it.
        let mut stopped = Stopped { command: name.clone(), child: Some(child), pid, end: None, this_thread: PhantomData };
        stopped.end = Some(pidfd_open(pid, PidfdFlags::empty()).map_err(|error| hold("pidfd_open")(error.into()))?);
        Ok(stopped)
    })
}

/// Kills a child and takes its status, so that nothing of it is left.
fn end(mut child: Child) {
    // Errors here mean that it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

impl Stopped {
    /// The process that will run the command.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Lets the command run, untraced by ptrace.
    pub fn release(mut self) -> Result<Running, CommandError> {
        let command = self.command.clone();
        let (Some(mut child), Some(end)) = (self.child.take(), self.end.take()) else {
            return Err(CommandError::NotFound(command));
        };
        match ptrace::detach(self.pid) {
            Ok(()) => Ok(Running { child, pid: self.pid, end }),
            Err(error) => {
                // Someone has killed it; if not, nobody will wait for it here.
                let _ = child.kill();
                Err(match child.wait() {
                    Ok(status) if error.raw_os_error() == Some(libc::ESRCH) => {
                        CommandError::Ended { command, status: Status(status) }
                    }
                    _ => CommandError::Hold { command, call: "ptrace(PTRACE_DETACH)", error },
                })
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
}

impl Running {
    /// The command's process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<Status>> {
        Ok(self.child.try_wait()?.map(Status))
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> io::Result<Status> {
        self.child.wait().map(Status)
    }

    /// Asks it to end (SIGTERM). It is no error if it has ended.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it (SIGKILL). It is no error if it has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.end, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Running {
    /// Becomes readable when the command ends; a pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// What happens in the new process between fork(2) and execve(2), where nothing may allocate or lock.
mod held {
    use std::{
        io,
        os::{
            fd::{AsRawFd, OwnedFd},
            unix::process::CommandExt,
        },
        process::Command,
    };

    use rustix::process::Pid;

    /// Makes the new process write its id to `tell` and wait for a byte from `wait`, whose other end is `go`.
    pub(super) fn prepare(command: &mut Command, tell: OwnedFd, wait: OwnedFd, go: &OwnedFd) {
        let go = go.as_raw_fd();
        let closure = move || {
            // SAFETY: the descriptor is the forked process's own copy, nothing here uses it, and no destructor runs before execve.
            // While it is open the pipe could not end.
            unsafe { libc::close(go) };
            default_signals()?;
            let pid = rustix::process::getpid().as_raw_nonzero().get().to_ne_bytes();
            rustix::io::write(&tell, &pid)?;
            loop {
                match rustix::io::read(&wait, &mut [0u8; 1]) {
                    Ok(1) => return Ok(()),
                    Err(rustix::io::Errno::INTR) => {}
                    _ => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                }
            }
        };
        // SAFETY: the closure makes system calls on its own descriptors and nothing else: it neither allocates nor locks.
        unsafe { command.pre_exec(closure) };
    }

    /// The process id that the new process wrote; `None` if it ended without.
    pub(super) fn pid(ready: &OwnedFd) -> Option<Pid> {
        let mut bytes = [0; 4];
        loop {
            match rustix::io::read(ready, &mut bytes) {
                Ok(4) => return Pid::from_raw(i32::from_ne_bytes(bytes)),
                Err(rustix::io::Errno::INTR) => {}
                _ => return None,
            }
        }
    }

    /// What a fresh process expects: no signal blocked, and SIGPIPE, which Rust's runtime ignores, deadly. Handlers end with execve,
    /// and what was ignored before this process (nohup) stays so.
    fn default_signals() -> io::Result<()> {
        // SAFETY: an all-zero signal set is a valid one, and empty on Linux.
        let none: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `none` lives over the call, and no old set is asked for.
        if unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: SIG_DFL is a valid disposition of SIGPIPE.
        if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// The ptrace(2) calls.
mod ptrace {
    use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, ptr};

    use rustix::process::Pid;

    /// Makes this thread the tracer of `pid`: it will stop after execve, and die with this thread.
    pub(super) fn seize(pid: Pid) -> io::Result<()> {
        request(libc::PTRACE_SEIZE, pid, (libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC) as usize)
    }

    /// Lets `pid` go.
    pub(super) fn detach(pid: Pid) -> io::Result<()> {
        request(libc::PTRACE_DETACH, pid, 0)
    }

    /// Waits until `pid` stands at the stop after execve; how it ended, if it did that instead.
    pub(super) fn wait_for_exec(pid: Pid) -> io::Result<Option<ExitStatus>> {
        loop {
            let mut status = 0;
            // SAFETY: `status` lives over the call.
            if unsafe { libc::waitpid(pid.as_raw_nonzero().get(), &raw mut status, libc::__WALL) } < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            if !libc::WIFSTOPPED(status) {
                return Ok(Some(ExitStatus::from_raw(status)));
            }
            // ptrace(2): a stop for an event has the event above the signal.
            if status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_EXEC << 8 {
                return Ok(None);
            }
            // A signal came first: it gets it. A group stop, which is no signal, is ended as well.
            let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) as usize } else { 0 };
            request(libc::PTRACE_CONT, pid, signal)?;
        }
    }

    fn request(request: libc::c_uint, pid: Pid, data: usize) -> io::Result<()> {
        // SAFETY: none of these requests writes through `addr` or `data`; `data` is a number.
        let result = unsafe { libc::ptrace(request, pid.as_raw_nonzero().get(), ptr::null_mut::<libc::c_void>(), data) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, path::Path, time::Duration};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn sh(script: &str) -> Stopped {
        start(&argv(&["sh", "-c", script]), Output::ToStderr).unwrap()
    }

    fn field(pid: u32, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap().to_owned()
    }

    /// The new program is there, stands still, and runs when it is released, with its status known.
    #[test]
    fn a_command_runs_when_released() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("ran");
        let stopped = sh(&format!("touch {}; exit 3", mark.display()));
        assert_eq!(field(stopped.pid(), "Name"), "sh");
        thread::sleep(Duration::from_millis(30));
        assert!(field(stopped.pid(), "State").starts_with('t'));
        assert!(!mark.exists());
        let mut running = stopped.release().unwrap();
        poll(&mut [PollFd::new(&running, PollFlags::IN)], None).unwrap();
        assert!(mark.exists());
        assert_eq!(running.try_wait().unwrap().unwrap().to_string(), "exited with 3");
        running.kill().unwrap();
    }

    /// A command that is never released never ran, and nothing of it is left.
    #[test]
    fn a_dropped_command_never_ran() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("ran");
        let stopped = sh(&format!("touch {}", mark.display()));
        let pid = stopped.pid();
        drop(stopped);
        assert!(!mark.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    /// A command that was killed while it was held says so.
    #[test]
    fn a_command_killed_while_held() {
        let stopped = sh("true");
        rustix::process::kill_process(Pid::from_raw(stopped.pid() as i32).unwrap(), Signal::KILL).unwrap();
        // The kill is done when the process is a zombie.
        while !field(stopped.pid(), "State").starts_with('Z') {
            thread::yield_now();
        }
        let error = stopped.release().unwrap_err();
        assert_eq!(error.to_string(), "the command `sh` ended before it was released: it was killed by signal 9 (SIGKILL)");
    }

    /// The thread that holds a command stands for the whole process: when it ends, the command dies unrun.
    #[test]
    fn a_command_dies_with_its_tracer() {
        let pid = thread::spawn(|| {
            let stopped = sh("exec sleep 1000");
            let pid = stopped.pid();
            std::mem::forget(stopped);
            pid
        })
        .join()
        .unwrap();
        let process = Pid::from_raw(pid as i32).unwrap();
        let (_, status) = rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(libc::SIGKILL));
    }

    /// A command can be asked to end and be killed, and dropping its handle leaves it alone.
    #[test]
    fn a_running_command_ends_by_signal() {
        let mut running = sh("exec sleep 1000").release().unwrap();
        assert_eq!(running.try_wait().unwrap(), None);
        running.terminate().unwrap();
        assert_eq!(running.wait().unwrap().to_string(), "was killed by signal 15 (SIGTERM)");
    }

    /// The command begins with no signal blocked and SIGPIPE deadly, as a shell would start it.
    #[test]
    fn signals_are_default() {
        let stopped = sh("exec sleep 1000");
        let pid = stopped.pid();
        assert_eq!(field(pid, "SigBlk"), "0000000000000000");
        let ignored = u64::from_str_radix(&field(pid, "SigIgn"), 16).unwrap();
        assert_eq!(ignored >> (libc::SIGPIPE - 1) & 1, 0);
    }

    /// What can't be started says which command and why.
    #[test]
    fn errors() {
        let error = |words: &[&str]| {
            let error = start(&argv(words), Output::Inherit).unwrap_err();
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        };
        assert_eq!(error(&["no-such-command-"]), "there is no command `no-such-command-`: it is neither a file nor in PATH");
        assert_eq!(error(&["/etc/passwd"]), "can't execute the command `/etc/passwd`: Permission denied (os error 13)");
        assert_eq!(error(&["/"]), "can't execute the command `/`: Permission denied (os error 13)");
        assert_eq!(error(&[]), "there is no command ``: it is neither a file nor in PATH");
    }
}
