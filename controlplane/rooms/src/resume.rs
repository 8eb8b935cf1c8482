//! Resuming: a new socket for a session whose media goes on.

use std::time::Duration;

use livekit_protocol::{ParticipantInfo, ParticipantUpdate, ReconnectResponse, RoomUpdate, signal_response::Message};
use sluice_messages::Entry;
use sluice_signal::{Claims, ConnectParams};

use crate::{
    CloseReason, Notice, Rooms, SocketId,
    join::{JoinError, server_info},
    participant::{Participant, ParticipantKey, Role, Simulate},
    room::Room,
    settle::split,
    shared::Shared,
};

/// Departures from this long before the client was last heard are repeated: what was sent then may have been lost.
const OVERLAP: Duration = Duration::from_secs(5);

impl Rooms {
    /// A socket of a client that believes it has a session here.
    pub(crate) fn resume(
        &mut self,
        socket: SocketId,
        name: &str,
        claims: Claims,
        params: ConnectParams,
    ) -> Result<(), JoinError> {
        let sid = params.reconnect.as_ref().map(|reconnect| reconnect.sid.clone()).unwrap_or_default();
        let call = *self.names.get(name).ok_or(JoinError::Unknown)?;
        let Rooms { rooms, shared, touched, .. } = self;
        let room = rooms.get_mut(&call).ok_or(JoinError::Unknown)?;
        let participant = room.by_identity(&claims.sub).ok_or(JoinError::Unknown)?;
        // Every client names its sid; one that does not can only mean its identity's session.
        if participant.broken || (!sid.is_empty() && participant.sid != sid) {
            return Err(JoinError::Unknown);
        }
        let key = participant.key;
        touched.insert(call);
        room.resume(shared, key, socket, params);
        Ok(())
    }
}

impl Room {
    fn resume(&mut self, shared: &mut Shared, key: ParticipantKey, socket: SocketId, params: ConnectParams) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let heard_until = participant.last_heard;
        if let Some(old) = participant.socket.replace(socket) {
            shared.out.close(old, CloseReason::Replaced);
            shared.sockets.remove(&old);
        }
        shared.sockets.insert(socket, (self.call, key));
        participant.away_since = None;
        participant.last_heard = shared.now.monotonic;
        if params.client.protocol != 0 {
            participant.client = params.client;
        }
        shared.out.notice(Notice::ParticipantResumed {
            room: self.name.clone(),
            sid: participant.sid.clone(),
            identity: participant.identity().to_owned(),
        });
        let simulate = participant.simulate.take();
        if simulate == Some(Simulate::CloseBeforeReconnect) {
            self.drop_again(shared, key, socket);
            return;
        }
        let reconnect = ReconnectResponse {
            ice_servers: Vec::new(),
            client_configuration: None,
            server_info: Some(server_info(shared)),
            last_message_seq: 0,
        };
        shared.out.send(Some(socket), Message::Reconnect(reconnect));
        if simulate == Some(Simulate::CloseAfterReconnect) {
            self.drop_again(shared, key, socket);
            return;
        }

        self.tell_all(shared, key, socket, heard_until.saturating_sub(OVERLAP));
        self.refresh_token(shared, key);
        self.tell_speaking(shared, key);
        self.repeat_demand(shared, key);
        if !self.participants.get_mut(&key).is_some_and(Participant::is_moving) {
            self.restart_ice(shared, key);
        }
        self.changes.fresh.insert(key);
        self.changes.handles.insert(key);
        self.changes.notes.insert(key);
        self.await_deadline(shared, key);
    }

    fn drop_again(&mut self, shared: &mut Shared, key: ParticipantKey, socket: SocketId) {
        shared.out.close(socket, CloseReason::Simulated);
        self.lost_socket(shared, key);
    }

    /// Who left since, who is here, and the room.
    fn tell_all(&mut self, shared: &mut Shared, key: ParticipantKey, socket: SocketId, since: Duration) {
        // Whoever is back under another sid is not gone.
        let gone =
            self.departed.iter().filter(|(at, info)| *at >= since && !self.identities.contains_key(&info.identity));
        let mut infos: Vec<ParticipantInfo> = gone.map(|(_, info)| info.clone()).collect();
        let shown = self.participants.values().filter(|other| other.key == key || !other.permission.hidden);
        infos.extend(shown.map(|other| other.info()));
        for participants in split(infos) {
            shared.out.send(Some(socket), Message::Update(ParticipantUpdate { participants }));
        }
        let room = Some(self.info(shared));
        shared.out.send(Some(socket), Message::RoomUpdate(RoomUpdate { room }));
    }

    /// The client's address may have changed: new credentials on the connection that we offer. The client restarts the other
    /// one itself.
    fn restart_ice(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(node) = self.node.clone() else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let fresh = shared.dice.ice();
        let Some(subscriber) = participant.subscriber() else { return };
        subscriber.abandon_offer();
        subscriber.restart_ice(fresh);
        let ice = subscriber.ice().clone();
        if let Some(connection) = participant.connection_mut(Role::Subscriber) {
            connection.row.ice = ice;
            connection.trickled = false;
            connection.seen.clear();
            shared.put(&node, Entry::Transport(connection.row.clone()));
        }
        self.changes.receivers.insert(key);
    }
}
