//! Building plugins: their target is WebAssembly, and their profile makes small components.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::{
    place::Place,
    process::{cargo, command, output, run as execute},
};

/// What plugins are built for.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// The profile in Cargo.toml.
pub(crate) const PROFILE: &str = "plugin";

/// Where there are plugins, and the names of their packages, less the plugin's own: the first-party ones, and those that tests need.
const ROOMS: [(&str, &str); 2] = [("plugins", "portcullis-plugin-"), ("tests/plugins", "portcullis-test-plugin-")];

/// Builds every plugin in [`ROOMS`] into `target/plugins`.
pub(crate) fn run(place: &Place) -> Result<()> {
    ensure_target(place)?;
    let plugins = all(place)?;
    build(place, &plugins.iter().map(|plugin| plugin.package.clone()).collect::<Vec<_>>())?;
    plugins.iter().try_for_each(|Plugin { name, .. }| {
        place.publish(&place.target.join(TARGET).join(PROFILE).join(format!("{name}.wasm")), "plugins", name)
    })
}

/// A plugin of this checkout.
struct Plugin {
    /// The name of its directory and of its library.
    name: String,
    package: String,
}

/// The plugins of all rooms.
fn all(place: &Place) -> Result<Vec<Plugin>> {
    let mut plugins = Vec::new();
    for (room, prefix) in ROOMS {
        plugins.extend(names(place, room)?.into_iter().map(|name| Plugin { package: format!("{prefix}{name}"), name }));
    }
    Ok(plugins)
}

/// The names of the plugins in a room: those of their directories.
fn names(place: &Place, room: &str) -> Result<Vec<String>> {
    let directory = place.root.join(room);
    let entries = fs::read_dir(&directory).with_context(|| format!("can't list {}", directory.display()))?;
    let with_manifest = entries.flatten().filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut names: Vec<String> = with_manifest.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// `cargo SUBCOMMAND` for everything that runs on this machine. Always for all packages at once, however few targets are wanted:
/// cargo chooses the features of dependencies by the packages, and for other features it would build wasmtime a second time.
pub(crate) fn native(place: &Place, subcommand: &str) -> Result<Command> {
    let mut cargo = cargo(&place.root);
    cargo.args([subcommand, "--release", "--workspace"]);
    for package in packages(place)? {
        cargo.arg("--exclude").arg(package);
    }
    Ok(cargo)
}

/// Every package that is built for [`TARGET`].
pub(crate) fn packages(place: &Place) -> Result<Vec<String>> {
    let mut packages: Vec<String> = all(place)?.into_iter().map(|plugin| plugin.package).collect();
    packages.push(crate::examples::RUST_PACKAGE.to_owned());
    Ok(packages)
}

/// Builds packages as components.
pub(crate) fn build(place: &Place, packages: &[String]) -> Result<()> {
    let mut cargo = cargo(&place.root);
    cargo.args(["build", "--profile", PROFILE, "--target", TARGET]);
    packages.iter().for_each(|package| {
        cargo.args(["--package", package]);
    });
    execute(&mut cargo)
}

/// Installs rustc's library for [`TARGET`] if it is not there.
pub(crate) fn ensure_target(place: &Place) -> Result<()> {
    let library = output(command("rustc", &place.root).args(["--print", "target-libdir", "--target", TARGET]))?;
    if fs::read_dir(library.trim_end()).is_ok_and(|mut files| files.next().is_some()) {
        return Ok(());
    }
    execute(command("rustup", &place.root).args(["target", "add", TARGET])).with_context(|| {
        format!("Rust's target {TARGET} is missing; with a Rust that is not rustup's, install the standard library for it")
    })
}
