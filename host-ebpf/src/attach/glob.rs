//! Wildcards in names: `*` is any run of characters, `?` any one.

/// Whether the pattern has a wildcard at all.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether the whole of `text` fits the pattern. Takes time in proportion to the product of their lengths at most.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // Where the character after the one at a byte begins.
    let after = |at: usize| at + text.get(at).map_or(1, |lead| (lead.leading_ones() as usize).max(1));
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: behind the star, one character later in the text.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, after(t)));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t = after(t);
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, after(from)));
                    (p, t) = (star, from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// A pattern fits the whole text or not at all.
    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("read", "read", true),
            ("read", "readv", false),
            ("*", "", true),
            ("*read*", "pread64", true),
            ("sys_enter_*", "sys_enter_openat", true),
            ("sys_enter_*", "sys_exit_openat", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("?ead", "read", true),
            ("?ead", "ead", false),
            ("", "", true),
            ("", "a", false),
            ("m*c", "malloc", true),
            ("malloc", "mallocx", false),
            ("*a*b*c", "aabb", false),
            ("??c", "abc", true),
            ("?", "", false),
            ("*a*b*c", "aabbc", true),
            ("?\u{e4}", "\u{e9}\u{e4}", true),
            ("??", "\u{e9}", false),
            ("*?x", "\u{20ac}x", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
