//! Sending: a request per datagram, queued in the order of the commits and issued in that order.

use std::{io, net::UdpSocket, os::fd::AsRawFd};

use io_uring::{IoUring, cqueue, opcode, types::Fd};
use sluice_frames::{Route, Turn};

use super::sys::{self, Request};
use crate::slots::Slots;

/// Do not wait for room in the socket's buffer: a send that waited would be overtaken by later ones, so a full buffer is a
/// counted loss, as with the other backends. And so sends complete while they are submitted.
const FLAGS: u32 = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;

pub(super) struct Transmit {
    slots: Slots,
    /// Slots that are not in flight; the last one is lent next, so that few slots with warm memory do most of the work.
    free: Vec<u16>,
    sockets: Vec<UdpSocket>,
    /// Which sockets are IPv6 ones.
    families: Vec<bool>,
}

impl Transmit {
    pub(super) fn new(sockets: Vec<UdpSocket>, families: Vec<bool>, slots: usize) -> io::Result<Transmit> {
        Ok(Transmit { slots: Slots::new(slots)?, free: (0..slots as u16).rev().collect(), sockets, families })
    }

    pub(super) fn slot(&mut self) -> Option<&mut [u8]> {
        let &slot = self.free.last()?;
        Some(self.slots.bytes_mut(usize::from(slot)))
    }

    pub(super) fn commit(&mut self, ring: &mut IoUring, bytes: usize, to: Route) {
        let slot = self.free.pop().expect("a slot was lent");
        let socket = usize::from(to.socket);
        self.slots.address_to(usize::from(slot), bytes, to.peer, self.families[socket]);
        let header = self.slots.header(usize::from(slot));
        let fd = Fd(self.sockets[socket].as_raw_fd());
        // SAFETY: needed to name a field of the header without a reference to it; it is inside the vector.
        let message = unsafe { &raw const (*header).msg_hdr };
        let entry = opcode::SendMsg::new(fd, message).flags(FLAGS).build().user_data(Request::Send(slot).number());
        // SAFETY: the header and all it points to belong to `slots`, never move, are not written while the slot is missing
        // from `free`, and are let go only once the ring is quiet (see the module's text).
        unsafe { sys::push(ring, &entry) };
    }

    pub(super) fn completed(&mut self, slot: u16, completion: &cqueue::Entry, turn: &mut Turn) {
        self.free.push(slot);
        if completion.result() < 0 {
            turn.send_errors += 1;
        } else {
            turn.sent += 1;
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.count() - self.free.len()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight() == 0
    }
}
