//! A room: its participants and what changed since clients and node were last told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use livekit_protocol::{
    self as proto, DisconnectReason, LeaveRequest, ParticipantInfo, leave_request, signal_response::Message,
};
use serde::{Deserialize, Serialize};
use sluice_messages::{CallId, DataTrackId, Key, Op, TrackId};

use crate::{
    CloseReason, NodeId, Notice,
    limits::DEPARTED_MAX,
    news::News,
    participant::{Participant, ParticipantKey},
    shared::Shared,
    timers::Waiter,
};

pub(crate) struct Room {
    pub(crate) call: CallId,
    pub(crate) sid: String,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) settings: Settings,
    pub(crate) created_at_ms: i64,
    /// Where its media is; chosen when the first participant joins.
    pub(crate) node: Option<NodeId>,
    /// How often it went on at another node.
    pub(crate) moves: u32,
    pub(crate) was_joined: bool,
    pub(crate) empty_since: Option<Duration>,
    pub(crate) participants: BTreeMap<ParticipantKey, Participant>,
    pub(crate) identities: HashMap<String, ParticipantKey>,
    /// Live tracks by `TR_…`.
    pub(crate) tracks: HashMap<String, (ParticipantKey, TrackId)>,
    /// Data tracks by `DTR_…`.
    pub(crate) data_tracks: HashMap<String, (ParticipantKey, DataTrackId)>,
    /// Who left lately and when, for those who resume.
    pub(crate) departed: VecDeque<(Duration, ParticipantInfo)>,
    /// Who is heard, by participant sid, with the level clients were told.
    pub(crate) speaking: BTreeMap<String, f32>,
    /// When clients were told of levels last.
    pub(crate) levels_at: Option<Duration>,
    /// Nonces of API data packets.
    pub(crate) nonces: VecDeque<Vec<u8>>,
    pub(crate) changes: Changes,
    pub(crate) news: News,
}

/// What `CreateRoom` or a token's room configuration decides; unset: as the server is configured.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) empty_timeout: Option<Duration>,
    pub(crate) departure_timeout: Option<Duration>,
    pub(crate) max_participants: u32,
    pub(crate) sync_streams: bool,
}

/// What changed during one command. [`Room::settle`] tells it to everybody at once.
#[derive(Default)]
pub(crate) struct Changes {
    /// Participants whose info changed, and whether they are told themselves.
    pub(crate) updates: BTreeMap<ParticipantKey, bool>,
    /// Last words about those who left; they go before other updates.
    pub(crate) left: Vec<ParticipantInfo>,
    /// Were told everything already.
    pub(crate) fresh: BTreeSet<ParticipantKey>,
    /// Room info changed.
    pub(crate) room: bool,
    /// Receivers whose next offer differs from the last.
    pub(crate) receivers: BTreeSet<ParticipantKey>,
    /// Receivers whose handles of data tracks changed, or who wait for them.
    pub(crate) handles: BTreeSet<ParticipantKey>,
    /// Tracks whose viewers changed.
    pub(crate) demand: BTreeSet<(ParticipantKey, TrackId)>,
    /// Participants whose note has to go along with the rows that changed.
    pub(crate) notes: BTreeSet<ParticipantKey>,
    /// Participants whose note is stale in what may get lost, such as a size or a name.
    pub(crate) stale: BTreeSet<ParticipantKey>,
    pub(crate) room_note: bool,
}

/// How somebody is told to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leave {
    pub(crate) reason: DisconnectReason,
    pub(crate) action: leave_request::Action,
}

impl Leave {
    pub(crate) fn disconnect(reason: DisconnectReason) -> Leave {
        Leave { reason, action: leave_request::Action::Disconnect }
    }

    pub(crate) fn reconnect(reason: DisconnectReason) -> Leave {
        Leave { reason, action: leave_request::Action::Reconnect }
    }

    pub(crate) fn message(self) -> Message {
        Message::Leave(LeaveRequest {
            can_reconnect: self.action != leave_request::Action::Disconnect,
            reason: self.reason as i32,
            action: self.action as i32,
            regions: None,
        })
    }
}

