//! What was said last of pausing: it holds for plugins, too, that have failed and are on their way back.

use std::collections::{BTreeMap, BTreeSet};

/// The pauses of a run.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// What was said of all.
    all: bool,
    /// What was said of one since.
    named: BTreeMap<String, bool>,
    /// Numbers of those that came back into a pause. They were never open, and resume as if they had been.
    returned: BTreeSet<usize>,
}

impl Pauses {
    /// All are paused, or `plugin` alone; or not any more.
    pub(super) fn say(&mut self, plugin: Option<&str>, paused: bool) {
        match plugin {
            Some(name) => _ = self.named.insert(name.to_owned(), paused),
            None => {
                self.all = paused;
                self.named.clear();
            }
        }
    }

    /// A plugin of this name is to be paused when it comes back.
    pub(super) fn holds(&self, plugin: &str) -> bool {
        self.named.get(plugin).copied().unwrap_or(self.all)
    }

    /// These came back into a pause.
    pub(super) fn came_back(&mut self, numbers: &[usize]) {
        self.returned.extend(numbers);
    }

    /// It came back into a pause and was not opened since, as far as that goes for one that is closed.
    pub(super) fn has_returned(&self, number: usize) -> bool {
        self.returned.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was said last of a plugin counts, of all or of it alone.
    #[test]
    fn the_last_word() {
        let mut pauses = Pauses::default();
        assert!(!pauses.holds("a"));
        pauses.say(Some("a"), true);
        assert!(pauses.holds("a") && !pauses.holds("b"));
        pauses.say(None, true);
        pauses.say(Some("a"), false);
        assert!(!pauses.holds("a") && pauses.holds("b"));
        pauses.say(None, true);
        assert!(pauses.holds("a") && pauses.holds("b"));
        pauses.say(None, false);
        assert!(!pauses.holds("a") && !pauses.holds("b"));
        pauses.came_back(&[3]);
        assert!(pauses.has_returned(3) && !pauses.has_returned(2));
    }
}
