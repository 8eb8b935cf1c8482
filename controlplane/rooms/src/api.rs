//! The server API: calls of `livekit.RoomService`.

use std::time::Duration;

use livekit_protocol::{
    self as proto, DataPacket, DisconnectReason, UpdateSubscription, UserPacket, data_packet, signal_response::Message,
};
use prost::Message as _;
use sluice_messages::{DataKind, Entry, SendData};
use sluice_signal::{Permission, VideoGrant, grants};

use crate::{
    ApiAnswer, ApiCall, ApiCode, ApiError, Rooms,
    limits::{DATA_BYTES_MAX, METADATA_BYTES_MAX, NONCES_MAX, PARTICIPANTS_MAX, SIDS_MAX},
    participant::{ParticipantKey, Role},
    room::{Leave, Room},
    session::profile_fits,
    shared::Shared,
    timers::Waiter,
};

type Answer = Result<ApiAnswer, ApiError>;

impl Rooms {
    pub(crate) fn api(&mut self, call: ApiCall) -> Answer {
        match call {
            ApiCall::CreateRoom(request) => self.create_room(request),
            ApiCall::ListRooms(request) => Ok(self.list_rooms(&request)),
            ApiCall::DeleteRoom(request) => self.delete_room(&request.room),
            ApiCall::ListParticipants(request) => {
                let (room, _) = self.room(&request.room)?;
                let participants = room.participants.values().map(|participant| participant.info()).collect();
                Ok(ApiAnswer::Participants(proto::ListParticipantsResponse { participants }))
            }
            ApiCall::GetParticipant(request) => {
                let (room, _, key) = self.participant(&request.room, &request.identity)?;
                Ok(ApiAnswer::Participant(Box::new(room.participants[&key].info())))
            }
            ApiCall::RemoveParticipant(request) => {
                let (room, shared, key) = self.participant(&request.room, &request.identity)?;
                room.dismiss(shared, key, Leave::disconnect(DisconnectReason::ParticipantRemoved));
                Ok(ApiAnswer::Removed(proto::RemoveParticipantResponse {}))
            }
            ApiCall::MutePublishedTrack(request) => {
                let (room, shared, key) = self.participant(&request.room, &request.identity)?;
                room.mute_by_api(shared, key, &request.track_sid, request.muted)
            }
            ApiCall::UpdateParticipant(request) => {
                let (room, shared, key) = self.participant(&request.room, &request.identity)?;
                room.update_participant(shared, key, request)
            }
            ApiCall::UpdateSubscriptions(request) => {
                let (room, shared, key) = self.participant(&request.room, &request.identity)?;
                let proto::UpdateSubscriptionsRequest { track_sids, subscribe, participant_tracks, .. } = request;
                let sids = participant_tracks.iter().flat_map(|tracks| &tracks.track_sids).chain(&track_sids);
                if let Some(unknown) = sids.take(SIDS_MAX).find(|sid| !room.tracks.contains_key(*sid)) {
                    return Err(ApiError::new(ApiCode::NotFound, format!("track {unknown:?} does not exist")));
                }
                let update = UpdateSubscription { track_sids, subscribe, participant_tracks };
                room.update_subscription(shared, key, &update);
                Ok(ApiAnswer::Subscriptions(proto::UpdateSubscriptionsResponse {}))
            }
            ApiCall::SendData(request) => {
                let (room, shared) = self.room(&request.room)?;
                room.send_data(shared, request)
            }
            ApiCall::UpdateRoomMetadata(request) => {
                let (room, shared) = self.room(&request.room)?;
                if request.metadata.len() > METADATA_BYTES_MAX {
                    return Err(too_long("metadata"));
                }
                room.metadata = request.metadata;
                room.changes.room = true;
                room.changes.room_note = true;
                Ok(ApiAnswer::Room(room.info(shared)))
            }
        }
    }

    /// Making a room that exists changes nothing and answers with it.
    fn create_room(&mut self, request: proto::CreateRoomRequest) -> Answer {
        grants::check_room(&request.name)
            .map_err(|error| ApiError::new(ApiCode::InvalidArgument, error.to_string()))?;
        if request.metadata.len() > METADATA_BYTES_MAX {
            return Err(too_long("metadata"));
        }
        if request.max_participants as usize > PARTICIPANTS_MAX {
            let message = format!("max_participants is at most {PARTICIPANTS_MAX}");
            return Err(ApiError::new(ApiCode::InvalidArgument, message));
        }
        if !self.names.contains_key(&request.name) {
            let call = self.create(&request.name);
            let call =
                call.ok_or_else(|| ApiError::new(ApiCode::ResourceExhausted, "the server takes no more rooms"))?;
            let node = self.shared.place(&request.name);
            if let Some(room) = self.rooms.get_mut(&call) {
                let secs = |value: u32| (value > 0).then(|| Duration::from_secs(u64::from(value)));
                room.settings.empty_timeout = secs(request.empty_timeout);
                room.settings.departure_timeout = secs(request.departure_timeout);
                room.settings.max_participants = request.max_participants;
                room.settings.sync_streams = request.sync_streams;
                room.metadata = request.metadata;
                room.node = node;
            }
        }
        let (room, shared) = self.room(&request.name)?;
        let info = room.info(shared);
        Ok(ApiAnswer::Room(info))
    }

