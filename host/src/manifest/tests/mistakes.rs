//! What is wrong wherever it stands, and what is no manifest at all.

use std::path::Path;

use super::{HEAD, WHOLE, parse, wrong, wrong_whole};
use crate::manifest::Manifest;

/// Unknown keys are refused, at each level, with what was meant or what there is.
#[test]
fn unknown_keys() {
    wrong(
        "sorce = \"b\"\n[plugin.grants]\nscopes = 1\n",
        "
unknown key `plugin.sorce`
 --> dir/bundle.toml, line 5, column 1
  |
5 | sorce = \"b\"
  | ^^^^^
  = help: did you mean `source`?

unknown key `plugin.grants.scopes`
 --> dir/bundle.toml, line 7, column 1
  |
7 | scopes = 1
  | ^^^^^^
  = help: did you mean `scope`?",
    );
    wrong_whole(
        "schema = 1\nplugins = []\n",
        "
the bundle has no plugin
 --> dir/bundle.toml, line 1, column 1
  |
1 | schema = 1
  | ^
  = help: add a `[[plugin]]` with `name` and `source`

unknown key `plugins`
 --> dir/bundle.toml, line 2, column 1
  |
2 | plugins = []
  | ^^^^^^^
  = help: did you mean `plugin`?",
    );
    wrong(
        "[output]\nfmt = 1",
        "
unknown key `output.fmt`
 --> dir/bundle.toml, line 6, column 1
  |
6 | fmt = 1
  | ^^^
  = help: there is `format`",
    );
}

