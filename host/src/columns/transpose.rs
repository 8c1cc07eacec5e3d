//! Records into columns.

mod plan;
mod rest;
#[cfg(test)]
mod tests;
mod texts;

use portcullis_ebpf::{Stream, record};

use self::{
    plan::Plan,
    rest::{Rest, put_rest},
    texts::Texts,
};
use super::{
    descriptor::{Descriptor, RowsDescriptor},
    layout::{Layout, LayoutError, TEXT_ENOUGH},
};
use crate::names::{MAX_NAME, Names};

/// Writes records into the columns of one slot after another.
#[derive(Debug)]
pub struct Transposer {
    layout: Layout,
    streams: Vec<Plan>,
    /// The streams that have rows in this batch, by position in it.
    present: Vec<u32>,
    rows: usize,
    texts: Texts,
    /// The text that the texts of one record can become at most.
    record_text: usize,
    /// For reading stacks.
    frames: Vec<u64>,
    malformed: u64,
}

impl Transposer {
    /// A transposer for the records of these streams.
    pub fn new(streams: &[Stream]) -> Result<Transposer, LayoutError> {
        let layout = Layout::new(&super::schema(streams, &[]))?;
        let plans: Vec<Plan> = streams.iter().zip(&layout.streams).map(|(stream, layout)| Plan::new(stream, layout)).collect();
        let mut record_text = 0;
        for (stream, plan) in streams.iter().zip(&plans) {
            let names = plan.rest.iter().filter(|rest| matches!(rest.what, Rest::Named { .. })).count();
            let bytes = plan.texts.iter().map(|text| text.capacity).sum::<usize>() + MAX_NAME * names;
            for rest in &plan.rest {
                if let Rest::Bytes { capacity, room, .. } = rest.what
                    && capacity as usize > room
                {
                    let field = stream.fields.get(rest.field as usize).map(|field| field.name.clone()).unwrap_or_default();
                    return Err(LayoutError::LongBytes { stream: stream.name.clone(), field, capacity, room });
                }
            }
            // One byte becomes four at most.
            if 4 * bytes > layout.text_size() {
                return Err(LayoutError::LongText { stream: stream.name.clone(), bytes });
            }
            record_text = record_text.max(4 * bytes);
        }
        Ok(Transposer {
            layout,
            streams: plans,
            present: Vec::new(),
            rows: 0,
            texts: Texts::default(),
            record_text,
            frames: Vec::new(),
            malformed: 0,
        })
    }

    /// How many more records fit for certain; 0 when the batch should be handed over.
    pub fn room(&self) -> usize {
        if self.texts.end >= TEXT_ENOUGH {
            return 0;
        }
        let texts = (self.layout.text_size() - self.texts.end).checked_div(self.record_text).unwrap_or(usize::MAX);
        let rest = self.streams.iter().flat_map(|plan| &plan.rest);
        let bytes = rest.map(|rest| match rest.what {
            Rest::Bytes { capacity, room, used, .. } => (room - used).checked_div(capacity as usize).unwrap_or(usize::MAX),
            _ => usize::MAX,
        });
        texts.min(bytes.min().unwrap_or(usize::MAX)).min(self.layout.rows - self.rows)
    }

    /// Rows in this batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Records that were none: too short, or of a stream that does not exist.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Adds a record to the batch in `slot`, of [`super::SLOT_SIZE`] bytes, for which there was [`Transposer::room`]. False says
    /// that it was malformed, and skipped.
    #[inline]
    pub fn push(&mut self, slot: &mut [u8], record: &[u8], names: &mut Names) -> bool {
        let fits = self.rows < self.layout.rows && self.texts.end + self.record_text <= self.layout.text_size();
        let accepted = fits && self.transpose(slot, record, names).is_some();
        self.malformed += u64::from(!accepted);
        accepted
    }

    #[inline]
    fn transpose(&mut self, slot: &mut [u8], record: &[u8], names: &mut Names) -> Option<()> {
        let header = record.get(..record::HEADER as usize)?;
        let stream = u32::from_ne_bytes(take(header, record::STREAM as usize));
        let plan = self.streams.get_mut(stream as usize)?;
        let record = record.get(..plan.size)?;
        let mut absent = u32::from_ne_bytes(take(header, record::ABSENT as usize));
        let cut = u32::from_ne_bytes(take(header, record::CUT as usize));

        if plan.rows == 0 {
            plan.position = self.present.len() as u32;
            self.present.push(stream);
        }
        let row = plan.rows;
        plan.rows += 1;
        put_u32(slot, self.layout.order + 4 * self.rows, plan.position);
        self.rows += 1;
        put_u64(slot, plan.time + 8 * row, u64::from_ne_bytes(take(header, record::TIME as usize)));

        for int in &plan.ints {
            let there = absent >> int.field & 1 == 0;
            put_u64(slot, int.to + 8 * row, if there { int.read(record) } else { 0 });
        }
        for text in &plan.texts {
            let there = absent >> text.field & 1 == 0;
            let bytes = if there { &record[text.from..text.from + text.capacity] } else { &[] };
            let number = self.texts.put(slot, &self.layout, bytes);
            put_u32(slot, text.to + 4 * row, number);
        }
        if !plan.rest.is_empty() {
            absent |= put_rest(&mut plan.rest, slot, &self.layout, record, row, absent, &mut self.texts, &mut self.frames, names);
        }
        if absent | cut != 0 {
            for (at, &(absent_map, cut_map)) in plan.bitmaps.iter().enumerate() {
                mark(slot, absent_map, self.layout.rows, row, absent >> at & 1 != 0, &mut plan.absent, at);
                mark(slot, cut_map, self.layout.rows, row, cut >> at & 1 != 0, &mut plan.cut, at);
            }
        }
        Some(())
    }

    /// Ends the batch: what `slot`, the number of the slot that was written to, holds. The next record begins the next batch.
    pub fn finish(&mut self, slot: u32) -> Descriptor {
        let streams = &mut self.streams;
        let rows = self.present.drain(..).map(|stream| {
            let plan = &mut streams[stream as usize];
            let rows = RowsDescriptor { stream, rows: plan.rows as u32, absent: plan.absent, cut: plan.cut };
            (plan.rows, plan.absent, plan.cut) = (0, 0, 0);
            for rest in &mut plan.rest {
                if let Rest::Bytes { used, .. } = &mut rest.what {
                    *used = 0;
                }
            }
            rows
        });
        let descriptor = Descriptor { slot, rows: rows.collect(), strings: self.texts.dictionary.len() };
        self.texts.clear();
        self.rows = 0;
        descriptor
    }
}

/// Sets bit `row` of the bitmap at `bitmap` if `set`; the first bit of a batch clears the bitmap before, and says in `used` that
/// there is one.
fn mark(slot: &mut [u8], bitmap: usize, capacity: usize, row: usize, set: bool, used: &mut u32, field: usize) {
    if !set {
        return;
    }
    if *used >> field & 1 == 0 {
        slot[bitmap..bitmap + capacity / 8].fill(0);
        *used |= 1 << field;
    }
    slot[bitmap + row / 8] |= 1 << (row % 8);
}

/// `N` bytes of `bytes` from `at`.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[at..at + N]);
    taken
}

fn put_u32(slot: &mut [u8], at: usize, value: u32) {
    slot[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn put_u64(slot: &mut [u8], at: usize, value: u64) {
    slot[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}
