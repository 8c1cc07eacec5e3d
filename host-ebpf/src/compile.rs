//! All passes, in order, for the probes of one plugin.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use crate::{
    attach::{self, Target},
    check::{self, Read, ir::Body, maps::Maps},
    counters::Layout,
    diagnostic::{Diagnostic, Part},
    generate::{self, GenerateError},
    group,
    kernel::Kernel,
    needs::{AttachNeed, DataNeed, Needs},
    output::{Compiled, Hook, MapKind, MapRef, MapSpec, Missing, Moment, PluginMap, Probe, Program, SpanEntry},
    plan::{Plan, Unplanned},
    spec::{Options, ProbeSpec},
    syntax::{
        self, SyntaxError,
        ast::{Expr, Statement, StatementKind},
    },
};

/// How many attach points all probes of a plugin may have together, where one of them may not have more.
const MAX_POINTS: usize = 20_000;

/// After so many errors no further probe is looked at.
const MAX_ERRORS: usize = 50;

/// Compiles the probes of one plugin for a kernel.
///
/// # Errors
///
/// All that is wrong with the specs: the first error of each probe, of 50 at the most.
pub fn compile(specs: &[ProbeSpec], kernel: &dyn Kernel, options: &Options) -> Result<Compiled, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut unit = Unit::default();
    let mut names = HashSet::new();
    let mut parsed = Vec::with_capacity(specs.len());
    let mut points = 0;
    for (index, spec) in specs.iter().enumerate() {
        match check_name(spec, &mut names).and_then(|()| unit.parse(index, spec, kernel, options)) {
            Ok(probe) => {
                points += probe.targets.len();
                parsed.push(probe);
            }
            Err(error) => errors.push(error),
        }
        let most = MAX_POINTS.max(options.max_targets);
        if points > most {
            let message = format!("this probe and those before it have more than {most} attach points together");
            errors.push(Diagnostic { help: Some("narrow the patterns".into()), ..name_error(spec, message) });
        }
        if points > most || errors.len() >= MAX_ERRORS {
            return Err(errors);
        }
    }
    match unit.check(specs, &mut parsed, kernel) {
        Ok(checked) if errors.is_empty() => {
            for (probe, bodies) in parsed.iter().zip(checked) {
                if let Err(error) = unit.add(&specs[probe.index], probe, bodies) {
                    errors.push(error);
                }
            }
        }
        Ok(_) => {}
        Err(more) => errors.extend(more),
    }
    if errors.is_empty() {
        match unit.finish(specs, kernel, options) {
            Ok(compiled) => return Ok(compiled),
            Err(error) => errors.push(error),
        }
    }
    errors.sort_by_key(|error| specs.iter().position(|spec| spec.name == error.probe));
    Err(errors)
}

/// How often the probes are checked at most until nothing new is learnt of their maps. Each pass but the last learns something, and
/// types only widen.
const MAX_PASSES: usize = 32;

/// What the probes so far came to.
#[derive(Default)]
struct Unit {
    plan: Plan,
    maps: Maps,
    probes: Vec<Probe>,
    needs: Needs,
    missing: Vec<Missing>,
}

/// A probe, parsed, and its targets, each with the attach point that it is of.
struct Parsed {
    index: usize,
    when: Option<Expr>,
    body: Vec<Statement>,
    /// What is asked of the tasks whose hits it has.
    limits: check::limits::Limits,
    targets: Vec<(usize, Target)>,
    span: bool,
}

/// A probe's body as it is at each of its targets.
type Bodies = Vec<(Body, Vec<Read>)>;

