//! Bundles that are compiled once and run in each round anew.

use portcullis::{
    kernel::RunningKernel,
    session::{Attached, Compiled, Config, Loaded, Plugin},
};
use portcullis_ebpf::{
    Hook, Kernel, Options, ProbeSpec, processes,
    scope::{self, Children},
};

use super::{Lesser, Traced};
use crate::kernel::compile;

/// A bundle, compiled once and run in each round anew.
pub struct Experiment<'k> {
    pub(super) kernel: &'k RunningKernel,
    pub(super) plugins: Vec<portcullis_ebpf::Compiled>,
    options: Options,
    ring: u32,
    without_grace: bool,
}

impl<'k> Experiment<'k> {
    /// The probes of several plugins. With a gate the plugins have its bits from 0 on.
    pub fn new(kernel: &'k RunningKernel, plugins: &[Vec<ProbeSpec>], options: &Options) -> Experiment<'k> {
        Experiment::within(kernel, kernel, plugins, options)
    }

    /// The same, compiled for a kernel that can do less than the one that runs.
    pub fn within(
        kernel: &'k RunningKernel,
        compiled_for: &dyn Kernel,
        plugins: &[Vec<ProbeSpec>],
        options: &Options,
    ) -> Experiment<'k> {
        let compiled = (0..).zip(plugins).map(|(bit, specs)| {
            compile(compiled_for, specs, &Options { gate: options.gate.map(|_| bit), spans: 256, ..options.clone() })
        });
        Experiment { kernel, plugins: compiled.collect(), options: options.clone(), ring: 4 << 20, without_grace: false }
    }

    /// The same, closed without waiting.
    #[must_use]
    pub fn without_grace(self) -> Self {
        Experiment { without_grace: true, ..self }
    }

    /// The number of plugins.
    pub fn plugins(&self) -> usize {
        self.plugins.len()
    }

    /// The mechanism of a plugin's first probe.
    pub fn mechanism(&self) -> &str {
        &self.plugins[0].probes[0].mechanism
    }

    /// The same with one plugin more, compiled for another kernel, whose last program is to be attached to a tracepoint that no kernel
    /// has.
    #[must_use]
    pub fn with_impossible(mut self, specs: &[ProbeSpec]) -> Self {
        let plain = Lesser::new(self.kernel, self.kernel.features().plain());
        let gate = self.options.gate.map(|_| self.plugins.len() as u8);
        let mut compiled = compile(&plain, specs, &Options { gate, ..self.options.clone() });
        let last = compiled.programs.last_mut().expect("it has a program");
        last.hook = Hook::PerfTracepoint { category: "sched".to_owned(), name: "no_such_point".to_owned() };
        self.plugins.push(compiled);
        self
    }

    /// Loads and attaches, with these processes in scope.
    pub fn attach(&self, scope: &[u32]) -> Traced<'_, Attached> {
        self.load(scope).attach().unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// Loads, with these processes in scope.
    pub fn load(&self, scope: &[u32]) -> Traced<'_, Loaded<'_>> {
        let tracker = scope::tracker(self.kernel, Children::Follow).expect("the tracker can be made");
        let config = Config { gate: self.options.gate.is_some(), scope: self.options.scope, tracker: Some(tracker) };
        let plugin = |(n, compiled): (usize, &portcullis_ebpf::Compiled)| Plugin {
            name: format!("plugin {n}"),
            compiled: compiled.clone(),
            ring: self.ring,
        };
        let compiled =
            Compiled::new(self.plugins.iter().enumerate().map(plugin).collect(), config).expect("the session is sound");
        let compiled = if self.without_grace { compiled.without_grace() } else { compiled };
        let mut loaded = compiled.load(self.kernel).unwrap_or_else(|e| panic!("{e}"));
        scope.iter().for_each(|pid| loaded.processes().mark(*pid, processes::IN_SCOPE));
        let rings = (0..self.plugins()).map(|plugin| loaded.take_ring(plugin)).collect();
        let maps = (0..self.plugins()).map(|plugin| loaded.maps(plugin).expect("maps can be read")).collect();
        Traced { session: loaded, experiment: self, rings, maps }
    }
}
