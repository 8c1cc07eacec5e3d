//! Aggregations: what the words of a map's value mean, how those of several CPUs become one, and the edges of buckets.
//!
//! Programs only ever add to a word, or raise it; a new element is all zero. So no update is lost, whoever comes first.

/// The names of the aggregations, as the language spells them: those of [`Content::name`].
pub const NAMES: [&str; 9] = ["count", "sum", "min", "max", "avg", "stats", "hist", "lhist", "tseries"];

/// What a map's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A value that is assigned: `@m = x`.
    Value,
    /// One word: how often.
    Count,
    /// One word: the sum.
    Sum,
    /// Two words: how often, and the sum.
    Avg,
    /// Two words as [`Content::Avg`]: count, average and total are shown.
    Stats,
    /// One word, [`encode_min`] of the smallest value.
    Min,
    /// One word, [`encode_max`] of the largest value.
    Max,
    /// One word for each bucket: how often. Buckets by powers of two, each parted into 2^`bits`; see [`log2_bucket`].
    Hist {
        /// 0 to 5.
        bits: u8,
    },
    /// One word for each bucket: how often. Bucket 0 is below `min`, the last is from `max` on; see [`linear_bucket`].
    LinearHist {
        /// The lower edge of bucket 1.
        min: i64,
        /// The lower edge of the last bucket.
        max: i64,
        /// The width of a bucket, above 0.
        step: i64,
    },
    /// `buckets` intervals of time, a ring: bucket *i* has the latest interval whose number modulo `buckets` is *i*. Words: the
    /// number of the interval (CLOCK_MONOTONIC / `interval`) plus 1, or 0 for an empty one; then those of `of`.
    TimeSeries {
        /// In ns.
        interval: u64,
        /// How many are kept.
        buckets: u32,
        /// What is kept of each.
        of: SeriesOf,
    },
}

/// What a time series keeps of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeriesOf {
    /// Two words: the time of the last value, and the value.
    Last,
    /// As [`Content::Sum`].
    Sum,
    /// As [`Content::Avg`].
    Avg,
    /// As [`Content::Min`].
    Min,
    /// As [`Content::Max`].
    Max,
}

impl Content {
    /// As the language spells it; empty for an assigned value.
    pub fn name(self) -> &'static str {
        match self {
            Content::Value => "",
            Content::Count => "count",
            Content::Sum => "sum",
            Content::Avg => "avg",
            Content::Stats => "stats",
            Content::Min => "min",
            Content::Max => "max",
            Content::Hist { .. } => "hist",
            Content::LinearHist { .. } => "lhist",
            Content::TimeSeries { .. } => "tseries",
        }
    }

    /// How many 8-byte words a value has; 0 for an assigned one, whose size its type says.
    pub fn words(self) -> u32 {
        match self {
            Content::Value => 0,
            Content::Count | Content::Sum | Content::Min | Content::Max | Content::Hist { .. } | Content::LinearHist { .. } => 1,
            Content::Avg | Content::Stats => 2,
            Content::TimeSeries { of, .. } => match of {
                SeriesOf::Last | SeriesOf::Avg => 3,
                SeriesOf::Sum | SeriesOf::Min | SeriesOf::Max => 2,
            },
        }
    }

    /// How many buckets there are for each key; `None` for what has no buckets.
    pub fn buckets(self) -> Option<u32> {
        match self {
            Content::Hist { bits } => Some(log2_buckets(bits)),
            Content::LinearHist { min, max, step } => {
                let width = max.abs_diff(min);
                Some(u32::try_from(width.div_ceil(step.unsigned_abs().max(1))).unwrap_or(u32::MAX).saturating_add(2))
            }
            Content::TimeSeries { buckets, .. } => Some(buckets),
            _ => None,
        }
    }

    /// Takes the words of one more CPU, or of a time series' same interval, into those that were gathered.
    pub fn merge(self, into: &mut [u64], words: &[u64]) {
        match self {
            Content::Min | Content::Max => merge_by(into, words, u64::max),
            Content::TimeSeries { of, .. } => {
                let (Some(&mut ours), Some(&theirs)) = (into.first_mut(), words.first()) else { return };
                if theirs > ours {
                    into.copy_from_slice(words);
                } else if theirs == ours && theirs != 0 {
                    let (into, words) = (&mut into[1..], &words[1..]);
                    match of {
                        SeriesOf::Sum | SeriesOf::Avg => merge_by(into, words, u64::wrapping_add),
                        SeriesOf::Min | SeriesOf::Max => merge_by(into, words, u64::max),
                        SeriesOf::Last => {
                            if words.first() > into.first() {
                                into.copy_from_slice(words);
                            }
                        }
                    }
                }
            }
            _ => merge_by(into, words, u64::wrapping_add),
        }
    }
}

fn merge_by(into: &mut [u64], words: &[u64], how: fn(u64, u64) -> u64) {
    for (into, word) in into.iter_mut().zip(words) {
        *into = how(*into, *word);
    }
}

/// The word of a largest value: 0 is below all.
pub fn encode_max(value: u64, signed: bool) -> u64 {
    if signed { value ^ 1 << 63 } else { value }
}

/// The word of a smallest value: the smaller, the larger.
pub fn encode_min(value: u64, signed: bool) -> u64 {
    !encode_max(value, signed)
}

/// The value of a word made by [`encode_max`].
pub fn decode_max(word: u64, signed: bool) -> u64 {
    encode_max(word, signed)
}

