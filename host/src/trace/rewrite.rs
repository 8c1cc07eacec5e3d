//! Texts for the compiler: copies of what was typed in which some pieces are replaced, with the way back.

use std::ops::Range;

use portcullis_adhoc_program::{Action, What};

use super::{
    STREAM, actions,
    error::Wrong,
    maps::Maps,
    mask::{closing, skip, trimmed, word},
    printf,
};

/// A text for the compiler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    segments: Vec<Segment>,
}

/// Where a piece of a [`Text`] comes from. A copy has the same length in both.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    here: Range<usize>,
    origin: Range<usize>,
    copy: bool,
}

impl Text {
    fn copy(&mut self, program: &str, range: Range<usize>) {
        self.push(&program[range.clone()], range, true);
    }

    /// Writes `text` in place of what stands at `origin`.
    fn replace(&mut self, text: &str, origin: Range<usize>) {
        self.push(text, origin, false);
    }

    fn push(&mut self, text: &str, origin: Range<usize>, copy: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        self.segments.push(Segment { here: start..self.text.len(), origin, copy });
    }

    fn append(&mut self, other: &Text) {
        let by = self.text.len();
        self.text.push_str(&other.text);
        let segments = other.segments.iter().cloned();
        self.segments.extend(segments.map(|s| Segment { here: s.here.start + by..s.here.end + by, ..s }));
    }

    /// `str(LIST[number])`, where this text is LIST.
    pub(super) fn element(&self, number: usize) -> Text {
        let mut out = Text::default();
        let origin = self.origin(0..self.text.len());
        out.replace("str(", origin.start..origin.start);
        out.append(self);
        out.replace(&format!("[{number}])"), origin.end..origin.end);
        out
    }

    /// The bytes of the program that a span of this text stands for.
    pub(super) fn origin(&self, span: Range<usize>) -> Range<usize> {
        let start = self.segments.iter().find(|s| span.start < s.here.end).or(self.segments.last());
        let end = self.segments.iter().find(|s| span.end <= s.here.end).or(self.segments.last());
        let (Some(start), Some(end)) = (start, end) else { return 0..0 };
        let place = |segment: &Segment, at: usize, otherwise: usize| match segment.copy {
            true => (segment.origin.start + at.saturating_sub(segment.here.start)).min(segment.origin.end),
            false => otherwise,
        };
        let from = place(start, span.start, start.origin.start);
        from..place(end, span.end, end.origin.end).max(from)
    }
}

/// Rewrites the parts of one clause.
pub(super) struct Rewriter<'p> {
    pub(super) text: &'p str,
    pub(super) mask: &'p str,
    pub(super) parameters: &'p [String],
    /// The clause is one of `END`.
    pub(super) end: bool,
    pub(super) maps: &'p mut Maps,
    pub(super) actions: &'p mut Vec<Action>,
}

