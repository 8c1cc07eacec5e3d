//! Formats and maps in, text out.

use super::*;

fn conversion(kind: &str) -> Conversion {
    Conversion { kind: kind.into(), ..Conversion::default() }
}

#[track_caller]
fn check_printf(conversion: Conversion, value: Cell, expect: &str) {
    let mut out = String::new();
    printf(&mut out, &[Piece::Field(conversion)], std::iter::once(value), Clock::default());
    assert_eq!(out, expect);
}

/// Numbers, texts and bytes in each conversion, as C's printf has them.
#[test]
fn conversions() {
    let with = |kind: &str, change: fn(&mut Conversion)| {
        let mut conversion = conversion(kind);
        change(&mut conversion);
        conversion
    };
    check_printf(conversion("d"), Cell::S64(-5), "-5");
    check_printf(conversion("d"), Cell::U64(u64::MAX), "-1");
    check_printf(conversion("d"), Cell::S64(i64::MIN), "-9223372036854775808");
    check_printf(conversion("u"), Cell::S64(-1), "18446744073709551615");
    check_printf(conversion("x"), Cell::U64(255), "ff");
    check_printf(conversion("X"), Cell::U64(255), "FF");
    check_printf(conversion("o"), Cell::U64(8), "10");
    check_printf(conversion("p"), Cell::U64(0), "0x0");
    check_printf(conversion("c"), Cell::U64(65), "A");
    check_printf(conversion("s"), Cell::U64(7), "7");
    check_printf(conversion("s"), Cell::Text("a".into()), "a");
    check_printf(conversion("s"), Cell::Absent, "");
    check_printf(conversion("d"), Cell::Absent, "0");
    check_printf(conversion("s"), Cell::Stack(vec!["f+1".into(), "g+2".into()]), "\n    f+1\n    g+2\n");
    check_printf(conversion("r"), Cell::Bytes(b"a\\\0 ".into()), "a\\x5c\\x00 ");
    check_printf(conversion("rx"), Cell::Bytes(vec![1, 255]), "01 ff");
    check_printf(conversion("rh"), Cell::Bytes(vec![1, 255]), "01ff");
    check_printf(with("d", |c| c.width = 5), Cell::S64(-7), "   -7");
    check_printf(with("d", |c| (c.width, c.zero) = (5, true)), Cell::S64(-7), "-0007");
    check_printf(with("d", |c| (c.width, c.left) = (5, true)), Cell::S64(7), "7    ");
    check_printf(with("d", |c| c.plus = true), Cell::U64(7), "+7");
    check_printf(with("x", |c| (c.width, c.zero, c.prefix) = (8, true, true)), Cell::U64(255), "0x0000ff");
    check_printf(with("d", |c| c.precision = Some(3)), Cell::U64(7), "007");
    check_printf(with("s", |c| (c.width, c.precision) = (5, Some(2))), Cell::Text("äbc".into()), "   äb");
    check_printf(with("s", |c| (c.width, c.left) = (4, true)), Cell::Text("ab".into()), "ab  ");
    check_printf(with("s", |c| c.time = Some("%T".into())), Cell::U64(3_661_000_000_000), "01:01:01");
}

/// Values, tuples, elements, lists of texts.
#[test]
fn values() {
    let text = |text: &str| Cell::Text(text.into());
    assert_eq!(value(None, 0, false, &[text("a")]), "a\n");
    assert_eq!(value(None, 0, true, &[text("a"), Cell::U64(1)]), "(a, 1)\n");
    assert_eq!(value(Some("@m"), 2, false, &[Cell::U64(1), text("k"), Cell::S64(-3)]), "@m[1, k]: -3\n");
    assert_eq!(value(Some("@m"), 9, false, &[Cell::U64(1)]), "@m[1]: \n");
    assert_eq!(join(" ", [text("ls"), text(""), text("-l"), Cell::Absent, text("x")].into_iter()), "ls  -l\n");
    assert_eq!(join(" ", std::iter::empty()), "\n");
}

