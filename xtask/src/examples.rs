//! Building the example plugin `opens-by-comm` in each language, with the commands of its README.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    place::{Place, is_fresh},
    plugins::{self, PROFILE, TARGET},
    process::{command, output, run as execute},
    tools,
};

/// The example in Rust.
pub(crate) const RUST_PACKAGE: &str = "portcullis-example-opens-by-comm";

/// Builds the examples into `target/examples`.
pub(crate) fn run(place: &Place) -> Result<()> {
    plugins::ensure_target(place)?;
    rust(place)?;
    c(place)?;
    python(place)
}

/// Where a language's sources are.
fn source(place: &Place, language: &str) -> PathBuf {
    place.root.join("examples/opens-by-comm").join(language)
}

/// Where a language's component and what leads to it are built, made anew.
fn workshop(place: &Place, language: &str) -> Result<PathBuf> {
    let directory = place.target.join("examples").join(language);
    fs::create_dir_all(&directory).with_context(|| format!("can't create {}", directory.display()))?;
    Ok(directory)
}

fn rust(place: &Place) -> Result<()> {
    plugins::build(place, &[RUST_PACKAGE.to_owned()])?;
    let component = place.target.join(TARGET).join(PROFILE).join("opens_by_comm.wasm");
    place.publish(&component, "examples", "opens-by-comm-rust")
}

fn c(place: &Place) -> Result<()> {
    let (source, workshop, contract) = (source(place, "c"), workshop(place, "c")?, place.root.join("wit"));
    let component = workshop.join("opens-by-comm-c.wasm");
    let (bindgen, python) = (tools::wit_bindgen(place)?, tools::python(place)?);
    if !is_fresh(&component, &[&source, &contract, &bindgen]) {
        execute(command(bindgen, &place.root).args(["c", "--world", "plugin", "--out-dir"]).arg(&workshop).arg(contract))?;
        for (from, to) in [(workshop.join("plugin.c"), "plugin.o"), (source.join("opens_by_comm.c"), "opens_by_comm.o")] {
            let mut compile = command(python.join("python"), &workshop);
            compile.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-Wall", "-Wextra", "-I.", "-c"]).arg(from);
            // Or it would keep its cache in the user's home.
            compile.env("ZIG_GLOBAL_CACHE_DIR", workshop.join("cache"));
            execute(compile.args(["-o", to]))?;
        }

        // Linker and C library come with rustup's target.
        let rustc = |what| output(command("rustc", &place.root).args(["--print", what])).map(|text| text.trim_end().to_owned());
        let library = PathBuf::from(rustc("sysroot")?).join("lib/rustlib");
        let (linkers, libc) = (library.join(rustc("host-tuple")?).join("bin"), library.join(TARGET).join("lib/self-contained"));
        let mut link = command(linkers.join("wasm-component-ld"), &workshop);
        link.arg("--wasm-ld-path").arg(linkers.join("gcc-ld/wasm-ld"));
        link.args(["--entry", "_initialize", "--strip-all", "-o"]).arg(&component).arg(libc.join("crt1-reactor.o"));
        link.args(["opens_by_comm.o", "plugin.o", "plugin_component_type.o"]).arg(libc.join("libc.a"));
        execute(&mut link)?;
    }
    place.publish(&component, "examples", "opens-by-comm-c")
}

fn python(place: &Place) -> Result<()> {
    let (source, workshop, contract) = (source(place, "python"), workshop(place, "python")?, place.root.join("wit"));
    let component = workshop.join("opens-by-comm-python.wasm");
    let componentize = tools::python(place)?.join("componentize-py");
    if !is_fresh(&component, &[&source.join("opens_by_comm.py"), &contract, &componentize]) {
        let mut command = command(&componentize, &workshop);
        command.arg("--wit-path").arg(contract).args(["--world", "plugin", "componentize", "--python-path"]).arg(source);
        execute(command.args(["opens_by_comm", "--output"]).arg(&component))?;
    }
    place.publish(&component, "examples", "opens-by-comm-python")
}
