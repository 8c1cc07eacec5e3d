//! What is known of processes: their mappings, and the files behind them, held open.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::process::{self, Identity, Key, Mapping};

/// Processes that are remembered, those used last.
const PROCESSES: usize = 1024;

/// Mappings that are remembered of all processes together.
const MAPPINGS: usize = 256 << 10;

/// A process that was looked at is taken for the same for so long, whatever happens: this is asked for every stack.
const CHECK: Duration = Duration::from_millis(10);

/// An unknown address leads to another look at the mappings, at most this often per process.
const REFRESH: Duration = Duration::from_millis(200);

/// The mappings are looked at again after this time, and then after twice the time, and so on: stacks of a program's first moment
/// are seen before its libraries are there, and it may end before anyone asks what the addresses are.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A file that is held open.
#[derive(Debug)]
pub(super) struct File {
    /// What the symbolizer knows it by; never used for another.
    pub(super) number: u64,
    pub(super) fd: OwnedFd,
    /// As the process names it that has mapped it.
    pub(super) path: PathBuf,
    pub(super) verdict: Mutex<Verdict>,
}

/// How the symbolizer came along with a file.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// So many times it failed at it.
    pub(super) strikes: u8,
    /// Its word on why the file can't be parsed; it is not asked again.
    pub(super) refused: Option<String>,
}

/// A process as it was when it was last looked at.
#[derive(Debug)]
struct Process {
    identity: Identity,
    /// By address; they don't overlap.
    mappings: Vec<Mapping>,
    checked: Instant,
    looked: Instant,
    pause: Duration,
    used: u64,
}

/// All that is known; bounded, what was not used for the longest time is forgotten.
#[derive(Debug)]
pub(super) struct Known {
    processes: HashMap<u32, Process>,
    /// With the time of their last use.
    files: HashMap<Key, (u64, Arc<File>)>,
    /// Files that are held open at most.
    most: usize,
    /// The vDSO as a file, once it was needed.
    vdso: Option<Key>,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

impl Known {
    pub(super) fn new(files: usize) -> Known {
        Known { processes: HashMap::new(), files: HashMap::new(), most: files.max(1), vdso: None, uses: 0 }
    }

