//! Typed trees to what has to be built: streams with their record layouts, and for each hook the bodies that run there.

use std::collections::BTreeMap;

use crate::{
    attach::{Site, Target, Whose},
    check::ir::{Body, ContextUse, Field as Emitted, FieldValue, Names, Save, Statement, StatementKind},
    kernel::btf::Int,
    output::Hook,
    record::{self, Field, Naming, Slot, Stream},
};

/// The longest record, in bytes: offsets into it are immediate operands.
const MAX_RECORD: u32 = 16_384;

/// How many functions of ours one program can have (`BPF_MAX_SUBPROGS` is 256, include/linux/bpf_verifier.h).
const MAX_BODIES: usize = 250;

impl Function {
    /// They are the same; or, where the names of places are told, but for those.
    pub(crate) fn same(&self, other: &Function, told: bool) -> bool {
        let Function { probe, half, syscall, whose, nesting, body } = self;
        (probe, half, syscall, whose, nesting) == (&other.probe, &other.half, &other.syscall, &other.whose, &other.nesting)
            && (told || body.names == other.body.names)
            && body.same_but_names(&other.body)
    }
}

impl HookPlan {
    /// A function that serves several system calls, and is told by their number what it is called.
    pub(crate) fn by_number(&self, function: usize) -> bool {
        self.names.iter().filter(|(index, ..)| *index == function).count() > 1
    }
}

/// Where a body runs within its probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    /// The probe is no span.
    Whole,
    /// A span's begin: it keeps what the exit wants.
    Entry,
    /// A span's end: here the predicate and the statements run.
    Exit,
}

/// A piece of code: one half of one probe, for one or more targets that it is the same for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    pub(crate) probe: usize,
    pub(crate) half: Half,
    /// It serves system calls and must tell native ones from those of other ABIs.
    pub(crate) syscall: bool,
    pub(crate) whose: Whose,
    /// Of a span whose targets can be within each other: what says which of them this is, the second part of its key.
    pub(crate) nesting: Nesting,
    pub(crate) body: Body,
}

/// What tells the targets of a span apart that a thread can be in at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Nesting {
    /// There is but one, or a thread can be in one alone.
    #[default]
    One,
    /// The number of the place ([`HookPlan::place`]), which both of its ends have.
    Place,
    /// A number of its own.
    Pair(u32),
}

/// Everything that runs at one hook.
#[derive(Clone, Debug, Default)]
pub(crate) struct HookPlan {
    /// The number of the place that the hook is at; where a function begins and where it returns is one place.
    pub(crate) place: u32,
    /// One link may serve this place and others: no function needs more of the context than such a link gives.
    pub(crate) multi: bool,
    pub(crate) functions: Vec<Function>,
    /// Functions that run at every hit of the hook.
    pub(crate) always: Vec<usize>,
    /// Functions that run for a system call, by its number.
    pub(crate) by_syscall: BTreeMap<u32, Vec<usize>>,
    /// The names that such a function has at a number.
    pub(crate) names: Vec<(usize, u32, Names)>,
}

/// The plan for one plugin.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) streams: Vec<Stream>,
    /// For each stream, the probe that emits it first.
    owners: Vec<usize>,
    /// Places and their numbers.
    places: BTreeMap<Hook, u32>,
    /// How many spans there are between two places that tell their targets apart.
    pairs: u32,
    pub(crate) hooks: BTreeMap<Hook, HookPlan>,
    /// The probes that are spans.
    pub(crate) spans: BTreeMap<usize, SpanPlan>,
}

/// How the halves of a span come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanPlan {
    /// How many bytes the entry half keeps at most.
    pub(crate) saved: u32,
    /// How many integers the key has; 0 for the thread's id alone.
    pub(crate) parts: u32,
}

impl SpanPlan {
    /// In bytes.
    pub(crate) fn key_size(self) -> u32 {
        if self.parts == 0 { 4 } else { 8 * self.parts }
    }
}

/// What can't be planned; the caller knows the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unplanned {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The stream it is about, if it is about one, and the probe that emits it first.
    pub(crate) stream: Option<(String, usize)>,
}

