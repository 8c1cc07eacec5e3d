//! Pieces for a plugin's `config`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

use crate::{Error, Result};

/// The config of a plugin that has none: any key is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A span of time, written with its unit: `"250us"`, `"1ms"`, `"1.5s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanoseconds(pub u64);

/// The units, with their length in ns.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Nanoseconds {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Nanoseconds, BadDuration> {
        let bad = |reason| BadDuration { text: text.to_owned(), reason };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()) else {
            return Err(bad(if unit.trim().is_empty() { Reason::NoUnit } else { Reason::Unit }));
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(bad(Reason::Number));
        }
        let whole = whole.parse::<u64>().map_err(|_| bad(Reason::Long))?.checked_mul(*length).ok_or_else(|| bad(Reason::Long))?;
        // Integers all the way: a float would turn "0.3s" into 299999999.
        let (mut part, mut scale) = (0, *length);
        for digit in fraction.bytes() {
            if digit != b'0' && (scale < 10 || !scale.is_multiple_of(10)) {
                return Err(bad(Reason::Fine));
            }
            scale /= 10;
            part += u64::from(digit - b'0') * scale;
        }
        whole.checked_add(part).map(Nanoseconds).ok_or_else(|| bad(Reason::Long))
    }
}

impl<'de> Deserialize<'de> for Nanoseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nanoseconds, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Nanoseconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"1ms\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Nanoseconds, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

/// A text that is no [`Nanoseconds`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDuration {
    text: String,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    NoUnit,
    Unit,
    Number,
    Long,
    Fine,
}

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::NoUnit => "has no unit; write it as in \"1ms\"; the units are ns, us, ms, s, m, h",
            Reason::Unit => "is no duration; write a number and a unit, as in \"1ms\"; the units are ns, us, ms, s, m, h",
            Reason::Number => "is no duration: its number can't be read; write it as in \"1.5ms\"",
            Reason::Long => "is too long: at most 584 years fit",
            Reason::Fine => "is finer than a nanosecond",
        };
        write!(f, "\"{}\" {reason}", self.text)
    }
}

impl std::error::Error for BadDuration {}

/// Reads a plugin's config from the JSON text that the host passes.
pub(crate) fn parse<T: de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        // The place is one in the host's JSON, which nobody wrote and nobody can look up.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        Error::new(format!("config: {}", text.strip_suffix(&place).unwrap_or(&text)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::unwrap_in_result)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<u64, &str>) {
        let found = text.parse::<Nanoseconds>().map(|n| n.0).map_err(|e| e.to_string());
        assert_eq!(found, expect.map_err(|reason| format!("\"{text}\" {reason}")));
    }

    /// Numbers with units are exact; everything else says what is missing.
    #[test]
    fn durations() {
        check("0ns", Ok(0));
        check("7us", Ok(7_000));
        check("7µs", Ok(7_000));
        check("1ms", Ok(1_000_000));
        check("1 ms", Ok(1_000_000));
        check("0.3s", Ok(300_000_000));
        check("1.50s", Ok(1_500_000_000));
        check("2m", Ok(120_000_000_000));
        check("1h", Ok(3_600_000_000_000));
        check("18446744073709551615ns", Ok(u64::MAX));
        check("1.0ns", Ok(1));
        check("", Err("has no unit; write it as in \"1ms\"; the units are ns, us, ms, s, m, h"));
        check("5", Err("has no unit; write it as in \"1ms\"; the units are ns, us, ms, s, m, h"));
        let unit = "is no duration; write a number and a unit, as in \"1ms\"; the units are ns, us, ms, s, m, h";
        for text in ["-1ms", "1 week", "ms1", "1e3ms"] {
            check(text, Err(unit));
        }
        for text in ["ms", ".5ms", "1.ms", "1.2.3ms"] {
            check(text, Err("is no duration: its number can't be read; write it as in \"1.5ms\""));
        }
        for text in ["18446744073709551616ns", "999999999999h", "18446744073.8s"] {
            check(text, Err("is too long: at most 584 years fit"));
        }
        check("1.01ns", Err("is finer than a nanosecond"));
        check("1.5ns", Err("is finer than a nanosecond"));
        check("0.0001us", Err("is finer than a nanosecond"));
    }

    /// An error in the config names the key or the value, and no place in a JSON text that the user never saw.
    #[test]
    fn config_errors() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Config {
            #[allow(dead_code)]
            min_latency: Option<Nanoseconds>,
        }
        let error = |text| parse::<Config>(text).unwrap_err().to_string();
        assert_eq!(error(r#"{"min":1}"#), "config: unknown field `min`, expected `min-latency`");
        assert_eq!(
            error(r#"{"min-latency":5}"#),
            "config: invalid type: integer `5`, expected a duration with its unit, such as \"1ms\""
        );
        assert!(error(r#"{"min-latency":"5"}"#).starts_with("config: \"5\" has no unit"));
        assert!(parse::<NoConfig>("{}").is_ok());
        assert_eq!(parse::<NoConfig>(r#"{"a":1}"#).unwrap_err().to_string(), "config: unknown field `a`, there are no fields");
    }
}
