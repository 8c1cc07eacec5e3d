//! What this kernel lets this user do: everything is tried or read, nothing is told from a version.
//!
//! | room | what |
//! |---|---|
//! | `user` | who runs this, and with which capabilities |
//! | `machine` | what the kernel says of itself and how it is set |
//! | `probes` | maps, programs and attach points, by the way that a run takes |
//! | `cage` | what the host's own processes lock themselves in with |
//! | `text` | how it is printed |

mod cage;
mod machine;
mod probes;
mod text;
mod user;

pub use text::write;

use serde::Serialize;

use crate::kernel::RunningKernel;

/// The group of [`Finding`]s about attach points.
const ATTACH: &str = "attach points";

/// One thing that is so or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub name: String,
    /// What it belongs to.
    pub group: &'static str,
    /// It is as it should be.
    pub ok: bool,
    /// What was found: a value, or the reason.
    pub detail: String,
    /// What to do about it, if anything.
    pub way_out: Option<String>,
}

impl Finding {
    fn yes(group: &'static str, name: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { name: name.into(), group, ok: true, detail: detail.into(), way_out: None }
    }

    fn no(group: &'static str, name: impl Into<String>, detail: impl Into<String>, way_out: impl Into<String>) -> Finding {
        Finding { name: name.into(), group, ok: false, detail: detail.into(), way_out: Some(way_out.into()) }
    }
}

/// Looks at everything. Programs are attached behind a closed gate to what hardly ever happens, and are gone when this returns.
pub fn examine() -> Vec<Finding> {
    let user = user::User::this();
    let mut findings = machine::about(&user);
    findings.extend(user.findings());
    findings.extend(machine::settings(&user));
    match RunningKernel::open() {
        Ok(kernel) => findings.extend(probes::tried(&kernel, &user)),
        Err(error) => findings.push(Finding::no(
            ATTACH,
            "any",
            format!("without the kernel's types no probe can be compiled: {error}"),
            "take a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        )),
    }
    findings.extend(cage::findings());
    findings
}

/// Whether some probe can be attached at all.
pub fn can_trace(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.group == ATTACH && finding.ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One attach point is enough, and what is not one does not count.
    #[test]
    fn verdict() {
        let (yes, no) = (Finding::yes(ATTACH, "one", ""), Finding::no(ATTACH, "other", "", ""));
        let other = Finding::yes("settings", "one", "");
        assert!(can_trace(&[no.clone(), yes]));
        assert!(!can_trace(&[no, other]));
        assert!(!can_trace(&[]));
    }
}
