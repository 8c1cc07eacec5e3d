//! Programs and libraries by path or by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use portcullis_ebpf::kernel::SourceError;

/// Where programs are looked for behind `PATH`, which `sudo` may have cut short.
const PROGRAMS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Where libraries are: the directories that the dynamic linker knows by itself, and those of Debian's architectures below them.
const LIBRARIES: [&str; 6] = ["/usr/local/lib64", "/usr/local/lib", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// The file that a path, the name of a program (`bash`) or of a library (`libc`, `c`, `libc.so.6`) means, without symbolic links:
/// one file has one name in grants and reports.
pub(super) fn find(binary: &str) -> Result<PathBuf, SourceError> {
    find_in(binary, &programs(), &libraries())
}

fn find_in(binary: &str, programs: &[PathBuf], libraries: &[PathBuf]) -> Result<PathBuf, SourceError> {
    let fail = |reason: String| SourceError { what: binary.to_owned(), reason };
    if binary.contains('/') {
        let path = fs::canonicalize(binary).map_err(|e| fail(e.to_string()))?;
        return if path.is_file() { Ok(path) } else { Err(fail("this is no file".to_owned())) };
    }
    let program = programs.iter().map(|directory| directory.join(binary)).find(|path| path.is_file());
    let found = program.or_else(|| libraries.iter().find_map(|directory| library(directory, binary)));
    let found = found.and_then(|path| fs::canonicalize(path).ok());
    found.ok_or_else(|| fail("there is no program or library of this name; a path would say which file is meant".to_owned()))
}

/// The library of a directory that goes by that name: the whole one, or without its version, or also without `lib`.
fn library(directory: &Path, name: &str) -> Option<PathBuf> {
    let exact = directory.join(name);
    if name.contains(".so") {
        return exact.is_file().then_some(exact);
    }
    let mut files: Vec<String> = fs::read_dir(directory).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    // With several versions the last one.
    files.sort_unstable();
    let is_it = |file: &str| {
        let bare = file.split_once(".so").filter(|(_, rest)| rest.is_empty() || rest.starts_with('.')).map(|(bare, _)| bare);
        bare.is_some_and(|bare| bare == name || bare.strip_prefix("lib") == Some(name))
    };
    // A development package's `libc.so` may be a text for the linker.
    let versioned = files.iter().rev().filter(|file| is_it(file)).min_by_key(|file| file.ends_with(".so"));
    versioned.map(|file| directory.join(file)).filter(|path| path.is_file())
}

fn programs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
    directories.extend(PROGRAMS.map(PathBuf::from));
    directories
}

fn libraries() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for directory in LIBRARIES.map(PathBuf::from) {
        let below = fs::read_dir(&directory).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
        let own = format!("{}-linux-gnu", std::env::consts::ARCH);
        directories.extend(below.filter(|path| path.file_name().is_some_and(|name| *name == *own)));
        directories.push(directory);
    }
    directories
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Paths are taken as they are; names are those of programs first, then of libraries, in each of their forms.
    #[test]
    fn names() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let (bin, lib) = (root.join("bin"), root.join("lib"));
        for path in ["bin/tool", "lib/libc.so.6", "lib/libc.so", "lib/libcrypto.so.3", "lib/libcrypto.so.1.1", "lib/libtool.so"] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
        std::os::unix::fs::symlink(bin.join("tool"), bin.join("link")).unwrap();
        let check = |name: &str, expect: Option<&str>| {
            let found = find_in(name, std::slice::from_ref(&bin), std::slice::from_ref(&lib)).ok();
            assert_eq!(found, expect.map(|path| root.join(path)), "{name}");
        };
        check("tool", Some("bin/tool"));
        check("link", Some("bin/tool"));
        check("libtool", Some("lib/libtool.so"));
        check("libc", Some("lib/libc.so.6"));
        check("c", Some("lib/libc.so.6"));
        check("libc.so.6", Some("lib/libc.so.6"));
        check("crypto", Some("lib/libcrypto.so.3"));
        check(bin.join("link").to_str().unwrap(), Some("bin/tool"));
        check(bin.to_str().unwrap(), None);
        check("libcry", None);
        check("", None);
    }
}
