//! Joining: a new session in a room.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use livekit_protocol::{
    self as proto, DisconnectReason, JoinResponse, ParticipantInfo, RoomConfiguration, ServerInfo, participant_info,
    signal_response::Message,
};
use sluice_messages::{CallId, Data, Entry, Ice};
use sluice_signal::{Claims, ConnectParams, Permission, Subscriber, grants};

use crate::{
    CloseReason, Notice, Rooms, SocketId,
    datatrack::DataTracks,
    limits::{ATTRIBUTES_BYTES_MAX, METADATA_BYTES_MAX, PARTICIPANTS_MAX, ROOMS_MAX},
    participant::{Complaints, Negotiation, Participant, ParticipantKey, PeerConnection, transport_row},
    quality::Rating,
    room::{Leave, Room},
    shared::Shared,
};

/// The protocol that is spoken, told in `server_info`.
const PROTOCOL: i32 = 17;

/// Why a session cannot start. The client is told by `leave`, the operator by a notice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// {0}
    #[error(transparent)]
    Name(#[from] grants::NameError),
    /// the room does not exist
    #[error("the requested room does not exist, and rooms are not made by joining")]
    NoRoom,
    /// the room is full
    #[error("the room is full ({0} participants)")]
    Full(usize),
    /// too many rooms
    #[error("the server has {ROOMS_MAX} rooms and takes no more")]
    TooManyRooms,
    /// no media node
    #[error("no media node is linked")]
    NoNode,
    /// metadata or attributes of the token are too long
    #[error("the token's metadata or attributes are longer than allowed")]
    TooLong,
    /// nothing is known of the session
    #[error("a resume of a session that is not known (any more)")]
    Unknown,
}

impl JoinError {
    fn leave(&self) -> Leave {
        match self {
            JoinError::Unknown => Leave::reconnect(DisconnectReason::StateMismatch),
            _ => Leave::disconnect(DisconnectReason::JoinFailure),
        }
    }
}

impl Rooms {
    /// A socket with a verified token: joins or resumes.
    pub(crate) fn connect(&mut self, socket: SocketId, room: &str, claims: Claims, params: ConnectParams) {
        let identity = claims.sub.clone();
        let result = match params.reconnect.is_some() {
            true => self.resume(socket, room, claims, params),
            false => self.join(socket, room, claims, params),
        };
        if let Err(error) = result {
            self.shared.out.send(Some(socket), error.leave().message());
            let reason = error.to_string();
            self.shared.out.close(socket, CloseReason::Refused(reason.clone()));
            self.shared.out.notice(Notice::Refused { room: room.to_owned(), identity, reason });
        }
    }

    fn join(&mut self, socket: SocketId, name: &str, claims: Claims, params: ConnectParams) -> Result<(), JoinError> {
        grants::check_room(name)?;
        grants::check_identity(&claims.sub)?;
        let attributes: usize = claims.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        if claims.metadata.len() > METADATA_BYTES_MAX || attributes > ATTRIBUTES_BYTES_MAX {
            return Err(JoinError::TooLong);
        }
        let call = match self.names.get(name) {
            Some(&call) => call,
            None => {
                let may_create = claims.video.as_ref().is_some_and(|grant| grant.room_create);
                if !self.shared.config.auto_create && !may_create {
                    return Err(JoinError::NoRoom);
                }
                if self.shared.place(name).is_none() {
                    return Err(JoinError::NoNode);
                }
                let call = self.create(name).ok_or(JoinError::TooManyRooms)?;
                let configuration = claims.room_config.clone().and_then(|json| serde_json::from_value(json).ok());
                if let (Some(configuration), Some(room)) = (configuration, self.rooms.get_mut(&call)) {
                    room.configure(configuration);
                }
                call
            }
        };
        let Rooms { rooms, shared, touched, .. } = self;
        touched.insert(call);
        let Some(room) = rooms.get_mut(&call) else { return Err(JoinError::NoRoom) };
        room.admit(shared, socket, claims, params)
    }