impl Unit {
    fn parse(&mut self, index: usize, spec: &ProbeSpec, kernel: &dyn Kernel, options: &Options) -> Result<Parsed, Diagnostic> {
        let when = spec.when.as_deref().map(syntax::parse_when).transpose().map_err(|e| syntax_error(spec, Part::When, e))?;
        let body = syntax::parse_body(&spec.body).map_err(|e| syntax_error(spec, Part::Body, e))?;
        let targets = self.targets(spec, kernel, options)?;
        let span = targets.iter().any(|(_, t)| t.entry.is_some());
        if let Some((_, other)) = targets.iter().find(|(_, t)| t.entry.is_some() != span) {
            let message = format!("{} is no span, and the probe has spans, too", other.point);
            return Err(Diagnostic { help: Some("make two probes of it".into()), ..name_error(spec, message) });
        }
        if let Some((_, other)) = targets.iter().find(|(_, t)| t.key.is_some() != targets[0].1.key.is_some()) {
            let message = format!("{} is joined by another key than other spans of the probe", other.point);
            return Err(Diagnostic { help: Some("make two probes of it".into()), ..name_error(spec, message) });
        }
        Ok(Parsed { index, when, body, limits: check::limits::Limits::new(options, kernel), targets, span })
    }

    /// Checks all probes until they agree about the maps: the bodies of each. An error counts only once nothing more is learnt: a map may have been read
    /// before the probe that assigns it was seen.
    fn check(&mut self, specs: &[ProbeSpec], parsed: &mut [Parsed], kernel: &dyn Kernel) -> Result<Vec<Bodies>, Vec<Diagnostic>> {
        let mut pass = 0;
        loop {
            self.maps.begin();
            let (mut checked, mut errors) = (Vec::with_capacity(parsed.len()), Vec::new());
            for probe in parsed.iter_mut() {
                let spec = &specs[probe.index];
                let mut bodies = Bodies::with_capacity(probe.targets.len());
                let mut lacking = Vec::new();
                for (number, (attach, target)) in probe.targets.iter().enumerate() {
                    let parsed = check::Parsed {
                        when: probe.when.as_ref(),
                        body: &probe.body,
                        limits: probe.limits.of(target.site.whose),
                        attach: *attach,
                    };
                    match check::check(spec, parsed, target, kernel, &mut self.maps) {
                        Ok(body) => bodies.push(body),
                        Err(error) if error.missing && spec.optional => {
                            lacking.push(number);
                            self.lacks(spec, error.message);
                        }
                        Err(error) => {
                            errors.push(error);
                            break;
                        }
                    }
                }
                let mut number = 0..;
                probe.targets.retain(|_| number.next().is_none_or(|number| !lacking.contains(&number)));
                checked.push(bodies);
            }
            pass += 1;
            if !self.maps.unsettled() || pass == MAX_PASSES {
                // What this kernel lacks may have kept a map from being assigned.
                if errors.iter().all(|error| !error.missing) {
                    errors.extend(self.maps.unknown(specs));
                }
                return if errors.is_empty() { Ok(checked) } else { Err(errors) };
            }
        }
    }