    fn list_rooms(&self, request: &proto::ListRoomsRequest) -> ApiAnswer {
        let listed = |room: &&Room| request.names.is_empty() || request.names.contains(&room.name);
        let mut rooms: Vec<proto::Room> =
            self.rooms.values().filter(listed).map(|room| room.info(&self.shared)).collect();
        rooms.sort_by(|a, b| (a.creation_time_ms, &a.name).cmp(&(b.creation_time_ms, &b.name)));
        ApiAnswer::Rooms(proto::ListRoomsResponse { rooms })
    }

    fn delete_room(&mut self, name: &str) -> Answer {
        let (room, shared) = self.room(name)?;
        room.dismiss_all(shared, Leave::disconnect(DisconnectReason::RoomDeleted));
        let call = room.call;
        self.close_room(call);
        Ok(ApiAnswer::Deleted(proto::DeleteRoomResponse {}))
    }

    fn room(&mut self, name: &str) -> Result<(&mut Room, &mut Shared), ApiError> {
        if name.is_empty() {
            return Err(ApiError::new(ApiCode::InvalidArgument, "room is missing"));
        }
        let Rooms { rooms, shared, names, touched } = self;
        let room = names.get(name).and_then(|call| rooms.get_mut(call));
        let room = room.ok_or_else(|| ApiError::new(ApiCode::NotFound, "requested room does not exist"))?;
        touched.insert(room.call);
        Ok((room, shared))
    }

    fn participant(
        &mut self,
        room: &str,
        identity: &str,
    ) -> Result<(&mut Room, &mut Shared, ParticipantKey), ApiError> {
        if identity.is_empty() {
            return Err(ApiError::new(ApiCode::InvalidArgument, "identity is missing"));
        }
        let (room, shared) = self.room(room)?;
        match room.identities.get(identity) {
            Some(&key) => Ok((room, shared, key)),
            None => Err(ApiError::new(ApiCode::NotFound, "participant does not exist")),
        }
    }

    /// Nobody is in the room any more.
    pub(crate) fn close_room(&mut self, call: sluice_messages::CallId) {
        let Some(room) = self.rooms.remove(&call) else { return };
        self.names.remove(&room.name);
        self.touched.remove(&call);
        self.shared.deadlines.forget(&Waiter::Room(call));
        if let Some(node) = &room.node {
            let note = sluice_messages::Key::Note(crate::note::room_key(&room.name));
            self.shared.op(node, sluice_messages::Op::Remove(note));
        }
        self.shared.out.notice(crate::Notice::RoomFinished { room: room.name, sid: room.sid });
    }
}

impl Room {
    /// A moderator may take somebody's voice but not give it: unmuting without consent is refused unless configured.
    fn mute_by_api(&mut self, shared: &mut Shared, key: ParticipantKey, sid: &str, muted: bool) -> Answer {
        let participant = &self.participants[&key];
        let socket = participant.socket;
        let Some(track) = participant.track(sid) else {
            return Err(ApiError::new(ApiCode::NotFound, "track does not exist"));
        };
        if track.info.muted && !muted && !shared.config.remote_unmute {
            return Err(ApiError::new(ApiCode::FailedPrecondition, "remote unmute is not enabled"));
        }
        if track.info.muted != muted {
            let request = proto::MuteTrackRequest { sid: sid.to_owned(), muted };
            shared.out.send(socket, Message::Mute(request));
            self.mute(shared, key, sid, muted);
        }
        let track = self.participants[&key].track(sid).map(|track| track.info.clone());
        Ok(ApiAnswer::Muted(Box::new(proto::MuteRoomTrackResponse { track })))
    }

    fn update_participant(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        request: proto::UpdateParticipantRequest,
    ) -> Answer {
        let participant = &self.participants[&key];
        if !profile_fits(participant, &request.name, &request.metadata, request.attributes.iter()) {
            return Err(too_long("name, metadata or attributes"));
        }
        if let Some(permission) = &request.permission {
            self.set_permission(shared, key, Permission::from_proto(permission));
        }
        self.set_profile(shared, key, &request.name, &request.metadata, request.attributes);
        Ok(ApiAnswer::Participant(Box::new(self.participants[&key].info())))
    }