/// A conversion that can't show a field says which can.
#[test]
fn unfit_conversions() {
    for (kind, field, expect) in [
        ("d", Kind::Number, None),
        ("s", Kind::Stack, None),
        ("s", Kind::Number, None),
        ("r", Kind::Text, None),
        ("d", Kind::Text, Some("`%d` is for a number, and this is text; use %s")),
        ("x", Kind::Bytes, Some("`%x` is for a number, and this is bytes; use %r")),
        ("r", Kind::Number, Some("`%r` is for bytes, and this is a number; use %d")),
    ] {
        assert_eq!(unfit(&conversion(kind), field).as_deref(), expect);
    }
}

/// Times as GNU date shows them.
#[test]
fn times() {
    let check = |seconds: u64, utc_offset, format, expect| {
        let clock = Clock { realtime_offset: 1_000_000_000, utc_offset };
        assert_eq!(time(format, (seconds - 1) * 1_000_000_000 + 123_456_789, clock), expect);
    };
    check(1, 0, "%F %T.%f %s", "1970-01-01 00:00:01.123456 1");
    check(951_782_400, 0, "%A %d %B %Y %j", "Tuesday 29 February 2000 060");
    check(951_782_400, 3600, "%H:%M %z", "01:00 +0100");
    check(951_782_400, -5400, "%F %R %z", "2000-02-28 22:30 -0130");
    check(1_735_689_599, 0, "%D %I %p %a %b %e %j%%", "12/31/24 11 PM Tue Dec 31 366%");
    check(4_107_542_400, 0, "%F%n%q%", "2100-03-01\n%q%");
}

fn element(keys: &[Cell], values: &[i64]) -> Element {
    Element { keys: keys.to_vec(), values: values.iter().map(|n| Cell::S64(*n)).collect() }
}

#[track_caller]
fn check_map(content: Content, elements: Vec<Element>, top: Option<u64>, div: Option<u64>, expect: &str) {
    let mut map = Map { name: "@m".into(), content, elements };
    map.sort(top);
    if let Some(div) = div {
        map.divide(div);
    }
    assert_eq!(map.show(), expect);
}

/// Maps of numbers: sorted by value, the largest last; a limit takes the largest; values are divided.
#[test]
fn maps_of_numbers() {
    let text = |text: &str| Cell::Text(text.into());
    let counts = || vec![element(&[text("b")], &[2500]), element(&[text("c")], &[-1]), element(&[text("a")], &[2500])];
    check_map(Content::Count, counts(), None, None, "@m[c]: -1\n@m[a]: 2500\n@m[b]: 2500\n\n");
    check_map(Content::Sum, counts(), Some(2), Some(1000), "@m[a]: 2\n@m[b]: 2\n\n");
    check_map(Content::Count, vec![element(&[], &[7])], None, None, "@m: 7\n");
    check_map(Content::Count, vec![element(&[Cell::U64(1), text("x")], &[7])], Some(0), None, "");
    check_map(Content::Count, vec![element(&[Cell::U64(1), text("x")], &[7])], None, None, "@m[1, x]: 7\n\n");
    check_map(Content::Avg, vec![element(&[], &[3, 10, 31])], None, None, "@m: 10\n");
    check_map(Content::Stats, vec![element(&[], &[3, 10, 31])], None, None, "@m: count 3, average 10, total 31\n");
    let value = vec![Element { keys: vec![Cell::U64(2)], values: vec![text("t")] }];
    check_map(Content::Value, value, None, None, "@m[2]: t\n\n");
    let stack = vec![element(&[Cell::Stack(vec!["f+1".into()]), text("sh")], &[2])];
    check_map(Content::Count, stack, None, None, "@m[\n    f+1\n, sh]: 2\n\n");
    check_map(Content::Count, Vec::new(), None, None, "");
}

