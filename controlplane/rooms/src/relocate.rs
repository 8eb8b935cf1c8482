//! A call goes on at another node: everybody keeps sid, tracks and wishes, and gets other media keys.
//!
//! The new node knows nothing per packet. It has the ICE credentials that clients use already, so a trickled candidate that
//! is preferred to all before leads them there (a node that they have been at needs new credentials); its own certificate
//! in the next offer makes them renew DTLS. Only a client can offer the connection on which it publishes: it is told to
//! resume, which makes it do so.

use std::time::Duration;

use livekit_protocol::{DisconnectReason, leave_request};
use sluice_messages::Entry;
use sluice_signal::NodeInfo;

use crate::{
    NodeId, Notice, Rooms,
    limits::{MOVE_PATIENCE, MOVE_RESTART},
    participant::{Link, Negotiation, Participant, ParticipantKey, Role},
    room::{Leave, Room},
    shared::Shared,
};

impl Rooms {
    /// A node is given up: it is dead or cut off. Its calls go on at others; where there is no other, they wait for one.
    /// Nothing keeps a node that is merely cut off from forwarding to clients that have not moved yet.
    pub(crate) fn node_lost(&mut self, id: &NodeId) {
        let Some(node) = self.shared.nodes.get_mut(id) else { return };
        if node.down_since.is_none() {
            return;
        }
        node.lost = true;
        self.evacuate(id);
    }

    /// Moves the calls of lost nodes, after another has come.
    pub(crate) fn evacuate_lost(&mut self) {
        let lost = self.shared.nodes.iter().filter(|(_, node)| node.lost).map(|(id, _)| id.clone());
        for id in lost.collect::<Vec<_>>() {
            self.evacuate(&id);
        }
    }

    fn evacuate(&mut self, from: &NodeId) {
        let Rooms { rooms, shared, touched, .. } = self;
        let (mut moved, mut people) = (0, 0);
        for (&call, room) in rooms.iter_mut().filter(|(_, room)| room.node.as_ref() == Some(from)) {
            let Some(to) = shared.place(&room.name) else { return };
            touched.insert(call);
            (moved, people) = (moved + 1, people + room.participants.len());
            room.relocate(shared, to);
        }
        shared.nodes.remove(from);
        if moved > 0 {
            let node = from.0.clone();
            shared.out.notice(Notice::Relocated { node, rooms: moved, participants: people });
        }
    }
}

impl Room {
    /// What descriptions and candidates say of the call's node.
    pub(crate) fn node_info(&self, shared: &Shared) -> Option<NodeInfo> {
        let node = shared.nodes.get(self.node.as_ref()?)?;
        Some(NodeInfo { generation: self.moves, ..node.info.clone() })
    }

    /// Moves everybody.
    pub(crate) fn relocate(&mut self, shared: &mut Shared, to: NodeId) {
        self.node = Some(to.clone());
        self.moves += 1;
        self.changes.room_note = true;
        let now = shared.now.monotonic;
        for participant in self.participants.values_mut() {
            (participant.moved_at, participant.urged) = (Some(now), false);
            // What was sent under the old keys has used up indices that the new node cannot know of: SSRCs start anew. The
            // rows come back with the answer that accepts them.
            let seen = participant.connection(Role::Subscriber).is_some_and(|connection| connection.seen.contains(&to));
            let fresh = shared.dice.ice();
            if let Some(subscriber) = participant.subscriber() {
                subscriber.renew();
                if seen {
                    subscriber.restart_ice(fresh);
                }
            }
            participant.subscriptions.values_mut().for_each(|subscription| subscription.row = None);
            for connection in &mut participant.connections {
                connection.trickled = false;
                connection.link = Link::New;
                if let Negotiation::Subscriber(subscriber) = &connection.negotiation
                    && seen
                {
                    connection.row.ice = subscriber.ice().clone();
                    connection.seen.clear();
                }
                // Their association is with the old node; the new one restarts it.
                if let Some(data) = &mut connection.row.data {
                    data.streams = connection.streams;
                }
                shared.put(&to, Entry::Transport(connection.row.clone()));
            }
            for row in participant.tracks.iter().flat_map(|track| track.rows()) {
                shared.put(&to, Entry::Track(row.clone()));
            }
        }
        for row in self.data_rows() {
            shared.put(&to, row);
        }
        for key in self.participants.keys().copied().collect::<Vec<_>>() {
            self.changes.receivers.insert(key);
            self.changes.notes.insert(key);
            self.trickle(shared, key, Role::Subscriber);
            self.recall(shared, key);
            self.await_deadline(shared, key);
        }
    }

    /// Makes a client that publishes offer its connection again. Its socket stays, so that what it still says on it counts.
    fn recall(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get(&key) else { return };
        if participant.connection(Role::Publisher).is_some() {
            let action = leave_request::Action::Resume;
            let leave = Leave { reason: DisconnectReason::Migration, action };
            shared.out.send(participant.socket, leave.message());
        }
    }

    /// A client that has not arrived at the new node: it resumes, with new ICE credentials for both connections, and starts
    /// anew if that does not help either.
    pub(crate) fn move_due(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let now = shared.now.monotonic;
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(moved_at) = participant.moved_at else { return };
        if participant.has_arrived() || participant.socket.is_none() {
            participant.moved_at = None;
        } else if moved_at + MOVE_RESTART <= now {
            participant.moved_at = None;
            self.complain(shared, key, "transport: did not come to the new node");
            self.restart(shared, key, Some(Leave::reconnect(DisconnectReason::Migration)));
        } else if moved_at + MOVE_PATIENCE <= now && !std::mem::replace(&mut participant.urged, true) {
            self.suspend(shared, key, DisconnectReason::Migration);
        }
    }
}

impl Participant {
    /// All its connections are at the node of the call.
    fn has_arrived(&self) -> bool {
        self.connections.iter().all(|connection| connection.link == Link::Connected)
    }

    /// The move of its subscriber connection goes on by itself: the client has answered, and needs no other credentials.
    pub(crate) fn is_moving(&mut self) -> bool {
        let moving = self.moved_at.is_some() && !self.urged;
        moving && self.subscriber().is_some_and(|subscriber| subscriber.is_settled())
    }

    /// When to look whether it has arrived.
    pub(crate) fn move_deadline(&self) -> Option<Duration> {
        let moved_at = self.moved_at?;
        Some(moved_at + if self.urged { MOVE_RESTART } else { MOVE_PATIENCE })
    }
}