    /// Makes a room; none if there are too many.
    pub(crate) fn create(&mut self, name: &str) -> Option<CallId> {
        if self.rooms.len() >= ROOMS_MAX {
            return None;
        }
        let mut room = Room::new(&mut self.shared, name.to_owned());
        room.changes.room_note = true;
        let call = room.call;
        self.shared.out.notice(Notice::RoomStarted { room: room.name.clone(), sid: room.sid.clone() });
        self.names.insert(room.name.clone(), call);
        self.rooms.insert(call, room);
        self.touched.insert(call);
        Some(call)
    }
}

impl Room {
    /// Settings from a token's room configuration.
    fn configure(&mut self, configuration: RoomConfiguration) {
        let secs = |value: u32| (value > 0).then(|| std::time::Duration::from_secs(u64::from(value)));
        self.settings.empty_timeout = secs(configuration.empty_timeout);
        self.settings.departure_timeout = secs(configuration.departure_timeout);
        self.settings.max_participants = configuration.max_participants;
        self.settings.sync_streams = configuration.sync_streams;
        if configuration.metadata.len() <= METADATA_BYTES_MAX {
            self.metadata = configuration.metadata;
        }
    }

    fn admit(
        &mut self,
        shared: &mut Shared,
        socket: SocketId,
        claims: Claims,
        params: ConnectParams,
    ) -> Result<(), JoinError> {
        let old = self.identities.get(&claims.sub).copied();
        let own = match self.settings.max_participants {
            0 => shared.config.max_participants as usize,
            own => own as usize,
        };
        let max = if own == 0 { PARTICIPANTS_MAX } else { own.min(PARTICIPANTS_MAX) };
        if self.participants.len() - usize::from(old.is_some()) >= max {
            return Err(JoinError::Full(max));
        }
        self.find_node(shared)?;
        if let Some(old) = old {
            let leave = Leave::disconnect(DisconnectReason::DuplicateIdentity);
            self.hang_up(shared, old, Some(leave));
            self.remove(shared, old, leave.reason, true);
        }

        let key = self.enter(shared, socket, claims, params);
        self.open_subscriber(shared, key);
        self.welcome(shared, key);
        Ok(())
    }

    /// A room whose node is gone may move while nobody is in it.
    fn find_node(&mut self, shared: &Shared) -> Result<(), JoinError> {
        if self.node.as_ref().is_some_and(|node| shared.is_up(node)) {
            return Ok(());
        }
        if self.node.is_some() && !self.participants.is_empty() {
            return Err(JoinError::NoNode);
        }
        self.node = Some(shared.place(&self.name).ok_or(JoinError::NoNode)?);
        self.changes.room_note = true;
        Ok(())
    }

    fn enter(
        &mut self,
        shared: &mut Shared,
        socket: SocketId,
        claims: Claims,
        params: ConnectParams,
    ) -> ParticipantKey {
        let now = shared.now;
        let key = shared.key();
        let permission = Permission::of(claims.video.as_ref().unwrap_or(&Default::default()));
        let mut attributes = claims.attributes.clone();
        if permission.can_update_metadata {
            attributes.extend(params.attributes);
        }
        let participant = Participant {
            key,
            sid: shared.dice.sid("PA_"),
            permission,
            name: claims.name.clone(),
            metadata: claims.metadata.clone(),
            attributes,
            claims,
            state: participant_info::State::Joined,
            joined_at_ms: now.unix_ms,
            version: 1,
            client: params.client,
            auto_subscribe: params.auto_subscribe,
            adaptive_stream: params.adaptive_stream,
            connections: Vec::new(),
            tracks: Vec::new(),
            data: DataTracks::new(params.auto_subscribe_data_track.unwrap_or(false)),
            wants: HashMap::new(),
            subscriptions: BTreeMap::new(),
            undecodable: BTreeSet::new(),
            allowed: None,
            socket: Some(socket),
            joined_at: now.monotonic,
            last_heard: now.monotonic,
            refreshed_at: now.monotonic,
            away_since: None,
            was_connected: false,
            broken: false,
            moved_at: None,
            urged: false,
            simulate: None,
            rating: Rating::default(),
            complaints: Complaints::default(),
            waiting: false,
            noted_at: None,
            note_dirty: false,
        };
        shared.out.notice(Notice::ParticipantJoined {
            room: self.name.clone(),
            sid: participant.sid.clone(),
            identity: participant.identity().to_owned(),
        });
        self.changes.room |= !participant.permission.hidden;
        self.identities.insert(participant.claims.sub.clone(), key);
        self.participants.insert(key, participant);
        self.was_joined = true;
        self.empty_since = None;
        shared.sockets.insert(socket, (self.call, key));
        self.touch(key, false);
        key
    }

