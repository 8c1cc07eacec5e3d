//! How a run begins and ends, and how a plugin that has failed begins again.

use std::time::Duration;

use toml::{Spanned, de::DeValue};

use super::{Reader, values::Section};
use crate::manifest::{DEFAULT_DRAIN, DEFAULT_SETTLE, MAX_BACKOFF, Moment, Open, Restart, Start, Stop, quantity};

/// The longest time to settle: what is longer is meant as something else.
const MAX_SETTLE: Duration = Duration::from_secs(60);

/// How often a plugin may be started again.
const MAX_RESTARTS: u64 = 1000;

/// How long after its failure a plugin is started again, where the manifest does not say.
const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);

impl Reader {
    pub(super) fn start(&mut self, section: &Section<'_, '_>) -> Start {
        self.keys(section, &["gate", "open", "settle"]);
        let gate = self.boolean(section, "gate").unwrap_or(true);
        let open = section.get("open").map_or(Open::Attached, |value| self.open(section, value));
        if !gate
            && open != Open::Attached
            && let Some(value) = section.get("open")
        {
            let help = "without a gate each probe records from when it is attached; leave `gate = false` out";
            self.problem(value.span(), "`start.open` says when the gate opens, and there is none", Some(help.into()));
        }
        let settle = self.string(section, "settle");
        let settle = settle.and_then(|(text, span)| {
            let settle = self.quantity(section, "settle", text, span.clone(), quantity::duration)?;
            if settle > MAX_SETTLE {
                self.problem(
                    span,
                    "`start.settle` must be at most 1m",
                    Some("`start.open = { after = \"...\" }` waits longer".into()),
                );
            }
            Some(settle)
        });
        Start { gate, open, settle: settle.unwrap_or(DEFAULT_SETTLE) }
    }

    /// `start.open`: a word, or a table with one key.
    fn open(&mut self, section: &Section<'_, '_>, value: &Spanned<DeValue<'_>>) -> Open {
        let values = "the values are \"attached\", \"manual\", { after = \"2s\" } and { at = 2027-01-01T00:00:00Z }";
        let Some(table) = value.get_ref().as_table() else {
            return match value.get_ref().as_str() {
                Some("attached") => Open::Attached,
                Some("manual") => Open::Manual,
                Some(other) => {
                    self.problem(value.span(), format!("`start.open` can't be `{other}`"), Some(values.into()));
                    Open::Attached
                }
                None => {
                    self.wrong_type(value, "start.open", "a string or a table");
                    Open::Attached
                }
            };
        };
        let section = Section { name: section.path("open"), span: value.span(), table };
        self.keys(&section, &["after", "at"]);
        match (section.get("after"), section.get("at")) {
            (Some(_), None) => {
                let after = self.string(&section, "after");
                let after = after.and_then(|(text, span)| self.quantity(&section, "after", text, span, quantity::duration));
                after.map_or(Open::Attached, Open::After)
            }
            (None, Some(at)) => match at.get_ref() {
                DeValue::Datetime(date) => Moment::of(date).map_or_else(
                    |why| {
                        self.problem(at.span(), format!("`start.open.at` is no moment: {why}"), None);
                        Open::Attached
                    },
                    Open::At,
                ),
                _ => {
                    self.wrong_type(at, "start.open.at", "a date without quotes, as in 2027-01-01T00:00:00Z");
                    Open::Attached
                }
            },
            _ => {
                self.problem(value.span(), "`start.open` takes one of `after` and `at`", Some(values.into()));
                Open::Attached
            }
        }
    }

    pub(super) fn stop(&mut self, section: &Section<'_, '_>) -> Stop {
        self.keys(section, &["after", "drain"]);
        let after = match self.string(section, "after") {
            Some(("never", _)) | None => None,
            Some((text, span)) => self.quantity(section, "after", text, span.clone(), quantity::duration).filter(|after| {
                let some = !after.is_zero();
                if !some {
                    self.problem(span, "`stop.after` is no time at all", Some("write \"never\" for a run without an end".into()));
                }
                some
            }),
        };
        let drain = self.string(section, "drain");
        let drain = drain.and_then(|(text, span)| self.quantity(section, "drain", text, span, quantity::duration));
        Stop { after, drain: drain.unwrap_or(DEFAULT_DRAIN) }
    }

    pub(super) fn restart(&mut self, section: &Section<'_, '_>) -> Option<Restart> {
        self.keys(section, &["times", "backoff"]);
        if section.get("times").is_none() {
            let help = "write `restart = { times = 3, backoff = \"1s\" }`";
            self.problem(section.span.clone(), "`plugin.restart` does not say how often", Some(help.into()));
        }
        let times = self.bounded(section, "times", MAX_RESTARTS);
        let mut backoff = DEFAULT_BACKOFF;
        if let Some((text, span)) = self.string(section, "backoff")
            && let Some(time) = self.quantity(section, "backoff", text, span.clone(), quantity::duration)
        {
            match time <= MAX_BACKOFF {
                true => backoff = time,
                false => self.problem(span, "`plugin.restart.backoff` must be at most 1h", None),
            }
        }
        Some(Restart { times: times? as u32, backoff })
    }
}
