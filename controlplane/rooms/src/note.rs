//! Notes: what a restarted control plane reads back from a node, beside the rows that the node itself needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use livekit_protocol::{AddTrackRequest, ClientInfo, SubscriptionPermission, TrackInfo, participant_info};
use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_messages::{CallId, Codec, TrackId, Transport, TransportId};
use sluice_signal::{Claims, PendingTrack, Permission};

use crate::{
    NodeId,
    backup::Backup,
    datatrack::{DataNote, DataTracks},
    demand::Demand,
    participant::{Complaints, Link, Negotiation, Participant, ParticipantKey, PeerConnection, Published, Role},
    quality::Rating,
    room::{Room, Settings},
    shared::Shared,
    wish::Want,
};

/// First byte of a note. Notes of another version are not read: their clients start anew.
const VERSION: u8 = 3;

/// Updates that clients may have seen after a note was written: versions must not go back.
const VERSION_STEP: u32 = 100;

pub(crate) fn room_key(room: &str) -> String {
    format!("room/{room}")
}

pub(crate) fn participant_key(room: &str, sid: &str) -> String {
    format!("participant/{room}/{sid}")
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RoomNote {
    call: CallId,
    sid: String,
    pub(crate) name: String,
    metadata: String,
    settings: Settings,
    created_at_ms: i64,
    was_joined: bool,
    moves: u32,
}

/// Messages of LiveKit are kept as protobuf, claims as JSON: their own formats.
#[derive(Serialize, Deserialize)]
pub(crate) struct ParticipantNote {
    pub(crate) room: String,
    sid: String,
    claims: String,
    permission: Permission,
    name: String,
    metadata: String,
    attributes: BTreeMap<String, String>,
    active: bool,
    was_connected: bool,
    joined_at_ms: i64,
    version: u32,
    client: Vec<u8>,
    auto_subscribe: bool,
    adaptive_stream: bool,
    pub(crate) connections: Vec<ConnectionNote>,
    tracks: Vec<TrackNote>,
    pub(crate) data: DataNote,
    wants: HashMap<String, Want>,
    pub(crate) subscriptions: Vec<TrackId>,
    undecodable: BTreeSet<TrackId>,
    allowed: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ConnectionNote {
    role: Role,
    pub(crate) transport: TransportId,
    negotiation: Negotiation,
}

#[derive(Serialize, Deserialize)]
struct TrackNote {
    id: TrackId,
    info: Vec<u8>,
    request: Vec<u8>,
    pending: Vec<PendingTrack>,
    backups: Vec<(TrackId, Codec, String)>,
    told: bool,
}

/// None where a note is of another version or broken.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (&version, rest) = bytes.split_first()?;
    if version != VERSION {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// Writing to memory fails for no value of these types; an empty note is one that is not read back.
fn write<T: Serialize>(note: &T) -> Vec<u8> {
    postcard::to_extend(note, vec![VERSION]).unwrap_or_default()
}

impl Room {
    pub(crate) fn note(&self) -> Vec<u8> {
        write(&RoomNote {
            call: self.call,
            sid: self.sid.clone(),
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            settings: self.settings.clone(),
            created_at_ms: self.created_at_ms,
            was_joined: self.was_joined,
            moves: self.moves,
        })
    }
}

impl RoomNote {
    pub(crate) fn restore(self, shared: &mut Shared, node: NodeId) -> Room {
        let mut room = Room::new(shared, self.name);
        room.call = self.call;
        room.sid = self.sid;
        room.metadata = self.metadata;
        room.settings = self.settings;
        room.created_at_ms = self.created_at_ms;
        room.was_joined = self.was_joined;
        room.moves = self.moves;
        room.node = Some(node);
        room
    }
}

impl Participant {
    pub(crate) fn note(&self, room: &str) -> Vec<u8> {
        let connection = |connection: &PeerConnection| ConnectionNote {
            role: connection.role,
            transport: connection.transport,
            negotiation: connection.negotiation.clone(),
        };
        let track = |track: &Published| TrackNote {
            id: track.id,
            info: track.info.encode_to_vec(),
            request: track.request.encode_to_vec(),
            pending: track.pending.clone(),
            backups: track.backups.iter().map(|backup| (backup.id, backup.codec, backup.cid.clone())).collect(),
            told: track.told,
        };
        write(&ParticipantNote {
            room: room.to_owned(),
            sid: self.sid.clone(),
            claims: serde_json::to_string(&self.claims).unwrap_or_default(),
            permission: self.permission.clone(),
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            attributes: self.attributes.clone(),
            active: self.is_active(),
            was_connected: self.was_connected,
            joined_at_ms: self.joined_at_ms,
            version: self.version,
            client: self.client.encode_to_vec(),
            auto_subscribe: self.auto_subscribe,
            adaptive_stream: self.adaptive_stream,
            connections: self.connections.iter().map(connection).collect(),
            tracks: self.tracks.iter().map(track).collect(),
            data: self.data.note(),
            wants: self.wants.clone(),
            subscriptions: self.subscriptions.keys().copied().collect(),
            undecodable: self.undecodable.clone(),
            allowed: self.allowed.as_ref().map(Message::encode_to_vec),
        })
    }
}

impl ParticipantNote {
    /// The participant as it was, without a socket; its rows come from the node's table. None if the node lacks one of its
    /// transports: then its media is gone, too.
    pub(crate) fn restore(
        self,
        shared: &mut Shared,
        node: &NodeId,
        transports: &mut HashMap<TransportId, Transport>,
        tracks: &mut HashMap<TrackId, sluice_messages::Track>,
    ) -> Option<Participant> {
        let now = shared.now.monotonic;
        let claims: Claims = serde_json::from_str(&self.claims).ok()?;
        let connection = |note: ConnectionNote| {
            let row = transports.remove(&note.transport)?;
            let link = if self.was_connected { Link::Connected } else { Link::New };
            let (role, transport, negotiation) = (note.role, note.transport, note.negotiation);
            let (seen, streams) = (vec![node.clone()], Default::default());
            Some(PeerConnection { role, transport, negotiation, link, trickled: true, seen, streams, row })
        };
        let connections = self.connections.into_iter().map(connection).collect::<Option<Vec<_>>>()?;
        let track = |note: TrackNote| {
            Some(Published {
                id: note.id,
                info: TrackInfo::decode(&*note.info).ok()?,
                request: AddTrackRequest::decode(&*note.request).ok()?,
                pending: note.pending,
                row: tracks.remove(&note.id),
                backups: note
                    .backups
                    .into_iter()
                    .map(|(id, codec, cid)| Backup {
                        id,
                        codec,
                        cid,
                        row: tracks.remove(&id),
                        demand: Demand::default(),
                    })
                    .collect(),
                receivers: BTreeSet::new(),
                told: note.told,
                demand: Demand::default(),
            })
        };
        Some(Participant {
            key: ParticipantKey(0),
            sid: self.sid,
            claims,
            permission: self.permission,
            name: self.name,
            metadata: self.metadata,
            attributes: self.attributes,
            state: if self.active { participant_info::State::Active } else { participant_info::State::Joined },
            joined_at_ms: self.joined_at_ms,
            version: self.version + VERSION_STEP,
            client: ClientInfo::decode(&*self.client).ok()?,
            auto_subscribe: self.auto_subscribe,
            adaptive_stream: self.adaptive_stream,
            connections,
            tracks: self.tracks.into_iter().map(track).collect::<Option<Vec<_>>>()?,
            data: DataTracks::restore(self.data)?,
            wants: self.wants,
            subscriptions: BTreeMap::new(),
            undecodable: self.undecodable,
            allowed: self.allowed.and_then(|bytes| SubscriptionPermission::decode(&*bytes).ok()),
            socket: None,
            joined_at: now,
            last_heard: now,
            refreshed_at: now,
            away_since: Some(now),
            was_connected: self.was_connected,
            broken: false,
            moved_at: None,
            urged: false,
            simulate: None,
            rating: Rating::default(),
            complaints: Complaints::default(),
            waiting: false,
            noted_at: Some(now),
            note_dirty: false,
        })
    }
}
