//! The maps of a plugin: what all of its probes together say of their keys and values.
//!
//! Probes are checked one after another, and a map can be read before the probe that assigns it was seen. So the check of all
//! probes is repeated until it learns nothing new: types only ever widen.

use std::ops::Range;

use super::types::IntType;
use crate::{
    aggregate::Content,
    diagnostic::{Diagnostic, Part, suggest},
    output::{MapKind, PluginMap},
    record::{Field, LENGTH_HEADER, Naming, Slot},
    spec::ProbeSpec,
};

/// How many elements a map has room for unless it is declared with another number, as bpftrace.
pub(crate) const DEFAULT_ELEMENTS: u32 = 4096;
/// How many elements a map can have: `let @m = hash(N)`.
pub(crate) const MAX_ELEMENTS: u32 = 1 << 20;
/// How much of a histogram's possible buckets room is made for, for each of its keys.
const BUCKETS_A_KEY: u32 = 16;

/// The names that columns of values have (wit/types.wit, `content`): no part of a key is called so.
const VALUE_COLUMNS: [&str; 10] = ["value", "count", "sum", "average", "total", "min", "max", "from", "to", "start"];

/// The type of a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Int { signed: bool, ctype: String, naming: Naming },
    Text { capacity: u32 },
    Bytes { length: u32, naming: Naming },
    Stack { depth: u32, naming: Naming },
}

impl KeyType {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            KeyType::Int { .. } => "integer",
            KeyType::Text { .. } => "text",
            KeyType::Bytes { .. } => "bytes",
            KeyType::Stack { .. } => "stack",
        }
    }

    /// Makes room for what another use needs; whether it can.
    fn widen(&mut self, other: &KeyType) -> bool {
        match (self, other) {
            (KeyType::Int { .. }, KeyType::Int { .. }) => true,
            (KeyType::Text { capacity: ours }, KeyType::Text { capacity }) => {
                *ours = (*ours).max(*capacity);
                true
            }
            (KeyType::Bytes { length: ours, .. }, KeyType::Bytes { length, .. }) => {
                *ours = (*ours).max(*length);
                true
            }
            (KeyType::Stack { depth: ours, .. }, KeyType::Stack { depth, .. }) => {
                *ours = (*ours).max(*depth);
                true
            }
            _ => false,
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u32 {
        self.slot(0).size()
    }

    fn slot(&self, offset: u32) -> Slot {
        match self {
            KeyType::Int { signed, .. } => Slot::Int { offset, size: 8, signed: *signed },
            KeyType::Text { capacity } => Slot::Text { offset, capacity: *capacity },
            KeyType::Bytes { length, .. } => Slot::Bytes { offset, capacity: *length },
            KeyType::Stack { depth, .. } => Slot::Stack { offset, depth: *depth },
        }
    }
}

/// What an assigned value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Int(IntType),
    Text(u32),
}

/// Where something was said of a map, for the errors that show two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) probe: String,
    pub(super) part: Part,
    pub(super) span: Range<usize>,
    /// What stands there.
    pub(super) text: String,
}

/// What is known of one map.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) keys: Option<(Vec<KeyType>, Use)>,
    /// What the parts of the key are called, where the first use says so.
    pub(super) key_names: Vec<Option<String>>,
    pub(super) content: Option<(Content, Use)>,
    pub(super) value: Option<ValueType>,
    /// Where that was said first.
    pub(super) valued: Option<Use>,
    /// Signed, for an aggregation.
    pub(super) signed: bool,
    pub(super) declared: Option<(Declared, u32, Use)>,
    /// It was read before anything was known of its value.
    pub(super) unknown: Option<Use>,
}

/// The kinds of map that can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Hash,
    LruHash,
}

/// All maps of a plugin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maps {
    pub(super) all: Vec<Known>,
    /// Something was learnt in this pass.
    changed: bool,
}

impl Maps {
    /// Begins a pass over all probes.
    pub(crate) fn begin(&mut self) {
        self.changed = false;
        self.all.iter_mut().for_each(|map| map.unknown = None);
    }

