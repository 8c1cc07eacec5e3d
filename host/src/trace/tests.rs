//! Programs in, probes and actions or errors out.
#![allow(clippy::unwrap_used, clippy::panic)]

use portcullis_adhoc_program::{Conversion, Piece, What};
use portcullis_ebpf::Diagnostic;

use super::*;

fn parameters(list: &[&str]) -> Vec<String> {
    list.iter().map(|p| (*p).to_owned()).collect()
}

/// Each probe as `name: attach /when/ { body }`.
#[track_caller]
fn check(program: &str, expect: &[&str]) {
    check_with(&[], program, expect);
}

#[track_caller]
fn check_with(given: &[&str], program: &str, expect: &[&str]) {
    let parsed = parse("the program", program, &parameters(given)).unwrap_or_else(|e| panic!("{e}"));
    let shown = parsed.probes.iter().map(|Probe { name, attach, when, body }| {
        let when = when.as_ref().map(|when| format!(" /{}/", when.text)).unwrap_or_default();
        format!("{name}: {}{when} {{{}}}", attach.text, body.text)
    });
    assert_eq!(shown.collect::<Vec<_>>(), expect, "{program}");
}

#[track_caller]
fn check_action(statement: &str, emit: &str, what: What) {
    let program = format!("x:y {{ {statement} }} x:z {{ @ = 1; @m[pid] = pid == 1; @h [ pid, \"]\" ] = hist (1); }}");
    let parsed = parse("the program", &program, &[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parsed.probes[0].body.text, format!(" {emit} "), "{statement}");
    assert_eq!(parsed.actions, [Action { stream: "__action0".into(), end: false, what, fixed: Vec::new() }], "{statement}");
}

/// The error without its excerpt: `line:column message = help`.
#[track_caller]
fn check_error(program: &str, expect: &str) {
    let error = parse("FILE", program, &parameters(&["word"])).unwrap_err().to_string();
    let (message, rest) = error.split_once('\n').unwrap();
    let place = rest.lines().next().unwrap().trim_start().strip_prefix("--> FILE, line ").unwrap().replace(", column ", ":");
    let help = rest.split_once("= help: ").map(|(_, help)| format!(" = {help}")).unwrap_or_default();
    assert_eq!(format!("{place} {message}{help}"), expect, "{program}");
}

/// Attach points, predicates and bodies are found, whatever stands in strings and comments.
#[test]
fn clauses() {
    check("t:a:b { @ = count(); }", &["b: t:a:b { @ = count(); }"]);
    check(
        "#!/usr/bin/portcullis trace\n// {\nt:a:b, t:a:c /* } */\n/pid == 1 / 2/ { x(\"}\"); /* } */ } t:a:b{} ",
        &["b: t:a:b, t:a:c /pid == 1 / 2/ { x(\"}\"); /* } */ }", "b_2: t:a:b {}"],
    );
    check("BEGIN { $x = 1 } END { }", &["begin: begin { $x = 1 }", "end: end { }"]);
    check("begin,end { }", &["begin: begin,end { }"]);
    check("interval:s:1 { }", &["interval_s_1: interval:s:1 { }"]);
    check(
        "kprobe:vfs_*,tracepoint:syscalls:sys_enter_*/pid/{}",
        &["vfs__: kprobe:vfs_*,tracepoint:syscalls:sys_enter_* /pid/ {}"],
    );
    check(
        "uprobe:/bin/bash:readline/arg0/{} uretprobe:./a:f /1/{} usdt:/x/y:p:n{} span:uprobe:\"/a b\":f {}",
        &[
            "readline: uprobe:/bin/bash:readline /arg0/ {}",
            "f: uretprobe:./a:f /1/ {}",
            "n: usdt:/x/y:p:n {}",
            "f_2: span:uprobe:\"/a b\":f {}",
        ],
    );
    check("let @m = lruhash(10); x:y { } x:z { }", &["y: x:y {let @m = lruhash(10);  }", "z: x:z { }"]);
    check("x:y { if (a) { } else { b[1] = {2} } }", &["y: x:y { if (a) { } else { b[1] = {2} } }"]);
}

/// What bpftrace does in user space is emitted to a stream of its own, in its place among the other statements.
#[test]
fn actions_become_rows() {
    check(
        "x:y { $a = 1; printf(\"%d %s\\n\", $a, str(args.p)); if ($a) { exit(); } print(@) } x:z { @++ }",
        &[
            "y: x:y { $a = 1; emit __action0 { a0: $a, a1: str(args.p) }; if ($a) { emit __action1 {  }; return; } emit __action2 {  } }",
            "z: x:z { @++ }",
        ],
    );
    check(
        "x:y { emit s { time: nsecs, print: @printf[1], x: a.exit } }",
        &["y: x:y { emit s { time: nsecs, print: @printf[1], x: a.exit } }"],
    );
    check(
        "x:y { print(@m); clear(@n); @n++; @m++ } x:z { print(@m); { clear(@m) } }",
        &[
            "y: x:y { emit __action0 {  }; emit __action1 {  }; @n++; @m++ }",
            "z: x:z { emit __action2 {  }; { emit __action3 {  } } }",
        ],
    );
    let parsed = parse("", "END { clear(@a); emit s { x: emit.t }; } x:y { clear(@b); @a++; @b++; emit u { } }", &[]).unwrap();
    assert_eq!(parsed.actions.iter().map(|a| a.end).collect::<Vec<_>>(), [true, false]);
    assert_eq!(parsed.end_streams, ["s", "end"]);
}

/// Each action, with its row and what is done with it.
#[test]
fn each_action() {
    let print = |map: &str, top, div| What::Print { map: map.into(), keys: 0, take: false, top, div };
    check_action("print(@)", "emit __action0 {  }", print("@", None, None));
    check_action("print(@m, 5)", "emit __action0 {  }", print("@m", Some(5), None));
    check_action("print ( @m , 0 , 1_000 ) ;", "emit __action0 {  } ;", print("@m", None, Some(1000)));
    // Printed and cleared at once, but for another map.
    let taken = What::Print { map: "@m".into(), keys: 0, take: true, top: None, div: None };
    check_action("print(@m) /* */ ; clear ( @m );", "emit __action0 {  };", taken);
    let element = What::Print { map: "@h".into(), keys: 2, take: false, top: None, div: None };
    check_action("print(@h[pid, comm])", "emit __action0 { a0: pid, a1: comm }", element);
    let value = |map: Option<&str>, keys, tuple| What::Value { map: map.map(Into::into), keys, tuple };
    check_action("print(@m[pid, comm])", "emit __action0 { a0: pid, a1: comm, a2: @m[pid, comm] }", value(Some("@m"), 2, false));
    check_action("print(@m[pid] + 1)", "emit __action0 { a0: @m[pid] + 1 }", value(None, 0, false));
    check_action("print((pid, comm))", "emit __action0 { a0: pid, a1: comm }", value(None, 0, true));
    check_action("print((pid) + 1)", "emit __action0 { a0: (pid) + 1 }", value(None, 0, false));
    check_action("clear(@m)", "emit __action0 {  }", What::Clear { map: "@m".into() });
    check_action("zero(@)", "emit __action0 {  }", What::Zero { map: "@".into() });
    check_action("time()", "emit __action0 {  }", What::Time { format: "%H:%M:%S\n".into() });
    check_action("time(\"%F\")", "emit __action0 {  }", What::Time { format: "%F".into() });
    check_action("exit(3)", "emit __action0 {  }; return", What::Exit { code: 3 });
    let joined: Vec<String> = (0..16).map(|n| format!("a{n}: str(args.argv[{n}])")).collect();
    check_action("join(args.argv)", &format!("emit __action0 {{ {} }}", joined.join(", ")), What::Join { delimiter: " ".into() });
    let time = Conversion { kind: "s".into(), time: Some("%T".into()), ..Conversion::default() };
    check_action(
        "printf(\"%s %-5.3s\", strftime(\"%T\", nsecs), comm)",
        "emit __action0 { a0: nsecs, a1: comm }",
        What::Printf {
            pieces: vec![
                Piece::Field(time),
                Piece::Text(" ".into()),
                Piece::Field(Conversion { kind: "s".into(), left: true, width: 5, precision: Some(3), ..Conversion::default() }),
            ],
        },
    );
}

/// Texts that are written out, or given, are not sent through the kernel.
#[test]
fn fixed_texts() {
    let program =
        r#"x:y { printf("%s%s%d%s%s", "a\"b", comm, 1, str($1), cond ? "x" : "y"); print(("a", pid)); print("s\x41") }"#;
    let parsed = parse("", program, &parameters(&["p"])).unwrap();
    let body = " emit __action0 { a1: comm, a2: 1, a4: cond ? \"x\" : \"y\" }; emit __action1 { a1: pid }; emit __action2 {  } ";
    assert_eq!(parsed.probes[0].body.text, body);
    let fixed: Vec<_> = parsed.actions.into_iter().map(|action| action.fixed).collect();
    let text = |position, text: &str| (position, text.to_owned());
    assert_eq!(fixed, [vec![text(0, "a\"b"), text(3, "p")], vec![text(0, "a")], vec![text(0, "sA")]]);
}

/// Formats of `printf`.
#[test]
fn formats() {
    let field = |kind: &str| Piece::Field(Conversion { kind: kind.into(), ..Conversion::default() });
    for (format, expect) in [
        ("", vec![]),
        ("a%%b", vec![Piece::Text("a%b".into())]),
        ("%lld%ld%hhu%llx", vec![field("d"), field("d"), field("u"), field("x")]),
        ("%i%p%c%r%rx%X", vec![field("d"), field("p"), field("c"), field("r"), field("rx"), field("X")]),
        (
            "%+#08x.",
            vec![
                Piece::Field(Conversion {
                    kind: "x".into(),
                    zero: true,
                    plus: true,
                    prefix: true,
                    width: 8,
                    ..Conversion::default()
                }),
                Piece::Text(".".into()),
            ],
        ),
    ] {
        assert_eq!(printf::parse(format).unwrap(), expect, "{format}");
    }
    for (text, expect) in [(r#"a\n\t\r\"\\"#, "a\n\t\r\"\\"), (r"\x41\101\x4", "AA\u{4}"), (r"\0", "\0")] {
        assert_eq!(printf::unescape(text).unwrap(), expect);
    }
}

/// `$1` is a number, `str($1)` a text, `$#` how many there are; what was not given is 0 or empty.
#[test]
fn positional_parameters() {
    check_with(
        &["7", "a\"b", "-0x10", "f"],
        "uprobe:/a:$4 /pid == $1 && str($2) == comm/ { $x = $3 + $#; f(str($9, 20), $9); printf(\"%d\", $1) }",
        &["f: uprobe:/a:f /pid == 7 && \"a\\\"b\" == comm/ { $x = (-16) + 4; f(\"\", 0); emit __action0 { a0: 7 } }"],
    );
}

/// Errors have their place in what was typed, and say what to write.
#[test]
fn errors() {
    for (program, expect) in [
        ("", "1:1 the program has no clause = write one as `tracepoint:sched:sched_switch { @[comm] = count(); }`"),
        ("x:y", "1:1 this attach point has no body = write what to do as `{ ... }` behind it"),
        ("x:y /pid/", "1:5 this predicate does not end = write it between slashes, before the body: `/pid == 1/ { ... }`"),
        ("x:y // { }", "1:1 this attach point has no body = write what to do as `{ ... }` behind it"),
        ("x:y / / { }", "1:5 the predicate is empty = leave it out to take every hit"),
        ("\n  x:y { f(", "2:7 this body does not end = close each `{`, `(` and `[` in it"),
        ("x:y { \"a }", "1:7 this string does not end = end it with `\"` on the same line; write `\\n` for a line end"),
        ("x:y { } /* ", "1:9 this comment does not end = end it with `*/`"),
        (
            "x:y { } }",
            "1:9 expected an attach point, found `}` = a clause is `ATTACH /predicate/ { body }`; the predicate can be left out",
        ),
        (
            "{ }",
            "1:1 expected an attach point, found `{` = a clause is `ATTACH /predicate/ { body }`; the predicate can be left out",
        ),
        (
            "#include <linux/fs.h>\nx:y { }",
            "1:1 there is no preprocessor = types and constants come from the running kernel: nothing needs to be included or defined",
        ),
        (
            "config = { a = 1 } x:y { }",
            "1:1 a program has no `config` block = sizes are said where they matter: `str(p, 256)`, `let @m = hash(10000);`; the rest are options of the command line",
        ),
        (
            "struct a { }",
            "1:1 a program can't define a type with `struct` = types come from the running kernel: cast to them, as in `(struct sock *)arg0`",
        ),
        ("macro m() { } x:y { }", "1:1 a program can't have a `macro` of its own = write it out in each body"),
        ("let $x = 1; x:y { }", "1:1 outside of the clauses only maps are declared = write `let @m = lruhash(10000);`"),
        ("x:y { $a = printf(\"\"); }", "1:12 `printf` is a statement and has no value = write `printf(...);` on its own"),
        (
            "x:y { printf(\"%d\\n\"); }",
            "1:14 the format has 1 conversion and gets 0 arguments = each `%` takes one argument; a percent sign itself is `%%`",
        ),
        (
            "x:y { printf(\"%y\", 1); }",
            "1:14 `%y` is no conversion = there are %d %u %x %X %o %c %p %s %r, with flags, a width and a precision; a percent sign itself is `%%`",
        ),
        ("x:y { printf(comm); }", "1:14 expected a string that is written out here = write it between double quotes"),
        ("x:y { printf(\"é\\q\"); }", "1:16 `\\q` is no escape = there are \\n \\t \\r \\\" \\\\ \\xNN \\NNN"),
        ("x:y { printf(\"%9999d\", 1); }", "1:14 a width of 9999 is too much = at most 1024"),
        ("x:y { clear(@a[1]); }", "1:13 `clear` is for a map = write `clear(@m)`; one element goes by `delete(@m[key])`"),
        ("x:y { print(@a, x); }", "1:17 expected a number that is written out here = write it as in `10`"),
        (
            "x:y { system(\"ls\"); }",
            "1:7 `system` is refused: programs can't read files or start commands = pipe the output to a program that does it",
        ),
        ("x:y { f($1); }", "1:9 the parameter $1 is `word`, which is no number = as text it is `str($1)`"),
        ("x:y { f($0); }", "1:9 there is no such parameter = parameters are `$1`, `$2` and so on; `$#` is how many were given"),
        ("x:y { clear(@); }", "1:13 `clear(@)`: no clause has this map = a clause fills it, as in `@[comm] = count();`"),
        ("x:y { @reads++; } x:z { print(@read); }", "1:31 `print(@read)`: no clause has this map = did you mean `@reads`?"),
        (
            "x:y { print(@a); clear(@a); }",
            "1:13 `print(@a)`: no clause has this map = a clause fills it, as in `@a[comm] = count();`",
        ),
        ("x:y { print(@a[1], 2); }", "1:20 only a whole map is printed with a limit and a divisor = write `print(@m, 10)`"),
    ] {
        check_error(program, expect);
    }
}

/// An error of the compiler is told at what was typed, with the names that were typed.
#[test]
fn errors_of_the_compiler() {
    let text = "// é\nBEGIN, x:y /pid == $1/ {\n  $a = $#; printf(\"%d\", nope + 1);\n}";
    let program = parse("FILE", text, &[]).unwrap();
    let check = |part: Part, wrong: &str, expect: &str| {
        let source = match part {
            Part::Attach(_) => &program.probes[0].attach.text,
            Part::When => &program.probes[0].when.as_ref().unwrap().text,
            _ => &program.probes[0].body.text,
        };
        let start = source.find(wrong).unwrap();
        let diagnostic = Diagnostic {
            probe: "begin".into(),
            part,
            source_text: source.clone(),
            span: start..start + wrong.len(),
            message: "wrong `__action0`".into(),
            help: None,
            missing: false,
        };
        let shown = program.error(&diagnostic).to_string();
        assert_eq!(shown.lines().skip(1).collect::<Vec<_>>().join("\n"), expect);
        assert_eq!(shown.lines().next(), Some("wrong `printf`"));
    };
    check(Part::Attach(0), "x:y", " --> FILE, line 2, column 8\n  |\n2 | BEGIN, x:y /pid == $1/ {\n  |        ^^^");
    check(Part::Attach(0), "begin", " --> FILE, line 2, column 1\n  |\n2 | BEGIN, x:y /pid == $1/ {\n  | ^^^^^");
    check(Part::When, "0", " --> FILE, line 2, column 20\n  |\n2 | BEGIN, x:y /pid == $1/ {\n  |                    ^^");
    let line = "\n  |\n3 |   $a = $#; printf(\"%d\", nope + 1);\n  |";
    check(Part::Body, "nope", &format!(" --> FILE, line 3, column 25{line}                         ^^^^"));
    check(Part::Body, "+ 1", &format!(" --> FILE, line 3, column 30{line}                              ^^^"));
    check(Part::Body, "__action0", &format!(" --> FILE, line 3, column 12{line}            ^^^^^^"));
}

/// No text makes the front end panic, however it is cut off.
#[test]
fn any_text() {
    let text = "#! x\nlet @a = hash(1); BEGIN,t:é:\"x\\\"\" /a / $1/ { printf(\"%-5s\\x41\", str($1), é); print((1,2),3); print(@a[b,c]); join(x); }";
    for start in (0..text.len()).filter(|i| text.is_char_boundary(*i)) {
        for end in (start..=text.len()).filter(|i| text.is_char_boundary(*i)) {
            if let Err(error) = parse("", &text[start..end], &[]) {
                let _ = error.to_string();
            }
        }
    }
}
