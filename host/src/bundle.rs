//! A bundle on its way to the kernel: plugins declare what they want, in their workers; the compiler makes programs of it; and what
//! the programs need is held against what is granted. Nothing is loaded here.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use anyhow::Context as _;
use portcullis_ebpf::{Compiled, DataClass, Diagnostic, Kernel, Limit, Options, ProbeSpec, Scope, needs::DataNeed};

use crate::{
    columns,
    contract::{self, Level},
    digest::Digest,
    doors::Doors,
    grants,
    lock::Lock,
    manifest,
    output::units,
    scope::{Granted, Limits},
    worker::{self, Component, Output, Worker},
};

/// How large a component can be. Python's, the largest known, have 20 MiB.
const MAX_COMPONENT: u64 = 64 << 20;

/// A component of this size, bytes, takes about a second to compile, after which a person wonders.
const LARGE_COMPONENT: usize = 4 << 20;

/// A plugin whose program is known.
#[derive(Debug)]
pub struct Declared {
    /// What the manifest says of it.
    pub plugin: manifest::Plugin,
    /// The process that it lives in.
    pub worker: Worker,
    /// Its component.
    pub component: Component,
    /// What it wants to trace.
    pub program: contract::Program,
}

/// A plugin whose probes are compiled.
#[derive(Debug)]
pub struct Built {
    /// What the manifest says of it.
    pub plugin: manifest::Plugin,
    /// The process that it lives in.
    pub worker: Worker,
    /// Its component.
    pub component: Component,
    /// Its probes, as it declares them.
    pub specs: Vec<ProbeSpec>,
    /// Its probes.
    pub compiled: Compiled,
    /// What it is granted to see is within all of these.
    pub granted: Vec<Limit>,
}

/// What is wrong with the probes of a bundle: for each error the plugin that it is in. Its `Display` is several lines an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(plugin, e)| format!("plugin \"{plugin}\": {e}")).collect::<Vec<_>>().join("\n"))]
pub struct SpecErrors(pub Vec<(String, Diagnostic)>);

/// Starts a worker for each plugin, all at once, and asks each for its program. A door is opened only if it is there, and if the lock,
/// where one is to hold, has approved it for this very component.
pub fn declare(plugins: &[manifest::Plugin], output: &Arc<dyn Output>, lock: Option<&Lock>) -> anyhow::Result<Vec<Declared>> {
    let mut workers = Vec::with_capacity(plugins.len());
    let cache = worker::Cache::of_user();
    for plugin in plugins {
        let component = match plugin.shipped {
            Some(bytes) => bytes.to_vec(),
            None => read_component(&plugin.source).with_context(|| format!("plugin \"{}\"", plugin.name))?,
        };
        let doors = plugin.grants.doors();
        if let Some(lock) = lock
            && !doors.is_shut()
        {
            lock.admit_doors(plugin, Digest::of(&component))?;
        }
        let opened = doors.open().with_context(|| format!("plugin \"{}\"", plugin.name))?;
        for sentence in grants::doors_in_words(&doors) {
            output.log(&plugin.name, Level::Info, &format!("it {} ({} risk)", sentence.text, sentence.risk));
        }
        for layer in opened.layers() {
            output.log(&plugin.name, Level::Info, &format!("its worker has no {layer} of its own, since a door is open"));
        }
        if component.len() >= LARGE_COMPONENT {
            output.log(
                &plugin.name,
                Level::Info,
                &format!("compiling {}, which takes some seconds", units::bytes(component.len() as u64)),
            );
        }
        let options = worker::Options {
            name: plugin.name.clone(),
            limits: plugin.limits,
            output: Arc::clone(output),
            executable: None,
            cache: cache.clone(),
            sandbox: plugin.sandbox,
            doors: opened,
        };
        workers.push((plugin, Worker::spawn(component, options)?));
    }
    let declared = workers.into_iter().map(|(plugin, mut worker)| {
        let place = || format!("plugin \"{}\": can't load {}", plugin.name, plugin.source.display());
        let component = worker.loaded().map_err(|error| error.cause).with_context(place)?.clone();
        let program = worker.configure(&plugin.config)?;
        Ok(Declared { plugin: plugin.clone(), worker, component, program })
    });
    declared.collect()
}

