//! How runs begin and end, and plugins begin again.

use std::time::Duration;

use super::{HEAD, WHOLE, parse, wrong};
use crate::manifest::{Moment, Open};

/// When the gate opens, in each of its forms, in a manifest and on the command line.
#[test]
fn openings() {
    let check = |toml: &str, word: &str, expect: Open| {
        assert_eq!(
            parse(&HEAD.replacen("[[plugin]]", &format!("[start]\nopen = {toml}\n[[plugin]]"), 1)).unwrap().start.open,
            expect
        );
        assert_eq!(word.parse(), Ok(expect), "{word}");
    };
    check("\"attached\"", "attached", Open::Attached);
    check("\"manual\"", "manual", Open::Manual);
    check("{ after = \"1m30s\" }", "1m30s", Open::After(Duration::from_secs(90)));
    let moment = Open::At(Moment(1_798_761_600_000_000_000));
    check("{ at = 2027-01-01T00:00:00Z }", "2027-01-01T00:00:00Z", moment);
    check("{ at = 2027-01-01T02:00:00+02:00 }", "2027-01-01T02:00:00+02:00", moment);
    let wrong = |word: &str, expect: &str| assert_eq!(word.parse::<Open>().unwrap_err(), expect);
    wrong("2027-13-01T00:00:00Z", "this is no moment; write it as 2027-01-01T00:00:00Z");
    wrong("2027-01-01", "it takes a date and a time of day");
    let help = "write `attached`, `manual`, a time as in `2s`, or a moment as in `2027-01-01T00:00:00Z`";
    wrong("never", &format!("`never` is no duration: `never` does not begin with a number; {help}"));
}

/// An opening that can't be meant, or of a gate that is not there, is refused with what can.
#[test]
fn wrong_openings() {
    wrong(
        "[start]\nopen = \"tomorrow\"\nsettle = \"1h\"",
        "
`start.open` can't be `tomorrow`
 --> dir/bundle.toml, line 6, column 8
  |
6 | open = \"tomorrow\"
  |        ^^^^^^^^^^
  = help: the values are \"attached\", \"manual\", { after = \"2s\" } and { at = 2027-01-01T00:00:00Z }

`start.settle` must be at most 1m
 --> dir/bundle.toml, line 7, column 10
  |
7 | settle = \"1h\"
  |          ^^^^
  = help: `start.open = { after = \"...\" }` waits longer",
    );
    wrong(
        "[start]\nopen = { at = 2027-01-01T00:00:00 }\ngate = false",
        "
`start.open.at` is no moment: it has no offset from UTC, so that it is another moment on each machine; end it with `Z`
 --> dir/bundle.toml, line 6, column 15
  |
6 | open = { at = 2027-01-01T00:00:00 }
  |               ^^^^^^^^^^^^^^^^^^^",
    );
    wrong(
        "[start]\nopen = \"manual\"\ngate = false",
        "
`start.open` says when the gate opens, and there is none
 --> dir/bundle.toml, line 6, column 8
  |
6 | open = \"manual\"
  |        ^^^^^^^^
  = help: without a gate each probe records from when it is attached; leave `gate = false` out",
    );
}

/// Times to end that can't be meant are refused with what can.
#[test]
fn wrong_ends() {
    wrong(
        "[stop]\nafter = \"0s\"\ndrain = \"5\"",
        "
`stop.after` is no time at all
 --> dir/bundle.toml, line 6, column 9
  |
6 | after = \"0s\"
  |         ^^^^
  = help: write \"never\" for a run without an end

`stop.drain`: `5` is no duration: `5` has no unit; did you mean `5s`?
 --> dir/bundle.toml, line 7, column 9
  |
7 | drain = \"5\"
  |         ^^^",
    );
}

/// A plugin is started again so often, each time after twice the time.
#[test]
fn restarts() {
    let plugin = parse(WHOLE).unwrap().plugins[0].clone();
    let tries = std::iter::successors(Some((Duration::ZERO, plugin)), |(_, plugin)| plugin.again());
    let waits: Vec<u128> = tries.skip(1).map(|(after, _)| after.as_millis()).collect();
    assert_eq!(waits, [100, 200, 400]);
    wrong(
        "restart = { backoff = \"2h\" }",
        "
`plugin.restart` does not say how often
 --> dir/bundle.toml, line 5, column 11
  |
5 | restart = { backoff = \"2h\" }
  |           ^^^^^^^^^^^^^^^^^^
  = help: write `restart = { times = 3, backoff = \"1s\" }`

`plugin.restart.backoff` must be at most 1h
 --> dir/bundle.toml, line 5, column 23
  |
5 | restart = { backoff = \"2h\" }
  |                       ^^^^",
    );
}
