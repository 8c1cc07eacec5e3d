//! The states of a run in the kernel, as types, so that no step can be skipped:
//!
//! ```text
//! Compiled --load--> Loaded --attach--> Attached --open--> Open --close--> Closed --detach-->
//! ```
//!
//! Each step takes the state before it. A step that fails drops it, and with it everything that was made: every map, program and
//! link is owned by the state and gone with it. So is a run whose host is killed, since the kernel closes its descriptors.
//!
//! Plugin *i* of a session that is put together has bit *i* of the gate; its programs must have been compiled for that bit, or without a
//! gate if the session has none. Then attaching is opening, and closing is detaching and a grace period.
//!
//! Plugins that join an open session go the same way up to `Attached`, with bits that an [`Admission`] has taken for them, and are then
//! taken up by [`Open::join`]. A plugin has one number for as long as the session lasts.

mod account;
mod closed;
mod error;
mod member;
mod open;
mod parts;

use std::{io, sync::Arc};

pub use account::{Account, InFlight, Misses, Window};
pub use closed::Closed;
pub use error::Error;
pub use open::{Open, Refusal, Replaced};
use parts::{Bit, Parts, Shared};
use portcullis_ebpf::{Program, Scope};

use crate::{
    contract::{Interval, ProbeCounts, StreamCounts},
    kernel::{PluginMaps, Processes, Ring, RunningKernel, SysError},
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

/// Bits of the gate of an open session, for plugins that are to join it.
#[derive(Debug)]
pub struct Admission {
    shared: Arc<Shared>,
    bits: Vec<Bit>,
}

impl Admission {
    /// The bits, one for each plugin, for which their programs are to be compiled.
    pub fn bits(&self) -> impl Iterator<Item = u8> {
        self.bits.iter().map(|bit| bit.number)
    }
}

/// Compiled: nothing is in the kernel yet.
#[derive(Debug)]
pub struct Compiled {
    plugins: Vec<Plugin>,
    config: Config,
    admission: Option<Admission>,
    without_grace: bool,
}

impl Compiled {
    /// Puts a session together.
    ///
    /// # Errors
    /// If there are more plugins than bits in the gate, or a scope that only a tracker fills has none.
    pub fn new(plugins: Vec<Plugin>, config: Config) -> Result<Compiled, Error> {
        if plugins.len() > portcullis_ebpf::gate::BITS {
            return Err(Error::TooManyPlugins { there: 0, more: plugins.len() });
        }
        if config.scope == Scope::Marked && config.tracker.is_none() {
            return Err(Error::NoTracker);
        }
        Ok(Compiled { plugins, config, admission: None, without_grace: false })
    }

    /// The same without grace periods after a close. For the tests that prove that they are needed.
    #[doc(hidden)]
    #[must_use]
    pub fn without_grace(self) -> Compiled {
        Compiled { without_grace: true, ..self }
    }

    /// Plugins that are to join a session, compiled in the scope of that session for the bits that were taken for them, in this order.
    pub fn joining(plugins: Vec<Plugin>, scope: Scope, admission: Admission) -> Compiled {
        let config = Config { gate: admission.shared.gated, scope, tracker: None };
        Compiled { plugins, config, admission: Some(admission), without_grace: false }
    }

    /// Makes all maps and loads all programs. Nothing is attached, so nothing runs.
    pub fn load(self, kernel: &RunningKernel) -> Result<Loaded<'_>, Error> {
        let Admission { shared, bits } = match self.admission {
            Some(admission) => admission,
            None => {
                let shared = Shared::create(self.config.gate)?;
                Admission { bits: shared.take_bits(self.plugins.len())?, shared }
            }
        };
        let plugins = self.plugins.into_iter().zip(bits).collect();
        let mut parts = Parts::load(plugins, shared, self.config, kernel)?;
        parts.without_grace = self.without_grace;
        Ok(Loaded { parts, kernel })
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
        let attached = self.parts.attach(self.kernel)?;
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
        Open::new(self.parts, self.attached, None)
    }

    /// Opens the gate for some plugins; for the others [`Open::open`] can.
    pub fn open_some(self, plugins: &[usize]) -> Open {
        Open::new(self.parts, self.attached, Some(plugins))
    }
}

impl Open {
    /// Takes bits of the gate for `count` plugins that are to join.
    ///
    /// # Errors
    /// If there are not so many, or the session has no gate.
    pub fn admit(&self, count: usize) -> Result<Admission, Error> {
        let shared = Arc::clone(&self.parts.shared);
        if !shared.gated {
            return Err(Error::NoGate);
        }
        Ok(Admission { bits: shared.take_bits(count)?, shared })
    }
}

/// What is there from the loading on.
macro_rules! shared {
    ($($state:ty),*) => { $(
        impl $state {
            /// The process table. Host and workers belong into it before the attaching if there is no gate, else before the
            /// opening; this process is there already.
            pub fn processes(&self) -> Arc<Processes> {
                Arc::clone(&self.parts.shared.processes)
            }

            /// The ring of a plugin, once; `None` if it was taken, or if the plugin emits nothing.
            pub fn take_ring(&mut self, plugin: usize) -> Option<Ring> {
                self.parts.member_mut(plugin)?.ring.take()
            }

            /// The maps that a plugin's probes name. They can be read on another thread, also after the close.
            ///
            /// # Errors
            /// If there are no more descriptors.
            pub fn maps(&self, plugin: usize) -> io::Result<PluginMaps> {
                let plugin = self.parts.member(plugin);
                plugin.map_or_else(|| Ok(PluginMaps::new(Vec::new())), member::Member::plugin_maps)
            }
        }
    )* };
}
shared!(Loaded<'_>, Attached, Open);

/// What can be asked while programs run.
macro_rules! running {
    ($($state:ty),*) => { $(
        impl $state {
            /// What a plugin's programs have counted so far, and the spans that a pause has cut off; empty for a plugin that is not there.
            pub fn counts(&self, plugin: usize) -> (Vec<ProbeCounts>, Vec<StreamCounts>) {
                self.parts.member(plugin).map(member::Member::counts).unwrap_or_default()
            }
        }
    )* };
}
running!(Attached, Open);

/// What is there from the opening on.
macro_rules! counted {
    ($($state:ty),*) => { $(
        impl $state {
            /// All that happened to a plugin; `None` for one that is not there, or not any more.
            ///
            /// # Errors
            /// If the kernel does not say it.
            pub fn account(&self, plugin: usize) -> Result<Option<Account>, SysError> {
                self.parts.member(plugin).map(member::Member::account).transpose()
            }
        }
    )* };
}
counted!(Open, Closed);

#[cfg(test)]
mod tests;
