//! What a pump does for call stacks: their processes are noted while they live, and that there are too many is said once.

use std::time::{Duration, Instant};

use crate::{
    names::{MAX_STACKS, Names},
    worker::Maps,
};

/// How often maps with stacks as keys are looked at, so that processes are noted while they live.
const LOOK: Duration = Duration::from_millis(50);

/// The watch over the stacks of one plugin.
#[derive(Debug)]
pub(super) struct StackWatch {
    /// When maps with stacks as keys are looked at next, if there are any.
    pub(super) look: Option<Instant>,
    /// It was told that there are too many distinct stacks.
    refused: bool,
}

impl StackWatch {
    pub(super) fn new(maps: &dyn Maps) -> StackWatch {
        StackWatch { look: maps.have_stacks().then(Instant::now), refused: false }
    }

    /// Notes the processes whose stacks are keys of maps, if it is time: they are read later, perhaps when they are gone.
    pub(super) fn note_processes(&mut self, maps: &mut dyn Maps, names: &mut Names) {
        let now = Instant::now();
        if self.look.is_some_and(|look| look <= now) {
            maps.note_processes(names);
            self.look = Some(now + LOOK);
        }
    }

    /// What is to be said, once, when stacks are told apart no more.
    pub(super) fn warning(&mut self, names: &Names) -> Option<String> {
        if names.stacks.refused() == 0 || std::mem::replace(&mut self.refused, true) {
            return None;
        }
        let most = MAX_STACKS;
        Some(format!("there are more than {most} distinct stacks, or very deep ones: further ones are all the same, number 0"))
    }
}
