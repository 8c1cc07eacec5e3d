//! `sandbox`: how workers and the symbolizer are locked in.

use std::ops::Range;

use toml::{Spanned, de::DeValue};

use super::{
    Reader,
    values::{Section, did_you_mean},
};
use crate::cage::{Layers, Sandbox, User};

impl Reader {
    /// `sandbox`: a word, or a table that says more.
    pub(super) fn sandbox(&mut self, top: &Section<'_, '_>, value: &Spanned<DeValue<'_>>) -> Sandbox {
        let Some(table) = value.get_ref().as_table() else {
            return match value.get_ref().as_str() {
                Some(word) => Sandbox { layers: self.layers(word, "sandbox", value.span()), user: None },
                None => {
                    self.wrong_type(value, "sandbox", "a string or a table");
                    Sandbox::default()
                }
            };
        };
        let section = Section { name: top.path("sandbox"), span: value.span(), table };
        self.keys(&section, &["layers", "uid", "gid"]);
        let layers = self.string(&section, "layers");
        let layers = layers.map(|(word, span)| self.layers(word, "sandbox.layers", span)).unwrap_or_default();
        let uid = self.user(&section, "uid");
        let gid = self.user(&section, "gid");
        if section.get("uid").is_none()
            && let Some(gid) = section.get("gid")
        {
            let help = "write `uid` as well; without it each worker gets a user and a group of its own";
            self.problem(gid.span(), "`sandbox.gid` is the group of `sandbox.uid`, which is not there", Some(help.into()));
        }
        Sandbox { layers, user: uid.map(|uid| User { uid, gid: gid.unwrap_or(uid) }) }
    }

    fn layers(&mut self, word: &str, path: &str, span: Range<usize>) -> Layers {
        let known = [Layers::Available, Layers::Required];
        let found = known.into_iter().find(|layers| layers.as_str() == word);
        if found.is_none() {
            let help = did_you_mean(word, &known.map(Layers::as_str));
            self.problem(span, format!("`{path}` can't be `{word}`"), Some(help));
        }
        found.unwrap_or_default()
    }

    /// A number of a user or a group, other than root's; the largest means nobody at all to the kernel.
    fn user(&mut self, section: &Section<'_, '_>, key: &str) -> Option<u32> {
        let (number, span) = self.number(section, key)?;
        let found = u32::try_from(number).ok().filter(|number| (1..u32::MAX).contains(number));
        if found.is_none() {
            let path = section.path(key);
            match number {
                0 => {
                    let help = "leave it out, and each worker gets one of its own";
                    self.problem(span, format!("`{path}` is 0, that is root"), Some(help.into()));
                }
                _ => self.problem(span, format!("`{path}` must be between 1 and {}", u32::MAX - 1), None),
            }
        }
        found
    }
}
