//! The memory that a worker gets its events in: written by the host alone.
//!
//! A memfd of [`SLOTS`] slots. The host maps it writable and then seals it: its size is fixed, and no further mapping of it and
//! no write(2) can change it (`F_SEAL_FUTURE_WRITE`, since Linux 5.1). What the worker gets is that descriptor.
//!
//! A slot belongs to one side at a time: to the host until it sends a batch, to the worker until the batch's call returns. The
//! host reads nothing from it that matters, so a worker gains nothing by looking early.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    mm::{MapFlags, ProtFlags},
};

use crate::columns::{SLOT_SIZE, SLOTS};

const SIZE: usize = SLOTS * SLOT_SIZE;

/// The host's side.
#[derive(Debug)]
pub struct Memory {
    fd: OwnedFd,
    mapping: Mapping,
}

impl Memory {
    /// New memory. It costs what is written to it.
    pub fn new() -> io::Result<Memory> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels from 6.3 want to be told that nobody will execute it; those before do not know the flag.
        let fd = rustix::fs::memfd_create(c"portcullis-columns", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| rustix::fs::memfd_create(c"portcullis-columns", flags))?;
        rustix::fs::ftruncate(&fd, SIZE as u64)?;
        let mapping = Mapping::new(fd.as_fd(), ProtFlags::READ | ProtFlags::WRITE)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals)?;
        Ok(Memory { fd, mapping })
    }

    /// The descriptor for the worker.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A slot, to be written to. Panics if there is none of this number.
    pub fn slot(&mut self, slot: usize) -> &mut [u8] {
        assert!(slot < SLOTS);
        // SAFETY: the slot lies within the mapping, which is `SIZE` bytes long and lives as long as `self`.
        let start = unsafe { self.mapping.start.add(slot * SLOT_SIZE) };
        // SAFETY: the memory is mapped writable, initialised by the kernel, and borrowed from `self` as a whole. Nobody else
        // can write to it: the seals see to that.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), SLOT_SIZE) }
    }
}

/// The worker's side: the same memory, read-only.
#[derive(Debug)]
pub struct View {
    mapping: Mapping,
}

impl View {
    /// Maps what [`Memory::fd`] gave.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<View> {
        if rustix::fs::fstat(fd)?.st_size != SIZE as i64 {
            return Err(io::Error::other("the shared memory has the wrong size"));
        }
        Ok(View { mapping: Mapping::new(fd, ProtFlags::READ)? })
    }

    /// `count` bytes from `at` in a slot; `None` past the slot's end.
    pub fn bytes(&self, slot: usize, at: usize, count: usize) -> Option<&[u8]> {
        self.values::<u8>(slot, at, count)
    }

    /// `count` numbers.
    pub fn u32s(&self, slot: usize, at: usize, count: usize) -> Option<&[u32]> {
        self.values::<u32>(slot, at, count)
    }

    /// `count` numbers.
    pub fn u64s(&self, slot: usize, at: usize, count: usize) -> Option<&[u64]> {
        self.values::<u64>(slot, at, count)
    }

    /// `count` numbers.
    pub fn i64s(&self, slot: usize, at: usize, count: usize) -> Option<&[i64]> {
        self.values::<i64>(slot, at, count)
    }

    fn values<T: Number>(&self, slot: usize, at: usize, count: usize) -> Option<&[T]> {
        let end = count.checked_mul(size_of::<T>())?.checked_add(at)?;
        if slot >= SLOTS || end > SLOT_SIZE || !at.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: `at` lies within the slot and the slot within the mapping, which lives as long as `self`.
        let start = unsafe { self.mapping.start.add(slot * SLOT_SIZE + at) };
        // SAFETY: `count` values lie within the slot, aligned since the mapping begins on a page; any bits are a `Number`.
        // The host alone writes to this memory, and never to a slot whose batch has not returned.
        Some(unsafe { std::slice::from_raw_parts(start.cast::<T>().as_ptr(), count) })
    }
}

/// Plain numbers: every pattern of bits is one.
trait Number {}
impl Number for u8 {}
impl Number for u32 {}
impl Number for u64 {}
impl Number for i64 {}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
}

// SAFETY: the mapping is memory like any other, reached through `Memory` (exclusively) and `View` (shared, read-only).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, protection: ProtFlags) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), SIZE, protection, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned no address"))?;
        Ok(Mapping { start })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nothing borrowed from it outlives its owner. It can't fail then.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the host writes the worker reads, and nothing past the slot.
    #[test]
    fn shared() {
        let mut memory = Memory::new().unwrap();
        memory.slot(3)[8..16].copy_from_slice(&7u64.to_ne_bytes());
        let view = View::new(memory.fd()).unwrap();
        assert_eq!(view.u64s(3, 8, 1), Some(&[7u64][..]));
        assert_eq!(view.u64s(3, 4, 1), None);
        assert_eq!(view.u64s(3, SLOT_SIZE - 8, 2), None);
        assert_eq!(view.u64s(4, 0, 1), None);
        assert_eq!(view.bytes(0, usize::MAX, 2), None);
        assert_eq!(view.u64s(0, 0, usize::MAX / 4), None);
    }

    /// The descriptor that a worker gets allows neither writing nor another size.
    #[test]
    fn sealed() {
        let memory = Memory::new().unwrap();
        let fd = memory.fd();
        assert!(Mapping::new(fd, ProtFlags::READ | ProtFlags::WRITE).is_err());
        assert!(rustix::io::pwrite(fd, &[1], 0).is_err());
        assert!(rustix::fs::ftruncate(fd, 4096).is_err());
        assert!(rustix::fs::ftruncate(fd, 2 * SIZE as u64).is_err());
        // Opened anew through /proc it is the same file with the same seals.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        if let Ok(again) = std::fs::OpenOptions::new().read(true).write(true).open(path) {
            assert!(Mapping::new(again.as_fd(), ProtFlags::READ | ProtFlags::WRITE).is_err());
        }
        // mprotect(2) can't make a read-only mapping writable either.
        let mapping = Mapping::new(fd, ProtFlags::READ).unwrap();
        let protection = rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE;
        // SAFETY: nothing refers to the mapping.
        assert!(unsafe { rustix::mm::mprotect(mapping.start.as_ptr().cast(), SIZE, protection) }.is_err());
    }
}
