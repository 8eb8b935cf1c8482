//! A participant: who it is, its peer connections, what it publishes and what it wants to receive.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use livekit_protocol::{
    self as proto, AddTrackRequest, ParticipantInfo, SubscriptionPermission, TrackInfo, participant_info,
};
use serde::{Deserialize, Serialize};
use sluice_messages::{Data, ExtensionMap, Ice, TrackId, TransportId};
use sluice_signal::{Claims, PendingTrack, Permission, Publisher, Quirks, Subscriber};

use crate::{
    SocketId,
    datatrack::DataTracks,
    limits::{COMPLAINT_PERIOD, COMPLAINTS_MAX},
    quality::Rating,
    wish::Want,
};

/// Names a participant within this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ParticipantKey(pub(crate) u64);

pub(crate) struct Participant {
    pub(crate) key: ParticipantKey,
    pub(crate) sid: String,
    /// As in the token, kept current for the tokens that refresh it.
    pub(crate) claims: Claims,
    pub(crate) permission: Permission,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) state: participant_info::State,
    pub(crate) joined_at_ms: i64,
    pub(crate) version: u32,
    pub(crate) client: proto::ClientInfo,
    pub(crate) auto_subscribe: bool,
    pub(crate) adaptive_stream: bool,

    pub(crate) connections: Vec<PeerConnection>,
    pub(crate) tracks: Vec<Published>,
    pub(crate) data: DataTracks,
    /// What it said about tracks of others, by track sid; kept when a track or a subscription goes and comes.
    pub(crate) wants: HashMap<String, Want>,
    pub(crate) subscriptions: BTreeMap<TrackId, Subscription>,
    /// Tracks whose codec it cannot decode.
    pub(crate) undecodable: BTreeSet<TrackId>,
    /// Who may subscribe to its tracks; none: everybody.
    pub(crate) allowed: Option<SubscriptionPermission>,

    pub(crate) socket: Option<SocketId>,
    pub(crate) joined_at: Duration,
    pub(crate) last_heard: Duration,
    pub(crate) refreshed_at: Duration,
    /// Since when it has no socket.
    pub(crate) away_since: Option<Duration>,
    /// A peer connection was up once.
    pub(crate) was_connected: bool,
    /// Its media cannot come back: only a new join helps.
    pub(crate) broken: bool,
    /// When its call went to another node, until it has arrived there.
    pub(crate) moved_at: Option<std::time::Duration>,
    /// It was told to resume since it did not arrive.
    pub(crate) urged: bool,
    /// What to do at the next resume, for tests of clients.
    pub(crate) simulate: Option<Simulate>,

    pub(crate) rating: Rating,
    pub(crate) complaints: Complaints,
    /// A track did not fit among those that it receives.
    pub(crate) waiting: bool,
    /// When its note was last given to the node.
    pub(crate) noted_at: Option<Duration>,
    /// The note is stale, and waits for its time.
    pub(crate) note_dirty: bool,
}

/// What an operator was told of a participant's bad requests.
#[derive(Clone, Copy, Default)]
pub(crate) struct Complaints {
    since: Duration,
    said: u32,
    pub(crate) unsaid: u32,
}

