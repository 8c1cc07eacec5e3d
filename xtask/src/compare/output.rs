//! What a run has printed.

use anyhow::{Context, Result};

/// All lines of a run, of both streams.
pub(super) struct Output {
    lines: Vec<String>,
}

impl Output {
    pub(super) fn new(lines: Vec<String>) -> Output {
        Output { lines }
    }

    /// The words behind `label` of each line that begins with it, where they are `N` numbers.
    pub(super) fn rows<const N: usize>(&self, label: &str) -> Vec<[u64; N]> {
        let rows = self.lines.iter().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some(label) {
                return None;
            }
            words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?.try_into().ok()
        });
        rows.collect()
    }

    /// The value of a map, as both tools print it at the end: `@name: 1`. Plugins have their names before it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn value(&self, map: &str) -> Result<u64> {
        let mut values = self.lines.iter().filter_map(|line| line.trim().strip_prefix(map)?.strip_prefix(": ")?.parse().ok());
        values.next_back().with_context(|| format!("there is no `{map}: NUMBER` in what was printed:\n{}", self.lines.join("\n")))
    }

    /// How far two values are from each other.
    ///
    /// # Errors
    /// One is not there.
    pub(super) fn apart(&self, one: &str, other: &str) -> Result<u64> {
        Ok(self.value(one)?.abs_diff(self.value(other)?))
    }

    /// The events that the tool says it has lost: bpftrace as it loses them (`Lost 12 events`), Portcullis at the end
    /// (`Lost by plugin adhoc: 1,234 events for want of room`).
    pub(super) fn lost(&self) -> u64 {
        let losses = self.lines.iter().filter_map(|line| {
            let rest = line.strip_prefix("Lost ")?;
            let rest = rest.strip_prefix("by plugin ").and_then(|rest| rest.split_once(": ")).map_or(rest, |(_, rest)| rest);
            let (number, what) = rest.split_once(' ')?;
            what.starts_with("event").then(|| number.replace(',', "").parse::<u64>().ok())?
        });
        losses.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Output;

    fn output(text: &str) -> Output {
        Output::new(text.lines().map(str::to_owned).collect())
    }

    /// Rows are found by their first word, and only whole ones.
    #[test]
    fn rows() {
        let output = output("Attached 2 probes\na 1 2\nb 3 4\na 5 6\na 7\nab 8 9\na x 1\n");
        assert_eq!(output.rows("a"), [[1, 2], [5, 6]]);
        assert_eq!(output.rows("b"), [[3, 4]]);
    }

    /// Values are found by the whole name of their map, with or without a plugin before it.
    #[test]
    fn values() {
        let output = output("tick\n\n@first: 12\n@first_two: 15\none: @last: 7\n@h[1]: 3\n");
        assert_eq!(output.value("@first").ok(), Some(12));
        assert_eq!(output.value("one: @last").ok(), Some(7));
        assert!(output.value("@last").is_err() && output.value("@h").is_err());
        assert_eq!(output.apart("@first", "@first_two").ok(), Some(3));
        assert!(output.apart("@first", "@none").is_err());
    }

    /// What was lost is the sum of what both tools say, and bpftrace's own sum is not added to it.
    #[test]
    fn losses() {
        assert_eq!(output("Lost 12 events\nLost 3 events\nWARNING: Total lost event count: 15\n").lost(), 15);
        let said = "Lost by plugin adhoc: 1,234 events for want of room in the ring\nLost by plugin b: 1 event that\n";
        assert_eq!(output(said).lost(), 1235);
        assert_eq!(output("Lost by plugin adhoc: 5 hits for which the kernel did not run the program\n").lost(), 0);
        assert_eq!(output("Nothing was lost: 3 events recorded, and as many delivered.\n").lost(), 0);
    }
}
