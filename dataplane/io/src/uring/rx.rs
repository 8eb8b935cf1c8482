//! Receiving: frames lent to the kernel in a ring that it takes them from, one multishot request per socket, and the read of
//! the waker.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsRawFd, RawFd},
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{
    IoUring, cqueue, opcode,
    types::{BufRingEntry, Fd},
};
use sluice_frames::{DATAGRAM_BYTES, Datagram, FRAME_BYTES, FrameId, HEADROOM_BYTES, Memory, Pool, Route, Turn};

use super::sys::{self, Request};
use crate::{
    Waker,
    address::{NAME_BYTES, Name},
    socket,
};

/// The one group of buffers that a ring has.
const GROUP: u16 = 0;

/// What the kernel writes first (`struct io_uring_recvmsg_out`).
#[derive(Clone, Copy)]
#[repr(C)]
struct Head {
    name_bytes: u32,
    control_bytes: u32,
    datagram_bytes: u32,
    flags: u32,
}

/// Room for the sender's address between head and datagram.
const NAME_ROOM_BYTES: usize = HEADROOM_BYTES - size_of::<Head>();
const _: () = assert!(NAME_ROOM_BYTES >= NAME_BYTES, "an address fits the headroom");

/// A multishot request.
struct Source {
    fd: RawFd,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Armed,
    /// Ended by the kernel: for want of frames, after an empty datagram, or when completions did not fit.
    Ended,
}

pub(super) struct Receive {
    lent: Lent,
    sources: Vec<Source>,
    /// Tells the kernel how much room there is for the name; read when a request is submitted.
    header: Box<libc::msghdr>,
    waker: RawFd,
    /// Where the waker's count is read to; nobody looks at it.
    count: Box<u64>,
    listening: bool,
}

// SAFETY: needed so that a backend can be made on one thread and run on another. The raw pointers are in `header` (null)
// and in mappings that belong to this value and to no thread.
unsafe impl Send for Receive {}

impl Receive {
    /// `frames` is how many are lent at a time (a power of two, see [`crate::Config`]).
    pub(super) fn new(ring: &IoUring, sockets: &[UdpSocket], waker: &Waker, frames: usize) -> io::Result<Receive> {
        for socket in sockets {
            // The kernel would report "nothing there" instead of waiting for it.
            socket.set_nonblocking(false)?;
        }
        // SAFETY: needed for a value to start with. All-zero is valid: numbers and null pointers.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = NAME_ROOM_BYTES as libc::socklen_t;
        let sources = sockets.iter().map(|socket| Source { fd: socket.as_raw_fd(), state: State::New }).collect();
        let lent = Lent::new(ring, frames)?;
        Ok(Receive { lent, sources, header, waker: waker.descriptor(), count: Box::new(0), listening: false })
    }

    /// Lends frames in place of those handed over and queues the requests that are missing.
    pub(super) fn prepare(&mut self, ring: &mut IoUring, pool: &mut Pool, turn: &mut Turn) -> io::Result<()> {
        self.lent.replenish(pool)?;
        if self.lent.is_empty() {
            // A request would end at once: the turn waits for the waker alone, until the caller frees frames.
            turn.starved += 1;
        } else {
            for (index, source) in
                self.sources.iter_mut().enumerate().filter(|(_, source)| source.state != State::Armed)
            {
                turn.rearmed += usize::from(source.state == State::Ended);
                source.state = State::Armed;
                let entry = opcode::RecvMsgMulti::new(Fd(source.fd), &*self.header, GROUP)
                    .build()
                    .user_data(Request::Receive(index as u8).number());
                // SAFETY: the header never moves nor changes, frames are out of reach while lent, and both are let go only
                // once the ring is quiet (see the module's text).
                unsafe { sys::push(ring, &entry) };
            }
        }
        if !self.listening {
            self.listening = true;
            let entry = opcode::Read::new(Fd(self.waker), (&raw mut *self.count).cast(), size_of::<u64>() as u32)
                .build()
                .user_data(Request::Listen.number());
            // SAFETY: `count` never moves, is looked at by nobody, and is let go only once the ring is quiet.
            unsafe { sys::push(ring, &entry) };
        }
        Ok(())
    }

