//! What was taken from an array stays there, as a baseline that later reads subtract.

use portcullis_ebpf::aggregate::{Content, SeriesOf};

use super::words;

/// Programs only ever add to the words of such a content, so that what was there can be subtracted.
pub(super) fn is_sum(content: Content) -> bool {
    match content {
        Content::Count | Content::Sum | Content::Avg | Content::Stats | Content::Hist { .. } | Content::LinearHist { .. } => true,
        Content::TimeSeries { of, .. } => matches!(of, SeriesOf::Sum | SeriesOf::Avg),
        Content::Value | Content::Min | Content::Max => false,
    }
}

/// Subtracts what was taken from the words of a value.
pub(super) fn subtract(content: Content, value: &mut [u8], taken: &[u64]) {
    let mut now = words(value);
    let Some((&first, &taken_first)) = now.first().zip(taken.first()) else { return };
    if matches!(content, Content::TimeSeries { .. }) {
        // Another interval is none that was taken.
        if first != taken_first {
            return;
        }
        let rest = now.iter_mut().zip(taken).skip(1);
        rest.for_each(|(now, taken)| *now = now.wrapping_sub(*taken));
        if now.iter().skip(1).all(|word| *word == 0) {
            // Nothing has come since.
            now.fill(0);
        }
    } else if content == Content::Sum || first >= taken_first {
        now.iter_mut().zip(taken).for_each(|(now, taken)| *now = now.wrapping_sub(*taken));
    }
    for (bytes, word) in value.chunks_exact_mut(8).zip(now) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a time series the same interval is subtracted, another one is not.
    #[test]
    fn time_series() {
        let content = Content::TimeSeries { interval: 10, buckets: 2, of: SeriesOf::Avg };
        let check = |now: [u64; 3], taken: [u64; 3], expect: [u64; 3]| {
            let mut value: Vec<u8> = now.iter().flat_map(|word| word.to_ne_bytes()).collect();
            subtract(content, &mut value, &taken);
            assert_eq!(words(&value), expect);
        };
        check([5, 3, 30], [5, 1, 10], [5, 2, 20]);
        check([7, 3, 30], [5, 1, 10], [7, 3, 30]);
        check([5, 1, 10], [5, 1, 10], [0, 0, 0]);
        check([0, 0, 0], [0, 0, 0], [0, 0, 0]);
    }
}
