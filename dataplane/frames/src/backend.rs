//! What an I/O backend and its user promise each other.

use std::{io, net::SocketAddr, time::Duration};

use crate::{FrameId, Pool};

/// A 5-tuple as seen from here: one of the worker's sockets and the peer's address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// Index of the socket in the order in which the backend was given them.
    pub socket: u8,
    /// IPv4-mapped addresses are given as IPv4.
    pub peer: SocketAddr,
}

/// A received datagram. The receiver of this owns the frame and releases it.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    pub frame: FrameId,
    pub from: Route,
}

/// What happened in one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    pub received: usize,
    /// Datagrams longer than [`crate::DATAGRAM_BYTES`]: dropped.
    pub dropped: usize,
    /// Receives that found no free frame. Datagrams wait in the kernel's socket buffer, which drops what does not fit; the
    /// turn does not return early for them, as only the caller can free frames.
    pub starved: usize,
    /// Receives that the kernel ended and that were set up again (io_uring only): costs a system call's work each.
    pub rearmed: usize,
    /// Datagrams that were sent.
    pub sent: usize,
    /// Sends that took them: fewer, as a send takes a run of datagrams.
    pub sends: usize,
    /// Of the datagrams sent, those that went past the kernel's stack (AF_XDP only).
    pub sent_direct: usize,
    /// Sends whose segmentation was refused: their datagrams were sent one by one.
    pub unsegmented: usize,
    /// Datagrams that the kernel refused (no route, socket buffer full): lost like on any network, not tried again.
    pub send_errors: usize,
    /// Of these, datagrams longer than the path takes in one piece: they are never fragmented.
    pub send_too_long: usize,
    /// Somebody rang [the waker](Backend::turn).
    pub woken: bool,
}

/// Lends transmit slots. A slot is at least [`crate::FRAME_BYTES`] long.
pub trait Tx {
    /// The next free slot; none while all are in flight (call [`Backend::turn`]). The same slot is lent again until it
    /// is committed. Its contents are undefined: the caller writes all it commits.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// How many slots can be lent one after the other at least: none if [`Tx::slot`] lends none.
    fn room(&self) -> usize;

    /// Sends the first `bytes` of the slot lent last. Order per route is kept. It leaves with the next turn at the latest.
    ///
    /// Consecutive commits to one route with the same length, of which the last may be shorter, leave as one send where the
    /// system can cut it apart (UDP_SEGMENT): whoever commits in such runs pays the kernel's path once per run.
    fn commit(&mut self, bytes: usize, to: Route);
}

/// A way to the network: io_uring, recvmmsg/sendmmsg, AF_XDP, or simulated.
pub trait Backend: Tx {
    /// Submits what was committed, waits at most `wait` for a datagram or the waker (not at all if something is already
    /// there), and hands each received datagram over. Fails only where the worker cannot go on.
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn>;

    /// The datagram in `frame` proved that its sender is who it says (an authenticated check, RFC 8445 section 7.3): a
    /// backend that addresses frames by itself may send to that sender where the datagram came from, until told otherwise.
    fn validated(&mut self, _pool: &Pool, _frame: FrameId, _from: Route) {}

    /// Nobody is known at that route any more.
    fn forget(&mut self, _route: &Route) {}

    /// Stops receiving and gives the frames it holds for receiving back to the pool. What was committed since the last turn
    /// may not be sent, and no turn follows. Dropping a backend without this is sound, but its frames stay lent.
    fn close(&mut self, _pool: &mut Pool) {}
}
