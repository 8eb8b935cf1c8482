//! Receiving what has arrived.

use std::{cell::RefCell, time::Duration};

use sluice_frames::{DATAGRAM_BYTES, Datagram, Pool, Route, Turn};

use super::sys::World;

/// Datagrams per turn at most, as with a real backend's batch.
const BATCH: usize = 1024;

pub(super) struct Receive {
    /// Which endpoint of the world this is.
    endpoint: usize,
}

impl Receive {
    pub(super) fn new(endpoint: usize) -> Receive {
        Receive { endpoint }
    }

    pub(super) fn next_arrival(&self, world: &World) -> Option<Duration> {
        world.next_arrival_at(self.endpoint)
    }

    /// The world is borrowed only between calls of the sink, which may use the network.
    pub(super) fn batch(
        &mut self,
        world: &RefCell<World>,
        pool: &mut Pool,
        turn: &mut Turn,
        sink: &mut dyn FnMut(&mut Pool, Datagram),
    ) {
        for _ in 0..BATCH {
            if !world.borrow().has_arrived(self.endpoint) {
                return;
            }
            let Some(frame) = pool.take() else {
                turn.starved += 1;
                return;
            };
            let arrived = world.borrow_mut().receive(self.endpoint);
            let Some((socket, peer, bytes)) = arrived.filter(|(_, _, bytes)| bytes.len() <= DATAGRAM_BYTES) else {
                turn.dropped += 1;
                pool.release(frame);
                continue;
            };
            pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(&bytes);
            pool.set_len(frame, bytes.len());
            turn.received += 1;
            sink(pool, Datagram { frame, from: Route { socket, peer } });
        }
    }
}