impl Complaints {
    /// How many were kept back before this one, if it may be told.
    pub(crate) fn say(&mut self, now: Duration) -> Option<u32> {
        if now >= self.since + COMPLAINT_PERIOD {
            (self.since, self.said) = (now, 0);
        }
        if self.said == COMPLAINTS_MAX {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Ways to break a resume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Simulate {
    CloseAfterReconnect,
    CloseBeforeReconnect,
}

/// What a peer connection is for. One that does both (single peer connection) will be a third role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    Publisher,
    Subscriber,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Negotiation {
    Publisher(Box<Publisher>),
    Subscriber(Box<Subscriber>),
}

pub(crate) struct PeerConnection {
    pub(crate) role: Role,
    pub(crate) transport: TransportId,
    pub(crate) negotiation: Negotiation,
    pub(crate) link: Link,
    /// The client was given our candidates for the current credentials.
    pub(crate) trickled: bool,
    /// Nodes whose candidates the client got with its current credentials: it is not led to one of them again by another
    /// candidate of the same address.
    pub(crate) seen: Vec<crate::NodeId>,
    /// Data channels that are open now.
    pub(crate) streams: sluice_messages::Streams,
    /// As the node has it.
    pub(crate) row: sluice_messages::Transport,
}

/// Life of a transport as its node tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    New,
    Connected,
    Disconnected,
    Failed,
}

/// A track of a participant: announced until its section was in an offer, live from then on.
pub(crate) struct Published {
    pub(crate) id: TrackId,
    pub(crate) info: TrackInfo,
    pub(crate) request: AddTrackRequest,
    pub(crate) pending: Vec<PendingTrack>,
    /// As the node has it; none while announced.
    pub(crate) row: Option<sluice_messages::Track>,
    pub(crate) backups: Vec<crate::backup::Backup>,
    /// Who receives it now, or waits for a codec of it.
    pub(crate) receivers: BTreeSet<ParticipantKey>,
    /// The publisher was told that somebody receives it.
    pub(crate) told: bool,
    pub(crate) demand: crate::demand::Demand,
}

/// A track of another participant that this one shall receive.
pub(crate) struct Subscription {
    pub(crate) owner: ParticipantKey,
    /// Which of the track's codecs; none until the client answered.
    pub(crate) source: Option<TrackId>,
    /// As the node has it; none until the client answered, and while the publisher does not send what it can decode.
    pub(crate) row: Option<sluice_messages::Subscription>,
    /// The client was told that it is paused.
    pub(crate) paused: bool,
}

impl Participant {
    pub(crate) fn identity(&self) -> &str {
        &self.claims.sub
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state == participant_info::State::Active
    }

    pub(crate) fn quirks(&self) -> Quirks {
        Quirks::of(&self.client)
    }

    pub(crate) fn connection(&self, role: Role) -> Option<&PeerConnection> {
        self.connections.iter().find(|connection| connection.role == role)
    }

    pub(crate) fn connection_mut(&mut self, role: Role) -> Option<&mut PeerConnection> {
        self.connections.iter_mut().find(|connection| connection.role == role)
    }

    pub(crate) fn publisher(&mut self) -> Option<&mut Publisher> {
        self.connections.iter_mut().find_map(|connection| match &mut connection.negotiation {
            Negotiation::Publisher(publisher) => Some(&mut **publisher),
            Negotiation::Subscriber(_) => None,
        })
    }

    pub(crate) fn subscriber(&mut self) -> Option<&mut Subscriber> {
        self.connections.iter_mut().find_map(|connection| match &mut connection.negotiation {
            Negotiation::Subscriber(subscriber) => Some(&mut **subscriber),
            Negotiation::Publisher(_) => None,
        })
    }

    /// The connection that decides whether the participant is active: what it was told as `subscriber_primary`.
    pub(crate) fn primary(&self) -> Role {
        if self.permission.can_subscribe { Role::Subscriber } else { Role::Publisher }
    }

    /// Where data for the participant is delivered.
    pub(crate) fn data_transport(&self) -> Option<TransportId> {
        let delivers = |connection: &&PeerConnection| connection.row.data.is_some_and(|data| data.delivers);
        self.connections.iter().find(delivers).map(|connection| connection.transport)
    }

    pub(crate) fn track(&self, sid: &str) -> Option<&Published> {
        self.tracks.iter().find(|track| track.info.sid == sid)
    }

    pub(crate) fn track_mut(&mut self, sid: &str) -> Option<&mut Published> {
        self.tracks.iter_mut().find(|track| track.info.sid == sid)
    }

    /// The track that the node knows as `source`, in whatever codec.
    pub(crate) fn track_of(&self, source: TrackId) -> Option<&Published> {
        self.tracks.iter().find(|track| track.sources().any(|id| id == source))
    }

    pub(crate) fn track_by_id(&self, id: TrackId) -> Option<&Published> {
        self.tracks.iter().find(|track| track.id == id)
    }

    pub(crate) fn is_publishing(&self) -> bool {
        self.data.is_publishing() || self.tracks.iter().any(Published::is_live)
    }

    /// Everything that was announced, for matching with an offer. A client may announce again what it is about to
    /// unpublish; the newer announcement has the cid then.
    pub(crate) fn pending(&self) -> Vec<PendingTrack> {
        let mut pending: Vec<PendingTrack> = Vec::new();
        for announced in self.tracks.iter().rev().flat_map(|track| &track.pending) {
            if !pending.iter().any(|other| other.cid == announced.cid) {
                pending.push(announced.clone());
            }
        }
        pending.reverse();
        pending
    }

    /// Allowed to receive this track, as far as its owner decides.
    pub(crate) fn lets(&self, receiver: &Participant, track_sid: &str) -> bool {
        let Some(permission) = &self.allowed else { return true };
        permission.all_participants
            || permission.track_permissions.iter().any(|entry| {
                let meant = match entry.participant_identity.is_empty() {
                    true => entry.participant_sid == receiver.sid,
                    false => entry.participant_identity == receiver.identity(),
                };
                meant && (entry.all_tracks || entry.track_sids.iter().any(|sid| sid == track_sid))
            })
    }

    /// As clients and the API see it.
    pub(crate) fn info(&self) -> ParticipantInfo {
        let live = self.tracks.iter().filter(|track| track.is_live());
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.claims.sub.clone(),
            state: self.state as i32,
            tracks: live.map(|track| track.info.clone()).collect(),
            metadata: self.metadata.clone(),
            joined_at: self.joined_at_ms / 1000,
            joined_at_ms: self.joined_at_ms,
            name: self.name.clone(),
            version: self.version,
            permission: Some(self.permission.to_proto()),
            is_publisher: self.is_publishing(),
            kind: kind(&self.claims.kind) as i32,
            attributes: self.attributes.clone().into_iter().collect(),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
            data_tracks: self.data.infos(),
            ..Default::default()
        }
    }

    /// What is left to say about one who left.
    pub(crate) fn farewell(&self, reason: proto::DisconnectReason) -> ParticipantInfo {
        ParticipantInfo {
            state: participant_info::State::Disconnected as i32,
            tracks: Vec::new(),
            data_tracks: Vec::new(),
            version: self.version + 2,
            disconnect_reason: reason as i32,
            ..self.info()
        }
    }
}

impl Published {
    pub(crate) fn is_live(&self) -> bool {
        self.row.is_some()
    }
}

impl PeerConnection {
    /// Data channels that were open when the node got the transport.
    pub(crate) fn resumed(&self) -> sluice_messages::Streams {
        self.row.data.map(|data| data.streams).unwrap_or_default()
    }