    /// Applies a permission at once: what is no longer allowed ends.
    fn set_permission(&mut self, shared: &mut Shared, key: ParticipantKey, permission: Permission) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let old = std::mem::replace(&mut participant.permission, permission.clone());
        if old == permission {
            return;
        }
        let grant = participant.claims.video.get_or_insert_with(Default::default);
        grant_from(grant, &permission);
        for connection in &mut participant.connections {
            let Some(data) = &mut connection.row.data else { continue };
            data.may_send = permission.can_publish_data;
            // Without a subscriber connection data comes on the other one.
            data.delivers = connection.role == Role::Subscriber || !permission.can_subscribe;
            if let Some(node) = &self.node {
                shared.put(node, Entry::Transport(connection.row.clone()));
            }
        }
        let ended = participant.tracks.iter().filter(|track| !permission.allows(track.info.source()));
        let ended: Vec<_> = ended.map(|track| track.id).collect();
        let last = participant.farewell(DisconnectReason::UnknownReason);
        for id in ended {
            self.end_track(shared, key, id, true);
        }
        if !permission.can_publish_data {
            self.end_data_tracks(shared, key, true);
        }
        if old.can_subscribe != permission.can_subscribe {
            self.open_subscriber(shared, key);
            self.reconsider_receiver(shared, key);
        }
        if old.hidden != permission.hidden {
            self.changes.room = true;
            if permission.hidden {
                self.changes.left.push(last);
            }
            let own = self.participants.get(&key).into_iter().flat_map(|participant| &participant.tracks);
            for id in own.map(|track| track.id).collect::<Vec<_>>() {
                self.reconsider_track(shared, key, id);
            }
            self.reconsider_data_owner(shared, key);
        }
        self.touch(key, true);
        self.refresh_token(shared, key);
    }

    fn send_data(&mut self, shared: &mut Shared, request: proto::SendDataRequest) -> Answer {
        if request.data.len() > DATA_BYTES_MAX {
            return Err(too_long("data"));
        }
        if !request.nonce.is_empty() {
            if self.nonces.contains(&request.nonce) {
                return Ok(ApiAnswer::Sent(proto::SendDataResponse {}));
            }
            if self.nonces.len() == NONCES_MAX {
                self.nonces.pop_front();
            }
            self.nonces.push_back(request.nonce.clone());
        }
        let kind = match request.kind() {
            data_packet::Kind::Reliable => DataKind::Reliable,
            data_packet::Kind::Lossy => DataKind::Lossy,
        };
        #[expect(deprecated, reason = "older back ends name destinations by sid")]
        let sids = &request.destination_sids;
        let all = sids.is_empty() && request.destination_identities.is_empty();
        let addressed = self.participants.values().filter(|participant| {
            all || sids.contains(&participant.sid)
                || request.destination_identities.iter().any(|identity| identity == participant.identity())
        });
        let to: Vec<_> = addressed.filter_map(|participant| participant.data_transport()).collect();
        #[expect(deprecated, reason = "clients of protocol 13 read the old fields")]
        let packet = DataPacket {
            kind: request.kind,
            destination_identities: request.destination_identities.clone(),
            value: Some(data_packet::Value::User(UserPacket {
                payload: request.data,
                topic: request.topic,
                destination_sids: request.destination_sids,
                destination_identities: request.destination_identities,
                nonce: request.nonce,
                ..Default::default()
            })),
            ..Default::default()
        };
        if let (false, Some(node)) = (to.is_empty(), &self.node) {
            shared.out.node_send(node.clone(), SendData { to, kind, payload: packet.encode_to_vec() });
        }
        Ok(ApiAnswer::Sent(proto::SendDataResponse {}))
    }
}

/// What a token says for a permission.
fn grant_from(grant: &mut VideoGrant, permission: &Permission) {
    grant.can_publish = Some(permission.can_publish);
    grant.can_subscribe = Some(permission.can_subscribe);
    grant.can_publish_data = Some(permission.can_publish_data);
    let sources = permission.can_publish_sources.iter().filter_map(|&source| proto::TrackSource::try_from(source).ok());
    grant.can_publish_sources = sources.map(|source| source.as_str_name().to_ascii_lowercase()).collect();
    grant.can_update_own_metadata = Some(permission.can_update_metadata);
    grant.can_subscribe_metrics = Some(permission.can_subscribe_metrics);
    grant.hidden = permission.hidden;
}

fn too_long(what: &str) -> ApiError {
    ApiError::new(ApiCode::InvalidArgument, format!("{what} longer than allowed"))
}
