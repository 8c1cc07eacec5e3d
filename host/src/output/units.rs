//! Numbers with units, as people read them.

use std::fmt::Write;

/// A duration in ns with three significant digits: `850ns`, `1.24ms`, `12.5s`, and from two minutes on `5m20s`, `3h05m`.
pub fn nanoseconds(ns: u64) -> String {
    const S: u64 = 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => scaled(ns, 1_000, "µs", "ms", 1_000),
        1_000_000..S => scaled(ns, 1_000_000, "ms", "s", 1_000),
        _ if ns / S < 120 => scaled(ns, S, "s", "s", u64::MAX),
        _ if ns / S < 7200 => format!("{}m{:02}s", ns / S / 60, ns / S % 60),
        _ => format!("{}h{:02}m", ns / S / 3600, ns / S / 60 % 60),
    }
}

/// A duration that may be negative.
pub fn signed_nanoseconds(ns: i64) -> String {
    signed(ns, nanoseconds)
}

/// A size in bytes with three significant digits: `512B`, `1.5KiB`.
pub fn bytes(size: u64) -> String {
    match size {
        0..0x400 => format!("{size}B"),
        0x400..0x10_0000 => scaled(size, 1 << 10, "KiB", "MiB", 1 << 10),
        0x10_0000..0x4000_0000 => scaled(size, 1 << 20, "MiB", "GiB", 1 << 10),
        0x4000_0000..0x100_0000_0000 => scaled(size, 1 << 30, "GiB", "TiB", 1 << 10),
        _ => scaled(size, 1 << 40, "TiB", "TiB", u64::MAX),
    }
}

/// A size that may be negative.
pub fn signed_bytes(size: i64) -> String {
    signed(size, bytes)
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn signed(value: i64, show: fn(u64) -> String) -> String {
    let text = show(value.unsigned_abs());
    if value < 0 { format!("-{text}") } else { text }
}

/// `value / scale` with three significant digits and no zeros behind the point; what rounds up to `limit` becomes one of the next
/// unit.
fn scaled(value: u64, scale: u64, unit: &str, next: &str, limit: u64) -> String {
    let whole = value / scale;
    let decimals = match whole {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    let power = 10u64.pow(decimals);
    let rounded = (u128::from(value) * u128::from(power) + u128::from(scale / 2)) / u128::from(scale);
    let (whole, fraction) = ((rounded / u128::from(power)) as u64, (rounded % u128::from(power)) as u64);
    if whole >= limit {
        return format!("1{next}");
    }
    let mut text = whole.to_string();
    if fraction > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, ".{fraction:0width$}", width = decimals as usize);
        text.truncate(text.trim_end_matches('0').len());
    }
    text + unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three digits that say it, whatever the magnitude.
    #[test]
    fn units() {
        for (ns, expect) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1µs"),
            (1_239, "1.24µs"),
            (12_349, "12.3µs"),
            (123_900, "124µs"),
            (999_499, "999µs"),
            (999_500, "1ms"),
            (1_240_000, "1.24ms"),
            (999_999_999, "1s"),
            (1_500_000_000, "1.5s"),
            (119_999_999_999, "120s"),
            (320_000_000_000, "5m20s"),
            (11_100_000_000_000, "3h05m"),
        ] {
            assert_eq!(nanoseconds(ns), expect);
        }
        for (size, expect) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (1 << 20, "1MiB"),
            ((1 << 20) - 1, "1MiB"),
            (5 << 30, "5GiB"),
            (u64::MAX, "16777216TiB"),
        ] {
            assert_eq!(bytes(size), expect);
        }
        assert_eq!(signed_nanoseconds(-1_500), "-1.5µs");
        assert_eq!(signed_bytes(i64::MIN), "-8388608TiB");
        for (number, expect) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), expect);
        }
    }
}