    fn tick(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Remembers a process. Costs little if that was done a moment ago.
    pub(super) fn note(&mut self, pid: u32) {
        let used = self.tick();
        if let Some(known) = self.processes.get_mut(&pid) {
            known.used = used;
            if known.checked.elapsed() < CHECK {
                return;
            }
            known.checked = Instant::now();
        }
        // Of one that is gone, what was known stays.
        let Some(identity) = Identity::of(pid) else { return };
        match self.processes.get_mut(&pid) {
            Some(known) if known.identity.is_still(identity) => {
                if known.looked.elapsed() >= known.pause {
                    known.pause = known.pause.saturating_mul(2).min(LONGEST_PAUSE);
                    self.look_again(pid, identity);
                }
            }
            // Another process, or another program in it.
            _ => {
                let now = Instant::now();
                let mappings = self.look(pid, &[]);
                self.make_room(pid, mappings.len());
                let process = Process { identity, mappings, checked: now, looked: now, pause: FIRST_PAUSE, used };
                self.processes.insert(pid, process);
            }
        }
    }

    /// Looks at a process again that has an address which no mapping explains: libraries are loaded late.
    pub(super) fn refresh(&mut self, pid: u32) {
        if let (Some(known), Some(identity)) = (self.processes.get(&pid), Identity::of(pid))
            && known.looked.elapsed() >= REFRESH
        {
            self.look_again(pid, identity);
        }
    }

    fn look_again(&mut self, pid: u32, identity: Identity) {
        let Some(known) = self.processes.get_mut(&pid) else { return };
        known.looked = Instant::now();
        // One that has ended and was not waited for has no mappings any more.
        if known.identity != identity {
            return;
        }
        let mut old = std::mem::take(&mut known.mappings);
        let new = self.look(pid, &old);
        // Those of libraries that were unloaded stay, for stacks that were captured before.
        old.retain(|old| {
            let next = new.partition_point(|new| new.end <= old.start);
            new.get(next).is_none_or(|new| old.end <= new.start)
        });
        // But not without end.
        old.truncate(process::MAX_MAPPINGS);
        let mut mappings = new;
        mappings.append(&mut old);
        mappings.sort_by_key(|mapping| mapping.start);
        self.make_room(pid, mappings.len());
        if let Some(known) = self.processes.get_mut(&pid) {
            known.mappings = mappings;
        }
    }

    /// Forgets processes until there is room for one with so many mappings.
    fn make_room(&mut self, pid: u32, mappings: usize) {
        let mut others: Vec<(u64, u32, usize)> = Vec::new();
        let all = self.processes.iter().filter(|&(&other, _)| other != pid);
        others.extend(all.map(|(&other, process)| (process.used, other, process.mappings.len())));
        let mut total: usize = mappings + others.iter().map(|&(.., count)| count).sum::<usize>();
        if others.len() < PROCESSES && total <= MAPPINGS {
            return;
        }
        others.sort_unstable();
        let mut left = others.len();
        for (_, other, count) in others {
            if left < PROCESSES && total <= MAPPINGS {
                break;
            }
            self.processes.remove(&other);
            total -= count;
            left -= 1;
        }
    }

    /// What is mapped now, with the files opened as far as that is possible. Those in `old` are not opened again.
    fn look(&mut self, pid: u32, old: &[Mapping]) -> Vec<Mapping> {
        let mut mappings = process::mappings(pid).unwrap_or_default();
        // More would only push each other out.
        let mut opens = self.most;
        for mapping in &mut mappings {
            let same = old.binary_search_by_key(&mapping.start, |old| old.start).ok().map(|at| &old[at]);
            let known = same.filter(|same| same.is(mapping)).and_then(|same| same.file);
            mapping.file = match known.filter(|key| self.files.contains_key(key)) {
                Some(key) => Some(key),
                None if opens > 0 => {
                    opens -= 1;
                    self.open_mapping(pid, mapping)
                }
                None => None,
            };
        }
        mappings
    }

    fn open_mapping(&mut self, pid: u32, mapping: &Mapping) -> Option<Key> {
        /// A 32-bit process has another vDSO.
        const FIRST_OF_64_BIT: u64 = 1 << 32;
        match &*mapping.path {
            "[vdso]" if mapping.start >= FIRST_OF_64_BIT => {
                if let Some(key) = self.vdso.filter(|key| self.files.contains_key(key)) {
                    return Some(key);
                }
                let fd = process::vdso().ok()?;
                let stat = rustix::fs::fstat(&fd).ok()?;
                let key = (stat.st_dev, stat.st_ino);
                self.vdso = Some(key);
                self.hold(fd, key, Path::new("[vdso]"));
                Some(key)
            }
            path if path.starts_with('/') => {
                let (fd, key) = process::open_mapped(pid, mapping).ok()?;
                self.hold(fd, key, Path::new(path));
                Some(key)
            }
            _ => None,
        }
    }

    /// Holds a file open, and closes the one that was not used for the longest time where there are many.
    pub(super) fn hold(&mut self, fd: OwnedFd, key: Key, path: &Path) -> Arc<File> {
        let used = self.tick();
        if let Some((last, file)) = self.files.get_mut(&key) {
            *last = used;
            return file.clone();
        }
        if self.files.len() >= self.most
            && let Some(oldest) = self.files.iter().min_by_key(|(_, (used, _))| *used).map(|(&key, _)| key)
        {
            self.files.remove(&oldest);
        }
        let file = Arc::new(File { number: used, fd, path: path.to_owned(), verdict: Mutex::default() });
        self.files.insert(key, (used, file.clone()));
        file
    }

    /// The mapping that an address is in.
    pub(super) fn mapping(&self, pid: u32, address: u64) -> Option<&Mapping> {
        let mappings = &self.processes.get(&pid)?.mappings;
        let end = mappings.partition_point(|mapping| mapping.start <= address);
        mappings.get(end.checked_sub(1)?).filter(|mapping| address < mapping.end)
    }

    /// The file behind a mapping; opened again if it was closed to make room.
    pub(super) fn file(&mut self, pid: u32, mapping: &Mapping) -> Option<Arc<File>> {
        let key = mapping.file?;
        if !self.files.contains_key(&key) && self.open_mapping(pid, mapping) != Some(key) {
            return None;
        }
        let used = self.tick();
        let (last, file) = self.files.get_mut(&key)?;
        *last = used;
        Some(file.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn process(used: u64, mappings: usize) -> Process {
        let now = Instant::now();
        let identity = Identity::of(std::process::id()).unwrap();
        let mapping = process::mappings(std::process::id()).unwrap().remove(0);
        Process { identity, mappings: vec![mapping; mappings], checked: now, looked: now, pause: FIRST_PAUSE, used }
    }

    /// Processes are forgotten in the order of their last use, for their number and for what they have mapped.
    #[test]
    fn what_is_known_is_bounded() {
        let mut known = Known::new(1);
        for pid in 0..1024 {
            known.make_room(pid, 1);
            known.processes.insert(pid, process(u64::from(pid), 1));
        }
        assert_eq!(known.processes.len(), PROCESSES);
        known.make_room(5, 2);
        assert_eq!(known.processes.len(), PROCESSES, "it has its place");
        known.make_room(2000, 1);
        assert!(known.processes.len() == PROCESSES - 1 && !known.processes.contains_key(&0));
        known.make_room(2000, MAPPINGS - 3);
        let mut left: Vec<u32> = known.processes.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [1021, 1022, 1023]);
    }

    /// As many files are held open as are allowed, those used last; a file that was closed is another when it is opened again.
    #[test]
    fn files_are_bounded() {
        let mut known = Known::new(2);
        let open = |name: &str| process::open_regular(Path::new(name)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut hold = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            let (fd, key) = open(path.to_str().unwrap());
            known.hold(fd, key, &path).number
        };
        let first = hold("a");
        let second = hold("b");
        assert_eq!(hold("a"), first);
        hold("c");
        assert_eq!(hold("a"), first);
        assert_ne!(hold("b"), second);
        assert_eq!(known.files.len(), 2);
    }
}
