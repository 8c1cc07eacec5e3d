//! The table of results.

/// What a tool has shown in all rounds.
pub(super) enum Cell {
    /// The tool is not there.
    Absent,
    /// It could not do it.
    Failed,
    /// The numbers of the rounds, sorted.
    Numbers(Vec<u64>),
}

/// A line of the table.
pub(super) struct Row {
    pub(super) experiment: &'static str,
    pub(super) measure: &'static str,
    pub(super) bpftrace: Cell,
    pub(super) portcullis: Cell,
}

impl Cell {
    pub(super) fn of(mut numbers: Vec<u64>) -> Cell {
        numbers.sort_unstable();
        Cell::Numbers(numbers)
    }

    /// Median and worst; of one round there is only one number.
    fn text(&self) -> String {
        match self {
            Cell::Absent => "not installed".to_owned(),
            Cell::Failed => "failed".to_owned(),
            Cell::Numbers(numbers) => match (numbers.get(numbers.len() / 2), numbers.last()) {
                (Some(median), Some(_)) if numbers.len() == 1 => thousands(*median),
                (Some(median), Some(worst)) => format!("{} ({})", thousands(*median), thousands(*worst)),
                _ => "-".to_owned(),
            },
        }
    }

    fn rounds(&self) -> usize {
        if let Cell::Numbers(numbers) = self { numbers.len() } else { 0 }
    }
}

/// The rows as Markdown; what is the same as in the line above is not said again.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = "| Experiment | Runs | Counted, none is best | bpftrace | Portcullis |\n|---|---|---|---|---|".to_owned();
    let mut above = "";
    for row in rows {
        let (experiment, runs) = match row.experiment == above {
            true => ("", String::new()),
            false => (row.experiment, row.portcullis.rounds().to_string()),
        };
        above = row.experiment;
        text.push_str(&format!(
            "\n| {experiment} | {runs} | {} | {} | {} |",
            row.measure,
            row.bpftrace.text(),
            row.portcullis.text()
        ));
    }
    text
}

/// A number with a comma between each three digits.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Cell, Row, markdown, thousands};

    /// Numbers are as people write them.
    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 12345, 1234567].map(thousands), ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    /// Median and worst, one number of one run, and a tool that is not there or failed.
    #[test]
    fn cells() {
        assert_eq!(Cell::of(vec![3, 1000, 1, 2, 4]).text(), "3 (1,000)");
        assert_eq!(Cell::of(vec![3]).text(), "3");
        assert_eq!(Cell::of(vec![]).text(), "-");
        assert_eq!((Cell::Absent.text(), Cell::Failed.text()), ("not installed".to_owned(), "failed".to_owned()));
    }

    /// The rows of an experiment stand together under its name.
    #[test]
    fn table() {
        let row = |experiment, measure| Row { experiment, measure, bpftrace: Cell::Absent, portcullis: Cell::of(vec![1, 0]) };
        assert_eq!(
            markdown(&[row("a", "x"), row("a", "y"), row("b", "x")]),
            "| Experiment | Runs | Counted, none is best | bpftrace | Portcullis |\n|---|---|---|---|---|\n\
             | a | 2 | x | not installed | 1 (1) |\n\
             |  |  | y | not installed | 1 (1) |\n\
             | b | 2 | x | not installed | 1 (1) |"
        );
    }
}
