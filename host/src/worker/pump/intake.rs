//! The way of events from the ring into slots, and the count of what became of each.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::event::{Timespec, epoll};

use super::Drained;
use crate::{
    columns::{Descriptor, SLOTS, Transposer},
    names::Names,
    worker::memory::Memory,
};

/// How often a ring is looked at. Programs wake its reader only past a watermark, since waking costs the traced thread 16 µs.
const LOOK: Duration = Duration::from_millis(10);

/// Records that are given up between two looks at commands.
const GIVE_UP: usize = 65_536;

/// Where events come from: a ring.
pub trait Source: Send {
    /// Calls `f` with each record there is, up to `max`, and frees them; returns how many there were. Fewer than `max` says that
    /// nothing is left.
    fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize;

    /// A descriptor that becomes readable when the ring should be read before its time.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// A ring, the slots that are not handed over, and the counts.
pub(super) struct Intake {
    source: Box<dyn Source>,
    early: Option<OwnedFd>,
    memory: Memory,
    transposer: Transposer,
    /// The slot that is being filled.
    filling: Option<usize>,
    free: Vec<usize>,
    /// When to look at the ring.
    look: Instant,
    /// The last look left nothing in the ring.
    empty: bool,
    /// Malformed records that have been counted as undelivered.
    malformed: u64,
    read: u64,
    delivered: u64,
    undelivered: u64,
}

impl Intake {
    pub(super) fn new(source: Box<dyn Source>, memory: Memory, transposer: Transposer, now: Instant) -> io::Result<Intake> {
        Ok(Intake {
            early: early(&*source)?,
            source,
            memory,
            transposer,
            filling: None,
            free: (0..SLOTS).collect(),
            look: now,
            empty: true,
            malformed: 0,
            read: 0,
            delivered: 0,
            undelivered: 0,
        })
    }

    /// Readable when the ring should be read before its time.
    pub(super) fn early(&self) -> Option<BorrowedFd<'_>> {
        self.early.as_ref().map(AsFd::as_fd)
    }

    /// The ring should be read now; [`Intake::early`] is readable no more.
    pub(super) fn asked(&mut self, now: Instant) {
        if let Some(early) = &self.early {
            let mut events = Vec::<epoll::Event>::with_capacity(1);
            let _ = epoll::wait(early, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()));
            self.look = now;
        }
    }

    /// When to look at the ring.
    pub(super) fn look(&self) -> Instant {
        self.look
    }

    pub(super) fn look_at(&mut self, when: Instant) {
        self.look = when;
    }

    /// There may be more in the ring than was seen.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.look = now;
        self.empty = false;
    }

    /// It is time to look at the ring, and not again for a while.
    pub(super) fn begin_look(&mut self) -> bool {
        let due = Instant::now() >= self.look;
        if due {
            self.look = Instant::now() + LOOK;
        }
        due
    }

    /// There is a slot for events.
    pub(super) fn has_room(&self) -> bool {
        self.filling.is_some() || !self.free.is_empty()
    }

    /// Rows in the slot that is being filled.
    pub(super) fn rows(&self) -> usize {
        self.transposer.rows()
    }

    /// Fills one slot from the ring, until one of the two ends; whether the slot is full.
    pub(super) fn fill(&mut self, names: &mut Names) -> bool {
        loop {
            let Some(slot) = self.filling.or_else(|| self.free.pop()) else {
                self.empty = false;
                return false;
            };
            self.filling = Some(slot);
            let room = self.transposer.room();
            if room > 0 {
                let (memory, transposer) = (self.memory.slot(slot), &mut self.transposer);
                let mut count = 0;
                self.source.read(room, &mut |record| {
                    count += 1;
                    transposer.push(memory, record, names);
                });
                self.read += count as u64;
                // Those that are no rows are never delivered.
                self.undelivered += self.transposer.malformed() - self.malformed;
                self.malformed = self.transposer.malformed();
                self.empty = count < room;
            }
            if self.transposer.room() == 0 {
                return true;
            }
            if self.empty {
                return false;
            }
        }
    }

    /// Takes the slot that is being filled, with what is in it, to hand it over.
    pub(super) fn take(&mut self) -> Option<(usize, Descriptor)> {
        let slot = self.filling.take()?;
        Some((slot, self.transposer.finish(slot as u32)))
    }

    /// A slot has come back; `well` says that its rows were handled.
    pub(super) fn returned(&mut self, slot: usize, rows: u64, well: bool) {
        if well {
            self.delivered += rows;
        } else {
            self.undelivered += rows;
        }
        self.free.push(slot);
        if !self.empty {
            self.look = Instant::now();
        }
    }

    /// Rows that were handed over never come back.
    pub(super) fn lost(&mut self, rows: u64) {
        self.undelivered += rows;
    }

    /// Gives up what is in the slot that is being filled.
    pub(super) fn give_up_filling(&mut self) {
        if let Some((slot, batch)) = self.take() {
            self.undelivered += batch.total();
            self.free.push(slot);
        }
    }

    /// Reads the ring and counts what is in it.
    pub(super) fn give_up_ring(&mut self) {
        let mut count = 0;
        self.source.read(GIVE_UP, &mut |_| count += 1);
        self.read += count as u64;
        self.undelivered += count as u64;
        self.empty = count < GIVE_UP;
        if !self.empty {
            self.look = Instant::now();
        }
    }

    /// The last look left nothing in the ring.
    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    /// The counts, at the time `at`.
    pub(super) fn counts(&self, at: u64) -> Drained {
        Drained { at, read: self.read, delivered: self.delivered, undelivered: self.undelivered }
    }
}

