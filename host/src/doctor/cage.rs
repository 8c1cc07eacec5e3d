//! What the host's own processes lock themselves in with ([`crate::cage`]).

use std::{io, path::Path, sync::Arc};

use super::Finding;
use crate::{
    cage::{self, Layer},
    contract::{Level, Limits, Table, TableRows},
    symbols::{self, Symbols},
    worker::{self, Output, Worker},
};

const GROUP: &str = "cage";

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = worker();
    findings.push(symbolizer());
    findings
}

/// A worker, started as for a run, which says how far it is locked in.
fn worker() -> Vec<Finding> {
    let options = worker::Options {
        name: "doctor".into(),
        limits: Limits::default(),
        output: Arc::new(Silent),
        executable: None,
        cache: None,
        whole_cage: false,
    };
    let missing = match Worker::try_cage(options) {
        Ok(missing) => missing,
        Err(error) => {
            let way_out = "without it no plugin can be run; this is an error in portcullis, or a kernel older than Linux 5.9";
            return vec![Finding::no(GROUP, "worker, locked in", error.cause.to_string(), way_out)];
        }
    };
    let finding = |layer: Layer| match missing.iter().find(|missing| missing.layer == layer) {
        Some(missing) => Finding::no(GROUP, layer.as_str(), missing.reason.as_str(), way_out(layer)),
        None => Finding::yes(GROUP, layer.as_str(), holds(layer)),
    };
    Layer::ALL.into_iter().map(finding).collect()
}

fn holds(layer: Layer) -> String {
    match (layer, cage::landlock_version()) {
        (Layer::Landlock, Some(version)) => format!("{}; version {version}", layer.holds()),
        _ => layer.holds().into(),
    }
}

fn way_out(layer: Layer) -> &'static str {
    match layer {
        Layer::PidNamespace => {
            "run as root, or give portcullis CAP_SYS_ADMIN; until then a worker sees the process ids of others"
        }
        Layer::UserNamespace => "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone",
        Layer::MountNamespace | Layer::NetNamespace | Layer::IpcNamespace | Layer::UtsNamespace | Layer::CgroupNamespace => {
            "run as root, or allow user namespaces with rights in them: sysctl user.max_user_namespaces, \
             kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns"
        }
        Layer::Landlock => {
            "take Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK=y, and `landlock` in the boot parameter `lsm=`"
        }
        Layer::Seccomp => {
            "take a kernel built with CONFIG_SECCOMP_FILTER=y; without it the symbolizer does not start, and user functions have no names"
        }
    }
}

/// Nobody hears a worker without a plugin.
#[derive(Debug)]
struct Silent;

impl Output for Silent {
    fn rows(&self, _: &str, _: &Table, _: &TableRows) -> io::Result<()> {
        Ok(())
    }

    fn line(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn log(&self, _: &str, _: Level, _: &str) {}

    fn metric(&self, _: &str, _: &str, _: f64) {}
}

/// The caged process, asked for a function of this program. Whether there is one does not matter.
fn symbolizer() -> Finding {
    let name = "symbolizer, locked in";
    let symbols = Symbols::new(&symbols::Options::default());
    match symbols.functions(Path::new("/proc/self/exe"), None, "main") {
        Ok(_) => Finding::yes(GROUP, name, "it runs and answers"),
        Err(error) => Finding::no(GROUP, name, error.to_string(), "see the lines above; without it user functions have no names"),
    }
}
