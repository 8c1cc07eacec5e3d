//! The tools of other languages, pinned, from their registries, in `target/tools`. Nothing is installed outside of it but, by
//! root, the distribution's python3-venv and qemu-system-x86 where they are missing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    place::Place,
    process::{cargo, command, is_root, output, run},
};

/// Generates C from WIT. The version of the Rust bindings in Cargo.toml.
const WIT_BINDGEN: &str = "0.61.1";
/// A C compiler for WebAssembly with its headers, as a Python package.
const ZIGLANG: &str = "0.15.2";
/// Python plugins.
const COMPONENTIZE_PY: &str = "0.25.1";
/// Debian's and Ubuntu's packages.
const APT: &str = "/usr/bin/apt-get";

/// Has `cargo SUBCOMMAND`, which a component of the toolchain brings, installed if it is not there: a minimal toolchain lacks it.
pub(crate) fn component(place: &Place, component: &str, subcommand: &str) -> Result<()> {
    if output(cargo(&place.root).args([subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    run(command("rustup", &place.root).args(["component", "add", component]))
        .with_context(|| format!("`cargo {subcommand}` is missing; with a Rust that is not rustup's, install its {component}"))
}

/// `wit-bindgen`.
pub(crate) fn wit_bindgen(place: &Place) -> Result<PathBuf> {
    let root = place.target.join("tools").join(format!("wit-bindgen-{WIT_BINDGEN}"));
    once(&root, |root| {
        let build = root.join("build");
        let mut install = cargo(&place.root);
        install.args(["install", "--quiet", "--locked", "wit-bindgen-cli", "--version", WIT_BINDGEN]);
        install.args(["--no-default-features", "--features", "c", "--root"]).arg(root);
        run(install.env("CARGO_TARGET_DIR", &build))?;
        fs::remove_dir_all(&build).with_context(|| format!("can't remove {}", build.display()))
    })?;
    Ok(root.join("bin/wit-bindgen"))
}

/// The directory of programs of a Python environment with ziglang and componentize-py.
pub(crate) fn python(place: &Place) -> Result<PathBuf> {
    let root = place.target.join("tools").join(format!("python-{ZIGLANG}-{COMPONENTIZE_PY}"));
    once(&root, |root| {
        environment(place, root)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let (zig, componentize) = (format!("ziglang=={ZIGLANG}"), format!("componentize-py=={COMPONENTIZE_PY}"));
        run(command(root.join("bin/python"), &place.root).args(pip).args([zig, componentize]))
    })?;
    Ok(root.join("bin"))
}

/// Makes an empty Python environment.
fn environment(place: &Place, root: &Path) -> Result<()> {
    let venv = |directory: &Path| run(command("python3", &place.root).args(["-m", "venv"]).arg(directory));
    let Err(error) = venv(root) else { return Ok(()) };
    // Debian and Ubuntu ship Python without what `venv` needs.
    if !Path::new(APT).exists() || !is_root() {
        return Err(error)
            .context("the examples need Python 3.10 or later with venv: `sudo apt-get install python3 python3-venv`");
    }
    remove(root)?;
    install(&["python3", "python3-venv"])?;
    venv(root)
}

/// The program that runs other kernels.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// Has it there.
pub(crate) fn qemu(place: &Place) -> Result<()> {
    let Err(error) = output(command(QEMU, &place.root).arg("--version")) else { return Ok(()) };
    let package = "qemu-system-x86";
    if !Path::new(APT).exists() || !is_root() {
        return Err(error).with_context(|| format!("{QEMU} is missing: `sudo apt-get install {package}`"));
    }
    install(&["--no-install-recommends", package])?;
    output(command(QEMU, &place.root).arg("--version"))?;
    Ok(())
}

/// Installs packages of the distribution.
fn install(packages: &[&str]) -> Result<()> {
    run(Command::new(APT).args(["-q", "update"]))?;
    run(Command::new(APT).args(["-q", "install", "-y"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Does `install` into a directory unless it was done to its end before.
pub(crate) fn once(root: &Path, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let done = root.join(".complete");
    if done.exists() {
        return Ok(());
    }
    remove(root)?;
    fs::create_dir_all(root).with_context(|| format!("can't create {}", root.display()))?;
    install(root)?;
    fs::write(&done, "").with_context(|| format!("can't write {}", done.display()))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("can't remove {}: {error}", directory.display()),
        _ => Ok(()),
    }
}
