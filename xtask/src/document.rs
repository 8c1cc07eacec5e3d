//! What commands measure, in the documents that show it.

use std::fs;

use anyhow::{Context, Result};

use crate::place::Place;

/// The end of what a command has written.
const END: &str = "<!-- end -->\n";

/// With UPDATE_EXPECT in the environment, puts what `cargo xtask COMMAND` has found where a document has what it found before.
///
/// # Errors
/// The document can't be read or written, or has no place for it.
pub(crate) fn update(place: &Place, document: &str, command: &str, found: &str) -> Result<()> {
    if std::env::var_os("UPDATE_EXPECT").is_none() {
        return Ok(());
    }
    let path = place.root.join(document);
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let begin = begin(command);
    let text = replaced(&text, &begin, found).with_context(|| {
        format!("{} has no place for it: the lines `{}` and `{}`", path.display(), begin.trim_end(), END.trim_end())
    })?;
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

fn begin(command: &str) -> String {
    format!("<!-- cargo xtask {command} -->\n")
}

fn replaced(text: &str, begin: &str, found: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{found}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{begin, replaced};

    /// What was found goes between its two lines, and nothing else changes.
    #[test]
    fn document() {
        let text = "a\n<!-- cargo xtask x -->\nold\n<!-- end -->\nb\n<!-- end -->\n";
        let new = "a\n<!-- cargo xtask x -->\n\nnew\n\n<!-- end -->\nb\n<!-- end -->\n";
        assert_eq!(replaced(text, &begin("x"), "new\n").as_deref(), Some(new));
        assert_eq!(replaced("a\n<!-- end -->\n", &begin("x"), "new"), None);
    }
}
