//! Maps as bpftrace prints them: sorted by value, histograms drawn.

use std::fmt::Write;

use crate::{Cell, text};

/// What a map's values are. Each has values of its own: see [`Element::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Something that was assigned.
    Value,
    /// A number of times.
    Count,
    /// A sum.
    Sum,
    /// An average.
    Avg,
    /// Count, average and total.
    Stats,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// A histogram by powers of two.
    Hist,
    /// A histogram of even steps.
    LinearHist,
    /// Values over time.
    TimeSeries,
}

/// A map, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// With the `@`.
    pub name: String,
    /// What its values are.
    pub content: Content,
    /// Its elements, those of one key together where it has buckets.
    pub elements: Vec<Element>,
}

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its keys; none of a map without.
    pub keys: Vec<Cell>,
    /// One value, but of `Avg` and `Stats` count, average and total; of histograms from, to and count of one bucket; of a time
    /// series the interval's begin and what was kept.
    pub values: Vec<Cell>,
}

/// The widest bar, in characters, as in bpftrace.
const BAR: usize = 52;

/// More rows than this between two buckets are not drawn: it is more than any histogram of the language has.
const MOST_ROWS: usize = 1024;

impl Map {
    /// It is a histogram or a time series: its elements are buckets.
    fn has_buckets(&self) -> bool {
        matches!(self.content, Content::Hist | Content::LinearHist | Content::TimeSeries)
    }

    /// Elements by key, each key once, in the order of their first.
    fn groups(&self) -> Vec<&[Element]> {
        if self.has_buckets() {
            self.elements.chunk_by(|a, b| a.keys == b.keys).collect()
        } else {
            self.elements.chunks(1).collect()
        }
    }

    /// Sorts by key and value: the largest value is last, as it is printed; and of all keys leaves those with the `top` largest.
    pub fn sort(&mut self, top: Option<u64>) {
        self.elements.sort_by_cached_key(|element| element.keys.iter().map(order).collect::<Vec<_>>());
        if self.has_buckets() {
            // The buckets of a key stay in their order.
            self.elements.chunk_by_mut(|a, b| a.keys == b.keys).for_each(|group| group.sort_by_key(|e| whole(&e.values, 0)));
        }
        let buckets = self.has_buckets();
        let mut groups: Vec<Vec<Element>> = Vec::new();
        for element in std::mem::take(&mut self.elements) {
            match groups.last_mut().filter(|group| buckets && group.first().is_some_and(|first| first.keys == element.keys)) {
                Some(group) => group.push(element),
                None => groups.push(vec![element]),
            }
        }
        groups.sort_by_cached_key(|group| self.rank(group));
        let left = top.map_or(0, |top| groups.len().saturating_sub(usize::try_from(top).unwrap_or(usize::MAX)));
        self.elements = groups.into_iter().skip(left).flatten().collect();
    }

    /// What keys are sorted by.
    fn rank(&self, group: &[Element]) -> (i128, String) {
        let first = group.first().map_or(&[][..], |element| element.values.as_slice());
        match self.content {
            Content::Hist | Content::LinearHist => (group.iter().map(|bucket| whole(&bucket.values, 2)).sum(), String::new()),
            Content::Avg | Content::Stats => (whole(first, 1), String::new()),
            Content::TimeSeries => (0, String::new()),
            _ => match first.first() {
                Some(Cell::Text(text)) => (0, text.clone()),
                _ => (whole(first, 0), String::new()),
            },
        }
    }

    /// Divides what was counted or measured, not how often.
    pub fn divide(&mut self, by: u64) {
        let divided = match self.content {
            Content::Hist | Content::LinearHist => 2..3,
            Content::Avg | Content::Stats => 1..3,
            Content::TimeSeries => 1..usize::MAX,
            _ => 0..1,
        };
        for element in &mut self.elements {
            for value in element.values.iter_mut().take(divided.end).skip(divided.start) {
                match value {
                    Cell::U64(n) => *n /= by.max(1),
                    Cell::S64(n) => *n = i64::try_from(i128::from(*n) / i128::from(by.max(1))).unwrap_or_default(),
                    _ => {}
                }
            }
        }
    }

    /// There is nothing to print: no element, or one without a key to which nothing was ever added.
    pub fn is_empty(&self) -> bool {
        let counts = matches!(self.content, Content::Count | Content::Sum | Content::Avg | Content::Stats);
        self.elements.iter().all(|e| counts && e.keys.is_empty() && whole(&e.values, 0) == 0)
    }

    /// It is without keys, and its value is what it is from the beginning: 0, or an empty text.
    pub fn is_zero(&self) -> bool {
        let zero = |cell: &Cell| match cell {
            Cell::U64(n) => *n == 0,
            Cell::S64(n) => *n == 0,
            Cell::Text(text) => text.is_empty(),
            Cell::Bytes(bytes) => bytes.iter().all(|byte| *byte == 0),
            Cell::Stack(frames) => frames.is_empty(),
            Cell::Absent => true,
        };
        self.elements.iter().all(|e| e.keys.is_empty() && e.values.iter().all(zero))
    }

