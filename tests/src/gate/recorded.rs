//! What programs have changed, and what has changed since.

use std::collections::BTreeMap;

/// All that a plugin's programs can change, but for the hits of a closed gate: counters, records, elements of maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub(super) plugin: usize,
    /// What is not 0.
    pub(super) facts: BTreeMap<String, String>,
}

impl Recorded {
    /// What there is, in words.
    pub fn all(&self) -> Vec<String> {
        self.facts.iter().map(|(what, value)| format!("plugin {}: {what} = {value}", self.plugin)).collect()
    }

    /// What has changed since.
    pub fn changes(&self, since: &Recorded) -> Vec<String> {
        let keys = self.facts.keys().chain(since.facts.keys().filter(|what| !self.facts.contains_key(*what)));
        let value = |recorded: &Recorded, what| recorded.facts.get(what).cloned().unwrap_or_else(|| "0".to_owned());
        let changed = keys.filter(|what| self.facts.get(*what) != since.facts.get(*what));
        changed
            .map(|what| format!("plugin {}: {what} = {}, then {}", self.plugin, value(since, what), value(self, what)))
            .collect()
    }
}
