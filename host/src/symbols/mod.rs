//! What addresses are: functions, source lines, and the other way round, where functions, variables and USDT probes are.
//!
//! Files of traced programs may be made to deceive a parser, and debug information is the most intricate of all formats. So the
//! host opens such files and never looks into them; a process of its own does, the *symbolizer*, caged like a worker
//! ([`crate::cage`]): it opens nothing, it is sent one descriptor at a time, maps it, and answers questions. If it fails, hangs or
//! answers what can't be, that costs symbols and not the run: it is started again a few times, a file that it can't parse is left
//! alone, and addresses stay addresses.
//!
//! | host | symbolizer |
//! |---|---|
//! | [`Symbols`]: the questions there are | `serve`: takes requests |
//! | `known`: processes, and files that are held open | `elf`: symbols, source lines, USDT notes |
//! | `process`: mappings, and opens the files behind them | `name`: demangles and matches |
//! | `ask`: asks about a file, and looks for its debug file | |
//! | `helper`: starts, asks, replaces the symbolizer | |
//! | `kernel`: /proc/kallsyms, which is the kernel's own text | |
//!
//! Between them: `protocol`. Names come from the files: whoever shows them removes control characters.
//!
//! A stack is resolved later than it was captured, when its process may be gone. So a process is noted when its stacks are seen
//! ([`Symbols::note_process`]): its mappings are read and the files behind them opened. What a process id was before its process
//! began another program, or ended and left the id to another, is forgotten when that is noted.
//!
//! Files are parsed with `object`, `gimli` and `addr2line`, in the versions that Wasmtime brings. blazesym does more, and does it with
//! paths: it opens what it parses, and what that leads to, which a process without paths can't.
//!
//! Debug information in files of its own is used where it is under /usr/lib/debug, by build id, or beside the program or library
//! (`.gnu_debuglink`). What is not used: debug information split over .dwo files or shared in dwz's, compressed with zstd, or
//! embedded as `.gnu_debugdata`; and maps that just-in-time compilers write.

mod ask;
mod elf;
mod helper;
mod kernel;
mod known;
mod name;
mod process;
mod protocol;
mod serve;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ask::{Asker, STRIKES};
use kernel::KernelSymbols;
use known::{File, Known};
use protocol::{Found, MAX_ADDRESSES, MAX_PATTERN, Request, Response};
use serde::{Deserialize, Serialize};

use crate::cage::{Account, Sandbox};
pub use crate::contract::Frame;
pub use serve::main;

/// A question about many addresses may take this many times as long as one request; what is left then stays unexplained.
const PATIENCE: u32 = 4;

impl Frame {
    fn plain(address: u64) -> Frame {
        Frame { address, ..Frame::default() }
    }
}

/// A function that a probe may attach to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFunction {
    /// Its name in the symbol table.
    pub name: String,
    /// As its source spells it, if the name is mangled.
    pub demangled: Option<String>,
    /// Where it begins in the file, bytes: what uprobes attach to.
    pub file_offset: u64,
    /// Its length, bytes; 0 where the file does not say.
    pub size: u64,
    /// It begins with `endbr64`, four bytes long; a uprobe behind that is cheaper.
    pub starts_with_endbr64: bool,
}

/// A USDT probe in a file. A probe may be at several places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsdtSite {
    /// Its provider.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Where its instruction is in the file, bytes.
    pub file_offset: u64,
    /// Where the counter of those that watch it is in the file, bytes; the kernel counts up at attaching, if told.
    pub semaphore_offset: Option<u64>,
    /// Its arguments, as the note has them: `8@%rdi -4@-20(%rbp)`.
    pub arguments: String,
}

/// A symbol of a file, a function or a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSymbol {
    /// How far it is from where it was asked from, bytes; the same wherever the file is loaded.
    pub distance: i64,
    /// The size of a variable, bytes; 0 for a function, and where the file does not say.
    pub size: u64,
}

