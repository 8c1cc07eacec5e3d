//! Puts the component of the plugin `adhoc` into the executable, for those who ask: see `src/shipped.rs`.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    say("rustc-check-cfg=cfg(portcullis_adhoc)");
    // With these lines cargo does not run this again for any other change.
    say("rerun-if-changed=build.rs");
    say("rerun-if-env-changed=PORTCULLIS_ADHOC");
    if let Some(component) = env::var_os("PORTCULLIS_ADHOC") {
        let out = env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
        let component = Path::new(&component);
        fs::copy(component, Path::new(&out).join("adhoc.wasm"))
            .map_err(|error| format!("PORTCULLIS_ADHOC: can't copy {}: {error}", component.display()))?;
        say(&format!("rerun-if-changed={}", component.display()));
        say("rustc-cfg=portcullis_adhoc");
    }
    Ok(())
}

/// Tells cargo something.
#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("cargo::{line}");
}
