//! Why a session did not come to be.

use portcullis_ebpf::{
    Compiled, Hook, Program,
    output::{Ends, Moment},
};

use crate::kernel::{LoadError, MapError, SysError, attach::AttachError};

/// Nothing was recorded, and nothing is left in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More plugins than the gate has bits.
    #[error("{more} plugins beside {there} in one run: {max} at most, one for each bit of the gate", max = portcullis_ebpf::gate::BITS)]
    TooManyPlugins {
        /// How many there are.
        there: usize,
        /// How many were to join them.
        more: usize,
    },
    /// Nothing can join by a store.
    #[error("this run has no gate (`start.gate = false` or --no-gate), so plugins can't join it or take the place of others")]
    NoGate,
    /// A bit that had an owner can't be given to another.
    #[error("the kernel refused to wait for the programs of plugins that have left: {0}")]
    Grace(SysError),
    /// The scope is that of a command, and nothing follows the command's children.
    #[error("a run in the scope of a command needs programs that follow its children: a bug of Portcullis, please report it")]
    NoTracker,
    /// Process ids here are not those that programs see.
    #[error(
        "this is a container with process ids of its own, which the kernel's probes do not know; run Portcullis in the host's pid \
         namespace (docker run --pid=host)"
    )]
    PidNamespace,
    /// A map of the session.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A map of a plugin.
    #[error("plugin `{plugin}`: {source}")]
    PluginMap {
        /// The plugin.
        plugin: String,
        /// Why.
        source: MapError,
    },
    /// One of the session's own programs.
    #[error("the program `{program}`, which follows the processes of the command: {source}")]
    Tracker {
        /// The program.
        program: String,
        /// Why: a [`LoadError`] or an [`AttachError`].
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program of a plugin was not loaded.
    #[error("plugin `{plugin}`, {probes}: {source}")]
    Load {
        /// The plugin.
        plugin: String,
        /// Its probes that the program serves, in words.
        probes: String,
        /// Why.
        source: LoadError,
    },
    /// A program of a plugin was not attached.
    #[error("plugin `{plugin}`, {probes}: cannot attach to {point}: {source}")]
    Attach {
        /// The plugin.
        plugin: String,
        /// Its probes that the program serves, in words.
        probes: String,
        /// Where it should attach.
        point: String,
        /// Why not.
        source: AttachError,
    },
}

impl Error {
    pub(super) fn load(plugin: &str, compiled: &Compiled, program: &Program, source: LoadError) -> Error {
        Error::Load { plugin: plugin.to_owned(), probes: probes(compiled, program), source }
    }

    pub(super) fn tracker(program: &Program, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Tracker { program: program.name.clone(), source: Box::new(source) }
    }

    pub(super) fn attach(plugin: &str, compiled: &Compiled, program: &Program, source: AttachError) -> Error {
        Error::Attach { plugin: plugin.to_owned(), probes: probes(compiled, program), point: point(&program.hook), source }
    }
}

/// The probes that a program serves: at most three by name.
fn probes(compiled: &Compiled, program: &Program) -> String {
    let names: Vec<_> = program.probes.iter().filter_map(|i| compiled.probes.get(*i)).map(|p| format!("`{}`", p.name)).collect();
    match names.as_slice() {
        [] => format!("program `{}`", program.name),
        [one] => format!("probe {one}"),
        [a, b] => format!("probes {a} and {b}"),
        [a, b, c] => format!("probes {a}, {b} and {c}"),
        [a, b, rest @ ..] => format!("probes {a}, {b} and {} more", rest.len()),
    }
}

/// A hook in the notation of attach points.
pub(super) fn point(hook: &Hook) -> String {
    match hook {
        Hook::TpBtf { name } => format!("rawtracepoint:{name}"),
        Hook::PerfTracepoint { category, name } => format!("tracepoint:{category}:{name}"),
        Hook::Kprobe { function, returns: true, .. } => format!("kretprobe:{function}"),
        Hook::Kprobe { function, offset: 0, .. } => format!("kprobe:{function}"),
        Hook::Kprobe { function, offset, .. } => format!("kprobe:{function}+{offset}"),
        Hook::Fentry { module, function, returns } => {
            let kind = if *returns { "fexit" } else { "fentry" };
            let module = module.as_ref().map(|module| format!("{module}:")).unwrap_or_default();
            format!("{kind}:{module}{function}")
        }
        Hook::Lsm { hook } => format!("lsm:{hook}"),
        Hook::Uprobe { path, offset, returns, .. } => {
            format!("{}:{path}:{offset:#x}", if *returns { "uretprobe" } else { "uprobe" })
        }
        Hook::KprobeMulti { places, ends } => {
            let kind = if *ends == Ends::Return { "kretprobe" } else { "kprobe" };
            let first = places.first().map_or("", |place| &place.function);
            format!("{kind}:{first}{}", more(places.len()))
        }
        Hook::UprobeMulti { path, places, ends } => {
            let kind = if *ends == Ends::Return { "uretprobe" } else { "uprobe" };
            let first = places.first().map_or(0, |place| place.offset);
            format!("{kind}:{path}:{first:#x}{}", more(places.len()))
        }
        Hook::PerfEvent { kind, config, .. } => format!("perf event {kind}:{config}"),
        Hook::Breakpoint { address, length, .. } => format!("watchpoint:{address:#x}:{length}"),
        Hook::Iter { name } => format!("iter:{name}"),
        Hook::Host(Moment::Begin) => "begin".to_owned(),
        Hook::Host(Moment::End) => "end".to_owned(),
    }
}

/// The other places of a link.
fn more(places: usize) -> String {
    if places > 1 { format!(" and {} more", places - 1) } else { String::new() }
}
