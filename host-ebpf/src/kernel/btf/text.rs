//! The text of C types: what a person, a format file or debug information writes.

use super::Int;

/// Words that change nothing about the width of a type, among them the annotations that format files keep.
const QUALIFIERS: [&str; 9] = ["const", "volatile", "restrict", "register", "__user", "__kernel", "__rcu", "__percpu", "__iomem"];

/// Base types as compilers write them into debug information, and as people and clang do.
pub(super) const SPELLINGS: [(&str, &str); 8] = [
    ("_Bool", "bool"),
    ("long int", "long"),
    ("long long int", "long long"),
    ("long long unsigned int", "unsigned long long"),
    ("long unsigned int", "unsigned long"),
    ("short int", "short"),
    ("short unsigned int", "unsigned short"),
    ("unsigned", "unsigned int"),
];

/// Fixed widths by the names that C, the kernel and tracing languages have for them, for where the kernel has no such typedef.
const WIDTHS: [(&str, Int); 8] = [
    ("int8", Int { size: 1, signed: true }),
    ("int16", Int { size: 2, signed: true }),
    ("int32", Int { size: 4, signed: true }),
    ("int64", Int { size: 8, signed: true }),
    ("uint8", Int { size: 1, signed: false }),
    ("uint16", Int { size: 2, signed: false }),
    ("uint32", Int { size: 4, signed: false }),
    ("uint64", Int { size: 8, signed: false }),
];

/// A type as it is written: a base type, stars, a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written<'t> {
    /// The words of the base type, without qualifiers.
    pub(super) words: Vec<&'t str>,
    pub(super) pointers: u32,
    pub(super) length: Option<u32>,
    /// `__user` is among its words.
    pub(super) user: bool,
}

/// Takes a type apart; `None` for what is none of that form: functions, arrays of arrays, pointers to arrays.
pub(super) fn parse(text: &str) -> Option<Written<'_>> {
    let (text, length) = match text.trim().strip_suffix(']') {
        Some(text) => {
            let (text, length) = text.split_once('[')?;
            (text, Some(length.trim().parse().ok()?))
        }
        None => (text, None),
    };
    let (base, pointers) = text.split_at(text.find('*').unwrap_or(text.len()));
    let is_name = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !base.split_whitespace().all(is_name) {
        return None;
    }
    let stars = pointers.replace('*', " * ");
    let (stars, qualifiers): (Vec<&str>, Vec<&str>) = stars.split_whitespace().partition(|word| *word == "*");
    if !qualifiers.iter().all(|word| QUALIFIERS.contains(word)) {
        return None;
    }
    let user = qualifiers.contains(&"__user") || base.split_whitespace().any(|word| word == "__user");
    Some(Written { words: words(base), pointers: u32::try_from(stars.len()).ok()?, length, user })
}

/// The words of a type that mean something.
pub(super) fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|word| !QUALIFIERS.contains(word)).collect()
}

/// An integer type that C has without a declaration, in any order of its words: its name in debug information, and what it is. The
/// sizes are those of the LP64 model, which every 64-bit Linux has. `char` is absent: its sign depends on the kernel's build.
pub(super) fn base_type(words: &[&str]) -> Option<(&'static str, Int)> {
    let (mut signed, mut unsigned, mut long, mut kind) = (false, false, 0, None);
    for word in words {
        match *word {
            "signed" | "__signed__" if !unsigned => signed = true,
            "unsigned" if !signed => unsigned = true,
            "long" if long < 2 => long += 1,
            "int" | "char" | "short" | "bool" | "_Bool" if kind.is_none() => kind = Some(*word),
            "int" if kind == Some("short") => {}
            "short" if kind == Some("int") => kind = Some("short"),
            _ => return None,
        }
    }
    let (names, size) = match (kind, long) {
        (Some("bool" | "_Bool"), 0) if !signed && !unsigned => return Some(("_Bool", Int { size: 1, signed: false })),
        (Some("char"), 0) if signed || unsigned => (["signed char", "unsigned char"], 1),
        (Some("short"), 0) => (["short int", "short unsigned int"], 2),
        (Some("int"), 0) => (["int", "unsigned int"], 4),
        (None, 0) if signed || unsigned => (["int", "unsigned int"], 4),
        (None | Some("int"), 1) => (["long int", "long unsigned int"], 8),
        (None | Some("int"), 2) => (["long long int", "long long unsigned int"], 8),
        _ => return None,
    };
    let [name, unsigned_name] = names;
    Some((if unsigned { unsigned_name } else { name }, Int { size, signed: !unsigned }))
}

/// `uint64_t`, `uint64`, `u64` and `__u64`, and so on.
pub(super) fn fixed_width(name: &str) -> Option<Int> {
    let short = |name: &str| {
        let (sign, bits) = name.split_at_checked(1)?;
        let wide = |sign| WIDTHS.iter().find(|(wide, _)| wide.strip_prefix(sign) == Some(bits));
        match sign {
            "s" => wide("int"),
            "u" => wide("uint"),
            _ => None,
        }
    };
    let long = || WIDTHS.iter().find(|(wide, _)| *wide == name.strip_suffix("_t").unwrap_or(name));
    long().or_else(|| short(name.strip_prefix("__").unwrap_or(name))).map(|(_, int)| *int)
}
