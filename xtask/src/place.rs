//! Where things are: the checkout, and cargo's target directory, which may be anywhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::process::{cargo, output};

/// The checkout and its target directory.
pub(crate) struct Place {
    /// The root of the checkout.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Place {
    pub(crate) fn find() -> Result<Place> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask/ has no parent directory")?.to_owned();
        let metadata = output(cargo(&root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let target = json_path(&metadata, "target_directory").context("`cargo metadata` names no target directory")?;
        Ok(Place { root, target })
    }

    /// Puts a component where bundles of this checkout look for it: into `target/KIND/NAME.wasm`, also when cargo builds
    /// elsewhere. A run that has the old file open keeps it.
    pub(crate) fn publish(&self, component: &Path, kind: &str, name: &str) -> Result<()> {
        let mut directories = vec![self.target.join(kind), self.root.join("target").join(kind)];
        directories.dedup();
        for directory in directories {
            fs::create_dir_all(&directory).with_context(|| format!("can't create {}", directory.display()))?;
            let (new, place) = (directory.join(format!(".{name}.new")), directory.join(format!("{name}.wasm")));
            fs::copy(component, &new)
                .and_then(|_| fs::rename(&new, &place))
                .with_context(|| format!("can't copy {} to {}", component.display(), place.display()))?;
        }
        Ok(())
    }
}

/// The first value of a key in what cargo prints as JSON.
pub(crate) fn json_path(text: &str, key: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once(&format!(r#""{key}":""#))?;
    let mut path = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(PathBuf::from(path)),
            // Of JSON's escapes only these can be in a path that a person would choose.
            '\\' => path.push(characters.next().filter(|c| matches!(c, '"' | '\\' | '/'))?),
            other => path.push(other),
        }
    }
}

/// `output` is there and not older than any of `inputs`, files or directories of files.
pub(crate) fn is_fresh(output: &Path, inputs: &[&Path]) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let Ok(built) = time(output) else { return false };
    inputs.iter().all(|input| {
        let files = fs::read_dir(input).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        let files: Vec<PathBuf> = files.unwrap_or_else(|_| vec![input.to_path_buf()]);
        files.iter().all(|file| time(file).is_ok_and(|changed| changed <= built))
    })
}

#[cfg(test)]
mod tests {
    use super::json_path;

    /// The target directory is read from cargo's metadata, escapes included.
    #[test]
    fn metadata() {
        let find = |text: &str| json_path(text, "target_directory").map(|path| path.display().to_string());
        assert_eq!(find(r#"{"a":1,"target_directory":"/x/y z","b":2}"#).as_deref(), Some("/x/y z"));
        assert_eq!(find(r#"{"target_directory":"/x\"y\\z"}"#).as_deref(), Some(r#"/x"y\z"#));
        assert_eq!(find(r#"{"target_directory":"/x"#), None);
        assert_eq!(find("{}"), None);
    }
}