impl Plan {
    /// Adds a probe at one target, which may be one of several.
    pub(crate) fn add(&mut self, probe: usize, target: &Target, several: bool, body: Body) -> Result<(), Unplanned> {
        self.add_streams(probe, &body.statements)?;
        let function = |site: &Site, half, nesting, body| Function {
            probe,
            half,
            syscall: site.syscall.is_some(),
            whose: site.whose,
            nesting,
            body,
        };
        let Some(entry) = &target.entry else {
            return self.route(&target.site, body.here, function(&target.site, Half::Whole, Nesting::One, body));
        };
        let span = self.spans.entry(probe).or_default();
        span.saved = span.saved.max(body.saves.iter().map(Save::size).sum());
        // A thread is in one system call at a time, and in any number of functions.
        let mut nesting = Nesting::One;
        if let Some((key, _)) = &body.key {
            let parts = key.len() as u32;
            if span.parts != 0 && span.parts != parts {
                let message = format!("the keys of the probe's spans have {} parts and {parts} parts", span.parts);
                return Err(Unplanned { message, help: Some("make two probes of it".to_owned()), stream: None });
            }
            span.parts = parts;
        } else if several && target.site.syscall.is_none() {
            span.parts = 2;
            nesting = if entry.hook.place() == target.site.hook.place() {
                Nesting::Place
            } else {
                self.pairs += 1;
                Nesting::Pair(self.pairs)
            };
        }
        let saved = Body {
            limits: body.limits.clone(),
            saves: body.saves.clone(),
            key: body.key.clone(),
            entry: body.entry,
            ..Body::default()
        };
        self.route(entry, body.entry, function(entry, Half::Entry, nesting, saved))?;
        // What another key joins ends wherever it ends: whose it is was asked where it began. What is granted is asked again, since the
        // body sees the task that runs here.
        let whose = if body.key.is_none() { target.site.whose } else { Whose::Nobody };
        self.route(&target.site, body.here, Function { whose, ..function(&target.site, Half::Exit, nesting, body) })
    }

    /// `uses`: what the function reads of the context.
    fn route(&mut self, site: &Site, uses: ContextUse, function: Function) -> Result<(), Unplanned> {
        let hook = site.bare.as_ref().filter(|_| uses.is_none()).unwrap_or(&site.hook);
        let next = self.places.len() as u32;
        let place = *self.places.entry(hook.place()).or_insert(next);
        // Where many functions of the kernel have one link, not all registers may be there: fprobe keeps those of calls alone
        // (ftrace_partial_regs(), include/linux/ftrace_regs.h).
        let multi = site.multi && !(uses.registers && matches!(hook, Hook::Kprobe { .. }));
        let plan = self.hooks.entry(hook.clone()).or_insert_with(|| HookPlan { place, multi, ..HookPlan::default() });
        plan.multi &= multi;
        let names = function.body.names.clone();
        let index = match plan.functions.iter().rposition(|f| f.same(&function, site.syscall.is_some())) {
            Some(index) => index,
            None if plan.functions.len() == MAX_BODIES => {
                let message = format!("more than {MAX_BODIES} different pieces of code would run at one hook");
                let help = "attach to fewer places, or use arguments of fewer kinds".to_owned();
                return Err(Unplanned { message, help: Some(help), stream: None });
            }
            None => {
                plan.functions.push(function);
                plan.functions.len() - 1
            }
        };
        match site.syscall {
            Some(number) => {
                plan.by_syscall.entry(number).or_default().push(index);
                if names.each().next().is_some() {
                    plan.names.push((index, number, names));
                }
            }
            None => plan.always.push(index),
        }
        Ok(())
    }