/// Why functions, symbols or USDT probes can't be told.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// A file can't be opened.
    #[error("{}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pattern is too long.
    #[error("the name \"{pattern}\" is too long: {} bytes, where {MAX_PATTERN} are allowed", .pattern.len())]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A file can't be parsed.
    #[error("{}: {reason}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, as the symbolizer says.
        reason: String,
    },
}

/// Called with the process id of each symbolizer that is started.
#[derive(Clone)]
pub struct Started(pub Arc<dyn Fn(u32) + Send + Sync>);

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Started")
    }
}

/// How symbols are looked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the symbolizer may take for one answer.
    pub timeout: Duration,
    /// How long it may take to start.
    pub starting: Duration,
    /// Where debug files are, with a directory `.build-id`.
    pub debug: PathBuf,
    /// How many files are held open.
    pub files: usize,
    /// Look for source lines and inlined functions, which takes longer.
    pub lines: bool,
    /// The executable whose `symbolizer` subcommand is [`main`]; `None` is the host's own. Tests are other executables.
    pub executable: Option<PathBuf>,
    /// Told of each symbolizer directly after it was started, so that it can be marked as the host's own.
    pub started: Option<Started>,
    /// How it is to be locked in.
    pub sandbox: Sandbox,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(2),
            starting: Duration::from_secs(10),
            debug: "/usr/lib/debug".into(),
            // The host may open 1024 by default, and has other uses for them.
            files: 256,
            lines: true,
            executable: None,
            started: None,
            sandbox: Sandbox::default(),
        }
    }
}

/// What is known of processes and files, and who is asked for more. All of it may be called by several threads; those that ask the
/// symbolizer take turns, and noting a process never waits for it.
#[derive(Debug)]
pub struct Symbols {
    lines: bool,
    timeout: Duration,
    // Where both are locked, this is first; it is never held while something is asked.
    known: Mutex<Known>,
    asker: Mutex<Asker>,
    kernel: Mutex<KernelSymbols>,
}

/// What addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first is where a thread was, all others are return addresses: behind the call, and perhaps in the next function.
    Stack,
    /// Each is itself.
    Each,
}