    /// Another pass is needed: this one learnt something that an earlier use did not know.
    pub(crate) fn unsettled(&self) -> bool {
        self.changed
    }

    /// Maps that are read and that no probe gives a value. One that is declared may be the plugin's to write.
    pub(crate) fn unknown(&self, specs: &[ProbeSpec]) -> Vec<Diagnostic> {
        let has_value = |map: &&Known| map.value.is_some() || map.content.is_some();
        // Of one that is named as a whole alone, nobody knows the keys.
        let unknown = self.all.iter().filter(|map| !has_value(map) && (map.declared.is_none() || map.keys.is_none()));
        let errors = unknown.filter_map(|map| {
            let first = map.unknown.as_ref()?;
            let spec = specs.iter().find(|spec| spec.name == first.probe)?;
            let help = match suggest(&map.name, self.all.iter().filter(has_value).map(|other| other.name.as_str())) {
                Some(like) => format!("did you mean `@{like}`?"),
                None if map.keys.as_ref().is_some_and(|(keys, _)| !keys.is_empty()) => {
                    format!("assign it somewhere, or, if the plugin writes it, declare it: `let @{} = hash(1000);`", map.name)
                }
                None if map.keys.is_none() => format!("assign an element somewhere: `@{}[key] = ...;`", map.name),
                None => format!("assign it somewhere: `@{} = ...;`", map.name),
            };
            let message = format!("no probe gives `@{}` a value", map.name);
            Some(Diagnostic { help: Some(help), ..Diagnostic::new(spec, first.part, first.span.clone(), message) })
        });
        errors.collect()
    }

    pub(super) fn index(&mut self, name: &str) -> usize {
        if let Some(index) = self.all.iter().position(|map| map.name == name) {
            return index;
        }
        self.changed = true;
        self.all.push(Known {
            name: name.to_owned(),
            keys: None,
            key_names: Vec::new(),
            content: None,
            value: None,
            valued: None,
            signed: false,
            declared: None,
            unknown: None,
        });
        self.all.len() - 1
    }

    /// Another use with these keys; the place of the use that it disagrees with.
    pub(super) fn keys(&mut self, map: usize, keys: &[KeyType], here: Use) -> Result<(), (Vec<KeyType>, Use)> {
        let known = &mut self.all[map];
        let Some((ours, first)) = &mut known.keys else {
            known.keys = Some((keys.to_vec(), here));
            self.changed = true;
            return Ok(());
        };
        let before = ours.clone();
        let fits = ours.len() == keys.len() && ours.iter_mut().zip(keys).all(|(ours, key)| ours.widen(key));
        self.changed |= *ours != before;
        if fits { Ok(()) } else { Err((before, first.clone())) }
    }

    /// What the parts of the key are called; the first use says it.
    pub(super) fn name_keys(&mut self, map: usize, names: impl Iterator<Item = Option<String>>) {
        let known = &mut self.all[map];
        if known.key_names.is_empty() {
            known.key_names.extend(names);
        }
    }

    /// Another use with this content; the content and the place that it disagrees with.
    pub(super) fn content(&mut self, map: usize, content: Content, here: Use) -> Result<(), (Content, Use)> {
        let known = &mut self.all[map];
        match &known.content {
            Some((ours, first)) if *ours != content => Err((*ours, first.clone())),
            Some(_) => Ok(()),
            None => {
                known.content = Some((content, here));
                self.changed = true;
                Ok(())
            }
        }
    }

    /// Another assigned value; whether it fits.
    pub(super) fn value(&mut self, map: usize, value: ValueType, here: Use) -> bool {
        let known = &mut self.all[map];
        known.valued.get_or_insert(here);
        match (&mut known.value, value) {
            (Some(ValueType::Int(ours)), ValueType::Int(theirs)) => {
                // The first that is no mere number says what it is.
                if ours.to.is_none() && theirs.to.is_some() && ours.ctype != theirs.ctype {
                    *ours = theirs;
                    self.changed = true;
                }
                true
            }
            (Some(ValueType::Text(ours)), ValueType::Text(theirs)) => {
                self.changed |= theirs > *ours;
                *ours = (*ours).max(theirs);
                true
            }
            (Some(_), _) => false,
            (none, value) => {
                *none = Some(value);
                self.changed = true;
                true
            }
        }
    }

