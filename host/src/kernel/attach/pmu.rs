//! The sources of perf events that come with a number of their own: `kprobe` and `uprobe`.

use std::{fs, io, path::Path};

use portcullis_ebpf::kernel::SourceError;

use super::AttachError;

const SOURCES: &str = "/sys/bus/event_source/devices";

/// A source of perf events.
pub(in crate::kernel) struct Pmu {
    /// `perf_event_attr.type`.
    pub(super) kind: u32,
    /// The bit of `perf_event_attr.config` that says that a function returns.
    returns: u32,
    /// The bits of `perf_event_attr.config` in which the place of a counter in the file stands. Since Linux 4.20.
    semaphore: Option<(u32, u32)>,
}

/// A source by its name; `None` if the kernel has none of that name.
pub(in crate::kernel) fn find(name: &str) -> Result<Option<Pmu>, SourceError> {
    find_in(&Path::new(SOURCES).join(name))
}

fn find_in(directory: &Path) -> Result<Option<Pmu>, SourceError> {
    let read = |file: &str| {
        let path = directory.join(file);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(SourceError { what: path.display().to_string(), reason: e.to_string() }),
        };
        Ok(Some((path, text.trim().to_owned())))
    };
    let strange = |(path, text): (std::path::PathBuf, String)| SourceError {
        what: path.display().to_string(),
        reason: format!("`{text}` is not what was expected there"),
    };
    let Some(kind) = read("type")? else { return Ok(None) };
    let kind = kind.1.parse().map_err(|_| strange(kind))?;
    let returns = match read("format/retprobe")? {
        Some(format) => bits(&format.1).ok_or_else(|| strange(format))?.0,
        // What it has been since there are such sources.
        None => 0,
    };
    let semaphore = read("format/ref_ctr_offset")?.map(|format| bits(&format.1).ok_or_else(|| strange(format))).transpose()?;
    Ok(Some(Pmu { kind, returns, semaphore }))
}

/// The first and the last bit of `config:32-63` or `config:0`.
fn bits(format: &str) -> Option<(u32, u32)> {
    let bits = format.strip_prefix("config:")?;
    let (first, last) = bits.split_once('-').unwrap_or((bits, bits));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < 64).then_some((first, last))
}

impl Pmu {
    /// What `config` says of a place where a function returns, or begins.
    pub(super) fn returns(&self, returns: bool) -> u64 {
        u64::from(returns) << self.returns
    }

    /// What `config` says of a counter at that byte of the file; 0 is none.
    pub(super) fn semaphore(&self, offset: u64) -> Result<u64, AttachError> {
        if offset == 0 {
            return Ok(0);
        }
        let what = "counters of those who listen (USDT semaphores), which it has since Linux 4.20";
        let (first, last) = self.semaphore.ok_or_else(|| AttachError::NoTarget(what.to_owned()))?;
        if offset.checked_shr(last - first + 1).unwrap_or(0) > 0 {
            return Err(AttachError::NoTarget(format!("way to count those who listen at byte {offset} of a file")));
        }
        Ok(offset << first)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A source says of itself which bits mean what; one that is not there is none.
    #[test]
    fn sources() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(find_in(&path.join("kprobe")).unwrap().is_none());
        let write = |file: &str, text: &str| {
            fs::create_dir_all(path.join("format")).unwrap();
            fs::write(path.join(file), text).unwrap();
        };
        write("type", "8\n");
        let plain = find_in(path).unwrap().unwrap();
        assert_eq!((plain.kind, plain.returns(true), plain.returns(false), plain.semaphore(0).unwrap()), (8, 1, 0, 0));
        assert!(plain.semaphore(0x1000).is_err());
        write("format/retprobe", "config:2\n");
        write("format/ref_ctr_offset", "config:32-63\n");
        let full = find_in(path).unwrap().unwrap();
        assert_eq!((full.returns(true), full.semaphore(0x1000).unwrap()), (4, 0x1000 << 32));
        assert!(full.semaphore(1 << 32).is_err());
        for text in ["config:", "config:63-32", "config:64", "config1:0-63", "x"] {
            write("format/retprobe", text);
            assert!(find_in(path).is_err(), "{text}");
        }
    }
}