/// A map without keys is there always, and empty until something was added.
#[test]
fn empty_maps() {
    let map = |content, elements| Map { name: "@m".into(), content, elements };
    assert!(map(Content::Value, vec![]).is_empty());
    assert!(map(Content::Count, vec![element(&[], &[0])]).is_empty());
    assert!(!map(Content::Count, vec![element(&[], &[1])]).is_empty());
    assert!(!map(Content::Value, vec![element(&[], &[0])]).is_empty());
    assert!(map(Content::Value, vec![element(&[], &[0])]).is_zero());
    assert!(!map(Content::Value, vec![element(&[], &[-1])]).is_zero());
    assert!(!map(Content::Value, vec![element(&[Cell::U64(0)], &[0])]).is_zero());
    assert!(!map(Content::Count, vec![element(&[Cell::U64(1)], &[0])]).is_empty());
}

/// Histograms by powers of two, with the empty buckets between others, as bpftrace draws them.
#[test]
fn histograms() {
    let buckets = |list: &[(i64, i64, i64)]| list.iter().map(|(a, b, n)| element(&[], &[*a, *b, *n])).collect::<Vec<_>>();
    check_map(
        Content::Hist,
        buckets(&[(i64::MIN, 0, 1), (1, 2, 4), (4, 8, 2), (2048, 4096, 1)]),
        None,
        None,
        "@m: 
(..., 0)               1 |@@@@@@@@@@@@@                                       |
[0]                    0 |                                                    |
[1]                    4 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[2, 4)                 0 |                                                    |
[4, 8)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[8, 16)                0 |                                                    |
[16, 32)               0 |                                                    |
[32, 64)               0 |                                                    |
[64, 128)              0 |                                                    |
[128, 256)             0 |                                                    |
[256, 512)             0 |                                                    |
[512, 1K)              0 |                                                    |
[1K, 2K)               0 |                                                    |
[2K, 4K)               1 |@@@@@@@@@@@@@                                       |

",
    );
    // Each power parted into two.
    check_map(
        Content::Hist,
        buckets(&[(3, 4, 1), (8, 12, 1)]),
        None,
        None,
        "@m: 
[3]                    1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[4, 6)                 0 |                                                    |
[6, 8)                 0 |                                                    |
[8, 12)                1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

",
    );
    check_map(
        Content::LinearHist,
        buckets(&[(i64::MIN, 0, 1), (200, 400, 2), (1000, i64::MAX, 10)]),
        None,
        Some(1),
        "@m: 
(..., 0)               1 |@@@@@                                               |
[0, 200)               0 |                                                    |
[200, 400)             2 |@@@@@@@@@@                                          |
[400, 600)             0 |                                                    |
[600, 800)             0 |                                                    |
[800, 1000)            0 |                                                    |
[1000, ...)           10 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

",
    );
}

/// Of histograms with keys, the one with most events is last; their rows may come in any order.
#[test]
fn histograms_by_key() {
    let row = |key: u64, from: i64, to: i64, count: i64| element(&[Cell::U64(key)], &[from, to, count]);
    let rows = vec![row(1, 4, 8, 5), row(2, 1, 2, 1), row(1, 2, 4, 5)];
    let bar = "@".repeat(52);
    let one = format!("@m[2]: \n[1]                    1 |{bar}|\n\n");
    let two = format!("@m[1]: \n[2, 4)                 5 |{bar}|\n[4, 8)                 5 |{bar}|\n\n");
    check_map(Content::Hist, rows.clone(), None, None, &format!("{one}{two}"));
    check_map(Content::Hist, rows, Some(1), None, &two);
}

/// A time series has a line for each interval.
#[test]
fn time_series() {
    let rows = vec![element(&[], &[3_500_000_000, 9]), element(&[], &[1_500_000_000, 4])];
    check_map(Content::TimeSeries, rows, None, None, "@m: \n+0.000s 4\n+2.000s 9\n\n");
}