    fn add_streams(&mut self, probe: usize, statements: &[Statement]) -> Result<(), Unplanned> {
        for statement in statements {
            match &statement.kind {
                StatementKind::Emit { stream, fields } => self.add_stream(probe, stream, fields)?,
                StatementKind::If(_, then, otherwise) => {
                    self.add_streams(probe, then)?;
                    self.add_streams(probe, otherwise)?;
                }
                StatementKind::Unroll(_, body) | StatementKind::While { body, .. } | StatementKind::For { body, .. } => {
                    self.add_streams(probe, body)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes room for the fields of one `emit`; those of one stream widen to what all of them need.
    fn add_stream(&mut self, probe: usize, name: &str, fields: &[Emitted]) -> Result<(), Unplanned> {
        let wrong = |message: String, help: &str| Unplanned {
            message,
            help: Some(help.to_owned()),
            stream: Some((name.to_owned(), probe)),
        };
        let Some(stream) = self.streams.iter_mut().find(|s| s.name == name) else {
            let fields = fields
                .iter()
                .map(|f| Field { name: f.name.clone(), ctype: f.ctype.clone(), slot: slot(&f.value), naming: f.naming })
                .collect();
            self.streams.push(Stream { name: name.to_owned(), fields, size: 0 });
            self.owners.push(probe);
            return Ok(());
        };
        let missing = stream.fields.iter().find(|f| fields.iter().all(|e| e.name != f.name)).map(|f| &f.name);
        let extra = fields.iter().find(|e| stream.fields.iter().all(|f| f.name != e.name)).map(|e| &e.name);
        if let Some(field) = missing.or(extra) {
            let message = format!("the stream `{name}` has the field `{field}` in one `emit` and not in another");
            return Err(wrong(message, "each `emit` of a stream has the same fields; or give it another name"));
        }
        for field in &mut stream.fields {
            let Some(emitted) = fields.iter().find(|e| e.name == field.name) else { continue };
            let wanted = slot(&emitted.value);
            if wanted == field.slot && emitted.naming == field.naming {
                continue;
            }
            let common = common(field.slot, wanted).filter(|_| emitted.naming == field.naming);
            field.slot = common.ok_or_else(|| {
                // What has a name is known by the function that says so.
                let what = |ctype: &str, naming: Naming| naming.function().unwrap_or(ctype).to_owned();
                let message = format!(
                    "the field `{}` of stream `{name}` is `{}` in one `emit` and `{}` in another",
                    field.name,
                    what(&field.ctype, field.naming),
                    what(&emitted.ctype, emitted.naming)
                );
                wrong(message, "each `emit` of a stream has the same fields; or give it another name")
            })?;
            field.ctype = match field.slot {
                Slot::Int { size, signed, .. } => format!("{}{}", if signed { 's' } else { 'u' }, u32::from(size) * 8),
                Slot::Text { capacity, .. } => format!("char[{capacity}]"),
                Slot::Bytes { capacity, .. } => format!("u8[{capacity}]"),
                Slot::Stack { .. } => continue,
            };
        }
        Ok(())
    }

    /// Gives every field its place: integers first, the wide ones before the narrow ones, so that nothing needs padding.
    pub(crate) fn lay_out(&mut self) -> Result<(), Unplanned> {
        for (stream, owner) in self.streams.iter_mut().zip(&self.owners) {
            let mut at = record::HEADER;
            for width in [8, 4, 2, 1] {
                for field in &mut stream.fields {
                    if let Slot::Int { offset, size, .. } = &mut field.slot
                        && *size == width
                    {
                        *offset = at;
                        at += u32::from(width);
                    }
                }
            }
            for field in &mut stream.fields {
                let size = field.slot.size();
                if let Slot::Text { offset, .. } | Slot::Bytes { offset, .. } | Slot::Stack { offset, .. } = &mut field.slot {
                    at = at.next_multiple_of(8);
                    *offset = at;
                    at += size;
                }
            }
            stream.size = at.next_multiple_of(8);
            if stream.size > MAX_RECORD {
                let message = format!(
                    "a record of stream `{}` would have {} bytes, and {MAX_RECORD} is the most",
                    stream.name, stream.size
                );
                return Err(Unplanned {
                    message,
                    help: Some("keep less of its texts and stacks: `str(p, 64)`, `kstack(16)`".into()),
                    stream: Some((stream.name.clone(), *owner)),
                });
            }
        }
        Ok(())
    }
}

/// The slot that a value needs, not yet placed.
fn slot(value: &FieldValue) -> Slot {
    match value {
        FieldValue::Int(_, Int { size, signed }) => Slot::Int { offset: 0, size: *size, signed: *signed },
        FieldValue::Text(text) => Slot::Text { offset: 0, capacity: text.capacity() },
        FieldValue::Bytes(bytes) => Slot::Bytes { offset: 0, capacity: bytes.length() },
        FieldValue::Stack(stack) => Slot::Stack { offset: 0, depth: stack.depth() },
    }
}

/// A slot that holds what either holds.
fn common(a: Slot, b: Slot) -> Option<Slot> {
    match (a, b) {
        (Slot::Text { capacity: a, .. }, Slot::Text { capacity: b, .. }) => Some(Slot::Text { offset: 0, capacity: a.max(b) }),
        (Slot::Bytes { capacity: a, .. }, Slot::Bytes { capacity: b, .. }) => Some(Slot::Bytes { offset: 0, capacity: a.max(b) }),
        (Slot::Stack { depth: a, .. }, Slot::Stack { depth: b, .. }) => Some(Slot::Stack { offset: 0, depth: a.max(b) }),
        (Slot::Int { size: sa, signed: a, .. }, Slot::Int { size: sb, signed: b, .. }) if a == b => {
            Some(Slot::Int { offset: 0, size: sa.max(sb), signed: a })
        }
        (Slot::Int { size: sa, signed: a, .. }, Slot::Int { size: sb, .. }) => {
            // A signed type that holds the unsigned one is wider than it.
            let (signed, unsigned) = if a { (sa, sb) } else { (sb, sa) };
            (unsigned < 8).then(|| Slot::Int { offset: 0, size: signed.max(unsigned * 2), signed: true })
        }
        _ => None,
    }
}
