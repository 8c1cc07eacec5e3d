//! What one kernel made of the test programs, as `kernel-check` prints it (`tests/src/matrix.rs`), and the table of several.

use std::fmt::Write as _;

/// A column of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    /// The kernel's release.
    pub(crate) release: String,
    /// Programs that it loaded.
    pub(crate) programs: u64,
    /// Group, name, cell.
    rows: Vec<[String; 3]>,
    /// File, case, reason.
    lacks: Vec<[String; 3]>,
    /// File, case, options, error.
    refused: Vec<[String; 4]>,
}

impl Column {
    /// Reads it; `None` if it is not whole.
    pub(crate) fn parse(text: &str) -> Option<Column> {
        let mut column = Column::default();
        let mut done = false;
        for line in text.lines() {
            let parts: Vec<String> = line.trim_end_matches('\r').split('\t').map(unescaped).collect();
            let (word, rest) = parts.split_first()?;
            match word.as_str() {
                "release" => column.release = rest.first()?.clone(),
                "row" => column.rows.push(rest.to_vec().try_into().ok()?),
                "lacks" => column.lacks.push(rest.to_vec().try_into().ok()?),
                "refused" => column.refused.push(rest.to_vec().try_into().ok()?),
                "done" => {
                    column.programs = rest.first()?.parse().ok()?;
                    done = true;
                }
                _ => return None,
            }
        }
        done.then_some(column)
    }

    /// What it refused, with the reasons.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let text =
            |[file, case, options, error]: &[String; 4]| format!("Linux {}, {file}, {case} ({options}):\n{error}", self.release);
        self.refused.iter().map(text).collect()
    }

    fn cell(&self, group: &str, name: &str) -> Option<&str> {
        self.rows.iter().find(|row| row[0] == group && row[1] == name).map(|row| row[2].as_str())
    }
}

fn unescaped(part: &str) -> String {
    let mut out = String::new();
    let mut characters = part.chars();
    while let Some(c) = characters.next() {
        out.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    out
}

/// The table of all columns in Markdown: one for each group of rows, and a list of what is lacking.
pub(crate) fn table(columns: &[Column]) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for [group, name, _] in columns.iter().flat_map(|column| &column.rows) {
        if !rows.contains(&(group, name)) {
            rows.push((group, name));
        }
    }
    let mut groups: Vec<&str> = Vec::new();
    for (group, _) in &rows {
        if !groups.contains(group) {
            groups.push(group);
        }
    }
    let mut out = String::new();
    for group in groups {
        let mut lines = vec![line(group, columns.iter().map(|column| column.release.clone()))];
        let cell = |column: &Column, name: &str| column.cell(group, name).unwrap_or("").to_owned();
        let of_group = rows.iter().filter(|row| row.0 == group);
        lines.extend(of_group.map(|(_, name)| line(name, columns.iter().map(|column| cell(column, name)))));
        out.push_str(&aligned(&lines));
        out.push('\n');
    }
    out.push_str(&aligned(&[
        line("", columns.iter().map(|column| column.release.clone())),
        line("programs loaded", columns.iter().map(|column| column.programs.to_string())),
    ]));
    out.push_str(&lacking(columns));
    out
}

fn line(first: &str, rest: impl Iterator<Item = String>) -> Vec<String> {
    [first.to_owned()].into_iter().chain(rest).collect()
}

/// Lines of cells, the first the head.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    let mut put = |cells: &mut dyn Iterator<Item = String>| {
        out.push_str(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")));
    };
    for (n, line) in lines.iter().enumerate() {
        put(&mut line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)));
        if n == 0 {
            put(&mut widths.iter().map(|width| "-".repeat((*width).max(3))));
        }
    }
    out
}

/// What each kernel lacks, the same of several once.
fn lacking(columns: &[Column]) -> String {
    let mut all: Vec<(&[String; 3], Vec<&str>)> = Vec::new();
    for column in columns {
        for lack in &column.lacks {
            match all.iter_mut().find(|(known, _)| *known == lack) {
                // A case can lack the same twice.
                Some((_, releases)) if releases.last() == Some(&column.release.as_str()) => {}
                Some((_, releases)) => releases.push(&column.release),
                None => all.push((lack, vec![&column.release])),
            }
        }
    }
    if all.is_empty() {
        return String::new();
    }
    let mut out = String::from("\nWhat is lacking:\n\n");
    for ([file, case, reason], releases) in all {
        let releases = if releases.len() == columns.len() { "every kernel".to_owned() } else { releases.join(", ") };
        let _ = writeln!(out, "- {releases}: {file}, {}: {}", case.trim_end_matches('.'), reason.replace('\n', "; "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Column, table};

    const OLD: &str = "release\t5.10\r\nrow\tKinds\tfentry\tlacks\r\nrow\tTools\tx\tREFUSED\r\nlacks\tx\tcase.\tno\\nway\r\nrefused\tx\tcase\tgate\ta\\tb\\n\\\\\r\ndone\t7\r\n";
    const NEW: &str = "release\t6.1\nrow\tKinds\tfentry\tfentry\nrow\tTools\tx\tok\ndone\t12\n";

    /// A column that is whole is read as it was written.
    #[test]
    fn columns() {
        let refusals = |text: &str| Column::parse(text).map(|column| column.refusals());
        assert_eq!(refusals(OLD), Some(vec!["Linux 5.10, x, case (gate):\na\tb\n\\".to_owned()]));
        assert_eq!(refusals(NEW), Some(vec![]));
        assert_eq!(refusals("release\t6.1\nrow\tKinds\tfentry\tok\n"), None);
        assert_eq!(refusals("release\t6.1\nrow\tKinds\ndone\t1\n"), None);
        assert_eq!(refusals("garbage\ndone\t1\n"), None);
        assert_eq!(refusals(""), None);
    }

    /// Columns side by side.
    #[test]
    fn tables() {
        let columns: Vec<Column> = [OLD, NEW].iter().filter_map(|text| Column::parse(text)).collect();
        let expect = "\
| Kinds  | 5.10  | 6.1    |
| ------ | ----- | ------ |
| fentry | lacks | fentry |

| Tools | 5.10    | 6.1 |
| ----- | ------- | --- |
| x     | REFUSED | ok  |

|                 | 5.10 | 6.1 |
| --------------- | ---- | --- |
| programs loaded | 7    | 12  |

What is lacking:

- 5.10: x, case: no; way
";
        assert_eq!(table(&columns), expect);
    }
}
