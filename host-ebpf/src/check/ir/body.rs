//! A probe at one target: its statements, and what they take of their place, of the context and of a span's entry.

use super::{
    statement::{Source, Statement},
    text::{Text, text_room},
    value::{Stack, Value},
};
use crate::record::Slot;

/// A probe at one target, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    /// Of an iterator whose run is limited to a user or a control group: whether its task is within.
    pub(crate) limits: Option<Value>,
    pub(crate) when: Option<(Value, Source)>,
    pub(crate) statements: Vec<Statement>,
    /// Its variables: the text that each holds at most, 0 for an integer.
    pub(crate) variables: Vec<u32>,
    /// What a span's entry half keeps for its exit half, as seen at the entry.
    pub(crate) saves: Vec<Save>,
    /// What joins the halves of a span, as seen at the entry and at the exit; `None` for the thread.
    pub(crate) key: Option<(Vec<Value>, Vec<Value>)>,
    /// What [`Text::Name`] stands for in it.
    pub(crate) names: Names,
    /// What a span's entry half reads of its context.
    pub(crate) entry: ContextUse,
    /// The same where the body runs.
    pub(crate) here: ContextUse,
    /// It has paths, which take room in the scratch map.
    pub(crate) paths: bool,
}

impl Body {
    /// They are the same but for their names.
    pub(crate) fn same_but_names(&self, other: &Body) -> bool {
        let Body { limits, when, statements, variables, saves, key, names: _, entry, here, paths } = self;
        (when, statements, variables, saves) == (&other.when, &other.statements, &other.variables, &other.saves)
            && (limits, key, entry, here, paths) == (&other.limits, &other.key, &other.entry, &other.here, &other.paths)
    }
}

/// The names that a place has, as far as a body asks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// `func`
    pub(crate) function: Option<String>,
    /// `probe`
    pub(crate) point: Option<String>,
}

/// Which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum NameKind {
    Function,
    Point,
}

impl Names {
    /// Each that there is.
    pub(crate) fn each(&self) -> impl Iterator<Item = (NameKind, &str)> {
        let names = [(NameKind::Function, &self.function), (NameKind::Point, &self.point)];
        names.into_iter().filter_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }

    /// One of them; empty if it is not there.
    pub(crate) fn get(&self, wanted: NameKind) -> &str {
        self.each().find(|(kind, _)| *kind == wanted).map_or("", |(_, name)| name)
    }

    /// The room for such a name in bytes: the same for names of about one length, so that few programs serve many places.
    pub(crate) fn capacity(name: &str) -> u32 {
        (name.len() as u32).next_multiple_of(32).max(32)
    }
}

/// What code reads of its program's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ContextUse {
    /// Arguments, or what is returned.
    pub(crate) arguments: bool,
    /// Registers by their names.
    pub(crate) registers: bool,
}

impl ContextUse {
    /// Nothing at all.
    pub(crate) fn is_none(self) -> bool {
        self == ContextUse::default()
    }
}

/// What a span's entry half keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Save {
    Int(Value),
    Text(Text),
    Stack(Stack),
}

impl Save {
    /// How many bytes it takes.
    pub(crate) fn size(&self) -> u32 {
        match self {
            Save::Int(_) => 8,
            Save::Text(text) => text_room(text.capacity()),
            Save::Stack(stack) => Slot::Stack { offset: 0, depth: stack.depth() }.size(),
        }
    }

    /// How many bytes of the program's stack it takes in the exit half: a call stack is too large.
    pub(crate) fn on_stack(&self) -> u32 {
        if self.is_stack() { 0 } else { self.size() }
    }

    /// It is a call stack.
    pub(crate) fn is_stack(&self) -> bool {
        matches!(self, Save::Stack(_))
    }
}
