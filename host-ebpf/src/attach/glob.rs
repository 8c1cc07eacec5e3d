//! Wildcards in names: `*` is any run of characters, `?` any one.

/// Whether the pattern has a wildcard at all.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether the whole of `text` fits the pattern. Takes time in proportion to the product of their lengths at most.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: behind the star, one character later in the text.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t + 1));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (p, t) = (star, from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
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
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
