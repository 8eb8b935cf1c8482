//! Fixed packet memory of one worker.

use std::{io, ptr::NonNull};

/// Bytes of a frame: one MTU-sized datagram with room to spare, a power of two so that frames never straddle pages oddly.
pub const FRAME_BYTES: usize = 2048;

/// Names a frame of a [`Pool`]. Copying it does not count: [`Pool::retain`] does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameId(u32);

impl FrameId {
    /// Index in the pool, `0..pool.capacity()`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All packet memory of a worker. Not shared between threads (it is `Send`, so that it can be made elsewhere).
pub struct Pool {
    memory: NonNull<u8>,
    /// Users of each frame; 0 means it is in `free`.
    users: Vec<u16>,
    /// Valid bytes of each frame.
    bytes: Vec<u16>,
    free: Vec<u32>,
}

// SAFETY: needed because workers are given their pool at start. The mapping is owned by this value alone, raw pointers to
// it leave only through `address`, and nothing in it is bound to the thread that made it.
unsafe impl Send for Pool {}

impl Pool {
    /// Maps memory for `frames` frames (rounded up to a whole page) and touches it, so that no page fault comes later.
    pub fn new(frames: usize) -> io::Result<Pool> {
        assert!(frames > 0 && frames <= u32::MAX as usize, "a pool has between 1 and 2^32 frames");
        // SAFETY: needed to own page-aligned memory that the kernel may write to (io_uring provided and registered
        // buffers). A fresh private anonymous mapping overlaps nothing; the result is checked before use.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                frames * FRAME_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Pool { memory, users: vec![0; frames], bytes: vec![0; frames], free: (0..frames as u32).rev().collect() })
    }

    /// Number of frames.
    pub fn capacity(&self) -> usize {
        self.users.len()
    }

    /// Frames nobody uses.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a free frame with one user (the caller) and length 0; none if all are used.
    pub fn take(&mut self) -> Option<FrameId> {
        let index = self.free.pop()?;
        self.users[index as usize] = 1;
        self.bytes[index as usize] = 0;
        Some(FrameId(index))
    }

    /// Adds a user.
    pub fn retain(&mut self, frame: FrameId) {
        let users = &mut self.users[frame.index()];
        assert!(*users > 0, "a free frame cannot be retained");
        *users = users.checked_add(1).expect("fewer than 65,536 users of a frame: queues are bounded below that");
    }

    /// Removes a user; the last one frees the frame.
    pub fn release(&mut self, frame: FrameId) {
        let users = &mut self.users[frame.index()];
        *users = users.checked_sub(1).expect("a frame is released once per user");
        if *users == 0 {
            self.free.push(frame.0);
        }
    }

    /// Users of a frame.
    pub fn users(&self, frame: FrameId) -> usize {
        usize::from(self.users[frame.index()])
    }

    /// Sets how many bytes are valid.
    pub fn set_len(&mut self, frame: FrameId, bytes: usize) {
        assert!(bytes <= FRAME_BYTES, "a frame has {FRAME_BYTES} bytes");
        self.bytes[frame.index()] = bytes as u16;
    }

    /// The valid bytes.
    pub fn bytes(&self, frame: FrameId) -> &[u8] {
        let length = usize::from(self.bytes[frame.index()]);
        // SAFETY: needed to view mapped memory. `index` is inside the mapping (checked by the indexing above), `length` is
        // at most FRAME_BYTES (`set_len`), frames do not overlap, and the borrow of `self` keeps writers away: the kernel
        // writes only to frames that a backend holds and has not handed over.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(frame.index() * FRAME_BYTES), length) }
    }

    /// The whole frame for writing, whatever its valid length.
    pub fn buffer_mut(&mut self, frame: FrameId) -> &mut [u8] {
        assert!(self.users[frame.index()] > 0, "a free frame is not written to");
        // SAFETY: as in `bytes`, with the exclusive borrow of `self` for exclusive access.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(frame.index() * FRAME_BYTES), FRAME_BYTES) }
    }

    /// The valid bytes for editing in place.
    pub fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        let length = usize::from(self.bytes[frame.index()]);
        &mut self.buffer_mut(frame)[..length]
    }

    /// Where the frame is, for a backend that hands it to the kernel. Valid until the pool is dropped.
    pub fn address(&self, frame: FrameId) -> *mut u8 {
        // SAFETY: needed to give the kernel an address; the offset stays inside the mapping (`users` has one element per
        // frame, so the index is checked).
        unsafe { self.memory.as_ptr().add((frame.index() % self.users.len()) * FRAME_BYTES) }
    }

    /// A frame by its index, for a backend that gets indices back from the kernel; none if nobody uses it.
    pub fn frame(&self, index: usize) -> Option<FrameId> {
        self.users.get(index).filter(|&&users| users > 0).map(|_| FrameId(index as u32))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: needed to give the mapping back. Address and length are those of `new`; nobody can hold a reference into
        // it, as those borrow `self`. Backends stop their kernel requests before the pool is dropped.
        unsafe {
            libc::munmap(self.memory.as_ptr().cast(), self.users.len() * FRAME_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_returns_with_its_last_user() {
        let mut pool = Pool::new(2).unwrap();
        let frame = pool.take().unwrap();
        pool.buffer_mut(frame)[..3].copy_from_slice(b"abc");
        pool.set_len(frame, 3);
        pool.retain(frame);
        pool.release(frame);
        assert_eq!(pool.bytes(frame), b"abc");
        assert_eq!(pool.free(), 1);
        pool.release(frame);
        assert_eq!(pool.free(), 2);
        assert!(pool.frame(frame.index()).is_none());
    }

    #[test]
    fn an_empty_pool_says_so() {
        let mut pool = Pool::new(1).unwrap();
        let frame = pool.take().unwrap();
        assert!(pool.take().is_none());
        pool.release(frame);
        assert!(pool.take().is_some());
    }

    #[test]
    #[should_panic(expected = "released once per user")]
    fn releasing_twice_is_a_bug() {
        let mut pool = Pool::new(1).unwrap();
        let frame = pool.take().unwrap();
        pool.release(frame);
        pool.release(frame);
    }
}