/// The plugins of a bundle for those who only look at them: as if none were limited to some tasks, and their workers to no user, since
/// such tasks and users need not be there; and with all doors shut, since nobody has said yet that they may be opened.
pub fn to_be_looked_at(plugins: &[manifest::Plugin]) -> Vec<manifest::Plugin> {
    let mut plugins = plugins.to_vec();
    for plugin in &mut plugins {
        plugin.grants.scope = Granted::default();
        plugin.grants.wasi = Doors::default();
        plugin.sandbox.user = None;
    }
    plugins
}

/// Says again of plugins that were looked at what their bundle grants them.
pub fn with_grants(built: &mut [Built], plugins: &[manifest::Plugin]) {
    for (built, plugin) in built.iter_mut().zip(plugins) {
        built.plugin.grants.clone_from(&plugin.grants);
    }
}

fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_COMPONENT + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("can't read {}", path.display()))?;
    if bytes.len() as u64 > MAX_COMPONENT {
        anyhow::bail!("{} is larger than {} MiB, which no component may be", path.display(), MAX_COMPONENT >> 20);
    }
    Ok(bytes)
}

/// The bits of the gate for the plugins of a run that begins: the plugin at position *n* has bit *n*. None without a gate.
pub fn bits(gate: bool) -> impl Iterator<Item = Option<u8>> {
    (0..).map(move |bit| gate.then_some(bit))
}

/// Compiles the probes of all plugins, each for its bit of the gate.
pub fn compile(
    declared: Vec<Declared>,
    kernel: &dyn Kernel,
    bits: impl Iterator<Item = Option<u8>>,
    scope: Scope,
    limits: Limits,
) -> anyhow::Result<Vec<Built>> {
    let mut built = Vec::with_capacity(declared.len());
    let mut wrong = Vec::new();
    for (bit, Declared { plugin, worker, component, program }) in bits.zip(declared) {
        let granted = plugin.grants.scope.limits();
        let granted = granted.with_context(|| format!("plugin \"{}\": its `grants.scope`", plugin.name))?;
        let specs: Vec<ProbeSpec> = program.probes.into_iter().map(spec).collect();
        // A reader that sleeps for 10 ms is woken before an eighth of the ring is full.
        let options = Options {
            gate: bit,
            scope,
            limits: limits.of_tasks(),
            granted: granted.clone(),
            wake_at: plugin.limits.ring / 8,
            max_targets: plugin.limits.attach_points as usize,
            max_map_bytes: plugin.grants.maps.map_or(plugin.limits.maps, |granted| granted.min(plugin.limits.maps)),
            max_instructions: plugin.limits.instructions as usize,
            rate: plugin.limits.rate,
            ..Options::default()
        };
        match portcullis_ebpf::compile(&specs, kernel, &options) {
            Ok(mut compiled) => {
                compiled.needs.data.extend(asks_for_processes(&component));
                built.push(Built { plugin, worker, component, specs, compiled, granted });
            }
            Err(errors) => wrong.extend(errors.into_iter().map(|error| (plugin.name.clone(), error))),
        }
    }
    if wrong.is_empty() { Ok(built) } else { Err(SpecErrors(wrong).into()) }
}

/// What a component needs that asks its host for facts about processes.
fn asks_for_processes(component: &Component) -> Option<DataNeed> {
    let import = component.interface.imports("process")?;
    Some(DataNeed { class: DataClass::Process, probe: None, text: import.to_owned() })
}

fn spec(probe: contract::Probe) -> ProbeSpec {
    let contract::Probe { name, attach, when, body, optional } = probe;
    ProbeSpec { name, attach, when, body, optional }
}

/// Refuses a bundle whose plugins need more than they are granted.
pub fn check_grants(built: &[Built]) -> Result<(), grants::Refusals> {
    grants::check_all(built.iter().map(|b| (b.plugin.name.as_str(), &b.compiled.needs, &b.plugin.grants)))
}

/// Has every plugin check the streams and maps that the compiler made and declare its tables, which are returned.
pub fn prepare(built: &mut [Built]) -> anyhow::Result<Vec<Vec<contract::Table>>> {
    let tables = built.iter_mut().map(|Built { worker, compiled, .. }| {
        let tables = worker.prepare(&columns::schema(&compiled.streams, &compiled.plugin_maps))?;
        Ok(tables)
    });
    tables.collect()
}
