//! The maps of a program, as far as actions need to know them.

use std::ops::Range;

use portcullis_ebpf::{aggregate, diagnostic::suggest};

use super::{
    error::Wrong,
    mask::{closing, skip, word},
};

/// Where maps stand in a masked program.
#[derive(Debug, Default)]
pub(super) struct Maps {
    /// Each map's name, everywhere.
    mentions: Vec<Range<usize>>,
    /// Those to which an aggregation is assigned.
    aggregated: Vec<Range<usize>>,
    /// The names that are arguments of actions, with the statement.
    acted: Vec<(Range<usize>, String)>,
}

impl Maps {
    pub(super) fn find(mask: &str) -> Maps {
        let mut maps = Maps::default();
        for (at, _) in mask.match_indices('@') {
            let name = at..at + 1 + word(&mask[at + 1..]);
            let mut next = skip(mask, name.end);
            if mask[next..].starts_with('[') {
                next = closing(mask, next).map_or(mask.len(), |close| skip(mask, close + 1));
            }
            if let Some(value) = mask[next..].strip_prefix('=') {
                let value = value.trim_start();
                let function = word(value);
                // What is aggregated can't be a field of a row.
                if aggregate::NAMES.contains(&&value[..function]) && value[function..].trim_start().starts_with('(') {
                    maps.aggregated.push(name.clone());
                }
            }
            maps.mentions.push(name);
        }
        maps
    }

    /// A clause assigns an aggregation to the map of this name (with the `@`).
    pub(super) fn is_aggregated(&self, mask: &str, name: &str) -> bool {
        self.aggregated.iter().any(|place| mask[place.clone()] == *name)
    }

    /// The name at a place is what a statement is done to.
    pub(super) fn act(&mut self, place: Range<usize>, statement: &str) {
        self.acted.push((place, statement.to_owned()));
    }

    /// Checks that actions are done to maps that are there: those that stand somewhere else too.
    pub(super) fn check(&self, mask: &str) -> Result<(), Wrong> {
        let others = || self.mentions.iter().filter(|place| self.acted.iter().all(|(acted, _)| acted != *place));
        for (place, statement) in &self.acted {
            let name = &mask[place.clone()];
            if others().all(|other| mask[other.clone()] != *name) {
                let help = match suggest(name, others().map(|place| &mask[place.clone()])) {
                    Some(like) => format!("did you mean `{like}`?"),
                    None => format!("a clause fills it, as in `{name}[comm] = count();`"),
                };
                return Err(Wrong::new(place.clone(), format!("`{statement}({name})`: no clause has this map")).help(help));
            }
        }
        Ok(())
    }
}
