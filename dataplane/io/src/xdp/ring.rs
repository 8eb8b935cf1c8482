//! Rings shared with the kernel: one side writes entries, the other takes them, each with an index of its own.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

/// A frame to send, or one that was received (`struct xdp_desc`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(super) struct Descriptor {
    /// Offset in the registered memory.
    pub(super) address: u64,
    pub(super) bytes: u32,
    pub(super) options: u32,
}

/// Memory of a ring.
struct Ring<T> {
    mapping: NonNull<u8>,
    mapping_bytes: usize,
    produced: NonNull<AtomicU32>,
    consumed: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// Number of entries, a power of two.
    size: u32,
}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `size` entries that the socket was told to make.
    fn map(fd: BorrowedFd<'_>, at: u64, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Ring<T>> {
        let mapping_bytes = offsets.desc as usize + size as usize * size_of::<T>();
        // SAFETY: needed to share the ring with the kernel. A fresh mapping overlaps nothing; the result is checked.
        let address = unsafe {
            libc::mmap64(
                std::ptr::null_mut(),
                mapping_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                at as libc::off64_t,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        // SAFETY: the kernel gave these offsets for this mapping, which is long enough for all of them.
        let (produced, consumed, flags, entries) = unsafe {
            (
                mapping.add(offsets.producer as usize).cast(),
                mapping.add(offsets.consumer as usize).cast(),
                mapping.add(offsets.flags as usize).cast(),
                mapping.add(offsets.desc as usize).cast(),
            )
        };
        Ok(Ring { mapping, mapping_bytes, produced, consumed, flags, entries, size })
    }

    fn produced(&self) -> &AtomicU32 {
        // SAFETY: it lives in the mapping, which this value owns, and both sides access it atomically.
        unsafe { self.produced.as_ref() }
    }

    fn consumed(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumed.as_ref() }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the masked index is inside the entries.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: needed to give the mapping back. Address and length are those of `map`, and nothing refers to it any more.
        unsafe {
            libc::munmap(self.mapping.as_ptr().cast(), self.mapping_bytes);
        }
    }
}

// SAFETY: needed so that a backend can be made on one thread and run on another. The pointers are into a mapping that belongs
// to this value and to no thread.
unsafe impl<T: Send> Send for Ring<T> {}

/// A ring that we write and the kernel takes from.
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// Entries ever written; the kernel sees them when they are submitted.
    written: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn map(fd: BorrowedFd<'_>, at: u64, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        Ok(Producer { ring: Ring::map(fd, at, offsets, size)?, written: 0 })
    }

    /// Entries that the kernel has not taken, submitted or not.
    pub(super) fn waiting(&self) -> u32 {
        self.written.wrapping_sub(self.ring.consumed().load(Ordering::Acquire))
    }

    /// Writes an entry. The caller keeps fewer than the ring's size waiting.
    pub(super) fn push(&mut self, entry: T) {
        debug_assert!(self.waiting() < self.ring.size, "the ring has room");
        // SAFETY: this entry is ours: the kernel reads only what was submitted and not yet taken, of which there are fewer
        // than the ring has entries.
        unsafe { self.ring.entry(self.written).write(entry) };
        self.written = self.written.wrapping_add(1);
    }

    /// Shows the kernel what was written.
    pub(super) fn submit(&mut self) {
        self.ring.produced().store(self.written, Ordering::Release);
    }

    /// Takes back what was submitted and not taken, oldest first.
    ///
    /// Only where the kernel takes entries within our own system calls and at no other time (copy mode).
    pub(super) fn withdraw(&mut self, mut each: impl FnMut(T)) {
        let first = self.written.wrapping_sub(self.waiting());
        for index in 0..self.waiting() {
            // SAFETY: as in `push`; it was written before.
            each(unsafe { self.ring.entry(first.wrapping_add(index)).read() });
        }
        self.written = first;
        self.submit();
    }

    /// Whether the kernel asks to be called.
    pub(super) fn needs_wakeup(&self) -> bool {
        // SAFETY: it lives in the mapping, which this value owns, and both sides access it atomically.
        unsafe { self.ring.flags.as_ref() }.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring that the kernel writes and we take from.
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// Entries ever taken.
    taken: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn map(fd: BorrowedFd<'_>, at: u64, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        Ok(Consumer { ring: Ring::map(fd, at, offsets, size)?, taken: 0 })
    }

    /// Entries that wait to be taken.
    pub(super) fn ready(&self) -> u32 {
        self.ring.produced().load(Ordering::Acquire).wrapping_sub(self.taken)
    }

    /// Takes the next entry, of those that are [ready](Consumer::ready).
    pub(super) fn take(&mut self) -> T {
        // SAFETY: the kernel has written this entry and leaves it alone until it is given back.
        let entry = unsafe { self.ring.entry(self.taken).read() };
        self.taken = self.taken.wrapping_add(1);
        entry
    }

    /// Gives the places of what was taken back.
    pub(super) fn give_back(&mut self) {
        self.ring.consumed().store(self.taken, Ordering::Release);
    }
}
