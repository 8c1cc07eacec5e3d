//! Hooks to programs: places at which the same is to be done have one program and one link, where the kernel has such links.
//!
//! What differs between such places is a number that the kernel hands to the program, the link's cookie: it is the place's number, and
//! [`NameTable`] has what `func` and `probe` are there.

use std::collections::{BTreeMap, HashMap};

use crate::{
    check::ir::{Body, NameKind, Names, text_room},
    kernel::Features,
    output::{Ends, Hook, KernelPlace, UserPlace},
    plan::{Function, Half, HookPlan},
};

/// How large a table of names is at most, in bytes. Beyond that, places that are asked for their names have a program each.
const MAX_NAMES: usize = 1 << 20;

/// What one program does.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) hook: Hook,
    /// At each of its places: what runs there. The functions are the same but for their names.
    pub(crate) places: Vec<HookPlan>,
    /// The same of the other end, where one link serves both.
    pub(crate) returns: Vec<HookPlan>,
}

impl Group {
    /// The program is told by the link's cookie where it is.
    pub(crate) fn by_cookie(&self) -> bool {
        self.places.len() > 1
    }

    /// What runs at each end: the functions of one place, and whether it is where calls return.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&HookPlan, bool)> {
        let returns = match &self.hook {
            Hook::KprobeMulti { ends, .. } | Hook::UprobeMulti { ends, .. } => *ends == Ends::Return,
            Hook::TpBtf { name } => name == "sys_exit",
            _ => false,
        };
        self.places.first().map(|plan| (plan, returns)).into_iter().chain(self.returns.first().map(|plan| (plan, true)))
    }

    /// The functions of its program.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Function> {
        self.ends().flat_map(|(plan, _)| &plan.functions)
    }
}

/// Puts hooks together, and makes the table of the names that their programs ask for.
pub(crate) fn group(hooks: &BTreeMap<Hook, HookPlan>, features: Features) -> (Vec<Group>, NameTable) {
    let groups = together(hooks, features, true);
    let table = NameTable::new(&groups);
    if table.content.len() <= MAX_NAMES {
        return (groups, table);
    }
    let groups = together(hooks, features, false);
    let table = NameTable::new(&groups);
    (groups, table)
}

/// What the places of a group have in common: the file, if it is not the kernel; which end; what is done.
#[derive(PartialEq, Eq, Hash)]
struct Common {
    path: Option<String>,
    returns: bool,
    functions: Vec<Function>,
    always: Vec<usize>,
}

