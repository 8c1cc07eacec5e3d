//! Statements that are done by the plugin when their row arrives.

use std::ops::Range;

use portcullis_adhoc_program::{Piece, What};

use super::{
    error::Wrong,
    mask::closing,
    printf,
    rewrite::{Rewriter, Text, split},
};

/// How many texts `join` takes, as in bpftrace.
const JOINED: usize = 16;

/// What `time` shows unless told, as in bpftrace.
const TIME: &str = "%H:%M:%S\n";

const NAMES: [&str; 9] = ["printf", "print", "clear", "zero", "time", "exit", "join", "cat", "system"];

pub(super) fn is_action(name: &str) -> bool {
    NAMES.contains(&name)
}

/// What a call does, and the fields that its row needs.
pub(super) fn understand(
    rewriter: &mut Rewriter<'_>,
    name: &str,
    place: Range<usize>,
    arguments: &[Range<usize>],
) -> Result<(What, Vec<Text>), Wrong> {
    let takes =
        |usage: &str| Err(Wrong::new(place.clone(), format!("`{name}` has other arguments")).help(format!("write {usage}")));
    match (name, arguments) {
        ("printf", [format, rest @ ..]) => printf(rewriter, format.clone(), rest),
        ("printf", []) => takes("`printf(\"%d %s\\n\", pid, comm)`"),
        ("print", [value, rest @ ..]) if rest.len() <= 2 => print(rewriter, value.clone(), rest),
        ("print", _) => takes("`print(@m)`, `print(@m, TOP)`, `print(@m, TOP, DIVISOR)` or `print(VALUE)`"),
        ("clear" | "zero", [map]) => {
            let map = map_name(rewriter, map.clone(), name).ok_or_else(|| {
                Wrong::new(map.clone(), format!("`{name}` is for a map"))
                    .help(format!("write `{name}(@m)`; one element goes by `delete(@m[key])`"))
            })?;
            Ok((if name == "clear" { What::Clear { map } } else { What::Zero { map } }, Vec::new()))
        }
        ("clear" | "zero", _) => takes(&format!("`{name}(@m)`")),
        ("time", []) => Ok((What::Time { format: TIME.into() }, Vec::new())),
        ("time", [format]) => Ok((What::Time { format: literal(rewriter, format.clone())? }, Vec::new())),
        ("time", _) => takes("`time(\"%H:%M:%S\\n\")`"),
        ("exit", []) => Ok((What::Exit { code: 0 }, Vec::new())),
        ("exit", [code]) => Ok((What::Exit { code: number(rewriter, code.clone())? }, Vec::new())),
        ("exit", _) => takes("`exit()` or `exit(CODE)`"),
        ("join", [list, rest @ ..]) if rest.len() <= 1 => join(rewriter, list.clone(), rest),
        ("join", _) => takes("`join(args.argv)` or `join(args.argv, \", \")`"),
        (_, _) => {
            let help = match name {
                "cat" => "read the file beside the run; what a probe sees of it can be shown by `printf`",
                _ => "pipe the output to a program that does it",
            };
            Err(Wrong::new(place.clone(), format!("`{name}` is refused: programs can't read files or start commands")).help(help))
        }
    }
}

fn printf(rewriter: &mut Rewriter<'_>, format: Range<usize>, rest: &[Range<usize>]) -> Result<(What, Vec<Text>), Wrong> {
    let mut pieces = printf::parse(&literal(rewriter, format.clone())?).map_err(|e| Wrong { span: format.clone(), ..e })?;
    let conversions = pieces.iter_mut().filter_map(|piece| match piece {
        Piece::Field(conversion) => Some(conversion),
        Piece::Text(_) => None,
    });
    let mut conversions: Vec<_> = conversions.collect();
    if conversions.len() != rest.len() {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let message =
            format!("the format has {} and gets {}", count(conversions.len(), "conversion"), count(rest.len(), "argument"));
        return Err(Wrong::new(format, message).help("each `%` takes one argument; a percent sign itself is `%%`"));
    }
    let mut fields = Vec::with_capacity(rest.len());
    for (conversion, argument) in conversions.iter_mut().zip(rest) {
        let (time, value) = strftime(rewriter, argument.clone())?;
        conversion.time = time;
        fields.push(rewriter.expression(value)?);
    }
    Ok((What::Printf { pieces }, fields))
}

