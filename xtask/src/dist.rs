//! An executable that needs no file beside it.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    place::Place,
    plugins,
    process::{run as execute, say},
};

/// Builds the plugins, and with the one that `portcullis trace` runs the host.
///
/// Only here the host's build script gets to know the component (`host/src/shipped.rs` says why), so the host crate alone is built
/// once more by this, and once more by the next ordinary build.
pub(crate) fn run(place: &Place) -> Result<()> {
    plugins::run(place)?;
    let component = place.target.join("plugins/adhoc.wasm");
    let mut build = plugins::native(place, "build")?;
    execute(build.args(["--bin", "portcullis"]).env("PORTCULLIS_ADHOC", component))?;
    let directory = place.target.join("dist");
    let (built, executable) = (place.target.join("release/portcullis"), directory.join("portcullis"));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::copy(&built, &executable))
        .with_context(|| format!("can't copy {} to {}", built.display(), executable.display()))?;
    say(&format!("{} is complete in itself", executable.display()));
    Ok(())
}
