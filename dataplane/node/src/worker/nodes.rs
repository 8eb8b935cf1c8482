//! What a worker knows about relays to other nodes: whose a datagram is by where it comes from and by the SSRC of its sender, which
//! both RTP and RTCP carry in clear.

use std::{collections::HashMap, net::SocketAddr};

use sluice_forwarder::Input;
use sluice_frames::{FrameId, Route};
use sluice_messages::{Relay, TransportId};
use sluice_wire::{Micros, PacketClass};

use super::{WorkerIndex, run::Worker};

/// Relays of a node at most, on all its workers; those beyond it get nothing. Each call has a few to each of its other nodes;
/// raising it costs about 60 bytes each on each worker.
pub(crate) const RELAYS_MAX: usize = 16_384;

/// All relays of the node.
pub(crate) struct Nodes {
    owners: HashMap<(SocketAddr, u32), (TransportId, WorkerIndex)>,
    /// Where our sockets are bound.
    sockets: Vec<SocketAddr>,
    /// Which worker this is.
    own: WorkerIndex,
}

impl Nodes {
    /// `sockets` are in the order of [`Route::socket`].
    pub(crate) fn new(sockets: Vec<SocketAddr>, own: usize) -> Nodes {
        Nodes { owners: HashMap::new(), sockets, own: own as WorkerIndex }
    }

    /// False: there is no room.
    fn put(&mut self, address: SocketAddr, ssrc: u32, owner: Option<(TransportId, usize)>) -> bool {
        let key = (canonical(address), Relay::first(ssrc));
        let Some((transport, worker)) = owner else {
            self.owners.remove(&key);
            return true;
        };
        if self.owners.len() >= RELAYS_MAX && !self.owners.contains_key(&key) {
            return false;
        }
        self.owners.insert(key, (transport, worker as WorkerIndex));
        true
    }

    /// The way to another node: by the first of our sockets that can send there.
    fn route(&self, peer: SocketAddr) -> Route {
        let peer = canonical(peer);
        let socket = self.sockets.iter().position(|own| own.is_ipv4() == peer.is_ipv4()).unwrap_or(0);
        Route { socket: socket as u8, peer }
    }

    fn owner(&self, from: &Route, ssrc: u32) -> Option<(TransportId, WorkerIndex)> {
        self.owners.get(&(from.peer, Relay::first(ssrc))).copied()
    }
}

/// As routes have it: IPv4-mapped addresses are IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// SSRC of the sender (RFC 3550 sections 5.1 and 6.4.1).
fn sender(class: PacketClass, datagram: &[u8]) -> Option<u32> {
    let at = if class == PacketClass::Rtp { 8 } else { 4 };
    datagram.get(at..at + 4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

impl Worker {
    /// All relays of the node are told to all workers.
    pub(super) fn tell_relay(&mut self, address: SocketAddr, ssrc: u32, owner: Option<(TransportId, usize)>) {
        if !self.nodes.put(address, ssrc, owner) {
            self.counted.worker.directory_full.add(1);
        }
    }

    /// A relay of ours knows its way from the start.
    pub(super) fn route_relay(&mut self, now: Micros, relay: &Relay) {
        tracing::debug!(call = relay.call.0, node = relay.peer, address = %relay.address, "relay to another node");
        let input = Input::Route { transport: relay.id, route: self.nodes.route(relay.address) };
        self.forwarder.input(now, input, &mut self.pool);
    }

    /// Media from a 5-tuple that no client validated: from another node or from a stranger.
    pub(super) fn unknown(
        &mut self,
        now: Micros,
        class: PacketClass,
        frame: FrameId,
        from: Route,
        via: Option<WorkerIndex>,
    ) {
        let ssrc = sender(class, self.pool.bytes(frame));
        match ssrc.and_then(|ssrc| self.nodes.owner(&from, ssrc)) {
            // The forwarder keeps the frame.
            Some((transport, owner)) if owner == self.nodes.own => {
                return self.forwarder.input(now, Input::Datagram { transport, frame }, &mut self.pool);
            }
            Some((_, owner)) if via.is_none() => self.hand_over(owner, frame, from),
            _ => self.unvalidated(frame, from, via),
        }
        self.pool.release(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_between_two_ports_are_told_apart_by_their_ssrcs() {
        let sockets = vec!["[::]:7000".parse().unwrap(), "0.0.0.0:7000".parse().unwrap()];
        let mut nodes = Nodes::new(sockets, 0);
        let peer: SocketAddr = ([192, 0, 2, 1], 7000).into();
        let route = nodes.route(peer);
        assert_eq!(route, Route { socket: 1, peer });
        assert_eq!(nodes.route("[::ffff:192.0.2.1]:7000".parse().unwrap()), route);
        assert!(nodes.put(peer, 3 * Relay::SSRCS, Some((TransportId(1), 0))));
        assert!(nodes.put(peer, 4 * Relay::SSRCS, Some((TransportId(2), 1))));
        let of = |nodes: &Nodes, class, ssrc: u32| {
            let mut datagram = [0; 12];
            let at = if class == PacketClass::Rtp { 8 } else { 4 };
            datagram[at..at + 4].copy_from_slice(&ssrc.to_be_bytes());
            nodes.owner(&route, sender(class, &datagram).unwrap())
        };
        assert_eq!(of(&nodes, PacketClass::Rtp, 3 * Relay::SSRCS + 17), Some((TransportId(1), 0)));
        assert_eq!(of(&nodes, PacketClass::Rtcp, 4 * Relay::SSRCS), Some((TransportId(2), 1)));
        assert_eq!(of(&nodes, PacketClass::Rtp, 5 * Relay::SSRCS), None);
        assert_eq!(sender(PacketClass::Rtp, &[0x80; 11]), None);
        let stranger = Route { peer: ([192, 0, 2, 2], 7000).into(), ..route };
        assert_eq!(nodes.owner(&stranger, 3 * Relay::SSRCS), None);
        nodes.put(peer, 3 * Relay::SSRCS, None);
        assert_eq!(of(&nodes, PacketClass::Rtp, 3 * Relay::SSRCS + 17), None);
    }

    #[test]
    fn they_are_bounded() {
        let mut nodes = Nodes::new(Vec::new(), 0);
        let put = |nodes: &mut Nodes, n: usize| {
            nodes.put(([192, 0, 2, 1], 7).into(), n as u32 * Relay::SSRCS, Some((TransportId(n as u64), 0)))
        };
        assert!((0..RELAYS_MAX).all(|n| put(&mut nodes, n)));
        assert!(!put(&mut nodes, RELAYS_MAX));
        assert!(put(&mut nodes, 3), "who is there stays");
    }
}
