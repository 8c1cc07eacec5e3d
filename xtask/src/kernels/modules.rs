//! Modules of a kernel that test programs name: as a second archive behind the initial file system, whose first process loads them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    fetch::{Kernel, find},
    image::Image,
};
use crate::{place::Place, process::command};

/// What test programs name. Those that these need come by themselves.
const MODULES: [&str; 2] = ["nf_conntrack", "xfs"];
/// Where the machine has them, in the order of their names (`tests/src/machine.rs`).
const DIRECTORY: &str = "/modules";

/// The initial file system for one kernel: the one for all, and its modules. A kernel whose package has no modules has none.
pub(crate) fn with_modules(place: &Place, kernel: &Kernel, image: &Path) -> Result<PathBuf> {
    let root = place.target.join("kernels").join(kernel.series);
    let mut modules = Modules { root, names: Vec::new(), image: Image::default() };
    MODULES.iter().try_for_each(|name| modules.add(name))?;
    let mut bytes = fs::read(image).with_context(|| format!("can't read {}", image.display()))?;
    // The kernel unpacks archives that follow each other.
    bytes.extend(modules.image.bytes());
    let path = place.target.join(format!("kernels/{}.initramfs", kernel.series));
    fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

struct Modules {
    /// Where the kernel's package is unpacked.
    root: PathBuf,
    /// Those that are in the image.
    names: Vec<String>,
    image: Image,
}

impl Modules {
    /// Adds a module behind those that it needs.
    fn add(&mut self, name: &str) -> Result<()> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        // Before the others, so that a ring of them ends.
        self.names.push(name.to_owned());
        let plain = format!("{name}.ko");
        let fits = |file: &str| file.replace('-', "_").strip_prefix(&plain).is_some_and(|rest| matches!(rest, "" | ".xz"));
        let Some(path) = find(&self.root, &fits)? else { return Ok(()) };
        let bytes = read(&path)?;
        depends(&bytes).iter().try_for_each(|needed| self.add(needed))?;
        let number = self.image.len();
        self.image.file(&Path::new(DIRECTORY).join(format!("{number:03}-{name}.ko")), bytes)
    }
}

/// A module as it is loaded.
fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("can't read {}", path.display()));
    }
    let directory = path.parent().context("a file without a directory")?;
    let output = command("xz", directory).arg("-dc").arg(path).output().context("can't run xz (apt-get install xz-utils)")?;
    if !output.status.success() {
        bail!("xz can't unpack {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}

/// The modules that one needs: `depends=a,b` of its section `.modinfo`, texts that end with zero.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Vec::new() };
    let text = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(text).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::depends;

    /// What a module says of itself stands between zeroes.
    #[test]
    fn needs() {
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=libcrc32c,nf-defrag\0name=x\0"), ["libcrc32c", "nf_defrag"]);
        assert_eq!(depends(b"license=GPL\0depends=\0name=x\0"), [""; 0]);
        assert_eq!(depends(b"not a module"), [""; 0]);
    }
}
