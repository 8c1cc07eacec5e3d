//! The states of a run in the kernel, as types, so that no step can be skipped:
//!
//! ```text
//! Compiled --load--> Loaded --attach--> Attached --open--> Open --close--> Closed --detach-->
//! ```
//!
//! Each step takes the state before it. A step that fails drops it, and with it everything that was made: every map, program and
//! link is owned by the state and gone with it. So is a run whose host is killed, since the kernel closes its descriptors.
//!
//! Plugin *i* of a session has bit *i* of the gate; its programs must have been compiled for that bit, or without a gate if the
//! session has none. Then attaching is opening, and closing is detaching and a grace period.

mod closed;
mod error;
mod open;
mod parts;

use std::{io, sync::Arc};

pub use closed::{Closed, InFlight, Misses};
pub use error::Error;
pub use open::Open;
use parts::Parts;
use portcullis_ebpf::{Program, Scope};

use crate::{
    clock,
    contract::Interval,
    kernel::{Attaching, PluginMaps, Processes, Ring, RunningKernel},
};

/// A plugin of a session.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its name, for errors.
    pub name: String,
    /// Its probes, compiled.
    pub compiled: portcullis_ebpf::Compiled,
    /// The size of its ring: bytes, a power of two and a multiple of the page size.
    pub ring: u32,
}

/// What all plugins of a session share.
#[derive(Clone, Debug)]
pub struct Config {
    /// Programs are compiled with the gate.
    pub gate: bool,
    /// The scope for which they are compiled.
    pub scope: Scope,
    /// The session's own program, which keeps the process table up to date. It is attached before all others, detached after
    /// them, and knows no gate.
    pub tracker: Option<Program>,
}

/// Compiled: nothing is in the kernel yet.
#[derive(Debug)]
pub struct Compiled {
    plugins: Vec<Plugin>,
    config: Config,
}

impl Compiled {
    /// Puts a session together.
    ///
    /// # Errors
    /// If there are more plugins than bits in the gate, or a scope that only a tracker fills has none.
    pub fn new(plugins: Vec<Plugin>, config: Config) -> Result<Compiled, Error> {
        if plugins.len() > portcullis_ebpf::gate::BITS {
            return Err(Error::TooManyPlugins(plugins.len()));
        }
        if config.scope == Scope::Marked && config.tracker.is_none() {
            return Err(Error::NoTracker);
        }
        Ok(Compiled { plugins, config })
    }

    /// Makes all maps and loads all programs. Nothing is attached, so nothing runs.
    pub fn load(self, kernel: &RunningKernel) -> Result<Loaded<'_>, Error> {
        Ok(Loaded { parts: Parts::load(self.plugins, self.config, kernel)?, kernel })
    }
}

/// Loaded: every program has passed the verifier.
#[derive(Debug)]
pub struct Loaded<'k> {
    parts: Parts,
    kernel: &'k RunningKernel,
}

impl Loaded<'_> {
    /// Attaches every program of every plugin, or none.
    pub fn attach(mut self) -> Result<Attached, Error> {
        let parts = &mut self.parts;
        let _attaching = Attaching::begin();
        if let Some(own) = &mut parts.tracker {
            own.attach(self.kernel).map_err(|source| Error::tracker(&own.program, source))?;
        }
        let earliest = clock::now();
        for plugin in &mut parts.plugins {
            for program in &mut plugin.programs {
                if let Err(source) = program.attach(self.kernel) {
                    return Err(Error::attach(&plugin.name, &plugin.compiled, &program.program, source));
                }
            }
        }
        let attached = Interval { earliest, latest: clock::now() };
        Ok(Attached { parts: self.parts, attached })
    }
}

/// Attached: programs run, and do nothing while the gate is closed.
#[derive(Debug)]
pub struct Attached {
    parts: Parts,
    attached: Interval,
}

impl Attached {
    /// Before the first and after the last program of a plugin was attached.
    pub fn attached(&self) -> Interval {
        self.attached
    }

    /// Opens the gate for all plugins by one store. Without a gate this does nothing: the programs have recorded since they were
    /// attached.
    pub fn open(self) -> Open {
        Open::new(self.parts, self.attached)
    }
}

/// What is there from the loading on.
macro_rules! shared {
    ($($state:ty),*) => { $(
        impl $state {
            /// The process table. Host and workers belong into it before the attaching if there is no gate, else before the
            /// opening; this process is there already.
            pub fn processes(&self) -> Arc<Processes> {
                Arc::clone(&self.parts.processes)
            }

            /// The ring of a plugin, once; `None` if it was taken, or if the plugin emits nothing.
            pub fn take_ring(&mut self, plugin: usize) -> Option<Ring> {
                self.parts.plugins.get_mut(plugin)?.ring.take()
            }

            /// The maps that a plugin's probes name. They can be read on another thread, also after the close.
            ///
            /// # Errors
            /// If there are no more descriptors.
            pub fn maps(&self, plugin: usize) -> io::Result<PluginMaps> {
                let plugin = self.parts.plugins.get(plugin);
                plugin.map_or_else(|| Ok(PluginMaps::new(Vec::new())), parts::PluginParts::plugin_maps)
            }
        }
    )* };
}
shared!(Loaded<'_>, Attached, Open);

#[cfg(test)]
mod tests;