/// `strftime(FORMAT, TIME)`, which is done when the row arrives, is its format and `TIME`; anything else stays as it is.
fn strftime(rewriter: &Rewriter<'_>, argument: Range<usize>) -> Result<(Option<String>, Range<usize>), Wrong> {
    let text = &rewriter.mask[argument.clone()];
    let Some(rest) = text.strip_prefix("strftime") else { return Ok((None, argument)) };
    if !rest.trim_start().starts_with('(') {
        return Ok((None, argument));
    }
    let open = argument.end - rest.trim_start().len();
    match closing(rewriter.mask, open)
        .filter(|close| close + 1 == argument.end)
        .map(|close| split(rewriter.mask, open + 1..close))
    {
        Some(parts) if parts.len() == 2 => Ok((Some(literal(rewriter, parts[0].clone())?), parts[1].clone())),
        _ => Err(Wrong::new(argument, "`strftime` stands alone, with a format and a time")
            .help("write `strftime(\"%H:%M:%S\", nsecs)`")),
    }
}

fn print(rewriter: &mut Rewriter<'_>, value: Range<usize>, rest: &[Range<usize>]) -> Result<(What, Vec<Text>), Wrong> {
    if let Some(map) = map_name(rewriter, value.clone(), "print") {
        let mut numbers = rest.iter().map(|range| number(rewriter, range.clone()).map(|n| (n != 0).then_some(n)));
        let (top, div) = (numbers.next().transpose()?.flatten(), numbers.next().transpose()?.flatten());
        return Ok((What::Print { map, keys: 0, take: false, top, div }, Vec::new()));
    }
    if let Some(extra) = rest.first() {
        return Err(
            Wrong::new(extra.clone(), "only a whole map is printed with a limit and a divisor").help("write `print(@m, 10)`")
        );
    }
    let text = &rewriter.mask[value.clone()];
    let name_end = text.strip_prefix('@').map(|rest| value.start + 1 + super::mask::word(rest));
    let open = name_end.map(|end| super::mask::skip(rewriter.mask, end)).filter(|open| rewriter.mask[*open..].starts_with('['));
    if let (Some(end), Some(open)) = (name_end, open)
        && closing(rewriter.mask, open) == Some(value.end - 1)
    {
        let keys = split(rewriter.mask, open + 1..value.end - 1);
        let mut fields = keys.iter().map(|key| rewriter.expression(key.clone())).collect::<Result<Vec<_>, _>>()?;
        let map = rewriter.typed(value.start..end).to_owned();
        // A value that is aggregated is not in the row: the element is read from the map.
        if rewriter.maps.is_aggregated(rewriter.mask, &map) {
            return Ok((What::Print { map, keys: keys.len(), take: false, top: None, div: None }, fields));
        }
        fields.push(rewriter.expression(value)?);
        return Ok((What::Value { map: Some(map), keys: keys.len(), tuple: false }, fields));
    }
    if text.starts_with('(') && closing(rewriter.mask, value.start) == Some(value.end - 1) {
        let parts = split(rewriter.mask, value.start + 1..value.end - 1);
        if parts.len() > 1 {
            let fields = parts.into_iter().map(|part| rewriter.expression(part)).collect::<Result<_, _>>()?;
            return Ok((What::Value { map: None, keys: 0, tuple: true }, fields));
        }
    }
    Ok((What::Value { map: None, keys: 0, tuple: false }, vec![rewriter.expression(value)?]))
}

fn join(rewriter: &mut Rewriter<'_>, list: Range<usize>, rest: &[Range<usize>]) -> Result<(What, Vec<Text>), Wrong> {
    let delimiter = rest.first().map_or(Ok(" ".into()), |range| literal(rewriter, range.clone()))?;
    let element = rewriter.expression(list)?;
    Ok((What::Join { delimiter }, (0..JOINED).map(|number| element.element(number)).collect()))
}

/// The name of the map that a statement's argument is, all of it.
fn map_name(rewriter: &mut Rewriter<'_>, range: Range<usize>, statement: &str) -> Option<String> {
    let rest = rewriter.mask[range.clone()].strip_prefix('@')?;
    if super::mask::word(rest) < rest.len() {
        return None;
    }
    rewriter.maps.act(range.clone(), statement);
    Some(rewriter.typed(range).to_owned())
}

/// The value of a string that is written out.
fn literal(rewriter: &Rewriter<'_>, range: Range<usize>) -> Result<String, Wrong> {
    let text = rewriter.typed(range.clone());
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let masked = &rewriter.mask[range.clone()];
    match inside {
        // One string, not two with something between.
        Some(inside) if masked.matches('"').count() == 2 => printf::unescape(inside).map_err(|(at, e)| {
            let at = range.start + 1 + at;
            Wrong { span: at..at + 2, ..e }
        }),
        _ => Err(Wrong::new(range, "expected a string that is written out here").help("write it between double quotes")),
    }
}

/// The value of an integer that is written out or given as a parameter.
fn number(rewriter: &mut Rewriter<'_>, range: Range<usize>) -> Result<u64, Wrong> {
    let text = rewriter.expression(range.clone())?.text.replace('_', "");
    let value = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    value.map_err(|_| Wrong::new(range, "expected a number that is written out here").help("write it as in `10`"))
}
