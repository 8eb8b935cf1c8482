//! Receiving a batch straight into frames.

use std::{io, net::UdpSocket};

use sluice_frames::{DATAGRAM_BYTES, Datagram, FrameId, Pool, Route, Turn};

use super::sys;
use crate::address::{NAME_BYTES, Name};

/// Datagrams per system call and socket. More amortises the call further, but the first datagram waits for the last to be
/// copied; 64 copies take about 30 µs, and beyond it the call is already below a tenth of the cost.
const BATCH: usize = 64;

pub(super) struct Receive {
    frames: Vec<FrameId>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<Name>,
}

// SAFETY: needed so that a backend can be made on one thread and run on another. The raw pointers are set anew before each
// system call and not used after it.
unsafe impl Send for Receive {}

impl Receive {
    pub(super) fn new() -> Receive {
        // SAFETY: needed for values to start with. All-zero is valid for both structures: numbers and null pointers.
        let (header, vector) = unsafe { (std::mem::zeroed::<libc::mmsghdr>(), std::mem::zeroed::<libc::iovec>()) };
        Receive {
            frames: Vec::with_capacity(BATCH),
            headers: vec![header; BATCH],
            vectors: vec![vector; BATCH],
            names: vec![Name::EMPTY; BATCH],
        }
    }

    /// Hands over what is there, up to [`BATCH`] datagrams. More are there at the next turn.
    pub(super) fn batch(
        &mut self,
        socket: &UdpSocket,
        index: u8,
        pool: &mut Pool,
        turn: &mut Turn,
        sink: &mut dyn FnMut(&mut Pool, Datagram),
    ) -> io::Result<()> {
        self.frames.extend(std::iter::from_fn(|| pool.take()).take(BATCH));
        let wanted = self.frames.len();
        if wanted == 0 {
            turn.starved += 1;
            return Ok(());
        }
        let (vectors, names) = (self.vectors.as_mut_ptr(), self.names.as_mut_ptr());
        for (at, &frame) in self.frames.iter().enumerate() {
            // SAFETY: needed to point the kernel at memory; `at` is below BATCH, the length of both vectors.
            let (vector, name) = unsafe { (vectors.add(at), names.add(at)) };
            // SAFETY: as above; nobody else refers to this element.
            unsafe { *vector = libc::iovec { iov_base: pool.address(frame).cast(), iov_len: DATAGRAM_BYTES } };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = name.cast();
            header.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_flags = 0;
        }
        // SAFETY: `wanted` headers were set up just now, each with memory of a frame that was taken here and that nobody
        // else knows; the call is over when it returns.
        let received = unsafe { sys::receive(socket, self.headers.as_mut_ptr(), wanted) };
        let count = *received.as_ref().unwrap_or(&0);
        for (at, frame) in self.frames.drain(..).enumerate() {
            if at >= count {
                pool.release(frame);
                continue;
            }
            let header = &self.headers[at];
            let peer = self.names[at].get(header.msg_hdr.msg_namelen as usize);
            let (Some(peer), 0) = (peer, header.msg_hdr.msg_flags & libc::MSG_TRUNC) else {
                turn.dropped += 1;
                pool.release(frame);
                continue;
            };
            pool.set_len(frame, header.msg_len as usize);
            turn.received += 1;
            sink(pool, Datagram { frame, from: Route { socket: index, peer } });
        }
        received.map(drop)
    }
}
