//! What forwarders of one node say to each other: by the same lanes as datagrams that belong to a sibling.

use sluice_forwarder::Relay;

use super::{WorkerIndex, run::Worker};

impl Worker {
    /// Hands what our forwarder says to each sibling it is for: one copy of a packet each.
    pub(super) fn relay(&mut self, relay: Relay) {
        let bytes = relay.frame.map_or(&[][..], |frame| self.pool.bytes(frame));
        let mut to = relay.to;
        while to != 0 {
            let sibling = to.trailing_zeros() as WorkerIndex;
            to &= to - 1;
            if !self.siblings.relay(sibling, relay.what, bytes) {
                self.counted.worker.drop_relay_full.add(1);
            }
        }
        if let Some(frame) = relay.frame {
            self.pool.release(frame);
        }
    }
}
