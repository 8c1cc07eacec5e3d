//! Call stacks: numbers, and what they stand for.

use std::fmt;

use crate::{Frame, bindings::portcullis::plugin::stacks};

/// A call stack, of `kstack` or `ustack`. Equal stacks of one kind and process are equal numbers; the number 0 is that of no stack,
/// or of one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stack(pub u64);

impl Stack {
    /// Its frames, the innermost first; see [`resolve`].
    pub fn frames(self) -> Vec<Frame> {
        resolve(&[self]).pop().unwrap_or_default()
    }
}

/// The frames of stacks, the innermost first. Many at once are quicker than one after another. Of a process that was gone before its
/// stack was first seen, in an event or as a key of a map, there are addresses only.
pub fn resolve(stacks: &[Stack]) -> Vec<Vec<Frame>> {
    let numbers: Vec<u64> = stacks.iter().map(|stack| stack.0).collect();
    stacks::resolve(&numbers)
}

/// `function+offset (module) at file:line`, as far as it is known; else the address.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) if self.inlined => write!(f, "{function} (inlined)")?,
            Some(function) => write!(f, "{function}+{}", self.offset)?,
            None => write!(f, "{:#x}", self.address)?,
        }
        if let Some(module) = self.module.as_ref().filter(|_| !self.inlined) {
            write!(f, " ({module})")?;
        }
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " at {file}:{line}"),
            (Some(file), None) => write!(f, " at {file}"),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame shows what is known of it.
    #[test]
    fn frames_are_shown() {
        let check =
            |function: Option<&str>, module: Option<&str>, file: Option<(&str, Option<u32>)>, inlined: bool, expect: &str| {
                let frame = Frame {
                    address: 0x1000,
                    function: function.map(str::to_owned),
                    offset: 7,
                    module: module.map(str::to_owned),
                    file: file.map(|(file, _)| file.to_owned()),
                    line: file.and_then(|(_, line)| line),
                    inlined,
                };
                assert_eq!(frame.to_string(), expect);
            };
        check(None, None, None, false, "0x1000");
        check(None, Some("/bin/cat"), None, false, "0x1000 (/bin/cat)");
        check(Some("main"), Some("/bin/cat"), Some(("cat.c", Some(3))), false, "main+7 (/bin/cat) at cat.c:3");
        check(Some("copy"), Some("/bin/cat"), Some(("cat.c", None)), true, "copy (inlined) at cat.c");
    }
}
