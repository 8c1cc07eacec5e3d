//! Typed trees to what has to be built: streams with their record layouts, and for each hook the bodies that run there.

use std::collections::BTreeMap;

use crate::{
    attach::Target,
    check::ir::{Body, Field as Emitted, FieldValue, Statement, StatementKind},
    kernel::btf::Int,
    output::Hook,
    record::{self, Field, Naming, Slot, Stream},
};

/// The longest record, in bytes: offsets into it are immediate operands.
const MAX_RECORD: u32 = 16_384;

/// How many functions of ours one program can have (`BPF_MAX_SUBPROGS` is 256, include/linux/bpf_verifier.h).
const MAX_BODIES: usize = 250;

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
    pub(crate) body: Body,
}

/// Everything that runs at one hook.
#[derive(Debug, Default)]
pub(crate) struct HookPlan {
    pub(crate) functions: Vec<Function>,
    /// Functions that run at every hit of the hook.
    pub(crate) always: Vec<usize>,
    /// Functions that run for a system call, by its number.
    pub(crate) by_syscall: BTreeMap<u32, Vec<usize>>,
}

/// The plan for one plugin.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) streams: Vec<Stream>,
    /// For each stream, the probe that emits it first.
    owners: Vec<usize>,
    pub(crate) hooks: BTreeMap<Hook, HookPlan>,
    /// For each probe that is a span, how many values its entry half keeps.
    pub(crate) saves: BTreeMap<usize, usize>,
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
    /// Adds a probe at one target.
    pub(crate) fn add(&mut self, probe: usize, target: &Target, body: Body) -> Result<(), Unplanned> {
        self.add_streams(probe, &body.statements)?;
        let syscall = target.site.syscall;
        let Some(entry) = &target.entry else {
            return self.route(
                &target.site.hook,
                syscall,
                Function { probe, half: Half::Whole, syscall: syscall.is_some(), body },
            );
        };
        let saves = self.saves.entry(probe).or_default();
        *saves = (*saves).max(body.saves.len());
        let saved = Body { saves: body.saves.clone(), ..Body::default() };
        let begin = Function { probe, half: Half::Entry, syscall: entry.syscall.is_some(), body: saved };
        self.route(&entry.hook, entry.syscall, begin)?;
        self.route(&target.site.hook, syscall, Function { probe, half: Half::Exit, syscall: syscall.is_some(), body })
    }

    fn route(&mut self, hook: &Hook, syscall: Option<u32>, function: Function) -> Result<(), Unplanned> {
        let plan = self.hooks.entry(hook.clone()).or_default();
        let index = match plan.functions.iter().rposition(|f| *f == function) {
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
        match syscall {
            Some(number) => plan.by_syscall.entry(number).or_default().push(index),
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
                StatementKind::Assign(..) | StatementKind::Return => {}
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
                .map(|f| Field { name: f.name.clone(), ctype: f.ctype.clone(), slot: slot(&f.value), naming: Naming::Plain })
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
            if wanted == field.slot {
                continue;
            }
            field.slot = common(field.slot, wanted).ok_or_else(|| {
                let message = format!(
                    "the field `{}` of stream `{name}` is `{}` in one `emit` and `{}` in another",
                    field.name, field.ctype, emitted.ctype
                );
                wrong(message, "each `emit` of a stream has the same fields; or give it another name")
            })?;
            field.ctype = match field.slot {
                Slot::Int { size, signed, .. } => format!("{}{}", if signed { 's' } else { 'u' }, u32::from(size) * 8),
                Slot::Text { capacity, .. } => format!("char[{capacity}]"),
                Slot::Bytes { .. } | Slot::Stack { .. } => continue,
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
                if let Slot::Text { offset, capacity } = &mut field.slot {
                    at = at.next_multiple_of(8);
                    *offset = at;
                    at += room(*capacity);
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
                    help: Some("keep less of its texts: `str(p, 64)`".into()),
                    stream: Some((stream.name.clone(), *owner)),
                });
            }
        }
        Ok(())
    }
}

/// The memory that text of a capacity takes in a record; see [`crate::check::ir::Text::room`].
fn room(capacity: u32) -> u32 {
    (capacity + 2).next_multiple_of(8)
}

/// The slot that a value needs, not yet placed.
fn slot(value: &FieldValue) -> Slot {
    match value {
        FieldValue::Int(_, Int { size, signed }) => Slot::Int { offset: 0, size: *size, signed: *signed },
        FieldValue::Text(text) => Slot::Text { offset: 0, capacity: text.capacity() },
    }
}

/// A slot that holds what either holds.
fn common(a: Slot, b: Slot) -> Option<Slot> {
    match (a, b) {
        (Slot::Text { capacity: a, .. }, Slot::Text { capacity: b, .. }) => Some(Slot::Text { offset: 0, capacity: a.max(b) }),
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
