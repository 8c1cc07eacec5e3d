//! Rows in, text out.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::contract::{CellKind, Cells, TableColumn, TableValues, Unit};

/// A stream whose bytes the test keeps.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn printer(format: Format, plugins: usize) -> (Printer, Kept, Kept) {
    let (out, err) = (Kept::default(), Kept::default());
    (Printer::new(format, plugins, Level::Info, Box::new(out.clone()), Box::new(err.clone())), out, err)
}

fn table(name: &str, columns: &[(&str, CellKind, Unit)]) -> Table {
    let column = |&(name, kind, unit): &(&str, _, _)| TableColumn { name: name.into(), kind, unit };
    Table { name: name.into(), columns: columns.iter().map(column).collect() }
}

fn rows(time: &[u64], columns: Vec<(Cells, &[u8])>, strings: &[&str]) -> TableRows {
    let columns = columns.into_iter().map(|(cells, absent)| TableValues { cells, absent: absent.to_vec() }).collect();
    TableRows { time: time.to_vec(), columns, strings: strings.iter().map(ToString::to_string).collect() }
}

fn opens() -> Table {
    use CellKind::{S64, Text, U64};
    let columns = [
        ("pid", U64, Unit::None),
        ("comm", Text, Unit::None),
        ("latency", U64, Unit::Nanoseconds),
        ("ret", S64, Unit::None),
        ("path", Text, Unit::None),
    ];
    table("opens", &columns)
}

fn some_opens() -> TableRows {
    rows(
        &[1_000_001_500, 3_000_000_000],
        vec![
            (Cells::U64(vec![17, 4_194_304]), &[]),
            (Cells::Text(vec![0, 1]), &[]),
            (Cells::U64(vec![1_240_000, 850]), &[]),
            (Cells::S64(vec![3, -2]), &[]),
            (Cells::Text(vec![2, 3]), &[0b10]),
        ],
        &["cat", "a\x1b[31m", "/etc/passwd", ""],
    )
}

/// Every kind of cell as JSON, and each line is what a JSON reader makes of it.
#[test]
fn json_rows() {
    let (printer, out, err) = printer(Format::Json, 1);
    let all = table(
        "a\"b",
        &[
            ("u", CellKind::U64, Unit::Bytes),
            ("s", CellKind::S64, Unit::None),
            ("f", CellKind::F64, Unit::None),
            ("b", CellKind::Bool, Unit::None),
            ("t", CellKind::Text, Unit::None),
        ],
    );
    let some = rows(
        &[1, u64::MAX, 3],
        vec![
            (Cells::U64(vec![0, u64::MAX, 7]), &[0b100]),
            (Cells::S64(vec![i64::MIN, 0, 1]), &[]),
            (Cells::F64(vec![1.5, f64::NAN, -0.0]), &[]),
            (Cells::Bool(vec![true, false, true]), &[0b010]),
            (Cells::Text(vec![1, 0, 1]), &[]),
        ],
        &["x", "q\"\\\n\x1b\u{202e}\u{e0041}é漢"],
    );
    printer.rows("p", &all, &some).unwrap();
    let text = out.text();
    assert_eq!(
        text,
        concat!(
            r#"{"plugin":"p","table":"a\"b","time":1,"u":0,"s":-9223372036854775808,"f":1.5,"b":true,"t":"q\"\\\n\u001b\u202e\udb40\udc41é漢"}"#,
            "\n",
            r#"{"plugin":"p","table":"a\"b","time":18446744073709551615,"u":18446744073709551615,"s":0,"f":null,"b":null,"t":"x"}"#,
            "\n",
            r#"{"plugin":"p","table":"a\"b","time":3,"u":null,"s":1,"f":-0.0,"b":true,"t":"q\"\\\n\u001b\u202e\udb40\udc41é漢"}"#,
            "\n"
        )
    );
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["t"], "q\"\\\n\x1b\u{202e}\u{e0041}é漢");
    assert_eq!(err.text(), "");
}

/// Any character survives the way through a JSON string, and none that a terminal obeys is in it.
#[test]
fn json_strings_keep_every_character() {
    let all: String = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
    let mut written = Vec::new();
    json::string(&mut written, &all);
    let text = String::from_utf8(written).unwrap();
    assert!(!text.contains(clean::is_hidden));
    assert!(serde_json::from_str::<String>(&text).unwrap() == all);
}

/// With JSON, standard output carries rows alone.
#[test]
fn json_keeps_lines_apart() {
    let (printer, out, err) = printer(Format::Json, 2);
    printer.line("p", "two\nlines \x1b[2J").unwrap();
    printer.log("p", Level::Warn, "careful");
    printer.log("p", Level::Debug, "unseen");
    assert_eq!(out.text(), "");
    assert_eq!(err.text(), "p: two\np: lines \\x1b[2J\np: warning: careful\n");
}

