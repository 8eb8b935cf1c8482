//! Media nodes: their links come and go, and a restarted control plane gets its rooms back from them.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol::DisconnectReason;
use sluice_messages::{CallId, Entry, Event, Hello, Note, TrackId, TransportId};
use sluice_signal::NodeInfo;

use crate::{
    NodeId, NodeState, Notice, Rooms,
    limits::NODES_MAX,
    note::{self, ParticipantNote, RoomNote},
    participant::{ParticipantKey, Subscription},
    room::{Leave, Room},
    shared::Node,
    timers::Waiter,
};

impl Rooms {
    pub(crate) fn node_up(&mut self, hello: Hello, state: Option<NodeState>) {
        let id = NodeId(hello.node.clone());
        let info = NodeInfo { fingerprint: hello.fingerprint, candidates: hello.addresses, generation: 0 };
        let old = self.shared.nodes.get(&id);
        if old.is_none() && self.shared.nodes.len() >= NODES_MAX {
            return;
        }
        // A node that shows another certificate or has an empty table was restarted: its DTLS associations are gone. Clients
        // renew theirs where the certificate is another one, and would keep them where it is not.
        let renewed = old.is_some_and(|old| old.info.fingerprint != info.fingerprint);
        self.shared.nodes.insert(id.clone(), Node { info, down_since: None, lost: false });
        self.shared.out.snapshots.insert(id.clone());
        if renewed {
            self.relocate_onto(&id);
        } else if hello.entries == 0 {
            self.restart_all(&id);
        }
        let events = match state {
            Some(state) => {
                self.restore(&id, state.entries);
                state.events
            }
            None => Vec::new(),
        };
        for event in events {
            self.node_event(&id, event);
        }
        self.evacuate_lost();
    }

    pub(crate) fn node_down(&mut self, id: &NodeId) {
        let now = self.shared.now.monotonic;
        let Some(node) = self.shared.nodes.get_mut(id) else { return };
        node.down_since.get_or_insert(now);
    }

    fn relocate_onto(&mut self, id: &NodeId) {
        let Rooms { rooms, shared, touched, .. } = self;
        for (&call, room) in rooms.iter_mut().filter(|(_, room)| room.node.as_ref() == Some(id)) {
            touched.insert(call);
            room.relocate(shared, id.clone());
        }
    }

    fn restart_all(&mut self, id: &NodeId) {
        for (&call, room) in self.rooms.iter_mut().filter(|(_, room)| room.node.as_ref() == Some(id)) {
            for key in room.participants.keys().copied().collect::<Vec<_>>() {
                room.restart(&mut self.shared, key, Some(Leave::reconnect(DisconnectReason::Migration)));
            }
            self.touched.insert(call);
        }
    }

    pub(crate) fn node_event(&mut self, node: &NodeId, event: Event) {
        let place = match &event {
            Event::Transport { transport, .. }
            | Event::Quality { transport, .. }
            | Event::Channel { transport, .. } => self.shared.transports.get(transport),
            Event::Forwarding { receiver, .. } => self.shared.transports.get(receiver),
            Event::Speakers { call, .. } => Some(&(*call, ParticipantKey(0))),
            Event::Layers { track, .. } => self.shared.tracks.get(track),
            Event::TrackStarted { .. } | Event::Counters { .. } => None,
        };
        let Some(&(call, key)) = place else { return };
        let Rooms { rooms, shared, touched, .. } = self;
        let Some(room) = rooms.get_mut(&call).filter(|room| room.node.as_ref() == Some(node)) else { return };
        touched.insert(call);
        match event {
            Event::Transport { transport, state } => room.transport_event(shared, key, transport, &state),
            Event::Channel { transport, kind, stream } => room.channel_event(key, transport, kind, stream),
            Event::Quality { transport, quality } => room.quality_event(shared, key, transport, quality),
            Event::Forwarding { track, encoding, .. } => room.forwarding_event(shared, key, track, encoding),
            Event::Speakers { speakers, .. } => room.speakers_event(shared, &speakers),
            Event::Layers { track, live } => room.layers_event(key, track, &live),
            Event::TrackStarted { .. } | Event::Counters { .. } => {}
        }
    }

    /// The table that a node shall hold.
    pub(crate) fn table(rooms: &HashMap<CallId, Room>, id: &NodeId) -> Vec<Entry> {
        let mut entries = Vec::new();
        for room in rooms.values().filter(|room| room.node.as_ref() == Some(id)) {
            entries.push(Entry::Note(Note { key: note::room_key(&room.name), bytes: room.note() }));
            for participant in room.participants.values() {
                let key = note::participant_key(&room.name, &participant.sid);
                entries.push(Entry::Note(Note { key, bytes: participant.note(&room.name) }));
                entries.extend(participant.connections.iter().map(|c| Entry::Transport(c.row.clone())));
                entries.extend(participant.tracks.iter().flat_map(|t| t.rows()).cloned().map(Entry::Track));
            }
            // After all tracks: a subscription names one.
            let subscriptions = room.participants.values().flat_map(|participant| participant.subscriptions.values());
            entries.extend(subscriptions.filter_map(|s| s.row.clone()).map(Entry::Subscription));
            entries.extend(room.data_rows());
        }
        entries
    }