    /// The maps as the kernel is to have them.
    pub(crate) fn lay_out(&self) -> Vec<(PluginMap, u32)> {
        self.all.iter().map(lay_out).collect()
    }
}

fn lay_out(known: &Known) -> (PluginMap, u32) {
    let content = known.content.as_ref().map_or(Content::Value, |(content, _)| *content);
    let mut at = 0;
    let mut keys: Vec<Field> = Vec::new();
    for key in known.keys.iter().flat_map(|(keys, _)| keys) {
        let slot = key.slot(at);
        at += slot.size();
        let (ctype, naming) = match key {
            KeyType::Int { ctype, naming, .. } => (ctype.clone(), *naming),
            KeyType::Text { capacity } => (format!("char[{capacity}]"), Naming::Plain),
            KeyType::Bytes { length, naming } => (format!("u8[{length}]"), *naming),
            KeyType::Stack { naming, .. } => ("stack".to_owned(), *naming),
        };
        let name = known.key_names.get(keys.len()).cloned().flatten();
        let free = |name: &String| !VALUE_COLUMNS.contains(&name.as_str()) && keys.iter().all(|key| key.name != *name);
        let name = name.filter(free).unwrap_or_else(|| format!("key{}", keys.len()));
        keys.push(Field { name, ctype, slot, naming });
    }
    let keyed = !keys.is_empty();
    let (slot, ctype, naming) = match &known.value {
        Some(ValueType::Text(capacity)) => {
            (Slot::Text { offset: 0, capacity: *capacity }, format!("char[{capacity}]"), Naming::Plain)
        }
        Some(ValueType::Int(int)) => (Slot::Int { offset: 0, size: 8, signed: int.int.signed }, int.ctype.clone(), int.naming),
        None => {
            // What the plugin alone writes is signed, as it is read.
            let signed = known.signed || content == Content::Value;
            let ctype = if signed { "s64" } else { "u64" };
            (Slot::Int { offset: 0, size: 8, signed }, ctype.to_owned(), Naming::Plain)
        }
    };
    let value_size = if content == Content::Value { slot.size() } else { 8 * content.words() };
    let value = Field { name: "value".to_owned(), ctype, slot, naming };
    let (declared, elements) =
        known.declared.as_ref().map_or((Declared::Hash, DEFAULT_ELEMENTS), |(declared, elements, _)| (*declared, *elements));
    let buckets = content.buckets();
    let kind = match (keyed, content, declared) {
        (false, Content::Value, _) => MapKind::Array,
        (false, ..) => MapKind::PerCpuArray,
        (true, Content::Value, Declared::Hash) => MapKind::Hash,
        (true, Content::Value, Declared::LruHash) => MapKind::LruHash,
        (true, _, Declared::Hash) => MapKind::PerCpuHash,
        (true, _, Declared::LruHash) => MapKind::LruPerCpuHash,
    };
    let bucket = buckets.map(|_| Slot::Int { offset: at, size: if keyed { 8 } else { 4 }, signed: false });
    let key_size = match (keyed, bucket) {
        (false, _) => 4,
        (true, None) => at,
        (true, Some(_)) => at + 8,
    };
    let elements = match (keyed, buckets) {
        (false, buckets) => buckets.unwrap_or(1),
        (true, None) => elements,
        (true, Some(buckets)) => elements.saturating_mul(buckets.min(BUCKETS_A_KEY)).min(MAX_ELEMENTS),
    };
    (PluginMap { name: known.name.clone(), content, kind, keys, bucket, value, key_size, value_size }, elements)
}

/// The header of bytes and stacks within keys is that of records.
const _: () = assert!(LENGTH_HEADER == 8);