    pub(crate) fn new(negotiation: Negotiation, row: sluice_messages::Transport) -> PeerConnection {
        let role = match negotiation {
            Negotiation::Publisher(_) => Role::Publisher,
            Negotiation::Subscriber(_) => Role::Subscriber,
        };
        PeerConnection {
            role,
            transport: row.id,
            negotiation,
            link: Link::New,
            trickled: false,
            seen: Vec::new(),
            streams: Default::default(),
            row,
        }
    }
}

/// The row of a transport before its description is known.
pub(crate) fn transport_row(
    id: TransportId,
    call: sluice_messages::CallId,
    sid: &str,
    identity: &str,
    ice: Ice,
    data: Option<Data>,
) -> sluice_messages::Transport {
    sluice_messages::Transport {
        id,
        call,
        participant: sluice_messages::Participant { sid: sid.to_owned(), identity: identity.to_owned() },
        ice,
        fingerprint: None,
        receive_extensions: ExtensionMap::default(),
        send_extensions: ExtensionMap::default(),
        data,
    }
}

/// `kind` of a token; anything unknown is a standard participant.
fn kind(name: &str) -> participant_info::Kind {
    participant_info::Kind::from_str_name(&name.to_ascii_uppercase()).unwrap_or(participant_info::Kind::Standard)
}