impl Rewriter<'_> {
    /// The attach points, one text with commas.
    pub(super) fn attach(&mut self, range: Range<usize>) -> Result<Text, Wrong> {
        let mut out = Text::default();
        let mut at = range.start;
        let mut copied = at;
        while at < range.end {
            let rest = &self.mask[at..range.end];
            let length = word(rest);
            let replaced = match &rest[..length] {
                "BEGIN" => Some((length, "begin".to_owned())),
                "END" => Some((length, "end".to_owned())),
                _ if rest.starts_with('$') => self.parameter(at)?.map(|(length, value)| (length, value.to_owned())),
                // A comment, and what the compiler should not see as text of its own.
                _ if rest.starts_with([' ', '\n', '\t', '\r']) => Some((1, " ".to_owned())),
                _ => None,
            };
            let step = match replaced {
                Some((length, text)) => {
                    out.copy(self.text, copied..at);
                    out.replace(&text, at..at + length);
                    copied = at + length;
                    length
                }
                None => length.max(1),
            };
            at += step;
        }
        out.copy(self.text, copied..range.end);
        Ok(out)
    }

    /// A body, behind what is declared for all of them.
    pub(super) fn body(&mut self, before: &[Range<usize>], range: Range<usize>) -> Result<Text, Wrong> {
        let mut out = Text::default();
        for declaration in before {
            out.copy(self.text, declaration.clone());
            out.replace(" ", declaration.end..declaration.end);
        }
        self.rewrite(&mut out, range, true)?;
        Ok(out)
    }

    /// A predicate, or an argument of an action: no statement can be in it.
    pub(super) fn expression(&mut self, range: Range<usize>) -> Result<Text, Wrong> {
        let mut out = Text::default();
        self.rewrite(&mut out, range, false)?;
        Ok(out)
    }

    fn rewrite(&mut self, out: &mut Text, range: Range<usize>, statements: bool) -> Result<(), Wrong> {
        let (start, mut at, mut copied) = (range.start, range.start, range.start);
        while at < range.end {
            let rest = &self.mask[at..range.end];
            if let Some(variable) = rest.strip_prefix('$') {
                if let Some((length, value)) = self.number(at)? {
                    out.copy(self.text, copied..at);
                    out.replace(&value, at..at + length);
                    at += length;
                    copied = at;
                    continue;
                }
                at += 1 + word(variable);
                continue;
            }
            let length = word(rest);
            if length == 0 {
                at += 1;
                // Digits and letters of a number are no name.
                if rest.starts_with(|c: char| c.is_ascii_digit()) {
                    at += rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len() - 1);
                }
                continue;
            }
            let name = &rest[..length];
            let open = skip(self.mask, at + length);
            let before = self.mask[start..at].trim_end();
            let member = before.ends_with(['.', '@']) || before.ends_with("->");
            if member || open >= range.end || !self.mask[open..].starts_with('(') {
                at += length;
                continue;
            }
            let close = closing(self.mask, open).filter(|close| *close < range.end && self.mask[*close..].starts_with(')'));
            let call = close.map(|close| (at..close + 1, open + 1..close));
            if name == "str"
                && let Some((whole, inside)) = &call
                && let Some(text) = self.text_parameter(inside.clone())?
            {
                out.copy(self.text, copied..at);
                out.replace(&text, whole.clone());
                at = whole.end;
                copied = at;
                continue;
            }
            if !actions::is_action(name) {
                at += length;
                continue;
            }
            let place = at..at + length;
            let statement = statements && matches!(before.chars().next_back(), None | Some('{' | '}' | ';'));
            if !statement {
                return Err(Wrong::new(place, format!("`{name}` is a statement and has no value"))
                    .help(format!("write `{name}(...);` on its own")));
            }
            let Some((whole, inside)) = call else {
                return Err(Wrong::new(place, format!("the arguments of `{name}` do not end")).help("close them with `)`"));
            };
            out.copy(self.text, copied..at);
            at = self.action(out, name, whole, inside, range.end)?;
            copied = at;
        }
        out.copy(self.text, copied..range.end);
        Ok(())
    }

    /// Replaces the call of an action, in a text that goes on to `limit`. Gives the place behind it.
    fn action(
        &mut self,
        out: &mut Text,
        name: &str,
        mut whole: Range<usize>,
        inside: Range<usize>,
        limit: usize,
    ) -> Result<usize, Wrong> {
        let arguments = split(self.mask, inside);
        let place = whole.start..whole.start + name.len();
        let (mut what, fields) = actions::understand(self, name, place, &arguments)?;
        if let What::Print { map, keys: 0, take, .. } = &mut what
            && let Some(clear) = self.cleared(map, whole.end, limit)
        {
            (*take, whole.end) = (true, clear);
        }
        let number = self.actions.len();
        let head = whole.start..whole.start + name.len();
        out.replace(&format!("emit {STREAM}{number} {{ "), head);
        let exits = matches!(what, What::Exit { .. });
        let mut fixed = Vec::new();
        let mut separator = "";
        for (position, field) in fields.iter().enumerate() {
            // A text of the program stays where it is shown.
            if let Some(text) = printf::whole(&field.text) {
                fixed.push((position, text));
                continue;
            }
            out.replace(&format!("{separator}a{position}: "), whole.start..whole.start);
            out.append(field);
            separator = ", ";
        }
        out.replace(if exits { " }; return" } else { " }" }, whole.end.saturating_sub(1)..whole.end);
        self.actions.push(Action { stream: format!("{STREAM}{number}"), end: self.end, what, fixed });
        Ok(whole.end)
    }

    /// The end of `; clear(@m)`, if that is what stands at `at`. Such a map is printed and cleared at once: what is added in
    /// between is in the next print.
    fn cleared(&mut self, map: &str, at: usize, limit: usize) -> Option<usize> {
        let mask = &self.mask[..limit];
        let mut at = at;
        let mut places = Vec::new();
        for token in [";", "clear", "(", map, ")"] {
            at = skip(mask, at);
            let rest = mask.get(at..)?.strip_prefix(token)?;
            // The token is all of a word.
            if token.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '@') && word(rest) > 0 {
                return None;
            }
            places.push(at..at + token.len());
            at += token.len();
        }
        self.maps.act(places.get(3)?.clone(), "clear");
        Some(at)
    }

    /// A positional parameter at `at`, if there is one: its length, and what was given; nothing given is empty.
    fn parameter(&self, at: usize) -> Result<Option<(usize, &str)>, Wrong> {
        let rest = &self.mask[at + 1..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits == 0 {
            return Ok(None);
        }
        let span = at..at + 1 + digits;
        match rest[..digits].parse::<usize>() {
            Ok(number @ 1..) => Ok(Some((1 + digits, self.parameters.get(number - 1).map(String::as_str).unwrap_or_default()))),
            _ => Err(Wrong::new(span, "there is no such parameter")
                .help("parameters are `$1`, `$2` and so on; `$#` is how many were given")),
        }
    }

    /// A parameter as a number.
    fn number(&self, at: usize) -> Result<Option<(usize, String)>, Wrong> {
        if self.mask[at..].starts_with("$#") {
            return Ok(Some((2, self.parameters.len().to_string())));
        }
        let Some((length, value)) = self.parameter(at)? else { return Ok(None) };
        let (sign, digits) = value.strip_prefix('-').map_or(("", value), |digits| ("-", digits));
        let parsed = match digits.strip_prefix("0x") {
            _ if value.is_empty() => Ok(0),
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        match parsed {
            // In parentheses, a sign binds to it and to nothing before it.
            Ok(number) if !sign.is_empty() => Ok(Some((length, format!("(-{number})")))),
            Ok(number) => Ok(Some((length, number.to_string()))),
            Err(_) => {
                let name = &self.mask[at..at + length];
                Err(Wrong::new(at..at + length, format!("the parameter {name} is `{value}`, which is no number"))
                    .help(format!("as text it is `str({name})`")))
            }
        }
    }

    /// The literal in place of `str($1)` or `str($1, 100)`, if that is what stands between the parentheses.
    fn text_parameter(&self, inside: Range<usize>) -> Result<Option<String>, Wrong> {
        let Some(first) = split(self.mask, inside).into_iter().next() else { return Ok(None) };
        if !self.mask[first.clone()].starts_with('$') {
            return Ok(None);
        }
        match self.parameter(first.start)? {
            Some((length, value)) if length == first.len() => Ok(Some(quote(value))),
            _ => Ok(None),
        }
    }

    /// What stands in the program at a place.
    pub(super) fn typed(&self, range: Range<usize>) -> &str {
        &self.text[range]
    }
}

/// The arguments between two parentheses.
pub(super) fn split(mask: &str, inside: Range<usize>) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let (mut start, mut depth) = (inside.start, 0_usize);
    for at in inside.clone() {
        match mask.as_bytes()[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                out.push(trimmed(mask, start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = trimmed(mask, start..inside.end);
    if !last.is_empty() || !out.is_empty() {
        out.push(last);
    }
    out
}

/// The text as a string of the language.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
