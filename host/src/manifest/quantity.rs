//! Durations and sizes as people write them: `"1.5s"`, `"64MiB"`.
//!
//! A number never goes without its unit, and of the two families of byte units only the one that means powers of two is taken:
//! a manifest says one thing to everybody.

use std::time::Duration;

/// Why a text is no duration or size. Its `Display` says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QuantityError {
    message: String,
}

/// The units of a duration and how many nanoseconds each has.
const TIMES: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The units of a size and how many bytes each has.
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The duration that `text` says: numbers with units, the larger first, as in `100ms`, `1.5s`, `1m 30s`.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = |why: String| QuantityError { message: format!("`{text}` is no duration: {why}") };
    let mut rest = text.trim();
    let mut total = 0u64;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return Err(wrong("it is empty; write for example `500ms` or `1m30s`".into()));
    }
    while !rest.is_empty() {
        let part = Part::split(rest).ok_or_else(|| wrong(format!("`{rest}` does not begin with a number")))?;
        if part.unit.is_empty() {
            return Err(wrong(format!("`{}` has no unit; did you mean `{}s`?", part.number, part.number)));
        }
        let Some(&(_, scale)) = TIMES.iter().find(|(name, _)| *name == part.unit) else {
            return Err(wrong(format!("`{}` is no unit of time; there are ns, us, ms, s, m, h and d", part.unit)));
        };
        if scale >= last {
            return Err(wrong(format!("the unit `{}` follows one that is not larger", part.unit)));
        }
        last = scale;
        total = part
            .times(scale)
            .and_then(|value| total.checked_add(value))
            .ok_or_else(|| wrong("it is longer than 584 years".into()))?;
        rest = part.rest;
    }
    Ok(Duration::from_nanos(total))
}

/// The number of bytes that `text` says: a number with a unit, as in `64MiB`.
pub fn size(text: &str) -> Result<u64, QuantityError> {
    let wrong = |why: String| QuantityError { message: format!("`{text}` is no size: {why}") };
    let part = Part::split(text.trim()).ok_or_else(|| wrong("write for example `64MiB`".into()))?;
    if part.unit.is_empty() && part.rest.is_empty() {
        return Err(wrong(format!("it has no unit; did you mean `{}B` or `{}MiB`?", part.number, part.number)));
    }
    let Some(&(_, scale)) = SIZES.iter().find(|(name, _)| *name == part.unit) else {
        let meant = match part.unit.chars().next().map(|c| c.to_ascii_uppercase()) {
            Some(c @ ('K' | 'M' | 'G')) => format!("did you mean `{}{c}iB`?", part.number),
            _ => "there are B, KiB, MiB and GiB".into(),
        };
        return Err(wrong(format!("`{}` is no unit of size; {meant}", part.unit)));
    };
    if !part.rest.is_empty() {
        return Err(wrong(format!("`{}` follows it", part.rest)));
    }
    part.times(scale).ok_or_else(|| wrong("it is too large".into()))
}

/// A size as [`size`] reads it, in the largest unit that leaves no fraction.
pub fn shown(bytes: u64) -> String {
    let unit = SIZES.iter().filter(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)).max_by_key(|(_, scale)| *scale);
    unit.map_or_else(|| format!("{bytes}B"), |(name, scale)| format!("{}{name}", bytes / scale))
}

/// A number with its unit at the beginning of a text.
struct Part<'t> {
    number: &'t str,
    unit: &'t str,
    rest: &'t str,
}

impl<'t> Part<'t> {
    fn split(text: &'t str) -> Option<Part<'t>> {
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(at);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let rest = rest.trim_start();
        let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len()));
        Some(Part { number, unit, rest: rest.trim_start() })
    }

    /// The number times `scale`, rounded down; `None` if that is more than a `u64` holds.
    fn times(&self, scale: u64) -> Option<u64> {
        let (whole, fraction) = self.number.split_once('.').unwrap_or((self.number, ""));
        let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
        // 18 digits of a u128 product stay far from its end, and finer ones are less than one of any unit.
        let fraction = &fraction[..fraction.len().min(18)];
        let part = match fraction {
            "" => 0,
            digits => u128::from(digits.parse::<u64>().ok()?) * u128::from(scale) / 10u128.pow(digits.len() as u32),
        };
        whole.checked_add(u64::try_from(part).ok()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check<T: std::fmt::Display>(read: impl Fn(&str) -> Result<T, QuantityError>, cases: &[(&str, &str)]) {
        for (text, expect) in cases {
            let got = read(text).map_or_else(|error| error.to_string(), |value| value.to_string());
            assert_eq!(got, *expect, "for {text:?}");
        }
    }

    /// Durations read as meant, and what is none says what would be.
    #[test]
    fn durations() {
        check(
            |text| duration(text).map(|d| d.as_nanos()),
            &[
                ("100ms", "100000000"),
                ("1.5s", "1500000000"),
                ("1m30s", "90000000000"),
                ("1 h 1 ns", "3600000000001"),
                ("2us", "2000"),
                ("2µs", "2000"),
                ("0s", "0"),
                ("0.0000000001s", "0"),
                ("5", "`5` is no duration: `5` has no unit; did you mean `5s`?"),
                ("", "`` is no duration: it is empty; write for example `500ms` or `1m30s`"),
                ("fast", "`fast` is no duration: `fast` does not begin with a number"),
                ("5 parsec", "`5 parsec` is no duration: `parsec` is no unit of time; there are ns, us, ms, s, m, h and d"),
                ("30s1m", "`30s1m` is no duration: the unit `m` follows one that is not larger"),
                ("-1s", "`-1s` is no duration: `-1s` does not begin with a number"),
                ("1.s", "`1.s` is no duration: `1.s` does not begin with a number"),
                ("1..2s", "`1..2s` is no duration: `1..2s` does not begin with a number"),
                ("99999999d", "`99999999d` is no duration: it is longer than 584 years"),
                ("99999999999999999999s", "`99999999999999999999s` is no duration: it is longer than 584 years"),
            ],
        );
    }

    /// What is shown is read as what it was.
    #[test]
    fn shown_sizes() {
        for (bytes, text) in
            [(0, "0B"), (12, "12B"), (4096, "4KiB"), (3 << 20, "3MiB"), (1 << 30, "1GiB"), ((1 << 30) + 1, "1073741825B")]
        {
            assert_eq!((shown(bytes).as_str(), size(text).unwrap()), (text, bytes));
        }
    }

    /// Sizes read as meant, and decimal units are refused with the binary one that was meant.
    #[test]
    fn sizes() {
        check(
            size,
            &[
                ("64MiB", "67108864"),
                ("8 KiB", "8192"),
                ("1.5GiB", "1610612736"),
                ("12B", "12"),
                ("4096", "`4096` is no size: it has no unit; did you mean `4096B` or `4096MiB`?"),
                ("64MB", "`64MB` is no size: `MB` is no unit of size; did you mean `64MiB`?"),
                ("64m", "`64m` is no size: `m` is no unit of size; did you mean `64MiB`?"),
                ("64x", "`64x` is no size: `x` is no unit of size; there are B, KiB, MiB and GiB"),
                ("1MiB 2B", "`1MiB 2B` is no size: `2B` follows it"),
                ("large", "`large` is no size: write for example `64MiB`"),
                ("99999999999GiB", "`99999999999GiB` is no size: it is too large"),
            ],
        );
    }
}
