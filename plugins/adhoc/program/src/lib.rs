//! One-liners between the host's front end, which reads them, and the plugin `adhoc`, which does their actions.
//!
//! Here is what both agree on, [`Program`], and what the actions show, as text: pure, so that it is tested where it does not run.
//! The text is bpftrace's.

mod map;
mod printf;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
mod time;

pub use map::{Content, Element, Map};
pub use printf::{Cell, Kind, join, printf, text, unfit, value};
use serde::{Deserialize, Serialize};
pub use time::{Clock, civil, time};

/// A program, apart from its probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Program {
    /// Its actions.
    pub actions: Vec<Action>,
    /// The other streams that `END` emits to: their rows are shown also after an `exit`.
    pub end_streams: Vec<String>,
    /// How what it gathers is shown.
    pub display: Display,
}

/// How what a program gathers is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Display {
    /// As rows for programs, not as text for people.
    pub json: bool,
    /// Print all maps this often, in ns.
    pub interval: Option<u64>,
    /// Of each map, only so many elements: those with the largest values.
    pub top: Option<u64>,
    /// Clear each map once it was printed by `interval`.
    pub clear: bool,
    /// What to add to UTC for the times that are shown, in seconds.
    pub utc_offset: i64,
}

/// A statement of a body that the plugin does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// The stream of its rows.
    pub stream: String,
    /// It is one of `END`: done also after an `exit`.
    pub end: bool,
    /// What is done with a row.
    pub what: What,
    /// Values that are texts of the program, by their position: the row has the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<(usize, String)>,
}

/// What is done. Its values are the fields `a0`, `a1` and so on of the row, but for those that are fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum What {
    /// Shows text, with a field of the row for each conversion.
    Printf {
        /// What it is made of.
        pieces: Vec<Piece>,
    },
    /// Shows a map, or the element whose keys the row's fields are.
    Print {
        /// Its name, with the `@`.
        map: String,
        /// How many keys the row has; with none the whole map is shown.
        keys: usize,
        /// What is shown is taken out.
        take: bool,
        /// Only so many elements, those with the largest values.
        top: Option<u64>,
        /// Values are divided by this.
        div: Option<u64>,
    },
    /// Shows values: the row's fields, but for those that are the keys of `map`.
    Value {
        /// Whose element it is, with the `@`.
        map: Option<String>,
        /// How many fields are keys. They come first.
        keys: usize,
        /// The values were written as a tuple.
        tuple: bool,
    },
    /// Takes all elements out of a map.
    Clear {
        /// Its name, with the `@`.
        map: String,
    },
    /// Makes all values of a map zero.
    Zero {
        /// Its name, with the `@`.
        map: String,
    },
    /// Shows the time of the row.
    Time {
        /// As of strftime(3).
        format: String,
    },
    /// Ends the run.
    Exit {
        /// Shown with the end.
        code: u64,
    },
    /// Shows texts, as far as they could be read.
    Join {
        /// What stands between them.
        delimiter: String,
    },
}

/// A piece of what `printf` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The next field of the row.
    Field(Conversion),
}

/// `%-10.3s`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conversion {
    /// `d`, `u`, `x`, `X`, `o`, `c`, `p`, `s`; `r`, `rx` and `rh` show bytes.
    pub kind: String,
    /// To the left of its width (`-`).
    pub left: bool,
    /// Filled up with zeros (`0`).
    pub zero: bool,
    /// With a sign also where it is positive (`+`).
    pub plus: bool,
    /// With `0x` or `0` in front (`#`).
    pub prefix: bool,
    /// At least so many characters.
    pub width: usize,
    /// At most so many characters of a text.
    pub precision: Option<usize>,
    /// The field is a time, shown so: a format of strftime(3).
    pub time: Option<String>,
}

impl What {
    /// The statement's name.
    pub fn name(&self) -> &'static str {
        match self {
            What::Printf { .. } => "printf",
            What::Print { .. } | What::Value { .. } => "print",
            What::Clear { .. } => "clear",
            What::Zero { .. } => "zero",
            What::Time { .. } => "time",
            What::Exit { .. } => "exit",
            What::Join { .. } => "join",
        }
    }
}
