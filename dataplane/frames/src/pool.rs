//! Fixed packet memory of one worker.

use std::io;

use crate::Memory;

/// Bytes of a frame: one MTU-sized datagram with room to spare, a power of two so that frames never straddle pages oddly.
pub const FRAME_BYTES: usize = 2048;

/// Room that a backend may need in front of a received datagram for what the kernel writes there (io_uring: a header and
/// the sender's address). A cache line, so that datagrams begin on one.
pub const HEADROOM_BYTES: usize = 64;

/// The longest datagram that is received, with every backend. Longer ones are dropped.
pub const DATAGRAM_BYTES: usize = FRAME_BYTES - HEADROOM_BYTES;

/// Stands in the count of users of a frame that was [lent](Pool::lend).
const LENT: u16 = u16::MAX;

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
    memory: Memory,
    /// Users of each frame; 0 means it is in `free`, [`LENT`] that the kernel may write to it.
    users: Vec<u16>,
    /// Where the valid bytes of each frame are.
    spans: Vec<Span>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: u16,
    bytes: u16,
}

impl Pool {
    /// Maps memory for `frames` frames and touches it, so that no page fault comes later.
    pub fn new(frames: usize) -> io::Result<Pool> {
        assert!(frames > 0 && frames <= u32::MAX as usize, "a pool has between 1 and 2^32 frames");
        Ok(Pool {
            memory: Memory::map(frames * FRAME_BYTES)?,
            users: vec![0; frames],
            spans: vec![Span::default(); frames],
            free: (0..frames as u32).rev().collect(),
        })
    }

    /// Number of frames.
    pub fn capacity(&self) -> usize {
        self.users.len()
    }

    /// Frames nobody uses.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a free frame with one user (the caller), start 0 and length 0; none if all are used.
    pub fn take(&mut self) -> Option<FrameId> {
        let index = self.free.pop()?;
        self.users[index as usize] = 1;
        self.spans[index as usize] = Span::default();
        Some(FrameId(index))
    }

    /// Adds a user.
    pub fn retain(&mut self, frame: FrameId) {
        let users = &mut self.users[frame.index()];
        assert!(*users > 0, "a free frame cannot be retained");
        assert!(*users < LENT - 1, "a lent frame cannot be retained, and queues bound the users below 65,534");
        *users += 1;
    }

    /// Removes a user; the last one frees the frame.
    pub fn release(&mut self, frame: FrameId) {
        let users = &mut self.users[frame.index()];
        assert!(*users != LENT, "a lent frame is reclaimed, not released");
        *users = users.checked_sub(1).expect("a frame is released once per user");
        if *users == 0 {
            self.free.push(frame.0);
        }
    }

    /// Users of a frame; 0 while it is free or lent.
    pub fn users(&self, frame: FrameId) -> usize {
        match self.users[frame.index()] {
            LENT => 0,
            users => usize::from(users),
        }
    }

    /// Sets how many bytes are valid, from the frame's start.
    pub fn set_len(&mut self, frame: FrameId, bytes: usize) {
        let start = usize::from(self.spans[frame.index()].start);
        self.set_span(frame, start, bytes);
    }

    /// Sets where the valid bytes are: `start..start + bytes`. Used by backends that receive something in front of the
    /// datagram; [`Pool::bytes`] then begins at `start`.
    pub fn set_span(&mut self, frame: FrameId, start: usize, bytes: usize) {
        assert!(start.saturating_add(bytes) <= FRAME_BYTES, "a frame has {FRAME_BYTES} bytes");
        self.spans[frame.index()] = Span { start: start as u16, bytes: bytes as u16 };
    }

    /// The valid bytes.
    pub fn bytes(&self, frame: FrameId) -> &[u8] {
        assert!(self.users[frame.index()] != LENT, "a lent frame is not read");
        let Span { start, bytes } = self.spans[frame.index()];
        // SAFETY: needed to view mapped memory. `index` is inside the mapping (checked by the indexing above), the span is
        // inside the frame (`set_span`), frames do not overlap, and the borrow of `self` keeps writers away: the kernel
        // writes to lent frames only, which were refused above.
        unsafe { std::slice::from_raw_parts(self.address(frame).add(usize::from(start)), usize::from(bytes)) }
    }

    /// What is in the frame in front of the valid bytes: what the backend that received it put there, if anything.
    pub fn headroom(&self, frame: FrameId) -> &[u8] {
        assert!(self.users[frame.index()] != LENT, "a lent frame is not read");
        let start = usize::from(self.spans[frame.index()].start);
        // SAFETY: as in `bytes`; the start is inside the frame.
        unsafe { std::slice::from_raw_parts(self.address(frame), start) }
    }

