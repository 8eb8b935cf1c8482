//! What all rooms use together: configuration, time, randomness, the node table, indexes, and the effects collected so far.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use livekit_protocol::signal_response::Message;
use sluice_messages::{CallId, Entry, Op, SendData, TrackId, TransportId};
use sluice_signal::NodeInfo;

use crate::{
    ApiAnswer, ApiError, CloseReason, Effect, NodeId, Notice, Now, ReplyId, RoomsConfig, Seed, SocketId, dice::Dice,
    participant::ParticipantKey, timers::Deadlines,
};

/// Where something belongs.
pub(crate) type Place = (CallId, ParticipantKey);

pub(crate) struct Shared {
    pub(crate) config: RoomsConfig,
    pub(crate) dice: Dice,
    pub(crate) now: Now,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) sockets: HashMap<SocketId, Place>,
    pub(crate) transports: HashMap<TransportId, Place>,
    pub(crate) tracks: HashMap<TrackId, Place>,
    pub(crate) deadlines: Deadlines,
    pub(crate) out: Out,
    last_key: u64,
}

/// A media node that has linked once.
pub(crate) struct Node {
    pub(crate) info: NodeInfo,
    /// When its link was lost; none while it is linked.
    pub(crate) down_since: Option<Duration>,
    /// It is given up: what it held goes to whoever comes.
    pub(crate) lost: bool,
}

impl Shared {
    pub(crate) fn new(config: RoomsConfig, seed: Seed) -> Shared {
        Shared {
            config,
            dice: Dice::new(seed),
            now: Now { monotonic: Duration::ZERO, unix_ms: 0 },
            nodes: BTreeMap::new(),
            sockets: HashMap::new(),
            transports: HashMap::new(),
            tracks: HashMap::new(),
            deadlines: Deadlines::default(),
            out: Out::default(),
            last_key: 0,
        }
    }

    /// Keys grow: the order of keys is the order of joining.
    pub(crate) fn key(&mut self) -> ParticipantKey {
        self.last_key += 1;
        ParticipantKey(self.last_key)
    }

    /// Queues a change of a node's table. A node that is away gets a snapshot when it returns.
    pub(crate) fn op(&mut self, node: &NodeId, op: Op) {
        if self.is_up(node) {
            self.out.ops.entry(node.clone()).or_default().push(op);
        }
    }

    pub(crate) fn put(&mut self, node: &NodeId, entry: Entry) {
        self.op(node, Op::Put(entry));
    }

    pub(crate) fn is_up(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| node.down_since.is_none())
    }

    /// The linked node with the highest rendezvous weight for a room: adding or removing a node moves only its share.
    pub(crate) fn place(&self, room: &str) -> Option<NodeId> {
        let linked = self.nodes.iter().filter(|(_, node)| node.down_since.is_none());
        linked.max_by_key(|(id, _)| rendezvous(&id.0, room)).map(|(id, _)| id.clone())
    }
}

/// FNV-1a over both names with a final mix: the same on every control instance and in every version, which std's hasher is not.
fn rendezvous(node: &str, room: &str) -> u64 {
    let bytes = node.bytes().chain([0]).chain(room.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Effects of one command: changes of nodes go first, so that a node knows a transport before its client is told of it.
#[derive(Default)]
pub(crate) struct Out {
    ops: BTreeMap<NodeId, Vec<Op>>,
    rest: Vec<Effect>,
    /// Nodes that get their whole table instead of changes.
    pub(crate) snapshots: BTreeSet<NodeId>,
}

impl Out {
    pub(crate) fn send(&mut self, socket: Option<SocketId>, message: Message) {
        if let Some(socket) = socket {
            self.rest.push(Effect::Send { socket, message });
        }
    }

    /// The same to several: it is encoded once.
    pub(crate) fn tell(&mut self, sockets: Vec<SocketId>, message: Message) {
        match sockets[..] {
            [] => {}
            [socket] => self.send(Some(socket), message),
            _ => self.rest.push(Effect::Tell { sockets, message }),
        }
    }

    pub(crate) fn close(&mut self, socket: SocketId, reason: CloseReason) {
        self.rest.push(Effect::Close { socket, reason });
    }

    pub(crate) fn refresh(&mut self, socket: SocketId, claims: sluice_signal::Claims) {
        self.rest.push(Effect::RefreshToken { socket, claims: Box::new(claims) });
    }

    pub(crate) fn reply(&mut self, reply: ReplyId, result: Result<ApiAnswer, ApiError>) {
        self.rest.push(Effect::Reply { reply, result });
    }

    pub(crate) fn node_send(&mut self, node: NodeId, data: SendData) {
        self.rest.push(Effect::NodeSend { node, data });
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.rest.push(Effect::Notice(notice));
    }

    /// Everything collected, in the order to carry it out. `table` makes the snapshots.
    pub(crate) fn take(&mut self, table: impl Fn(&NodeId) -> Vec<Entry>) -> Vec<Effect> {
        let mut effects = Vec::with_capacity(self.ops.len() + self.snapshots.len() + self.rest.len());
        for node in std::mem::take(&mut self.snapshots) {
            self.ops.remove(&node);
            let entries = table(&node);
            effects.push(Effect::NodeSnapshot { node, entries });
        }
        effects.extend(std::mem::take(&mut self.ops).into_iter().map(|(node, ops)| Effect::Node { node, ops }));
        effects.append(&mut self.rest);
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_a_node_moves_only_its_rooms() {
        let nodes = ["a", "b", "c", "d"];
        let best =
            |nodes: &[&'static str], room: &str| *nodes.iter().max_by_key(|node| rendezvous(node, room)).unwrap();
        let mut counts = BTreeMap::new();
        for i in 0..4_000 {
            let room = format!("room-{i}");
            let before = best(&nodes, &room);
            *counts.entry(before).or_insert(0) += 1;
            let after = best(&nodes[..3], &room);
            assert!(before == "d" || before == after, "{room} moved from {before} to {after}");
        }
        assert!(counts.values().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
    }
}
