//! Keys and values by their types: what is wrong with one is noted where it stands.

use std::ops::Range;

use portcullis_ebpf::diagnostic::suggest;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::manifest::quantity;

/// A mistake and the bytes it stands at.
pub(super) struct Found {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// One table of the manifest.
pub(super) struct Section<'d, 'i> {
    /// Its keys' common part, as messages have it: empty or `plugin.grants`.
    pub(super) name: String,
    /// Its header.
    pub(super) span: Range<usize>,
    pub(super) table: &'d DeTable<'i>,
}

impl<'d, 'i> Section<'d, 'i> {
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'i>>> {
        self.table.get(key)
    }
}

/// The walk, collecting mistakes. A value that is wrong is noted and read as its default, so that the walk goes on.
pub(super) struct Reader {
    pub(super) problems: Vec<Found>,
}

impl Reader {
    /// Notes every key of the section that is none of `known`.
    pub(super) fn keys(&mut self, section: &Section<'_, '_>, known: &[&str]) {
        for key in section.table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                self.problem(key.span(), format!("unknown key `{}`", section.path(name)), Some(did_you_mean(name, known)));
            }
        }
    }

    pub(super) fn table<'d, 'i>(&mut self, section: &Section<'d, 'i>, key: &str) -> Option<Section<'d, 'i>> {
        let value = section.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(value, &section.path(key), "a table");
            return None;
        };
        Some(Section { name: section.path(key), span: value.span(), table })
    }

    pub(super) fn string<'d>(&mut self, section: &Section<'d, '_>, key: &str) -> Option<(&'d str, Range<usize>)> {
        let value = section.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, &section.path(key), "a string");
        }
        Some((text?, value.span()))
    }

    pub(super) fn number(&mut self, section: &Section<'_, '_>, key: &str) -> Option<(i64, Range<usize>)> {
        let value = section.get(key)?;
        let number = integer(value.get_ref());
        if number.is_none() {
            self.wrong_type(value, &section.path(key), "a number");
        }
        Some((number?, value.span()))
    }

    pub(super) fn boolean(&mut self, section: &Section<'_, '_>, key: &str) -> Option<bool> {
        let value = section.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_type(value, &section.path(key), "`true` or `false`");
        }
        truth
    }

    pub(super) fn strings<'d>(&mut self, section: &Section<'d, '_>, key: &str) -> Vec<(&'d str, Range<usize>)> {
        let Some(value) = section.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, &section.path(key), "a list of strings");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for entry in array.iter() {
            match entry.get_ref().as_str() {
                Some(text) => texts.push((text, entry.span())),
                None => self.wrong_type(entry, &section.path(key), "a list of strings"),
            }
        }
        texts
    }

    pub(super) fn size(&mut self, section: &Section<'_, '_>, key: &str) -> Option<(u64, Range<usize>)> {
        let (text, span) = self.string(section, key)?;
        Some((self.quantity(section, key, text, span.clone(), quantity::size)?, span))
    }

    pub(super) fn quantity<T>(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        text: &str,
        span: Range<usize>,
        read: fn(&str) -> Result<T, quantity::QuantityError>,
    ) -> Option<T> {
        read(text).map_err(|error| self.problem(span, format!("`{}`: {error}", section.path(key)), None)).ok()
    }

    /// A number between 1 and `most`.
    pub(super) fn bounded(&mut self, section: &Section<'_, '_>, key: &str, most: u64) -> Option<u64> {
        let (number, span) = self.number(section, key)?;
        let number = u64::try_from(number).ok().filter(|number| (1..=most).contains(number));
        if number.is_none() {
            self.problem(span, format!("`{}` must be between 1 and {most}", section.path(key)), None);
        }
        number
    }

    pub(super) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, path: &str, must: &str) {
        let is = match value.get_ref() {
            DeValue::Boolean(_) => "a boolean",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
            DeValue::String(_) => "a string",
        };
        self.problem(value.span(), format!("`{path}` must be {must}, and this is {is}"), None);
    }

    pub(super) fn problem(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Found { span, message: message.into(), help });
    }
}

pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

pub(super) fn did_you_mean(name: &str, known: &[&str]) -> String {
    match suggest(name, known.iter().copied()) {
        Some(like) => format!("did you mean `{like}`?"),
        None => match known {
            [all @ .., last] if !all.is_empty() => format!("there are `{}` and `{last}`", all.join("`, `")),
            _ => format!("there is `{}`", known.join("`, `")),
        },
    }
}