/// A table for people: units, alignment, absent cells, visible control characters, times from the opening on.
#[test]
fn tables() {
    let (printer, out, _) = printer(Format::Table, 1);
    printer.opened(1_000_000_000);
    printer.rows("opens", &opens(), &some_opens()).unwrap();
    assert_eq!(
        out.text(),
        "\
── opens: opens ──
       TIME      PID  COMM       LATENCY  RET  PATH
   0.000001       17  cat         1.24ms    3  /etc/passwd
   2.000000  4194304  a\\x1b[31m    850ns   -2  -
"
    );
}

/// Rows of several tables are told apart: each switch has its header, rows of the same table go on without.
#[test]
fn tables_interleave() {
    let (printer, out, _) = printer(Format::Table, 2);
    let flags = table(
        "flags",
        &[
            ("ok", CellKind::Bool, Unit::None),
            ("at", CellKind::U64, Unit::Address),
            ("mean", CellKind::F64, Unit::None),
            ("size", CellKind::S64, Unit::Bytes),
        ],
    );
    let one = || {
        rows(
            &[2_000_000],
            vec![
                (Cells::Bool(vec![true]), &[]),
                (Cells::U64(vec![255]), &[]),
                (Cells::F64(vec![0.25]), &[]),
                (Cells::S64(vec![-1536]), &[]),
            ],
            &[],
        )
    };
    printer.rows("a", &flags, &one()).unwrap();
    printer.rows("a", &flags, &one()).unwrap();
    printer.rows("b", &flags, &one()).unwrap();
    printer.rows("b", &flags, &rows(&[], vec![], &[])).unwrap();
    printer.line("b", "said\u{202e}").unwrap();
    printer.rows("b", &flags, &one()).unwrap();
    assert_eq!(
        out.text(),
        "\
── a: flags ──
       TIME   OK    AT  MEAN     SIZE
   0.002000  yes  0xff  0.25  -1.5KiB
   0.002000  yes  0xff  0.25  -1.5KiB

── b: flags ──
       TIME   OK    AT  MEAN     SIZE
   0.002000  yes  0xff  0.25  -1.5KiB
b: said\\u{202e}

── b: flags ──
       TIME   OK    AT  MEAN     SIZE
   0.002000  yes  0xff  0.25  -1.5KiB
"
    );
}

/// A header that no longer fits is printed anew, but not for every wider row.
#[test]
fn headers_follow_widths() {
    let (printer, out, _) = printer(Format::Table, 1);
    let numbers = table("n", &[("n", CellKind::U64, Unit::None)]);
    for n in 0..60u32 {
        printer.rows("p", &numbers, &rows(&[0], vec![(Cells::U64(vec![10u64.pow(n / 4)]), &[])], &[])).unwrap();
    }
    assert_eq!(out.text().lines().filter(|line| line.contains("TIME")).count(), 3);
}

/// Rows that lack what their table declares are shown without it, and nothing panics.
#[test]
fn short_columns_are_absent() {
    let broken = || rows(&[1, 2], vec![(Cells::U64(vec![5]), &[]), (Cells::Text(vec![9, 9]), &[])], &[]);
    for (format, expect) in [
        (Format::Json, r#"{"plugin":"p","table":"opens","time":2,"pid":null,"comm":null}"#),
        (Format::Table, "   0.000000    -  -           -    -  -"),
    ] {
        let (printer, out, _) = printer(format, 1);
        printer.rows("p", &opens(), &broken()).unwrap();
        assert_eq!(out.text().lines().last().unwrap(), expect);
    }
}

/// A reader that leaves is an error, once and ever after.
#[test]
fn a_broken_pipe_is_an_error() {
    for format in [Format::Json, Format::Table] {
        let (read, write) = io::pipe().unwrap();
        drop(read);
        let printer = Printer::new(format, 1, Level::Info, Box::new(write), Box::new(io::sink()));
        for _ in 0..2 {
            let error = printer.rows("p", &opens(), &some_opens()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}

/// The last value of each metric is kept, by plugin.
#[test]
fn metrics_are_kept() {
    let (printer, ..) = printer(Format::Table, 1);
    for (name, value) in [("b", 1.0), ("a", 2.0), ("b", 0.5)] {
        printer.metric("p", name, value);
    }
    assert_eq!(printer.metrics("p"), [("a".into(), 2.0), ("b".into(), 0.5)]);
    assert_eq!(printer.metrics("q"), []);
}

/// What a row costs as JSON: `cargo test --release -p portcullis --lib -- --ignored --nocapture json_costs`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn json_costs() {
    let n = 4096u64;
    let (comms, files) = (["cat", "systemd-journal"].map(String::from), (0..64).map(|i| format!("/proc/{i}/status")));
    let strings: Vec<String> = comms.into_iter().chain(files).collect();
    let batch = rows(
        &(0..n).map(|i| 1_234_567_890_123 + i * 1000).collect::<Vec<_>>(),
        vec![
            (Cells::U64((0..n).map(|i| 1000 + i).collect()), &[]),
            (Cells::Text((0..n as u32).map(|i| i & 1).collect()), &[]),
            (Cells::U64((0..n).map(|i| 12_345 + i).collect()), &[]),
            (Cells::S64((0..n as i64).map(|i| i - 2048).collect()), &[]),
            (Cells::Text((0..n as u32).map(|i| 2 + (i & 63)).collect()), &[]),
        ],
        &strings.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let printer = Printer::new(Format::Json, 1, Level::Info, Box::new(io::sink()), Box::new(io::sink()));
    let start = std::time::Instant::now();
    let rounds = 500;
    for _ in 0..rounds {
        printer.rows("opens", &opens(), &batch).unwrap();
    }
    println!("{:.0} ns a row", start.elapsed().as_nanos() as f64 / (rounds * n) as f64);
}

/// Text of what terminals obey, of what JSON and tables are made of, and of any other character, from a seed.
fn nasty(seed: &mut u64) -> String {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as u32
    };
    let pieces = [
        "\x1b[2J",
        "\x1b]0;x\x07",
        "\r",
        "\n",
        "\t",
        "\0",
        "\u{9b}31m",
        "\u{202e}",
        "\u{2066}",
        "\u{feff}",
        "\u{e0041}",
        "\"",
        "\\",
        "\x7f",
        "é",
        "漢",
    ];
    let length = next() % 12;
    let piece = |number: u32| match number % 3 {
        0 => char::from_u32(number / 3 % 0x11_0000).unwrap_or('x').to_string(),
        1 => char::from((number / 3 % 0x80) as u8).to_string(),
        _ => pieces[number as usize / 3 % pieces.len()].to_owned(),
    };
    (0..length).map(|_| piece(next())).collect()
}

/// Whatever plugins, traced processes and files are called or say: by no way does a terminal get what it would obey, and JSON stays
/// JSON of the same values.
#[test]
fn nothing_hidden_reaches_the_terminal() {
    use crate::report::{Command, Missing, Plugin, Report, State, Stream};
    let mut seed = 1;
    let shown = |text: &str| text.chars().find(|&c| clean::is_hidden(c) && c != '\n' && c != '\t');
    for _ in 0..2000 {
        let mut text = || nasty(&mut seed);
        let strings = [text(), text()];
        let some = rows(&[1, 2], vec![(Cells::Text(vec![0, 1]), &[])], &[&strings[0], &strings[1]]);
        // Names are checked long before; here nothing relies on it.
        let (name, column, table_name) = (text(), text(), text());
        let all = table(&table_name, &[(&column, CellKind::Text, Unit::None)]);
        for format in [Format::Json, Format::Table] {
            let (printer, out, err) = printer(format, 2);
            printer.rows(&name, &all, &some).unwrap();
            if format == Format::Json {
                for (line, value) in out.text().lines().zip(&strings) {
                    let row: serde_json::Value = serde_json::from_str(line).unwrap();
                    // A column of a name that every row has is refused where tables are declared.
                    assert!(["plugin", "table", "time"].contains(&column.as_str()) || row[&column] == **value, "{line}");
                }
            }
            printer.line("p", &text()).unwrap();
            printer.log("p", Level::Error, &text());
            printer.message(&text());
            for text in [out.text(), err.text()] {
                assert_eq!(shown(&text), None, "{text:?}");
            }
        }
        let report = Report {
            command: Some(Command { argv: vec![text()], status: Some("exited with 0".into()) }),
            plugins: vec![Plugin {
                name: text(),
                state: State::Failed(text()),
                streams: vec![Stream { name: text(), ..Stream::default() }],
                missing: vec![Missing { probe: text(), reason: text() }],
                metrics: vec![(text(), 1.0)],
                ..Plugin::default()
            }],
            ..Report::default()
        };
        let (printer, _, err) = printer(Format::Table, 1);
        printer.message(&report.to_text());
        printer.message(&report.to_brief_text());
        assert_eq!(shown(&err.text()), None);
        let json = format!("{:#}", report.to_json());
        let json = clean::json(&json);
        assert_eq!(shown(&json), None);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), report.to_json());
        let error = anyhow::anyhow!(text()).context(text());
        assert_eq!(shown(&crate::cli::describe(&error)), None);
    }
}
