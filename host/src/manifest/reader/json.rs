//! `plugin.config` as a plugin gets it: JSON.

use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Reader, values::integer};

impl Reader {
    /// A table as JSON. Dates become their text; a number that JSON does not have is a mistake.
    pub(super) fn object(&mut self, table: &DeTable<'_>) -> Json {
        Json::Object(table.iter().map(|(key, value)| (key.get_ref().to_string(), self.json(value))).collect())
    }

    fn json(&mut self, value: &Spanned<DeValue<'_>>) -> Json {
        match value.get_ref() {
            DeValue::String(text) => Json::String(text.to_string()),
            DeValue::Boolean(truth) => Json::Bool(*truth),
            DeValue::Datetime(date) => Json::String(date.to_string()),
            DeValue::Array(array) => Json::Array(array.iter().map(|entry| self.json(entry)).collect()),
            DeValue::Table(table) => self.object(table),
            number @ DeValue::Integer(_) => match integer(number) {
                Some(number) => Json::from(number),
                None => {
                    self.problem(value.span(), "this number is larger than 64 bits hold", None);
                    Json::Null
                }
            },
            DeValue::Float(number) => match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
                Some(number) => Json::Number(number),
                None => {
                    self.problem(value.span(), "a plugin gets its config as JSON, which has no such number", None);
                    Json::Null
                }
            },
        }
    }
}
