//! Asking the person at the terminal whether a plugin that no manifest speaks for gets what it needs.

use std::io::{self, BufRead, Write};

use super::{Refused, words::sentences};

/// Shows what a plugin needs and is not granted, each need with its [`super::Risk`], and waits for an answer. Whatever is not a yes is a
/// no, also the end of the input. What is denied is not asked for: then the answer is no.
pub fn ask(refused: &Refused, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<bool> {
    if refused.is_denied() {
        return Ok(false);
    }
    writeln!(output, "plugin \"{}\" has no manifest, and asks for this (risk, what it does):", refused.plugin)?;
    for sentence in sentences(&refused.points, &refused.data) {
        writeln!(output, "  {:<6}  it {}", sentence.risk, sentence.text)?;
    }
    write!(output, "let it, in this run? [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use portcullis_ebpf::{
        DataClass, Needs,
        needs::{AttachNeed, DataNeed},
    };

    use super::*;
    use crate::grants::{Deny, Grants, check};

    fn refused(grants: &Grants) -> Refused {
        let needs = Needs {
            attach: vec![AttachNeed { point: "kprobe:vfs_read".into(), probe: "p".into() }],
            data: vec![DataNeed { class: DataClass::UserMemory, probe: Some("p".into()), text: "str(arg0)\x1b".into() }],
        };
        check("stranger", &needs, grants).unwrap_err()
    }

    /// Needs are told with their risk, and only a yes is a yes.
    #[test]
    fn answers() {
        for (answer, expect) in
            [("y\n", true), (" yes \n", true), ("n\n", false), ("\n", false), ("", false), ("yesterday\n", false)]
        {
            let mut shown = Vec::new();
            assert_eq!(ask(&refused(&Grants::none()), &mut answer.as_bytes(), &mut shown).unwrap(), expect, "{answer:?}");
            assert_eq!(
                String::from_utf8(shown).unwrap(),
                "plugin \"stranger\" has no manifest, and asks for this (risk, what it does):\n  medium  it attaches to kprobe:vfs_read \
                 (probe `p`)\n  high    it reads the memory of traced processes (`str(arg0)\\x1b` in probe `p`)\nlet it, in this run? \
                 [y/N] "
            );
        }
    }

    /// Nobody is asked for what is denied.
    #[test]
    fn denied() {
        let deny = Deny { probes: vec!["kprobe:*".into()], ..Deny::default() };
        let mut shown = Vec::new();
        assert!(!ask(&refused(&Grants { deny, ..Grants::none() }), &mut "y\n".as_bytes(), &mut shown).unwrap());
        assert_eq!(shown, b"");
    }
}