    /// What an optional probe goes without, each reason once.
    fn lacks(&mut self, spec: &ProbeSpec, reason: String) {
        let missing = Missing { probe: spec.name.clone(), reason };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    fn add(&mut self, spec: &ProbeSpec, parsed: &Parsed, bodies: Bodies) -> Result<(), Diagnostic> {
        let number = self.probes.len();
        let several = parsed.targets.len() > 1;
        for ((_, target), (body, reads)) in parsed.targets.iter().zip(bodies) {
            self.plan.add(number, target, several, body).map_err(|e| unplanned(spec, e))?;
            self.add_reads(spec, reads);
            let need = AttachNeed { point: target.point.clone(), probe: spec.name.clone() };
            // A point may be in several places, which all have its name.
            if self.needs.attach.last() != Some(&need) {
                self.needs.attach.push(need);
            }
        }
        let mut attach: Vec<String> = parsed.targets.iter().map(|(_, target)| target.point.clone()).collect();
        attach.dedup();
        // The mechanism is known once hooks are put together.
        self.probes.push(Probe { name: spec.name.clone(), attach, span: parsed.span, mechanism: String::new(), skips: false });
        Ok(())
    }

    /// The targets of all attach points, each once.
    fn targets(&mut self, spec: &ProbeSpec, kernel: &dyn Kernel, options: &Options) -> Result<Vec<(usize, Target)>, Diagnostic> {
        if spec.attach.is_empty() {
            return Err(Diagnostic {
                help: Some("attach = [\"tracepoint:...\"]".into()),
                ..name_error(spec, "the probe attaches to nothing")
            });
        }
        let mut targets: Vec<(usize, Target)> = Vec::new();
        let mut seen = HashSet::new();
        for (i, text) in spec.attach.iter().enumerate() {
            match attach::expand(text, kernel, options.scope) {
                Ok(found) => {
                    // One place may have several names: a hit of it is one hit.
                    let place = |t: &Target| (t.entry.as_ref().map(|e| e.hook.clone()), t.site.hook.clone(), t.site.syscall);
                    let found = found.into_iter().filter(|t| seen.insert(place(t)));
                    targets.extend(found.map(|target| (i, target)));
                }
                Err(error) => {
                    let at = Diagnostic::new(spec, Part::Attach(i), error.span, error.message);
                    let error = Diagnostic { help: error.help, missing: error.missing, ..at };
                    if !(error.missing && spec.optional) {
                        return Err(error);
                    }
                    self.lacks(spec, error.message);
                }
            }
            if targets.len() > options.max_targets {
                let message = format!("the probe has more than {} attach points", options.max_targets);
                let error = Diagnostic::new(spec, Part::Attach(i), 0..text.len(), message);
                let help = "narrow the pattern, or raise `limits.attach-points` (`trace --attach-points`)".to_owned();
                return Err(Diagnostic { help: Some(help), ..error });
            }
        }
        Ok(targets)
    }

    fn add_reads(&mut self, spec: &ProbeSpec, reads: Vec<Read>) {
        for read in reads {
            if self.needs.data.iter().all(|d| d.class != read.class) {
                self.needs.data.push(DataNeed { class: read.class, probe: Some(spec.name.clone()), text: read.text });
            }
        }
    }

    fn finish(mut self, specs: &[ProbeSpec], kernel: &dyn Kernel, options: &Options) -> Result<Compiled, Diagnostic> {
        self.plan.lay_out().map_err(|e| {
            let owner = e.stream.as_ref().and_then(|(_, probe)| specs.get(*probe));
            unplanned(owner.unwrap_or(&ProbeSpec::default()), e)
        })?;
        self.needs.data.sort_by_key(|d| d.class);
        let mut functions = self.plan.hooks.values().flat_map(|hook| &hook.functions);
        let shed = functions.any(|function| generate::rate::of(options, function).is_some());
        let (probes, streams) = (self.probes.len() as u32, self.plan.streams.len() as u32);
        let counters = Layout { cpus: kernel.possible_cpus(), probes, streams, shed };
        let (plugin_maps, elements): (Vec<PluginMap>, Vec<u32>) = self.maps.lay_out().into_iter().unzip();
        let (groups, names) = group::group(&self.plan.hooks, kernel.features());
        let context = generate::Context::new(specs, options, counters, &self.plan, &plugin_maps, &names, kernel);
        let mut programs = Vec::new();
        let mut scratch = 0;
        for group in groups {
            let code = generate::program(&group, &context, kernel).map_err(|e| {
                let (probe, help) = match e {
                    GenerateError::Stack { probe, .. } => (probe, "use fewer variables and keep less from the entry"),
                    GenerateError::Scratch { probe, .. } => (probe, "keep fewer call stacks, or fewer frames: `kstack(16)`"),
                    GenerateError::Functions(_) => {
                        let probe = group.functions().next().map_or(0, |f| f.probe);
                        (probe, "attach to fewer places, or count and clear fewer maps")
                    }
                    GenerateError::TooLarge(_) => (group.functions().next().map_or(0, |f| f.probe), "make several probes of it"),
                };
                Diagnostic { help: Some(help.to_owned()), ..body_error(&specs[probe], e.to_string()) }
            })?;
            let (count, most) = (code.assembled.insns.len(), options.max_instructions);
            if count > most {
                let probe = group.functions().next().map_or(0, |f| f.probe);
                let message =
                    format!("a program of this probe and those beside it has {count} instructions, and {most} are allowed");
                let help = "make it do less, attach it to fewer places, or raise `limits.instructions`".to_owned();
                return Err(Diagnostic { help: Some(help), ..body_error(&specs[probe], message) });
            }
            let mut probes: Vec<usize> = group.functions().map(|f| f.probe).collect();
            probes.sort_unstable();
            probes.dedup();
            scratch = scratch.max(code.scratch);
            programs.push(Program {
                name: program_name(&group.hook),
                hook: group.hook,
                probes,
                insns: code.assembled.insns,
                maps: code.assembled.maps,
                notes: code.assembled.notes,
                functions: code.assembled.functions,
            });
        }
        for (number, probe) in self.probes.iter_mut().enumerate() {
            let hooks = || programs.iter().filter(|program| program.probes.contains(&number)).map(|program| &program.hook);
            let mechanisms: BTreeSet<&str> = hooks().map(Hook::mechanism).collect();
            probe.mechanism = mechanisms.into_iter().collect::<Vec<_>>().join("+");
            probe.skips = probe.span && hooks().any(Hook::is_session);
        }
        let mut maps = Vec::new();
        if !self.probes.is_empty() {
            maps.push(map(MapRef::Counters, MapKind::MappedArray, 4, counters.value_size(), 1));
        }
        if !self.plan.streams.is_empty() {
            maps.push(map(MapRef::Ring, MapKind::RingBuf, 0, 0, 0));
        }
        for (&probe, span) in &self.plan.spans {
            let value = size_of::<SpanEntry>() as u32 + span.saved;
            maps.push(map(MapRef::Span(probe), MapKind::Hash, span.key_size(), value, options.spans));
        }
        for (number, (of, elements)) in plugin_maps.iter().zip(elements).enumerate() {
            maps.push(map(MapRef::Plugin(number), of.kind, of.key_size, of.value_size, elements));
        }
        within_limit(&maps, &plugin_maps, specs, kernel.possible_cpus(), options.max_map_bytes)?;
        if scratch > 0 {
            maps.push(map(
                MapRef::Scratch,
                MapKind::PerCpuArray,
                4,
                generate::SCRATCH_HEADER + scratch,
                generate::SCRATCH_LEVELS,
            ));
        }
        if !names.content.is_empty() {
            let size = names.content.len() as u32;
            maps.push(MapSpec { content: names.content, ..map(MapRef::Names, MapKind::Array, 4, size, 1) });
        }
        if shed {
            let content = generate::rate::content(self.probes.len());
            let size = content.len() as u32;
            maps.push(MapSpec { content, ..map(MapRef::Rates, MapKind::Array, 4, size, 1) });
        }
        let Unit { plan, probes, needs, missing, .. } = self;
        Ok(Compiled { programs, maps, streams: plan.streams, plugin_maps, probes, counters, needs, missing })
    }
}

/// Refuses maps that take more memory together than they may, at where the largest is named first.
fn within_limit(maps: &[MapSpec], named: &[PluginMap], specs: &[ProbeSpec], cpus: u32, limit: u64) -> Result<(), Diagnostic> {
    // Those whose size its specs decide.
    let sizes =
        || maps.iter().filter(|map| matches!(map.map, MapRef::Plugin(_) | MapRef::Span(_))).map(|map| (map.map, map.bytes(cpus)));
    let all: u64 = sizes().map(|(_, bytes)| bytes).sum();
    let Some((map, largest)) = sizes().max_by_key(|(_, bytes)| *bytes).filter(|_| all > limit) else { return Ok(()) };
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let name = match map {
        MapRef::Span(probe) => {
            let message = format!(
                "the maps of this plugin would take {} MiB of the kernel's memory, what this span keeps from its begin {} MiB, and {} MiB is the limit",
                mib(all),
                mib(largest),
                limit >> 20
            );
            let help = "make fewer probes of spans, keep less from the entry, or raise `limits.maps`".to_owned();
            return Err(Diagnostic {
                help: Some(help),
                ..name_error(specs.get(probe).unwrap_or(&ProbeSpec::default()), message)
            });
        }
        MapRef::Plugin(number) => format!("@{}", named.get(number).map_or("", |map| &map.name)),
        _ => return Ok(()),
    };
    let message = format!(
        "the maps of this plugin would take {} MiB of the kernel's memory, `{name}` alone {} MiB, and {} MiB is the limit",
        mib(all),
        mib(largest),
        limit >> 20
    );
    let place = specs.iter().find_map(|spec| spec.body.find(&name).map(|at| (spec, at..at + name.len())));
    let none = ProbeSpec::default();
    let (spec, span) = place.unwrap_or((specs.first().unwrap_or(&none), 0..0));
    let help = format!("declare fewer keys, `let {name} = hash(1000)`, or raise `limits.maps` (and `grants.maps`)");
    Err(Diagnostic { help: Some(help), ..Diagnostic::new(spec, Part::Body, span, message) })
}

fn map(map: MapRef, kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> MapSpec {
    MapSpec { map, kind, key_size, value_size, max_entries, content: Vec::new() }
}

/// At most 15 bytes of what the kernel allows in names.
pub(crate) fn program_name(hook: &Hook) -> String {
    let name: &str = match hook {
        Hook::TpBtf { name } | Hook::PerfTracepoint { name, .. } | Hook::Iter { name } | Hook::Lsm { hook: name } => name,
        Hook::Kprobe { function, .. } | Hook::Fentry { function, .. } => function,
        Hook::KprobeMulti { places, .. } => places.first().map_or("", |place| &place.function),
        Hook::Uprobe { path, .. } | Hook::UprobeMulti { path, .. } => path.rsplit('/').next().unwrap_or_default(),
        Hook::PerfEvent { .. } => "perf_event",
        Hook::Breakpoint { .. } => "watchpoint",
        Hook::Host(Moment::Begin) => "begin",
        Hook::Host(Moment::End) => "end",
    };
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
    "pc_".chars().chain(name).take(15).collect()
}

fn check_name(spec: &ProbeSpec, seen: &mut HashSet<String>) -> Result<(), Diagnostic> {
    let mut chars = spec.name.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && spec.name.len() <= 64;
    if !good {
        let help = "a letter or `_`, then letters, digits, `_` and `-`, 64 at most".to_owned();
        return Err(Diagnostic { help: Some(help), ..name_error(spec, "this is no name for a probe") });
    }
    if !seen.insert(spec.name.clone()) {
        return Err(name_error(spec, "another probe has this name"));
    }
    Ok(())
}

fn name_error(spec: &ProbeSpec, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(spec, Part::Name, 0..spec.name.len(), message)
}

fn body_error(spec: &ProbeSpec, message: String) -> Diagnostic {
    Diagnostic::new(spec, Part::Body, 0..spec.body.len(), message)
}

fn syntax_error(spec: &ProbeSpec, part: Part, error: SyntaxError) -> Diagnostic {
    Diagnostic { help: error.help, ..Diagnostic::new(spec, part, error.span, error.message) }
}

fn unplanned(spec: &ProbeSpec, error: Unplanned) -> Diagnostic {
    let body = syntax::parse_body(&spec.body).unwrap_or_default();
    let place = error.stream.as_ref().and_then(|(stream, _)| find_emit(&body, stream));
    let whole = body_error(spec, error.message);
    Diagnostic { span: place.unwrap_or(whole.span.clone()), help: error.help, ..whole }
}

/// Where the last `emit` of a stream names it.
fn find_emit(body: &[Statement], stream: &str) -> Option<Range<usize>> {
    body.iter().rev().find_map(|s| match &s.kind {
        StatementKind::Emit(Some(name), _) if name.name == stream => Some(name.span.clone()),
        StatementKind::Emit(None, _) => Some(s.span.clone()),
        StatementKind::If(_, then, otherwise) => find_emit(otherwise, stream).or_else(|| find_emit(then, stream)),
        StatementKind::Unroll(_, body) | StatementKind::While(_, body) | StatementKind::For(_, _, _, body) => {
            find_emit(body, stream)
        }
        _ => None,
    })
}