    /// The text, in the order that [`Map::sort`] made.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for group in self.groups() {
            let Some(first) = group.first() else { continue };
            out.push_str(&head(&self.name, &first.keys));
            match self.content {
                Content::Hist => bars(&mut out, &buckets(group), next_of_powers(group), false),
                Content::LinearHist => bars(&mut out, &buckets(group), next_of_steps(group), true),
                Content::TimeSeries => series(&mut out, group),
                Content::Stats => {
                    let number = |position| whole(&first.values, position);
                    let (count, average, total) = (number(0), number(1), number(2));
                    out.push_str(&format!("count {count}, average {average}, total {total}\n"));
                }
                Content::Avg => out.push_str(&format!("{}\n", whole(&first.values, 1))),
                _ => {
                    out.push_str(&text(first.values.first().unwrap_or(&Cell::Absent)));
                    out.push('\n');
                }
            }
            if self.has_buckets() {
                out.push('\n');
            }
        }
        // A list stands apart from what follows.
        if !self.has_buckets() && self.elements.first().is_some_and(|element| !element.keys.is_empty()) {
            out.push('\n');
        }
        out
    }
}

/// `@m[key, key]: `
pub(crate) fn head(name: &str, keys: &[Cell]) -> String {
    if keys.is_empty() {
        return format!("{name}: ");
    }
    let keys: Vec<String> = keys.iter().map(text).collect();
    format!("{name}[{}]: ", keys.join(", "))
}

/// A number among values; what is none is 0.
fn whole(values: &[Cell], position: usize) -> i128 {
    match values.get(position) {
        Some(Cell::U64(n)) => i128::from(*n),
        Some(Cell::S64(n)) => i128::from(*n),
        _ => 0,
    }
}

/// For sorting keys: numbers before texts.
fn order(key: &Cell) -> (i128, String) {
    match key {
        Cell::U64(_) | Cell::S64(_) => (whole(std::slice::from_ref(key), 0), String::new()),
        other => (i128::MAX, text(other)),
    }
}

/// A histogram's bucket: where it begins and ends, and how often.
type Bucket = (i128, i128, i128);

fn buckets(group: &[Element]) -> Vec<Bucket> {
    group.iter().map(|Element { values, .. }| (whole(values, 0), whole(values, 1), whole(values, 2))).collect()
}

const BELOW: i128 = i64::MIN as i128;
const ABOVE: i128 = i64::MAX as i128;

/// Where the bucket that begins at a number ends, by the widths of those that are there: each power of two has as many.
fn next_of_powers(group: &[Element]) -> impl Fn(i128) -> i128 {
    // The widest bucket tells into how many a power is parted; if all are of one number, so are those between them.
    let wide =
        group.iter().rev().map(|e| (whole(&e.values, 0), whole(&e.values, 1))).find(|(from, to)| *from > 0 && to - from > 1);
    let parts = wide.filter(|(_, to)| *to != ABOVE).map(|(from, to)| (1_i128 << from.ilog2()) / (to - from));
    let all_single = wide.is_none() && group.len() > 2;
    move |from| {
        if from <= 0 {
            return from + 1;
        }
        let power = 1_i128 << from.ilog2();
        match parts {
            Some(parts) => from + (power / parts.max(1)).max(1),
            None if all_single => from + 1,
            None => from + power,
        }
    }
}

fn next_of_steps(group: &[Element]) -> impl Fn(i128) -> i128 {
    let inner =
        group.iter().map(|e| (whole(&e.values, 0), whole(&e.values, 1))).find(|(from, to)| *from != BELOW && *to != ABOVE);
    let step = inner.map_or(i128::MAX >> 1, |(from, to)| (to - from).max(1));
    move |from| from + step
}

/// The bars, also of the empty buckets between those that are there.
fn bars(out: &mut String, buckets: &[Bucket], next: impl Fn(i128) -> i128, linear: bool) {
    out.push('\n');
    let most = buckets.iter().map(|(_, _, count)| *count).max().unwrap_or(0).max(1);
    let mut line = |from: i128, to: i128, count: i128| {
        let bar = usize::try_from(count * BAR as i128 / most).unwrap_or_default().min(BAR);
        // Writing to a String does not fail.
        let _ = writeln!(out, "{:<16}{count:>8} |{:<BAR$}|", label(from, to, linear), "@".repeat(bar));
    };
    let mut end: Option<i128> = None;
    for (from, to, count) in buckets {
        let mut rows = 0;
        while let Some(at) = end.filter(|end| end < from && rows < MOST_ROWS) {
            let to = next(at).min(*from);
            line(at, to, 0);
            end = Some(to);
            rows += 1;
        }
        line(*from, *to, *count);
        end = Some(*to);
    }
}

/// `[4K, 8K)`
fn label(from: i128, to: i128, linear: bool) -> String {
    let unit = |n: i128| {
        let mut n = n;
        let mut units = ["", "K", "M", "G", "T", "P", "E"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        while n != 0 && n % 1024 == 0 {
            let Some(larger) = units.next() else { break };
            (n, unit) = (n / 1024, larger);
        }
        format!("{n}{unit}")
    };
    match (from, to) {
        (BELOW, to) => format!("(..., {})", unit(to)),
        (from, ABOVE) => format!("[{}, ...)", unit(from)),
        (from, to) if !linear && to - from == 1 => format!("[{from}]"),
        (from, to) => format!("[{}, {})", unit(from), unit(to)),
    }
}

/// A line for each interval: how many seconds after the first it begins, and what was kept.
fn series(out: &mut String, group: &[Element]) {
    let begin = group.first().map_or(0, |element| whole(&element.values, 0));
    out.push('\n');
    for Element { values, .. } in group {
        let after = (whole(values, 0) - begin) / 1_000_000;
        let kept: Vec<String> = values.iter().skip(1).map(text).collect();
        out.push_str(&format!("+{}.{:03}s {}\n", after / 1000, after % 1000, kept.join(", ")));
    }
}
