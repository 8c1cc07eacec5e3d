//! Times as strftime(3) shows them.

use std::fmt::Write;

/// From the time of rows to that of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// What to add to a time of the run for ns since 1970.
    pub realtime_offset: i64,
    /// What to add to UTC, in seconds.
    pub utc_offset: i64,
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// A time of the run, in ns. `%f` is the microseconds, as in bpftrace; a conversion that there is not stays as it is.
pub fn time(format: &str, nsecs: u64, clock: Clock) -> String {
    let real = i128::from(nsecs) + i128::from(clock.realtime_offset);
    let (seconds, below) = ((real.div_euclid(1_000_000_000)) as i64, real.rem_euclid(1_000_000_000));
    let local = seconds.saturating_add(clock.utc_offset);
    let (day, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // 1970-01-01 was a Thursday.
    let weekday = (day + 4).rem_euclid(7) as usize;
    let month_name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    let day_name = DAYS.get(weekday).copied().unwrap_or_default();
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        // Writing to a String does not fail.
        let _ = match chars.next() {
            Some('Y') => write!(out, "{year:04}"),
            Some('y') => write!(out, "{:02}", year.rem_euclid(100)),
            Some('m') => write!(out, "{month:02}"),
            Some('d') => write!(out, "{date:02}"),
            Some('e') => write!(out, "{date:2}"),
            Some('j') => write!(out, "{:03}", day - days(year, 1, 1) + 1),
            Some('H') => write!(out, "{hour:02}"),
            Some('k') => write!(out, "{hour:2}"),
            Some('I') => write!(out, "{:02}", (hour + 11) % 12 + 1),
            Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('M') => write!(out, "{minute:02}"),
            Some('S') => write!(out, "{second:02}"),
            Some('f') => write!(out, "{:06}", below / 1000),
            Some('N') => write!(out, "{below:09}"),
            Some('s') => write!(out, "{seconds}"),
            Some('F') => write!(out, "{year:04}-{month:02}-{date:02}"),
            Some('D') => write!(out, "{month:02}/{date:02}/{:02}", year.rem_euclid(100)),
            Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            Some('R') => write!(out, "{hour:02}:{minute:02}"),
            Some('A') => write!(out, "{day_name}"),
            Some('a') => write!(out, "{}", &day_name[..3]),
            Some('B') => write!(out, "{month_name}"),
            Some('b' | 'h') => write!(out, "{}", &month_name[..3]),
            Some('z') => {
                let sign = if clock.utc_offset < 0 { '-' } else { '+' };
                let minutes = clock.utc_offset.unsigned_abs() / 60;
                write!(out, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
            }
            Some('n') => writeln!(out),
            Some('t') => write!(out, "\t"),
            Some('%') | None => write!(out, "%"),
            Some(other) => write!(out, "%{other}"),
        };
    }
    out
}

/// Year, month and day of a day since 1970-01-01. A year of this reckoning begins in March, so that the leap day is its last.
pub fn civil(day: i64) -> (i64, i64, i64) {
    // 719,468 days from 0000-03-01 to 1970-01-01; 146,097 days in 400 years.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // The months from March on have 31, 30, 31, 30, 31 days, again and again: 153 days in five months.
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, date)
}

/// The day since 1970-01-01 of a date.
fn days(year: i64, month: i64, date: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + date - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
