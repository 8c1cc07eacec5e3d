//! The plugin that ships with the host: `adhoc`, which `portcullis trace` runs.
//!
//! A component can't be a dependency of a native crate: cargo builds it for another target, by another command. So there are two
//! ways. A build with `PORTCULLIS_ADHOC=FILE` in its environment (`cargo xtask dist`) has the component in the executable. Every
//! other build looks for it beside the executable when it runs, which in a checkout is where `cargo xtask plugins` puts it. Thus
//! the ordinary `cargo build`, `clippy` and `test` never see a component change, and never build the host anew because of one.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The component, if this build has it.
#[cfg(portcullis_adhoc)]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/adhoc.wasm")));
#[cfg(not(portcullis_adhoc))]
const EMBEDDED: Option<&[u8]> = None;

/// Where the component is looked for, from the directory of the executable: beside it, where packages install it, and where
/// `cargo xtask plugins` puts it (the executable is in `target/release`).
const PLACES: [&str; 3] = ["adhoc.wasm", "../lib/portcullis/plugins/adhoc.wasm", "../plugins/adhoc.wasm"];

/// The component is nowhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "the plugin `adhoc`, which runs programs, is not there: looked for {}; in a checkout, `cargo xtask plugins` builds it",
    .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
)]
pub struct NotShipped(Vec<PathBuf>);

/// What the component is called, and the component itself where it is in the executable.
pub fn adhoc() -> Result<(PathBuf, Option<&'static [u8]>), NotShipped> {
    if EMBEDDED.is_some() {
        return Ok(("adhoc".into(), EMBEDDED));
    }
    let executable = env::current_exe().unwrap_or_default();
    let directory = executable.parent().unwrap_or(Path::new("."));
    let places: Vec<PathBuf> = PLACES.iter().map(|place| directory.join(place)).collect();
    match places.iter().find(|path| path.is_file()) {
        Some(path) => Ok((path.clone(), None)),
        None => Err(NotShipped(places)),
    }
}