    /// Rebuilds the rooms that a node holds and this control does not know.
    fn restore(&mut self, id: &NodeId, entries: Vec<Entry>) {
        let mut transports = HashMap::new();
        let mut tracks = HashMap::new();
        let mut subscriptions: HashMap<(TransportId, TrackId), sluice_messages::Subscription> = HashMap::new();
        let mut rooms: Vec<RoomNote> = Vec::new();
        let mut participants: BTreeMap<String, Vec<ParticipantNote>> = BTreeMap::new();
        for entry in entries {
            match entry {
                Entry::Transport(row) => drop(transports.insert(row.id, row)),
                Entry::Track(row) => drop(tracks.insert(row.id, row)),
                Entry::Subscription(row) => drop(subscriptions.insert((row.receiver, row.track), row)),
                // The notes say as much.
                Entry::DataTrack(_) | Entry::DataSubscription(_) => {}
                // Nobody asks for calls on several nodes yet.
                Entry::Relay(_) | Entry::RelayTrack(_) => {}
                Entry::Note(entry) if entry.key.starts_with("room/") => {
                    rooms.extend(note::read::<RoomNote>(&entry.bytes))
                }
                Entry::Note(entry) => {
                    if let Some(participant) = note::read::<ParticipantNote>(&entry.bytes) {
                        participants.entry(participant.room.clone()).or_default().push(participant);
                    }
                }
            }
        }
        let (mut restored_rooms, mut restored) = (0, 0);
        for note in rooms {
            if !self.may_restore(&note.name) {
                continue;
            }
            let notes = participants.remove(&note.name).unwrap_or_default();
            let room = note.restore(&mut self.shared, id.clone());
            let call = room.call;
            self.names.insert(room.name.clone(), call);
            self.touched.insert(call);
            self.rooms.insert(call, room);
            restored_rooms += 1;
            let Rooms { rooms, shared, .. } = self;
            let Some(room) = rooms.get_mut(&call) else { continue };
            let mut received = Vec::new();
            for mut note in notes {
                let ids = std::mem::take(&mut note.subscriptions);
                let data = std::mem::take(&mut note.data.received);
                if let Some(participant) = note.restore(shared, id, &mut transports, &mut tracks) {
                    received.push((room.readmit(shared, participant), ids, data));
                }
            }
            restored += received.len();
            for (key, ids, data) in received {
                room.resubscribe(key, &ids, &mut subscriptions);
                room.resubscribe_data(key, &data);
                room.reconsider_receiver(shared, key);
            }
            if let Some(at) = room.closes_at(shared) {
                shared.deadlines.no_later(Waiter::Room(call), at);
            }
        }
        let node = id.0.clone();
        self.shared.out.notice(Notice::Restored { node, rooms: restored_rooms, participants: restored });
    }

    /// A room that was made through the API before the node came, and that nobody joined, gives way to its former self.
    fn may_restore(&mut self, name: &str) -> bool {
        let Some(call) = self.names.get(name) else { return true };
        let unused = self.rooms.get(call).is_none_or(|room| room.participants.is_empty());
        if unused {
            self.shared.deadlines.forget(&Waiter::Room(*call));
            self.touched.remove(call);
            self.rooms.remove(call);
        }
        unused
    }
}

impl Room {
    /// Puts a restored participant back. It has the resume window to come with a new socket.
    fn readmit(
        &mut self,
        shared: &mut crate::shared::Shared,
        mut participant: crate::participant::Participant,
    ) -> ParticipantKey {
        let key = shared.key();
        participant.key = key;
        for connection in &participant.connections {
            shared.transports.insert(connection.transport, (self.call, key));
        }
        for track in participant.tracks.iter().filter(|track| track.is_live()) {
            shared.tracks.extend(track.rows().map(|row| (row.id, (self.call, key))));
            self.tracks.insert(track.info.sid.clone(), (key, track.id));
        }
        self.readmit_data(key, &participant);
        self.identities.insert(participant.identity().to_owned(), key);
        self.participants.insert(key, participant);
        self.was_joined = true;
        self.empty_since = None;
        self.await_deadline(shared, key);
        key
    }

    /// Puts back what a restored participant receives.
    fn resubscribe(
        &mut self,
        key: ParticipantKey,
        ids: &[TrackId],
        rows: &mut HashMap<(TransportId, TrackId), sluice_messages::Subscription>,
    ) {
        let owners: HashMap<TrackId, ParticipantKey> = self.tracks.values().map(|&(owner, id)| (id, owner)).collect();
        for &id in ids {
            let Some(participant) = self.participants.get_mut(&key) else { return };
            let Some(&owner) = owners.get(&id) else {
                if let Some(subscriber) = participant.subscriber() {
                    subscriber.remove(id);
                }
                continue;
            };
            let receiver = participant.connection(crate::participant::Role::Subscriber).map(|c| c.transport);
            let negotiated = participant.subscriber().and_then(|subscriber| subscriber.subscription(id));
            let source = negotiated.as_ref().map(|negotiated| negotiated.source);
            let row = receiver.zip(source).and_then(|key| rows.remove(&key));
            if row.is_none() && negotiated.is_some_and(|negotiated| !negotiated.payloads.is_empty()) {
                // The node has stopped it: it starts anew, with another SSRC, if it is still wanted.
                participant.subscriber().map(|subscriber| subscriber.remove(id));
                continue;
            }
            participant.subscriptions.insert(id, Subscription { owner, source, row, paused: false });
            if let Some(track) = self.track_mut(owner, id).filter(|_| source.is_some()) {
                track.receivers.insert(key);
            }
        }
    }
}