    /// Hands a received datagram over, or notes why there is none.
    pub(super) fn completed(
        &mut self,
        index: u8,
        completion: &cqueue::Entry,
        pool: &mut Pool,
        turn: &mut Turn,
        sink: &mut dyn FnMut(&mut Pool, Datagram),
    ) -> io::Result<()> {
        if !cqueue::more(completion.flags()) {
            self.ended(index);
        }
        let frame = cqueue::buffer_select(completion.flags()).and_then(|buffer| {
            // SAFETY: the kernel says with this completion that it is done with the buffer.
            unsafe { self.lent.take_back(buffer, pool) }
        });
        let errno = -completion.result();
        if errno > 0 {
            if let Some(frame) = frame {
                pool.release(frame);
            }
            if errno == libc::ENOBUFS {
                turn.starved += 1;
            }
            let passes = errno == libc::ECANCELED || socket::passes(errno);
            return if passes { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
        }
        let Some(frame) = frame else { return Ok(()) };
        let Some((peer, bytes)) = unpack(pool, frame, completion.result() as usize) else {
            turn.dropped += 1;
            pool.release(frame);
            return Ok(());
        };
        pool.set_span(frame, HEADROOM_BYTES, bytes);
        turn.received += 1;
        sink(pool, Datagram { frame, from: Route { socket: index, peer } });
        Ok(())
    }

    pub(super) fn ended(&mut self, index: u8) {
        if let Some(source) = self.sources.get_mut(usize::from(index)) {
            source.state = State::Ended;
        }
    }

    /// The waker was read: the next turn listens again.
    pub(super) fn unlisten(&mut self) {
        self.listening = false;
    }

    /// Whether no request is under way.
    pub(super) fn is_quiet(&self) -> bool {
        !self.listening && self.sources.iter().all(|source| source.state != State::Armed)
    }

    /// Gives all lent frames back to their pool, once quiet. Datagrams in them that were not handed over are lost.
    pub(super) fn give_back(&mut self, ring: &IoUring, pool: &mut Pool) {
        self.lent.give_back(ring, pool);
    }
}

/// The sender and length of what the kernel wrote to a frame, `written` bytes with the headroom; none if the datagram was cut
/// short or comes from no address.
fn unpack(pool: &mut Pool, frame: FrameId, written: usize) -> Option<(std::net::SocketAddr, usize)> {
    let memory = pool.buffer_mut(frame);
    if !(HEADROOM_BYTES..=FRAME_BYTES).contains(&written) {
        return None;
    }
    // SAFETY: needed to read structures that the kernel wrote. The frame is longer than both (checked at compile time) and
    // `Head` is plain numbers, valid whatever the bytes are; the read does not ask for alignment.
    let head = unsafe { memory.as_ptr().cast::<Head>().read_unaligned() };
    // SAFETY: as above; a `Name` is plain numbers too.
    let name = unsafe { memory[size_of::<Head>()..].as_ptr().cast::<Name>().read_unaligned() };
    let cut = head.flags & libc::MSG_TRUNC as u32 != 0 || head.datagram_bytes as usize > DATAGRAM_BYTES;
    let peer = name.get((head.name_bytes as usize).min(NAME_BYTES))?;
    (!cut).then_some((peer, written - HEADROOM_BYTES))
}

/// Frames in the kernel's hands.
struct Lent {
    /// The ring through which they are lent: entries that we write, then publish by moving the tail.
    ring: Memory,
    tail: u16,
    /// The frame that each buffer number stands for.
    frames: Vec<Option<FrameId>>,
    /// Buffer numbers without a frame.
    idle: Vec<u16>,
    /// Keeps the frames' memory mapped, also if their pool is dropped first.
    memory: Option<Memory>,
}

impl Lent {
    fn new(ring: &IoUring, frames: usize) -> io::Result<Lent> {
        let memory = Memory::map(frames * size_of::<BufRingEntry>())?;
        // SAFETY: needed to lend frames without a system call each. The memory is page-aligned, zeroed, long enough, and
        // kept until the group is unregistered or the ring is gone quiet.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(memory.address().as_ptr() as u64, frames as u16, GROUP, 0)?
        };
        Ok(Lent {
            ring: memory,
            tail: 0,
            frames: vec![None; frames],
            idle: (0..frames as u16).rev().collect(),
            memory: None,
        })
    }

    fn is_empty(&self) -> bool {
        self.idle.len() == self.frames.len()
    }

    /// Lends frames until all buffer numbers have one or the pool is empty.
    fn replenish(&mut self, pool: &mut Pool) -> io::Result<()> {
        if !self.memory.get_or_insert_with(|| pool.memory().clone()).is(pool.memory()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a backend keeps to the pool of its first turn"));
        }
        let entries = self.ring.address().as_ptr().cast::<BufRingEntry>();
        let mask = self.frames.len() - 1;
        let before = self.tail;
        while let Some(&buffer) = self.idle.last() {
            let Some(frame) = pool.lend() else { break };
            self.idle.pop();
            self.frames[usize::from(buffer)] = Some(frame);
            // SAFETY: needed to write the ring. The index is masked to its length, and the kernel does not read an entry
            // before the tail has passed it: there are no more buffer numbers than entries, so this one is not in use.
            let entry = unsafe { &mut *entries.add(usize::from(self.tail) & mask) };
            entry.set_addr(pool.address(frame) as u64);
            entry.set_len(FRAME_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            // SAFETY: needed to publish the tail, which lies in the unused part of the first entry. The memory is mapped,
            // aligned, and written by nobody else; the kernel reads it atomically.
            let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
            tail.store(self.tail, Ordering::Release);
        }
        Ok(())
    }

    /// The frame of a buffer number, which is then idle.
    ///
    /// # Safety
    ///
    /// The kernel is done with the buffer.
    unsafe fn take_back(&mut self, buffer: u16, pool: &mut Pool) -> Option<FrameId> {
        let frame = self.frames.get_mut(usize::from(buffer))?.take()?;
        self.idle.push(buffer);
        // SAFETY: by this function's contract.
        unsafe { pool.reclaim(frame) };
        Some(frame)
    }

    fn give_back(&mut self, ring: &IoUring, pool: &mut Pool) {
        let ours = self.memory.as_ref().is_some_and(|memory| memory.is(pool.memory()));
        // Once the group is gone, the kernel has no way to the frames.
        if !ours || ring.submitter().unregister_buf_ring(GROUP).is_err() {
            return;
        }
        for buffer in 0..self.frames.len() as u16 {
            // SAFETY: no request is under way (the caller saw to that) and the group is unregistered.
            if let Some(frame) = unsafe { self.take_back(buffer, pool) } {
                pool.release(frame);
            }
        }
    }
}