/// `names`: places may differ in their names.
fn together(hooks: &BTreeMap<Hook, HookPlan>, features: Features, names: bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<Common, usize> = HashMap::new();
    for (hook, plan) in hooks {
        let common = match hook {
            _ if !plan.multi => None,
            Hook::Kprobe { returns, .. } => Some((None, *returns)),
            Hook::Uprobe { path, returns, pid: None, .. } => Some((Some(path.clone()), *returns)),
            _ => None,
        };
        let Some((path, returns)) = common else {
            groups.push(Group { hook: hook.clone(), places: vec![plan.clone()], returns: Vec::new() });
            continue;
        };
        let functions = plan.functions.iter().map(|function| if names { nameless(function) } else { function.clone() }).collect();
        let common = Common { path, returns, functions, always: plan.always.clone() };
        let index = *known.entry(common).or_insert_with(|| {
            groups.push(Group { hook: empty(hook, returns), places: Vec::new(), returns: Vec::new() });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(index) {
            add(&mut group.hook, hook, plan.place);
            group.places.push(plan.clone());
        }
    }
    sessions(groups, features)
}

fn nameless(function: &Function) -> Function {
    Function { body: Body { names: Names::default(), ..function.body.clone() }, ..function.clone() }
}

/// A link for many places without any.
fn empty(hook: &Hook, returns: bool) -> Hook {
    let ends = if returns { Ends::Return } else { Ends::Entry };
    match hook {
        Hook::Uprobe { path, .. } => Hook::UprobeMulti { path: path.clone(), places: Vec::new(), ends },
        _ => Hook::KprobeMulti { places: Vec::new(), ends },
    }
}

/// One place more.
fn add(group: &mut Hook, hook: &Hook, number: u32) {
    let cookie = u64::from(number);
    match (group, hook) {
        (Hook::KprobeMulti { places, .. }, Hook::Kprobe { function, .. }) => {
            places.push(KernelPlace { function: function.clone(), cookie });
        }
        (Hook::UprobeMulti { places, .. }, Hook::Uprobe { offset, semaphore, .. }) => {
            places.push(UserPlace { offset: *offset, semaphore: *semaphore, cookie });
        }
        _ => {}
    }
}

/// Puts the two ends of spans at the same places together, where the kernel has links for both.
fn sessions(mut groups: Vec<Group>, features: Features) -> Vec<Group> {
    let is_exit = |group: &Group| group.functions().all(|function| function.half == Half::Exit);
    let has = |hook: &Hook, wanted: Ends| match hook {
        Hook::KprobeMulti { ends, .. } => features.kprobe_session && *ends == wanted,
        Hook::UprobeMulti { ends, .. } => features.uprobe_session && *ends == wanted,
        _ => false,
    };
    let mut index = 0;
    while index < groups.len() {
        let exit = groups[index..].iter().position(|group| has(&group.hook, Ends::Return) && is_exit(group));
        let Some(at) = exit.map(|at| index + at) else { break };
        index = at + 1;
        let entry = groups.iter().position(|group| has(&group.hook, Ends::Entry) && same_places(&group.hook, &groups[at].hook));
        let Some(entry) = entry else { continue };
        let returns = groups.remove(at).places;
        index = at;
        let entry = if entry > at { entry - 1 } else { entry };
        let group = &mut groups[entry];
        group.returns = returns;
        if let Hook::KprobeMulti { ends, .. } | Hook::UprobeMulti { ends, .. } = &mut group.hook {
            *ends = Ends::Both;
        }
    }
    groups
}

fn same_places(a: &Hook, b: &Hook) -> bool {
    match (a, b) {
        (Hook::KprobeMulti { places: a, .. }, Hook::KprobeMulti { places: b, .. }) => a == b,
        (Hook::UprobeMulti { path: x, places: a, .. }, Hook::UprobeMulti { path: y, places: b, .. }) => x == y && a == b,
        _ => false,
    }
}

/// Whose name: the probe, which of its names, whether the row is a system call's, and whether it is where calls return.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Column {
    pub(crate) probe: usize,
    pub(crate) kind: NameKind,
    pub(crate) syscall: bool,
    pub(crate) returns: bool,
}

/// The names of places, a row for each, and of system calls, by their numbers: what a program reads that serves several.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    /// Where each begins within a row.
    columns: BTreeMap<Column, u32>,
    /// How many bytes a row has.
    pub(crate) stride: u32,
    pub(crate) rows: u32,
    pub(crate) content: Vec<u8>,
}

impl NameTable {
    fn new(groups: &[Group]) -> NameTable {
        let mut sizes: BTreeMap<Column, u32> = BTreeMap::new();
        let mut cells = Vec::new();
        for group in groups {
            for ((_, returns), places) in group.ends().zip([&group.places, &group.returns]) {
                for plan in places {
                    let told =
                        plan.functions.iter().filter(|_| group.by_cookie()).map(|f| (f.probe, plan.place, &f.body.names, false));
                    let calls = plan.names.iter().filter(|(function, ..)| plan.by_number(*function));
                    let calls = calls.filter_map(|(function, number, names)| {
                        Some((plan.functions.get(*function)?.probe, *number, names, true))
                    });
                    for (probe, row, names, syscall) in told.chain(calls) {
                        for (kind, name) in names.each() {
                            let column = Column { probe, kind, syscall, returns };
                            let size = sizes.entry(column).or_default();
                            *size = (*size).max(text_room(Names::capacity(name)));
                            cells.push((row, column, name));
                        }
                    }
                }
            }
        }
        let mut table = NameTable::default();
        for (column, size) in sizes {
            table.columns.insert(column, table.stride);
            table.stride += size;
        }
        table.rows = cells.iter().map(|(row, ..)| row + 1).max().unwrap_or_default();
        table.content = vec![0; table.rows as usize * table.stride as usize];
        for (row, column, name) in cells {
            let at = row as usize * table.stride as usize + table.column(column).unwrap_or_default() as usize;
            if let Some(cell) = table.content.get_mut(at..at + name.len()) {
                cell.copy_from_slice(name.as_bytes());
            }
        }
        table
    }

    /// Where a name begins within a row.
    pub(crate) fn column(&self, column: Column) -> Option<u32> {
        self.columns.get(&column).copied()
    }
}
