//! Asks the symbolizer about files, and puts up with those that it fails at.

use std::{
    fmt::Write as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
};

use super::{
    Options,
    helper::{Failure, Helper},
    known::{File, Verdict},
    process,
    protocol::{Links, Request, Response},
};

/// So many times the symbolizer may fail at a file: after the second, source lines are no longer asked for; after the third,
/// nothing is.
pub(super) const STRIKES: u8 = 3;

#[derive(Debug)]
pub(super) struct Asker {
    /// Where debug files are.
    debug: PathBuf,
    pub(super) helper: Helper,
}

fn verdict(file: &File) -> MutexGuard<'_, Verdict> {
    file.verdict.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Asker {
    pub(super) fn new(options: &Options) -> Asker {
        Asker { debug: options.debug.clone(), helper: Helper::new(options.clone()) }
    }

    /// Asks about a file, by its number and the number of strikes that it has. If the symbolizer fails at it, it is asked again.
    pub(super) fn ask(&mut self, file: &File, request: impl Fn(u64, u8) -> Request) -> Result<Response, Failure> {
        loop {
            let strikes = {
                let verdict = verdict(file);
                if let Some(reason) = &verdict.refused {
                    return Err(Failure::Refused(reason.clone()));
                }
                verdict.strikes
            };
            self.helper.start()?;
            let answer = self.open(file).and_then(|()| self.helper.ask(&request(file.number, strikes), None));
            let mut verdict = verdict(file);
            match answer {
                Err(Failure::Lost(reason)) => {
                    verdict.strikes += 1;
                    if verdict.strikes >= STRIKES {
                        verdict.refused = Some(reason);
                    }
                }
                answer => {
                    // A single one may have had another cause.
                    if answer.is_ok() && verdict.strikes == 1 {
                        verdict.strikes = 0;
                    }
                    return answer;
                }
            }
        }
    }

    /// Sees to it that the symbolizer has parsed a file, and looks for its debug file.
    fn open(&mut self, file: &File) -> Result<(), Failure> {
        if self.helper.has(file.number) {
            return Ok(());
        }
        let links = match self.helper.open(file.number, file.fd.as_fd()) {
            Ok(links) => links,
            Err(failure) => {
                if let Failure::Refused(reason) = &failure {
                    verdict(file).refused = Some(reason.clone());
                }
                return Err(failure);
            }
        };
        if links.debug {
            return Ok(());
        }
        for Candidate { path, trusted } in candidates(&self.debug, &file.path, &links) {
            // A link that someone laid beside a program would lead to any file.
            let opened = if trusted { process::open_regular(&path) } else { process::open_unlinked(&path) };
            let Ok((fd, _)) = opened else { continue };
            match self.helper.ask(&Request::OpenDebug { file: file.number }, Some(fd.as_fd())) {
                Ok(Response::Debug(true)) => break,
                Err(Failure::Lost(reason)) => return Err(Failure::Lost(reason)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What may be the debug file of a file.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// It is below the directory of debug files, which is the administrator's, who lays links there.
    trusted: bool,
}

/// Where the debug information of a file may be. `links` is the symbolizer's word: it leads to no other file than such.
fn candidates(debug: &Path, path: &Path, links: &Links) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let mut id = String::new();
    for byte in &links.build_id {
        let _ = write!(id, "{byte:02x}");
    }
    if let Some((first, rest)) = id.split_at_checked(2)
        && !rest.is_empty()
    {
        candidates.push(Candidate { path: debug.join(".build-id").join(first).join(format!("{rest}.debug")), trusted: true });
    }
    let plain = |name: &&str| name.ends_with(".debug") && !name.contains(['/', '\0']);
    if let (Some(name), Some(directory)) = (links.name.as_deref().filter(plain), path.parent())
        && directory.is_absolute()
    {
        candidates.push(Candidate { path: directory.join(name), trusted: false });
        candidates.push(Candidate { path: directory.join(".debug").join(name), trusted: false });
        let below = debug.join(directory.strip_prefix("/").unwrap_or(directory)).join(name);
        candidates.push(Candidate { path: below, trusted: true });
    }
    candidates.retain(|candidate| candidate.path != path);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file says of its debug file leads to debug files alone.
    #[test]
    fn debug_files_are_debug_files() {
        let check = |name: Option<&str>, id: &[u8], expect: &[(&str, bool)]| {
            let links = Links { debug: false, build_id: id.to_vec(), name: name.map(str::to_owned) };
            let expect: Vec<Candidate> = expect.iter().map(|&(path, trusted)| Candidate { path: path.into(), trusted }).collect();
            assert_eq!(candidates(Path::new("/debug"), Path::new("/bin/x"), &links), expect, "{name:?} {id:?}");
        };
        check(None, &[], &[]);
        check(None, &[0xab], &[]);
        check(None, &[0xab, 0x01, 0xff], &[("/debug/.build-id/ab/01ff.debug", true)]);
        let beside = [("/bin/x.debug", false), ("/bin/.debug/x.debug", false), ("/debug/bin/x.debug", true)];
        check(Some("x.debug"), &[], &beside);
        check(Some("../etc/x.debug"), &[], &[]);
        check(Some("shadow"), &[], &[]);
        check(Some("shadow\0.debug"), &[], &[]);
        check(Some(""), &[], &[]);
        let links = Links { name: Some("x.debug".into()), ..Links::default() };
        assert_eq!(candidates(Path::new("/debug"), Path::new("[vdso]"), &links), []);
    }
}
