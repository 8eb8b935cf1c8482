//! Sending into the network.

use std::net::SocketAddr;

use sluice_frames::{FRAME_BYTES, Route, Turn};

use super::sys::World;

/// Datagrams committed per turn at most: few enough that a test meets the limit.
const SLOTS: usize = 256;

pub(super) struct Transmit {
    addresses: Vec<SocketAddr>,
    slot: Box<[u8; FRAME_BYTES]>,
    committed: Vec<(Vec<u8>, Route)>,
}

impl Transmit {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Transmit {
        Transmit { addresses, slot: Box::new([0; FRAME_BYTES]), committed: Vec::with_capacity(SLOTS) }
    }

    pub(super) fn room(&self) -> usize {
        SLOTS - self.committed.len()
    }

    pub(super) fn slot(&mut self) -> Option<&mut [u8]> {
        (self.committed.len() < SLOTS).then_some(&mut self.slot[..])
    }

    pub(super) fn commit(&mut self, bytes: usize, to: Route) {
        assert!(self.committed.len() < SLOTS, "a slot was lent");
        self.committed.push((self.slot[..bytes].to_vec(), to));
    }

    pub(super) fn flush(&mut self, world: &mut World, turn: &mut Turn) {
        for (bytes, to) in self.committed.drain(..) {
            world.send(self.addresses[usize::from(to.socket)], to.peer, bytes);
            turn.sent += 1;
            turn.sends += 1;
        }
    }
}
