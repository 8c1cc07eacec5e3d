//! Findings for people.

use std::io::{self, Write};

use super::Finding;
use crate::output::clean;

/// A way out that is not longer is repeated.
const SHORT: usize = 30;

/// A line for each finding, by groups; below one that is not so, the way out, in full once.
pub fn write(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut group = "";
    let mut said: Vec<&str> = Vec::new();
    for (at, finding) in findings.iter().enumerate() {
        if finding.group != group {
            group = finding.group;
            writeln!(out, "{}{group}", if at == 0 { "" } else { "\n" })?;
        }
        let answer = if finding.ok { "yes" } else { "no " };
        // Of an error with its listing, the first line says what it is.
        let detail = finding.detail.lines().next().unwrap_or_default();
        let line = format!("  {answer}  {:width$}  {detail}", finding.name);
        writeln!(out, "{}", clean::lines(line.trim_end()))?;
        let next = findings.get(at + 1).filter(|next| next.group == group);
        if let Some(way_out) = finding.way_out.as_ref().filter(|_| next.is_none_or(|next| next.way_out != finding.way_out)) {
            if said.contains(&way_out.as_str()) && way_out.len() > SHORT {
                writeln!(out, "       -> as above")?;
            } else {
                writeln!(out, "       -> {}", clean::lines(way_out))?;
                said.push(way_out);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is said once for several stands below the last of them.
    #[test]
    fn groups_and_ways_out() {
        let findings = [
            Finding::yes("kernel", "version", "6.18"),
            Finding::no("user", "CAP_BPF", "not there", "run it as root"),
            Finding::no("user", "CAP_PERFMON", "not there\nat all", "run it as root"),
            Finding::no("user", "tracefs", "not mounted", "mount it"),
        ];
        let mut out = Vec::new();
        write(&findings, &mut out).unwrap();
        let expect = "\
kernel
  yes  version      6.18

user
  no   CAP_BPF      not there
  no   CAP_PERFMON  not there
       -> run it as root
  no   tracefs      not mounted
       -> mount it
";
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}