/// A value of another type is refused with both types.
#[test]
fn wrong_types() {
    wrong(
        "[start]\ngate = \"yes\"",
        "
`start.gate` must be `true` or `false`, and this is a string
 --> dir/bundle.toml, line 6, column 8
  |
6 | gate = \"yes\"
  |        ^^^^^",
    );
    wrong(
        "config = 3",
        "
`plugin.config` must be a table, and this is an integer
 --> dir/bundle.toml, line 5, column 10
  |
5 | config = 3
  |          ^",
    );
    wrong(
        "grants = { probes = \"*\", read = [1] }",
        "
`plugin.grants.probes` must be a list of strings, and this is a string
 --> dir/bundle.toml, line 5, column 21
  |
5 | grants = { probes = \"*\", read = [1] }
  |                     ^^^

`plugin.grants.read` must be a list of strings, and this is an integer
 --> dir/bundle.toml, line 5, column 34
  |
5 | grants = { probes = \"*\", read = [1] }
  |                                  ^",
    );
    wrong_whole(
        "schema = 1\n[plugin]\nname = \"a\"",
        "
`plugin` must be an array of tables
 --> dir/bundle.toml, line 2, column 1
  |
2 | [plugin]
  | ^^^^^^^^
  = help: every plugin begins with `[[plugin]]`, in two pairs of brackets",
    );
}

/// A word that is none of the values is refused with the one that is meant.
#[test]
fn wrong_words() {
    wrong(
        "[output]\nformat = \"jsn\"",
        "
`output.format` can't be `jsn`
 --> dir/bundle.toml, line 6, column 10
  |
6 | format = \"jsn\"
  |          ^^^^^
  = help: did you mean `json`?",
    );
}

/// A number that JSON does not have is refused, since a plugin gets its config as JSON.
#[test]
fn no_json() {
    wrong(
        "config = { x = nan }",
        "
a plugin gets its config as JSON, which has no such number
 --> dir/bundle.toml, line 5, column 16
  |
5 | config = { x = nan }
  |                ^^^",
    );
}

/// The keys that must be there, and names that must be names.
#[test]
fn missing_and_doubled() {
    wrong_whole(
        "[[plugin]]\nname = \"a b\"\n",
        "
`schema` is missing
 --> dir/bundle.toml, line 1, column 1
  |
1 | [[plugin]]
  | ^
  = help: begin the file with `schema = 1`

this plugin has no `source`
 --> dir/bundle.toml, line 1, column 1
  |
1 | [[plugin]]
  | ^^^^^^^^^^

`plugin.name` must be 1 to 64 letters, digits, `_` and `-` of ASCII
 --> dir/bundle.toml, line 2, column 8
  |
2 | name = \"a b\"
  |        ^^^^^",
    );
    wrong(
        "[[plugin]]\nname = \"a\"\nsource = \"oci://x\"",
        "
two plugins are named `a`
 --> dir/bundle.toml, line 6, column 8
  |
6 | name = \"a\"
  |        ^^^

`plugin.source` must name a file
 --> dir/bundle.toml, line 7, column 10
  |
7 | source = \"oci://x\"
  |          ^^^^^^^^^
  = help: it is a path, and begins in the directory of the bundle",
    );
    wrong_whole(
        "schema = 2\nplugin = []",
        "
`schema` 2 is newer than this portcullis, which knows 1
 --> dir/bundle.toml, line 1, column 10
  |
1 | schema = 2
  |          ^
  = help: a newer portcullis reads this bundle

the bundle has no plugin
 --> dir/bundle.toml, line 2, column 10
  |
2 | plugin = []
  |          ^^",
    );
}

/// The gate word has 64 bits.
#[test]
fn at_most_64_plugins() {
    let plugins = |n| (0..n).map(|i| format!("[[plugin]]\nname = \"p{i}\"\nsource = \"p\"\n")).collect::<String>();
    assert_eq!(parse(&format!("schema = 1\n{}", plugins(64))).unwrap().plugins.len(), 64);
    let error = parse(&format!("schema = 1\n{}", plugins(65))).unwrap_err();
    assert!(
        error.starts_with("a bundle has at most 64 plugins, and this one has 65\n   --> dir/bundle.toml, line 194,"),
        "{error}"
    );
}

/// Text that is not TOML is an error with its place too, and hostile characters don't reach the terminal.
#[test]
fn no_toml() {
    wrong_whole(
        "schema = = 1",
        "
this is not TOML: extra `=`, expected nothing
 --> dir/bundle.toml, line 1, column 10
  |
1 | schema = = 1
  |          ^",
    );
    wrong_whole(
        "\x1b[2J = 1",
        "
this is not TOML: key with no value, expected `=`
 --> dir/bundle.toml, line 1, column 2
  |
1 | \u{fffd}[2J = 1
  |  ^",
    );
}

/// A manifest that is cut anywhere, or has a wrong character anywhere, is read or refused and nothing else.
#[test]
fn damaged_manifests() {
    for at in 0..WHOLE.len() {
        let _ = parse(&WHOLE[..at]);
        for wrong in ["", "\"", "[", "]", "=", "\n", "'", "9", "\0", "\u{202e}", "漢"] {
            let _ = parse(&format!("{}{wrong}{}", &WHOLE[..at], &WHOLE[at + 1..]));
        }
    }
    assert!(parse(&format!("{HEAD}config = {}", "[".repeat(100_000))).is_err());
}

/// A long line is shown around the place.
#[test]
fn long_lines_are_cut() {
    let error = parse(&format!("{HEAD}config = {{ a = \"{}\", b = inf }}", "x".repeat(500))).unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() < 130), "{error}");
    assert!(lines[3].ends_with("\", b = inf }") && lines[4].ends_with("^^^"), "{error}");
}

/// What can't be read as text says why.
#[test]
fn unreadable_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.toml");
    std::fs::write(&file, b"schema = 1\n\xff").unwrap();
    for (path, cause) in [
        (file.as_path(), "line 2 is not UTF-8 text"),
        (&dir.path().join("none"), "No such file or directory (os error 2)"),
        (dir.path(), "Is a directory (os error 21)"),
        (Path::new("/dev/zero"), "it is larger than 4 MiB, which no manifest is"),
    ] {
        let error = Manifest::read(path).unwrap_err();
        assert_eq!(error.to_string(), format!("can't read the bundle {}", path.display()));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), cause);
    }
}
