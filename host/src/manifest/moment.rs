//! Moments as people write them: `2027-01-01T00:00:00Z`.

use portcullis_adhoc_program::civil;
use toml::value::{Date, Datetime, Offset, Time};

/// A moment, ns since 1970 in UTC (CLOCK_REALTIME).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment that a date of TOML (RFC 3339) says.
    ///
    /// # Errors
    /// In words, what it lacks: without an offset from UTC a date is another moment on each machine.
    pub fn of(date: &Datetime) -> Result<Moment, &'static str> {
        let (Some(day), Some(time)) = (date.date, date.time) else { return Err("it takes a date and a time of day") };
        let offset = match date
            .offset
            .ok_or("it has no offset from UTC, so that it is another moment on each machine; end it with `Z`")?
        {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let Time { hour, minute, second, nanosecond } = time;
        let seconds =
            (days(day) * 24 + i64::from(hour)) * 3600 + (i64::from(minute) - offset) * 60 + i64::from(second.unwrap_or(0));
        let nanoseconds = i128::from(seconds) * 1_000_000_000 + i128::from(nanosecond.unwrap_or(0));
        u64::try_from(nanoseconds).map(Moment).map_err(|_| "it is too far away")
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. The year begins in March, so that the odd day is its last (Hinnant,
/// "chrono-compatible low-level date algorithms").
fn days(Date { year, month, day }: Date) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

impl std::fmt::Display for Moment {
    /// In UTC, as in `2027-01-01T00:00:00.5Z`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanoseconds) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let second = seconds % 86_400;
        let (year, month, date) = civil((seconds / 86_400).cast_signed());
        write!(f, "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        if nanoseconds > 0 {
            write!(f, ".{}", format!("{nanoseconds:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Dates are moments by their offset from UTC, and a moment is written in UTC.
    #[test]
    fn dates() {
        let check = |text: &str, expect: Result<(u64, &str), &str>| {
            let found = Moment::of(&text.parse().unwrap());
            assert_eq!(
                found.map(|moment| (moment.0, moment.to_string())),
                expect.map(|(ns, text)| (ns, text.to_owned())),
                "{text}"
            );
        };
        check("1970-01-01T00:00:00Z", Ok((0, "1970-01-01T00:00:00Z")));
        check("2000-02-29T12:00:00.25Z", Ok((951_825_600_250_000_000, "2000-02-29T12:00:00.25Z")));
        check("2027-01-01T01:30:00+01:30", Ok((1_798_761_600_000_000_000, "2027-01-01T00:00:00Z")));
        check("2026-12-31T16:00:00-08:00", Ok((1_798_761_600_000_000_000, "2027-01-01T00:00:00Z")));
        check("2100-03-01T00:00:00Z", Ok((4_107_542_400_000_000_000, "2100-03-01T00:00:00Z")));
        check(
            "2027-01-01T00:00:00",
            Err("it has no offset from UTC, so that it is another moment on each machine; end it with `Z`"),
        );
        check("2027-01-01", Err("it takes a date and a time of day"));
        check("1969-12-31T23:59:59Z", Err("it is too far away"));
        check("9999-12-31T23:59:59Z", Err("it is too far away"));
    }
}