impl Kind {
    /// What is looked up for the address at a position.
    fn sought(self, addresses: &[u64], at: usize) -> u64 {
        if at == 0 || self == Kind::Each { addresses[at] } else { addresses[at].saturating_sub(1) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Symbols {
    /// Reads nothing and starts nothing yet.
    pub fn new(options: &Options) -> Symbols {
        Symbols {
            lines: options.lines,
            timeout: options.timeout,
            known: Mutex::new(Known::new(options.files)),
            asker: Mutex::new(Asker::new(options)),
            kernel: Mutex::default(),
        }
    }

    /// Starts the symbolizer now and gives its process id, so that it can be marked as the host's own before anything is traced.
    /// Without this it starts when it is first needed.
    pub fn start(&self) -> io::Result<u32> {
        let mut asker = lock(&self.asker);
        asker.helper.start().map_err(|failure| io::Error::other(failure.into_text()))?;
        asker.helper.pid().ok_or_else(|| io::Error::other("it is gone"))
    }

    /// The process id of the symbolizer that runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.asker).helper.pid()
    }

    /// How the symbolizer is locked in, or was, and what it takes; `None` if none was started.
    pub fn account(&self) -> Option<Account> {
        lock(&self.asker).helper.account()
    }

    /// Remembers what a process has mapped, and opens the files behind it. To be called when stacks of the process are seen, while it
    /// lives: costs a clock's reading where that was a moment ago, else a look at /proc/PID/stat, and now and then at
    /// /proc/PID/maps. `pid` is that of the initial pid namespace (the `tgid`).
    pub fn note_process(&self, pid: u32) {
        lock(&self.known).note(pid);
    }

    /// The frames of a user stack: a list for each address, innermost function first; one without a function where nothing is
    /// known. The first address is where the thread was, all others are return addresses.
    pub fn user(&self, pid: u32, addresses: &[u64]) -> Vec<Vec<Frame>> {
        self.resolve(pid, addresses, Kind::Stack)
    }

    /// The functions that single addresses of a process are in, such as pointers to functions: without what is inlined, and
    /// without source lines.
    pub fn user_symbols(&self, pid: u32, addresses: &[u64]) -> Vec<Frame> {
        let frames = self.resolve(pid, addresses, Kind::Each);
        frames.into_iter().zip(addresses).map(|(mut one, &address)| one.pop().unwrap_or(Frame::plain(address))).collect()
    }

    /// The frames of a kernel stack. As [`Symbols::user`], but without inlined functions and source lines. The kernel tells its
    /// addresses to those with CAP_SYSLOG.
    pub fn kernel(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        lock(&self.kernel).frames(addresses, Kind::Stack).into_iter().map(|frame| vec![frame]).collect()
    }

    /// The functions that single addresses of the kernel are in, such as pointers to functions.
    pub fn kernel_symbols(&self, addresses: &[u64]) -> Vec<Frame> {
        lock(&self.kernel).frames(addresses, Kind::Each)
    }

    fn resolve(&self, pid: u32, addresses: &[u64], kind: Kind) -> Vec<Vec<Frame>> {
        let (mut frames, files) = self.place(pid, addresses, kind);
        let lines = self.lines && kind == Kind::Stack;
        let until = Instant::now() + self.timeout.saturating_mul(PATIENCE);
        for (file, wanted) in files {
            for wanted in wanted.chunks(MAX_ADDRESSES) {
                if Instant::now() > until {
                    return frames;
                }
                let offsets: Vec<u64> = wanted.iter().map(|&(_, offset)| offset).collect();
                let request =
                    |file, strikes| Request::Symbolize { file, offsets: offsets.clone(), lines: lines && strikes < STRIKES - 1 };
                let Ok(Response::Frames(found)) = lock(&self.asker).ask(&file, request) else { continue };
                for (&(at, _), found) in wanted.iter().zip(found) {
                    if !found.is_empty() {
                        let back = addresses[at] - kind.sought(addresses, at);
                        frames[at] = name_frames(&frames[at][0], found, back);
                    }
                }
            }
        }
        frames
    }

    /// A frame for each address that says where it is mapped, and which files are to be asked for what: positions and offsets.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn place(&self, pid: u32, addresses: &[u64], kind: Kind) -> (Vec<Vec<Frame>>, Vec<(Arc<File>, Vec<(usize, u64)>)>) {
        let mut frames: Vec<Vec<Frame>> = addresses.iter().map(|&address| vec![Frame::plain(address)]).collect();
        let mut files: Vec<(Arc<File>, Vec<(usize, u64)>)> = Vec::new();
        let mut known = lock(&self.known);
        known.note(pid);
        if (0..addresses.len()).any(|at| known.mapping(pid, kind.sought(addresses, at)).is_none()) {
            known.refresh(pid);
        }
        for at in 0..addresses.len() {
            let address = kind.sought(addresses, at);
            let Some(mapping) = known.mapping(pid, address).cloned() else { continue };
            let offset = (address - mapping.start).saturating_add(mapping.offset);
            if !mapping.path.is_empty() {
                frames[at][0].module = Some(mapping.path.to_string());
                frames[at][0].offset = offset.saturating_add(addresses[at] - address);
            }
            if let Some(file) = known.file(pid, &mapping) {
                match files.iter_mut().find(|(other, _)| other.number == file.number) {
                    Some((_, wanted)) => wanted.push((at, offset)),
                    None => files.push((file, vec![(at, offset)])),
                }
            }
        }
        (frames, files)
    }

    /// The functions of a file with a name; `*` and `?` are wild. Mangled names match as they are, and as C++ or Rust spell them,
    /// with or without parameters. By file offset; a function with several names is there with each that matches. Functions that
    /// only choose another (`IFUNC`) are left out. With `pid`, the path is that of the process, which may be in a container.
    pub fn functions(&self, path: &Path, pid: Option<u32>, pattern: &str) -> Result<Vec<UserFunction>, SymbolsError> {
        bounded(pattern)?;
        let request = |file| Request::Functions { file, pattern: pattern.to_owned() };
        match self.question(path, pid, request)? {
            Response::Functions(functions) => Ok(functions),
            _ => Ok(Vec::new()),
        }
    }

    /// The USDT probes of a file with a provider and a name; `*` and `?` are wild. By file offset. With `pid` as for
    /// [`Symbols::functions`].
    pub fn usdt(&self, path: &Path, pid: Option<u32>, provider: &str, name: &str) -> Result<Vec<UsdtSite>, SymbolsError> {
        bounded(provider)?;
        bounded(name)?;
        let request = |file| Request::Usdt { file, provider: provider.to_owned(), name: name.to_owned() };
        match self.question(path, pid, request)? {
            Response::Usdt(sites) => Ok(sites),
            _ => Ok(Vec::new()),
        }
    }

    /// Where a symbol of a file is, as seen from a byte of the file; `None` if the file has none of that name, which is mangled or as
    /// its source spells it. A name that does not stand for one address is an error. With `pid` as for [`Symbols::functions`].
    pub fn symbol(&self, path: &Path, pid: Option<u32>, name: &str, from: u64) -> Result<Option<UserSymbol>, SymbolsError> {
        bounded(name)?;
        match self.question(path, pid, |file| Request::Symbol { file, name: name.to_owned(), from })? {
            Response::Symbol(symbol) => Ok(symbol),
            _ => Ok(None),
        }
    }

    fn question(&self, path: &Path, pid: Option<u32>, request: impl Fn(u64) -> Request) -> Result<Response, SymbolsError> {
        let opened = match pid {
            Some(pid) => process::open_within(pid, path),
            None => process::open_regular(path),
        };
        let (fd, key) = opened.map_err(|source| SymbolsError::Open { path: path.to_owned(), source })?;
        let file = lock(&self.known).hold(fd, key, path);
        let answer = lock(&self.asker).ask(&file, |file, _| request(file));
        answer.map_err(|failure| SymbolsError::Parse { path: path.to_owned(), reason: failure.into_text() })
    }
}

fn bounded(pattern: &str) -> Result<(), SymbolsError> {
    if pattern.len() > MAX_PATTERN { Err(SymbolsError::Pattern { pattern: pattern.to_owned() }) } else { Ok(()) }
}

/// Frames from what was found. What was looked up is `back` bytes before the frame's address.
fn name_frames(plain: &Frame, found: Vec<Found>, back: u64) -> Vec<Frame> {
    let frame = |found: Found| {
        let unknown = if found.function.is_none() { plain.offset } else { 0 };
        Frame {
            address: plain.address,
            function: found.function,
            offset: found.offset.map_or(unknown, |offset| offset.saturating_add(back)),
            module: plain.module.clone(),
            file: found.file,
            line: found.line,
            inlined: found.inlined,
        }
    };
    found.into_iter().map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inlined frames have the outermost's address, and its offset is that of the address asked for.
    #[test]
    fn frames_are_named() {
        let found =
            |function: &str, offset, inlined| Found { function: Some(function.into()), offset, inlined, ..Found::default() };
        let frames = name_frames(&Frame::plain(100), vec![found("inner", None, true), found("outer", Some(7), false)], 1);
        let got: Vec<_> =
            frames.iter().map(|frame| (frame.address, frame.function.as_deref(), frame.offset, frame.inlined)).collect();
        assert_eq!(got, [(100, Some("inner"), 0, true), (100, Some("outer"), 8, false)]);
    }

    /// Return addresses belong to the call before them; others to themselves.
    #[test]
    fn return_addresses() {
        let check = |kind: Kind, expect: [u64; 3]| assert_eq!([0, 1, 2].map(|at| kind.sought(&[100, 200, 0], at)), expect);
        check(Kind::Stack, [100, 199, 0]);
        check(Kind::Each, [100, 200, 0]);
    }
}