    /// Makes the connection on which a participant receives, with everything in it that it shall receive.
    pub(crate) fn open_subscriber(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(node) = self.node.clone() else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        if !participant.permission.can_subscribe || participant.subscriber().is_some() {
            return;
        }
        let local = shared.dice.ice();
        let subscriber = Subscriber::new(local.clone(), shared.dice.seed(), participant.quirks());
        let data = Data {
            opened_by_us: true,
            may_send: participant.permission.can_publish_data,
            delivers: true,
            streams: Default::default(),
        };
        let ice = Ice { local, remote: None, previous_local: None };
        let id = shared.dice.transport();
        let row = transport_row(id, self.call, &participant.sid, participant.identity(), ice, Some(data));
        shared.put(&node, Entry::Transport(row.clone()));
        shared.transports.insert(id, (self.call, key));
        participant.connections.push(PeerConnection::new(Negotiation::Subscriber(Box::new(subscriber)), row));
        self.changes.receivers.insert(key);
        self.reconsider_receiver(shared, key);
    }

    fn welcome(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let others: Vec<ParticipantInfo> = self
            .participants
            .values()
            .filter(|other| other.key != key && !other.permission.hidden)
            .map(Participant::info)
            .collect();
        let Some(participant) = self.participants.get(&key) else { return };
        let config = &shared.config;
        let join = JoinResponse {
            room: Some(self.info(shared)),
            participant: Some(participant.info()),
            other_participants: others,
            server_version: config.server_version.clone(),
            ice_servers: Vec::new(),
            subscriber_primary: participant.permission.can_subscribe,
            alternative_url: String::new(),
            client_configuration: None,
            server_region: config.region.clone(),
            ping_timeout: config.ping_timeout.as_secs() as i32,
            ping_interval: (config.ping_interval.as_secs() as i32).max(1),
            server_info: Some(server_info(shared)),
            sif_trailer: shared.dice.bytes::<16>().to_vec(),
            enabled_publish_codecs: crate::publish::codecs(),
            fast_publish: participant.permission.can_publish,
        };
        shared.out.send(participant.socket, Message::Join(join));
        self.changes.fresh.insert(key);
        self.refresh_token(shared, key);
        self.tell_speaking(shared, key);
        self.await_deadline(shared, key);
    }

    pub(crate) fn refresh_token(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        participant.refreshed_at = shared.now.monotonic;
        if let Some(socket) = participant.socket {
            shared.out.refresh(socket, participant.claims.clone());
        }
    }
}

pub(crate) fn server_info(shared: &Shared) -> ServerInfo {
    ServerInfo {
        edition: proto::server_info::Edition::Standard as i32,
        version: shared.config.server_version.clone(),
        protocol: PROTOCOL,
        region: shared.config.region.clone(),
        node_id: shared.config.node_id.clone(),
        debug_info: String::new(),
        agent_protocol: 0,
    }
}