/// An epoll instance that turns readable once each time the source asks to be read. A ring's own descriptor stays readable while
/// anything is in it, which would make every record a batch.
fn early(source: &dyn Source) -> io::Result<Option<OwnedFd>> {
    let Some(fd) = source.fd() else { return Ok(None) };
    let early = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&early, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
    Ok(Some(early))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use portcullis_ebpf::Stream;

    use super::*;
    use crate::columns::MAX_ROWS;

    /// As many records of the first stream, the last of them of a stream that does not exist.
    struct Records(usize);

    impl Source for Records {
        fn read(&mut self, max: usize, f: &mut dyn FnMut(&[u8])) -> usize {
            let count = max.min(self.0);
            for _ in 0..count {
                self.0 -= 1;
                let mut record = [0; 24];
                record[8] = u8::from(self.0 == 0);
                f(&record);
            }
            count
        }

        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    fn intake(records: usize) -> Intake {
        let streams = [Stream { name: "s".into(), fields: Vec::new(), size: 24 }];
        let (memory, transposer) = (Memory::new().unwrap(), Transposer::new(&streams).unwrap());
        Intake::new(Box::new(Records(records)), memory, transposer, Instant::now()).unwrap()
    }

    #[track_caller]
    fn assert_counts(intake: &Intake, read: usize, delivered: usize, undelivered: usize) {
        let (read, delivered, undelivered) = (read as u64, delivered as u64, undelivered as u64);
        assert_eq!(intake.counts(7), Drained { at: 7, read, delivered, undelivered });
    }

    /// While no slot is free the ring is left alone, and a slot that comes back is filled with what is left; what is no row is
    /// undelivered at once, all else when its slot has come back or is given up.
    #[test]
    fn slots() {
        let (names, full) = (&mut Names::default(), SLOTS * MAX_ROWS);
        let mut intake = intake(full + 10);
        let handed: Vec<_> = std::iter::from_fn(|| intake.fill(names).then(|| intake.take().unwrap())).collect();
        assert_eq!(handed.iter().map(|(_, batch)| batch.total() as usize).collect::<Vec<_>>(), [MAX_ROWS; SLOTS]);
        assert!(!intake.has_room() && !intake.is_empty());
        assert_counts(&intake, full, 0, 0);

        intake.returned(handed[0].0, MAX_ROWS as u64, true);
        intake.returned(handed[1].0, MAX_ROWS as u64, false);
        intake.lost(2 * MAX_ROWS as u64);
        assert!(intake.has_room() && !intake.fill(names) && intake.is_empty());
        assert_eq!(intake.rows(), 9);
        assert_counts(&intake, full + 10, MAX_ROWS, 3 * MAX_ROWS + 1);
        intake.give_up_filling();
        assert_eq!(intake.rows(), 0);
        assert_counts(&intake, full + 10, MAX_ROWS, 3 * MAX_ROWS + 10);
    }

    /// A ring that is given up is read all the same, and its records are undelivered.
    #[test]
    fn given_up() {
        let mut intake = intake(GIVE_UP + 1);
        intake.give_up_ring();
        assert!(!intake.is_empty());
        intake.give_up_ring();
        assert!(intake.is_empty());
        assert_counts(&intake, GIVE_UP + 1, 0, GIVE_UP + 1);
    }
}
