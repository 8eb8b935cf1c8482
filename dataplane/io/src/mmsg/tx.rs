//! Sending what was committed, in the order it was committed.

use std::{io, net::UdpSocket};

use sluice_frames::{Route, Turn};

use super::sys;
use crate::slots::Slots;

pub(super) struct Transmit {
    slots: Slots,
    /// Of each committed slot, counted from 0, its socket. All are sent at the next flush, which starts again at 0.
    sockets: Vec<u8>,
    /// Which sockets are IPv6 ones.
    families: Vec<bool>,
}

impl Transmit {
    pub(super) fn new(families: Vec<bool>, slots: usize) -> io::Result<Transmit> {
        Ok(Transmit { slots: Slots::new(slots)?, sockets: Vec::with_capacity(slots), families })
    }

    pub(super) fn slot(&mut self) -> Option<&mut [u8]> {
        let next = self.sockets.len();
        (next < self.slots.count()).then(|| self.slots.bytes_mut(next))
    }

    pub(super) fn commit(&mut self, bytes: usize, to: Route) {
        let slot = self.sockets.len();
        self.slots.address_to(slot, bytes, to.peer, self.families[usize::from(to.socket)]);
        self.sockets.push(to.socket);
    }

    /// One system call per run of datagrams through the same socket, and one more per refused datagram.
    pub(super) fn flush(&mut self, sockets: &[UdpSocket], turn: &mut Turn) {
        let mut next = 0;
        while next < self.sockets.len() {
            let socket = self.sockets[next];
            let run = self.sockets[next..].iter().take_while(|&&other| other == socket).count();
            // SAFETY: these slots were committed, so their headers describe them fully, and the call is over when it returns.
            let sent = unsafe { sys::send(&sockets[usize::from(socket)], self.slots.header(next), run) };
            match sent {
                Some(sent) => {
                    turn.sent += sent;
                    next += sent;
                }
                None => {
                    turn.send_errors += 1;
                    next += 1;
                }
            }
        }
        self.sockets.clear();
    }
}