    /// The frame for writing from its start, whatever its valid length: [`FRAME_BYTES`] long if it was
    /// [taken](Pool::take), at least [`DATAGRAM_BYTES`] if it was received.
    pub fn buffer_mut(&mut self, frame: FrameId) -> &mut [u8] {
        let users = self.users[frame.index()];
        assert!(users > 0 && users != LENT, "a free or lent frame is not written to");
        let start = usize::from(self.spans[frame.index()].start);
        // SAFETY: as in `bytes`, with the exclusive borrow of `self` for exclusive access.
        unsafe { std::slice::from_raw_parts_mut(self.address(frame).add(start), FRAME_BYTES - start) }
    }

    /// The valid bytes for editing in place.
    pub fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        let bytes = usize::from(self.spans[frame.index()].bytes);
        &mut self.buffer_mut(frame)[..bytes]
    }

    /// Where the frame is (its first byte, not its start), for a backend that hands it to the kernel. Valid as long as
    /// the [memory](Pool::memory) lives.
    pub fn address(&self, frame: FrameId) -> *mut u8 {
        assert!(frame.index() < self.users.len(), "a frame is used with the pool it came from");
        // SAFETY: needed to compute an address; the offset stays inside the mapping, as checked above.
        unsafe { self.memory.address().as_ptr().add(frame.index() * FRAME_BYTES) }
    }

    /// The memory all frames are in. A backend keeps it while frames are lent to the kernel.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// A frame by its index, for a backend that gets indices back from the kernel; none if nobody uses it.
    pub fn frame(&self, index: usize) -> Option<FrameId> {
        self.users.get(index).filter(|&&users| users > 0 && users != LENT).map(|_| FrameId(index as u32))
    }

    /// Takes a free frame for the kernel to write to at any time: until it is [reclaimed](Pool::reclaim), nobody reads,
    /// writes, retains or releases it (that panics). None if all are used.
    pub fn lend(&mut self) -> Option<FrameId> {
        let frame = self.take()?;
        self.users[frame.index()] = LENT;
        Some(frame)
    }

    /// Takes a lent frame back, with one user (the caller), start 0 and length 0.
    ///
    /// # Safety
    ///
    /// The kernel is done with the frame: the request it was given to has completed with it, was cancelled and reaped, or
    /// never reached the kernel.
    pub unsafe fn reclaim(&mut self, frame: FrameId) {
        assert!(self.users[frame.index()] == LENT, "only a lent frame is reclaimed");
        self.users[frame.index()] = 1;
        self.spans[frame.index()] = Span::default();
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
        assert!(pool.lend().is_none());
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

    #[test]
    fn valid_bytes_begin_at_the_start_of_the_span() {
        let mut pool = Pool::new(1).unwrap();
        let frame = pool.take().unwrap();
        pool.buffer_mut(frame)[HEADROOM_BYTES..HEADROOM_BYTES + 3].copy_from_slice(b"abc");
        pool.set_span(frame, HEADROOM_BYTES, 3);
        assert_eq!(pool.bytes(frame), b"abc");
        assert_eq!(pool.headroom(frame).len(), HEADROOM_BYTES);
        assert_eq!(pool.buffer_mut(frame).len(), DATAGRAM_BYTES);
        pool.bytes_mut(frame)[0] = b'x';
        pool.set_len(frame, 2);
        assert_eq!(pool.bytes(frame), b"xb");

        pool.release(frame);
        let again = pool.take().unwrap();
        assert_eq!(pool.buffer_mut(again).len(), FRAME_BYTES, "a taken frame has no start left from before");
    }

    #[test]
    fn a_lent_frame_is_nobodys_until_reclaimed() {
        let mut pool = Pool::new(1).unwrap();
        let frame = pool.lend().unwrap();
        assert_eq!((pool.free(), pool.users(frame)), (0, 0));
        assert!(pool.frame(frame.index()).is_none());
        // SAFETY: it never reached the kernel.
        unsafe { pool.reclaim(frame) };
        assert_eq!(pool.users(frame), 1);
        pool.release(frame);
        assert_eq!(pool.free(), 1);
    }

    #[test]
    #[should_panic(expected = "a lent frame is not read")]
    fn reading_a_lent_frame_is_a_bug() {
        let mut pool = Pool::new(1).unwrap();
        let frame = pool.lend().unwrap();
        pool.bytes(frame);
    }

    #[test]
    fn memory_outlives_its_pool() {
        let pool = Pool::new(1).unwrap();
        let memory = pool.memory().clone();
        assert!(memory.is(pool.memory()));
        drop(pool);
        // SAFETY: the mapping is alive (`memory`), nobody else refers to it, and it is at least a frame long.
        unsafe { memory.address().as_ptr().write(1) };
        assert_eq!(memory.bytes(), FRAME_BYTES);
    }
}
