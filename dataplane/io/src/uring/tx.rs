//! Sending: a request per run, queued in the order of the commits and issued in that order.

use std::{io, net::UdpSocket, os::fd::AsRawFd};

use io_uring::{IoUring, cqueue, opcode, types::Fd};
use sluice_frames::{Route, Turn};

use super::sys::{self, Request};
use crate::runs::Runs;

/// Do not wait for room in the socket's buffer: a send that waited would be overtaken by later ones, so a full buffer is a
/// counted loss, as with the other backends. And so sends complete while they are submitted.
const FLAGS: u32 = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;

pub(super) struct Transmit {
    runs: Runs,
    /// Runs that were queued; those behind are still open to more.
    queued: usize,
    /// Of the queued ones, those that have ended.
    ended: usize,
    sockets: Vec<UdpSocket>,
}

impl Transmit {
    pub(super) fn new(
        sockets: Vec<UdpSocket>,
        families: &[bool],
        slots: usize,
        segments_max: usize,
    ) -> io::Result<Transmit> {
        Ok(Transmit { runs: Runs::new(slots, families, segments_max)?, queued: 0, ended: 0, sockets })
    }

    pub(super) fn room(&self) -> usize {
        self.runs.room()
    }

    pub(super) fn slot(&mut self) -> Option<&mut [u8]> {
        self.runs.slot()
    }

    pub(super) fn commit(&mut self, bytes: usize, to: Route) {
        self.runs.commit(bytes, to, self.queued);
    }

    /// Queues what was committed.
    pub(super) fn queue(&mut self, ring: &mut IoUring) {
        while self.queued < self.runs.count() {
            let run = self.queued;
            self.queued += 1;
            self.runs.describe(run);
            let header = self.runs.header(run);
            let fd = Fd(self.sockets[self.runs.socket(run)].as_raw_fd());
            // SAFETY: needed to name a field of the header without a reference to it; it is inside the vector.
            let message = unsafe { &raw const (*header).msg_hdr };
            let entry =
                opcode::SendMsg::new(fd, message).flags(FLAGS).build().user_data(Request::Send(run as u16).number());
            // SAFETY: the header and all it points to belong to `runs`, never move, are not written until the arena is
            // cleared, which waits for the last run to end, and are let go only once the ring is quiet (see the module's
            // text).
            unsafe { sys::push(ring, &entry) };
        }
    }

    pub(super) fn completed(&mut self, run: u16, completion: &cqueue::Entry, turn: &mut Turn) {
        let run = usize::from(run);
        if completion.result() < 0 {
            self.runs.refused(run, &self.sockets[self.runs.socket(run)], -completion.result(), turn);
        } else {
            self.runs.sent(run, turn);
        }
        self.ended += 1;
        if self.is_quiet() && self.queued == self.runs.count() {
            self.runs.clear();
            (self.queued, self.ended) = (0, 0);
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.queued - self.ended
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight() == 0
    }
}