impl Room {
    pub(crate) fn new(shared: &mut Shared, name: String) -> Room {
        Room {
            call: shared.dice.call(),
            sid: shared.dice.sid("RM_"),
            name,
            metadata: String::new(),
            settings: Settings::default(),
            created_at_ms: shared.now.unix_ms,
            node: None,
            moves: 0,
            was_joined: false,
            empty_since: Some(shared.now.monotonic),
            participants: BTreeMap::new(),
            identities: HashMap::new(),
            tracks: HashMap::new(),
            data_tracks: HashMap::new(),
            departed: VecDeque::new(),
            speaking: BTreeMap::new(),
            levels_at: None,
            nonces: VecDeque::new(),
            changes: Changes::default(),
            news: News::default(),
        }
    }

    /// As clients and the API see it. Hidden participants are not counted.
    pub(crate) fn info(&self, shared: &Shared) -> proto::Room {
        let shown = || self.participants.values().filter(|participant| !participant.permission.hidden);
        let secs = |own: Option<Duration>, default: Duration| own.unwrap_or(default).as_secs() as u32;
        proto::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: secs(self.settings.empty_timeout, shared.config.empty_timeout),
            departure_timeout: secs(self.settings.departure_timeout, shared.config.departure_timeout),
            max_participants: self.settings.max_participants,
            creation_time: self.created_at_ms / 1000,
            creation_time_ms: self.created_at_ms,
            enabled_codecs: crate::publish::codecs(),
            metadata: self.metadata.clone(),
            num_participants: shown().count() as u32,
            num_publishers: shown().filter(|participant| participant.is_publishing()).count() as u32,
            ..Default::default()
        }
    }

    pub(crate) fn by_identity(&self, identity: &str) -> Option<&Participant> {
        self.participants.get(self.identities.get(identity)?)
    }

    /// The others shall be told about a participant, and itself if `own`.
    pub(crate) fn touch(&mut self, key: ParticipantKey, own: bool) {
        *self.changes.updates.entry(key).or_default() |= own;
        self.changes.stale.insert(key);
    }

    /// Tells a participant to leave, closes its socket and removes it.
    pub(crate) fn dismiss(&mut self, shared: &mut Shared, key: ParticipantKey, leave: Leave) {
        self.hang_up(shared, key, Some(leave));
        self.remove(shared, key, leave.reason, false);
    }

    /// Closes a participant's socket, with or without a `leave` before.
    pub(crate) fn hang_up(&mut self, shared: &mut Shared, key: ParticipantKey, leave: Option<Leave>) {
        self.hang_up_for(shared, key, leave, CloseReason::Left);
    }

    /// As [`Room::hang_up`], with what the close frame says.
    pub(crate) fn hang_up_for(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        leave: Option<Leave>,
        why: CloseReason,
    ) {
        let Some(socket) = self.participants.get_mut(&key).and_then(|participant| participant.socket.take()) else {
            return;
        };
        if let Some(leave) = leave {
            shared.out.send(Some(socket), leave.message());
        }
        shared.out.close(socket, why);
        shared.sockets.remove(&socket);
    }

    /// The participant has to start anew: it is told so, and is kept only so that its return with the same identity looks
    /// like no absence at all.
    pub(crate) fn restart(&mut self, shared: &mut Shared, key: ParticipantKey, leave: Option<Leave>) {
        self.hang_up(shared, key, leave);
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.broken = true;
            participant.away_since.get_or_insert(shared.now.monotonic);
        }
        self.await_deadline(shared, key);
    }

    /// The participant has to resume: it is told so, and kept for the resume window.
    pub(crate) fn suspend(&mut self, shared: &mut Shared, key: ParticipantKey, reason: DisconnectReason) {
        self.hang_up(shared, key, Some(Leave { reason, action: leave_request::Action::Resume }));
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.away_since = Some(shared.now.monotonic);
        }
        self.await_deadline(shared, key);
    }

    /// Something a client did is told to the operator, but not everything it does wrong in a row.
    pub(crate) fn complain(&mut self, shared: &mut Shared, key: ParticipantKey, reason: impl Into<String>) {
        let now = shared.now.monotonic;
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(unsaid) = participant.complaints.say(now) else { return };
        let identity = participant.identity().to_owned();
        let reason = reason.into();
        shared.out.notice(Notice::BadRequest { room: self.name.clone(), identity, reason, unsaid });
    }

    /// The socket is gone; whoever had media is kept for the resume window.
    pub(crate) fn lost_socket(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        if let Some(socket) = participant.socket.take() {
            shared.sockets.remove(&socket);
        }
        if participant.broken || !participant.was_connected {
            self.remove(shared, key, DisconnectReason::SignalClose, false);
            return;
        }
        participant.away_since = Some(shared.now.monotonic);
        self.await_deadline(shared, key);
    }

    /// Takes a participant out with everything that is its. `replaced`: the same identity is here again, and the others are
    /// not told that it was away.
    pub(crate) fn remove(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        reason: DisconnectReason,
        replaced: bool,
    ) {
        let ids: Vec<TrackId> = self.participants.get(&key).into_iter().flat_map(|p| &p.tracks).map(|t| t.id).collect();
        let published = ids.into_iter().filter(|&id| self.end_track(shared, key, id, false)).count()
            + self.end_data_tracks(shared, key, false);
        let Some(participant) = self.participants.remove(&key) else { return };

        for (&track, subscription) in &participant.subscriptions {
            self.drop_receiver(subscription.owner, track, key);
        }
        for connection in &participant.connections {
            shared.transports.remove(&connection.transport);
            if let Some(node) = &self.node {
                shared.op(node, Op::Remove(Key::Transport(connection.transport)));
            }
        }
        if let Some(node) = &self.node {
            shared.op(node, Op::Remove(Key::Note(crate::note::participant_key(&self.name, &participant.sid))));
        }
        if let Some(socket) = participant.socket {
            shared.sockets.remove(&socket);
        }
        shared.deadlines.forget(&Waiter::Participant(self.call, key));
        if self.identities.get(participant.identity()) == Some(&key) {
            self.identities.remove(participant.identity());
        }
        self.changes.updates.remove(&key);
        self.news.forget(key);
        self.changes.receivers.remove(&key);
        self.changes.handles.remove(&key);
        self.changes.notes.remove(&key);
        self.changes.stale.remove(&key);
        self.changes.fresh.remove(&key);
        self.speaking.remove(&participant.sid);

        if !participant.permission.hidden && !replaced {
            self.changes.room = true;
            if published > 0 {
                // Some clients expect publications to be gone before their participant is.
                self.changes.left.push(ParticipantInfo { version: participant.version + 1, ..participant.info() });
            }
            let last = participant.farewell(reason);
            self.changes.left.push(last.clone());
            if self.departed.len() == DEPARTED_MAX {
                self.departed.pop_front();
            }
            self.departed.push_back((shared.now.monotonic, last));
        }
        if self.participants.is_empty() {
            self.empty_since = Some(shared.now.monotonic);
            if let Some(at) = self.closes_at(shared) {
                shared.deadlines.no_later(Waiter::Room(self.call), at);
            }
        }
        if participant.complaints.unsaid > 0 {
            shared.out.notice(Notice::BadRequest {
                room: self.name.clone(),
                identity: participant.identity().to_owned(),
                reason: "left after bad requests that were not told".to_owned(),
                unsaid: participant.complaints.unsaid,
            });
        }
        shared.out.notice(Notice::ParticipantLeft {
            room: self.name.clone(),
            identity: participant.claims.sub,
            sid: participant.sid,
            reason,
        });
    }

    /// Everybody goes.
    pub(crate) fn dismiss_all(&mut self, shared: &mut Shared, leave: Leave) {
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        // Sockets first, so that nobody is told of the others' departures.
        for &key in &keys {
            self.hang_up(shared, key, Some(leave));
        }
        for key in keys {
            self.remove(shared, key, leave.reason, false);
        }
    }
}