/// The value of a word made by [`encode_min`].
pub fn decode_min(word: u64, signed: bool) -> u64 {
    encode_max(!word, signed)
}

/// The number of buckets of a histogram by powers of two.
pub fn log2_buckets(bits: u8) -> u32 {
    // Values have 63 bits at most; bucket 0 is for those below 0.
    log2_bucket(i64::MAX, bits) + 1
}

/// The bucket of a value: 0 for one below 0, then one for each of 0 to 2^`bits` - 1, then 2^`bits` for each power of two.
pub fn log2_bucket(value: i64, bits: u8) -> u32 {
    let Ok(n) = u64::try_from(value) else { return 0 };
    let bits = u32::from(bits);
    if n < 1 << bits {
        return n as u32 + 1;
    }
    let log = n.ilog2();
    ((log - bits + 1) << bits) + ((n >> (log - bits)) as u32 & ((1 << bits) - 1)) + 1
}

/// The first value of a bucket, and the first of the next one; `i64::MAX` where no next one could be said.
pub fn log2_edges(bucket: u32, bits: u8) -> (i64, i64) {
    let lower = |bucket: u32| {
        let bits = u32::from(bits);
        let n = bucket - 1;
        if n < 1 << bits {
            return i64::from(n);
        }
        let (log, part) = ((n >> bits) - 1 + bits, n & ((1 << bits) - 1));
        if log >= 63 { i64::MAX } else { (1 << log) + (i64::from(part) << (log - bits)) }
    };
    if bucket == 0 { (i64::MIN, 0) } else { (lower(bucket), lower(bucket.saturating_add(1))) }
}

/// The bucket of a value in a linear histogram.
pub fn linear_bucket(value: i64, min: i64, max: i64, step: i64) -> u32 {
    if value < min {
        0
    } else if value >= max {
        Content::LinearHist { min, max, step }.buckets().map_or(0, |all| all - 1)
    } else {
        u32::try_from(value.abs_diff(min) / step.unsigned_abs().max(1)).map_or(u32::MAX, |n| n + 1)
    }
}

/// The first value of a bucket, and the first of the next one.
pub fn linear_edges(bucket: u32, min: i64, max: i64, step: i64) -> (i64, i64) {
    let last = linear_bucket(i64::MAX, min, max, step);
    if bucket == 0 {
        (i64::MIN, min)
    } else if bucket >= last {
        (max, i64::MAX)
    } else {
        let lower = min.saturating_add(step.saturating_mul(i64::from(bucket) - 1));
        (lower, lower.saturating_add(step).min(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value is within the edges of its bucket, and buckets follow each other without a gap.
    #[test]
    fn log2_buckets_are_whole() {
        for bits in 0..=5 {
            for shift in 0..63 {
                for value in [(1_i64 << shift) - 1, 1 << shift, (1 << shift) + 1, i64::MAX - (1 << shift) + 1] {
                    let bucket = log2_bucket(value, bits);
                    let (from, to) = log2_edges(bucket, bits);
                    assert!(from <= value && (value < to || to == i64::MAX), "{value} in {bucket}: {from} to {to}");
                }
            }
            for bucket in 0..log2_buckets(bits) {
                assert_eq!(log2_edges(bucket, bits).1, log2_edges(bucket + 1, bits).0);
            }
        }
        assert_eq!(log2_bucket(-1, 0), 0);
        assert_eq!(log2_bucket(i64::MIN, 5), 0);
        assert_eq!([0, 1, 2, 3, 4, 7, 8].map(|v| log2_bucket(v, 0)), [1, 2, 3, 3, 4, 4, 5]);
    }

    /// The same of linear histograms, whose last bucket may be narrower than the others.
    #[test]
    fn linear_buckets_are_whole() {
        for (min, max, step) in [(0, 100, 10), (-50, 50, 7), (10, 11, 1), (0, 5, 10)] {
            for value in -200..200 {
                let (from, to) = linear_edges(linear_bucket(value, min, max, step), min, max, step);
                assert!(from <= value && value < to, "{value} in {from} to {to}");
            }
        }
    }

    /// Words of CPUs come together as what they mean.
    #[test]
    fn merging() {
        let check = |content: Content, cpus: &[&[u64]], expect: &[u64]| {
            let mut words = vec![0; content.words() as usize];
            cpus.iter().for_each(|cpu| content.merge(&mut words, cpu));
            assert_eq!(words, expect, "{content:?}");
        };
        check(Content::Count, &[&[2], &[0], &[3]], &[5]);
        check(Content::Avg, &[&[2, 10], &[1, 5]], &[3, 15]);
        check(Content::Min, &[&[encode_min(7, false)], &[0], &[encode_min(3, false)]], &[encode_min(3, false)]);
        check(Content::Max, &[&[encode_max(-7_i64 as u64, true)], &[0]], &[encode_max(-7_i64 as u64, true)]);
        let series = |of| Content::TimeSeries { interval: 10, buckets: 2, of };
        check(series(SeriesOf::Sum), &[&[4, 10], &[5, 1], &[5, 2], &[0, 0]], &[5, 3]);
        check(series(SeriesOf::Last), &[&[5, 50, 1], &[5, 51, 2], &[5, 49, 3]], &[5, 51, 2]);
        assert_eq!(decode_min(encode_min(3, false), false), 3);
        assert_eq!(decode_max(encode_max(-7_i64 as u64, true), true) as i64, -7);
    }
}
