//! Names of functions: demangled, and matched with patterns.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use portcullis_ebpf::attach::glob;

use super::protocol::{MAX_TEXT, cut};

/// Text that is written up to a length: a short mangled name can stand for one without end.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.text.push_str(more);
        // So that what is cut off later is marked.
        self.full = self.text.len() > MAX_TEXT;
        if self.full { Err(fmt::Error) } else { Ok(()) }
    }
}

impl Bounded {
    /// The text, if it was written well, as far as it went.
    fn finish(self, outcome: fmt::Result) -> Option<String> {
        (outcome.is_ok() || self.full).then(|| cut(self.text))
    }
}

/// A C++ or Rust name as its source spells it, with or without parameters; `None` for names that are not mangled.
pub(super) fn demangle(name: &str, parameters: bool) -> Option<String> {
    // The demanglers bound the depth by themselves.
    const LONGEST: usize = 16 << 10;
    if name.len() > LONGEST {
        return None;
    }
    let mut out = Bounded::default();
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        // Without the hash.
        let outcome = write!(out, "{rust:#}");
        return out.finish(outcome);
    }
    if !name.starts_with("_Z") && !name.starts_with("___Z") {
        return None;
    }
    let symbol = cpp_demangle::Symbol::new(name).ok()?;
    let mut options = cpp_demangle::DemangleOptions::new();
    if !parameters {
        options = options.no_params().no_return_type();
    }
    let outcome = symbol.structured_demangle(&mut out, &options);
    out.finish(outcome)
}

/// Demangled where it is mangled.
pub(super) fn readable(name: &str) -> String {
    demangle(name, true).unwrap_or_else(|| cut(name.to_owned()))
}

/// What names are compared with.
pub(super) struct Pattern<'a> {
    pattern: &'a str,
    /// A part that every match has also in its mangled form, or "".
    literal: &'a str,
}

impl<'a> Pattern<'a> {
    pub(super) fn new(pattern: &'a str) -> Pattern<'a> {
        let words = pattern.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        // These are abbreviated by manglings; and a digit may be written otherwise.
        let kept = words.filter(|word| {
            let short =
                ["operator", "std", "string", "allocator", "basic_string", "char_traits", "istream", "ostream", "iostream"];
            word.starts_with(|c: char| c.is_ascii_alphabetic()) && !short.contains(word) && !BUILTIN.contains(word)
        });
        Pattern { pattern, literal: kept.max_by_key(|word| word.len()).unwrap_or("") }
    }

    /// The name matches as it is.
    pub(super) fn plain(&self, name: &str) -> bool {
        glob::matches(self.pattern, name)
    }

    /// The name matches as it is or demangled, with or without parameters. Gives the readable name.
    pub(super) fn any(&self, name: &str) -> Option<Option<String>> {
        let mangled = name.starts_with("_Z") || name.starts_with("_R");
        if !mangled {
            return self.plain(name).then_some(None);
        }
        if self.plain(name) {
            return Some(demangle(name, true));
        }
        if !name.contains(self.literal) {
            return None;
        }
        let whole = demangle(name, true)?;
        let matches = self.plain(&whole) || demangle(name, false).is_some_and(|short| self.plain(&short));
        matches.then_some(Some(whole))
    }
}

/// Types that manglings write with a letter.
const BUILTIN: &[&str] = &[
    "void",
    "char",
    "int",
    "long",
    "short",
    "unsigned",
    "signed",
    "bool",
    "float",
    "double",
    "const",
    "volatile",
    "wchar_t",
    "u8",
    "u16",
    "u32",
    "u64",
    "i8",
    "i16",
    "i32",
    "i64",
    "usize",
    "isize",
    "str",
    "f32",
    "f64",
    "u128",
    "i128",
    "as",
    "for",
    "mut",
    "closure",
    "anonymous",
    "namespace",
    "lambda",
    "template",
    "crate",
    "typeinfo",
    "vtable",
    "virtual",
    "thunk",
    "guard",
    "variable",
    "construction",
    "to",
    "non",
];

/// Bytes as text, escapes for what is none.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C++ and Rust names match as the source spells them.
    #[test]
    fn mangled_names_match() {
        let check =
            |pattern, name, expect: bool| assert_eq!(Pattern::new(pattern).any(name).is_some(), expect, "{pattern} {name}");
        let cpp = "_ZN3app5Store3putEiPKc";
        check("app::Store::put", cpp, true);
        check("app::Store::put(int, char const*)", cpp, true);
        check("app::*::put", cpp, true);
        check("*Store*", cpp, true);
        check(cpp, cpp, true);
        check("put", cpp, false);
        let rust = "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE";
        check("core::fmt::Formatter::pad", rust, true);
        check("core::fmt::*", rust, true);
        check("core::fmt::Formatter", rust, false);
        assert_eq!(readable(rust), "core::fmt::Formatter::pad");
        assert_eq!(readable(cpp), "app::Store::put(int, char const*)");
        assert_eq!(readable("_Z"), "_Z");
        assert_eq!(readable("main"), "main");
        assert_eq!(readable("_RNvC7mycrate3foo"), "mycrate::foo");
        assert_eq!(readable("_ZN"), "_ZN");
    }

    /// A name that doubles with each of its letters is cut, and soon.
    #[test]
    fn names_without_end() {
        // void f<X<int, int>, X<X<int, int>, X<int, int>>, ...>(): each argument is made of two of that before it.
        let mut bomb = "_Z1fI1XIiiE".to_owned();
        for at in ('1'..='9').chain('A'..='Z') {
            bomb.push_str(&format!("S0_IS{at}_S{at}_E"));
        }
        bomb.push_str("Evv");
        assert!(readable(&bomb).starts_with("void f<X<int, int>, X<X<int, int>") && readable(&bomb).ends_with('…'));
        for name in [bomb, format!("_Z1f{}i", "P".repeat(5000)), format!("_Z1fI{}iE", "1XI".repeat(2000))] {
            let shown = readable(&name);
            assert!(shown.len() <= MAX_TEXT, "{}", shown.len());
        }
    }
}
