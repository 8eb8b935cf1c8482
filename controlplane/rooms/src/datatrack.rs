//! Data tracks: frames that a participant sends on `_data_track` to those who subscribed. Nothing of them is negotiated:
//! the publisher names each by a handle of its own choice, each subscriber is given one, and the node puts the one in the
//! place of the other.

use std::collections::BTreeMap;

use livekit_protocol::{
    DataTrackInfo, DataTrackSubscriberHandles, PublishDataTrackRequest, PublishDataTrackResponse, RequestResponse,
    SyncState, UnpublishDataTrackRequest, UnpublishDataTrackResponse, UpdateDataSubscription,
    data_track_subscriber_handles::PublishedDataTrack, request_response, signal_response::Message,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use sluice_messages::{DataSubscription, DataTrack, DataTrackId, Entry, Key, Op};

use crate::{
    Notice,
    limits::{
        DATA_SUBSCRIPTIONS_MAX, DATA_TRACK_BYTES_MAX, DATA_TRACKS_BYTES_MAX, DATA_TRACKS_MAX, SIDS_MAX,
        TRACK_NAME_BYTES_MAX,
    },
    participant::{Participant, ParticipantKey, Role},
    room::Room,
    shared::Shared,
};

/// Data tracks of one participant.
pub(crate) struct DataTracks {
    published: Vec<Published>,
    received: BTreeMap<DataTrackId, Received>,
    /// The subscriber handle that was given last. They are given in turn, so that none soon means something else.
    last_handle: u16,
    /// It receives what it did not ask for.
    auto_subscribe: bool,
}

struct Published {
    id: DataTrackId,
    info: DataTrackInfo,
}

#[derive(Clone, Copy)]
struct Received {
    owner: ParticipantKey,
    handle: u16,
}

/// As it is kept for a restarted control.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct DataNote {
    /// With the info as protobuf.
    published: Vec<(DataTrackId, Vec<u8>)>,
    pub(crate) received: Vec<(DataTrackId, u16)>,
    last_handle: u16,
    auto_subscribe: bool,
}

impl DataTracks {
    pub(crate) fn new(auto_subscribe: bool) -> DataTracks {
        DataTracks { published: Vec::new(), received: BTreeMap::new(), last_handle: 0, auto_subscribe }
    }

    /// As clients and the API see what is published.
    pub(crate) fn infos(&self) -> Vec<DataTrackInfo> {
        self.published.iter().map(|track| track.info.clone()).collect()
    }

    pub(crate) fn is_publishing(&self) -> bool {
        !self.published.is_empty()
    }

    pub(crate) fn note(&self) -> DataNote {
        DataNote {
            published: self.published.iter().map(|track| (track.id, track.info.encode_to_vec())).collect(),
            received: self.received.iter().map(|(&id, received)| (id, received.handle)).collect(),
            last_handle: self.last_handle,
            auto_subscribe: self.auto_subscribe,
        }
    }

    /// What was published; [`Room::resubscribe_data`] puts back what was received. None if an info is broken.
    pub(crate) fn restore(note: DataNote) -> Option<DataTracks> {
        let published = note.published.into_iter().map(|(id, info)| {
            let info = DataTrackInfo::decode(&*info).ok()?;
            Some(Published { id, info })
        });
        Some(DataTracks {
            published: published.collect::<Option<Vec<_>>>()?,
            received: BTreeMap::new(),
            last_handle: note.last_handle,
            auto_subscribe: note.auto_subscribe,
        })
    }

    fn ids(&self) -> Vec<DataTrackId> {
        self.published.iter().map(|track| track.id).collect()
    }

    fn get(&self, id: DataTrackId) -> Option<&Published> {
        self.published.iter().find(|track| track.id == id)
    }

    /// The next handle that is free. Never zero; there is always one, as there are fewer subscriptions than handles.
    fn free_handle(&mut self) -> u16 {
        loop {
            self.last_handle = self.last_handle.checked_add(1).unwrap_or(1);
            if self.received.values().all(|received| received.handle != self.last_handle) {
                return self.last_handle;
            }
        }
    }
}

impl Room {
    pub(crate) fn publish_data_track(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        request: PublishDataTrackRequest,
    ) {
        let Some(participant) = self.participants.get(&key) else { return };
        let socket = participant.socket;
        let handle = match check(participant, &request) {
            Ok(handle) => handle,
            Err((reason, message)) => {
                let request = request_response::Request::PublishDataTrack(request);
                shared.out.send(socket, refusal(reason, message, request));
                return;
            }
        };
        // Packets come on the connection that the client offers, which it may do only now.
        self.open_publisher(shared, key);
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let id = shared.dice.data_track();
        let info = DataTrackInfo {
            pub_handle: u32::from(handle),
            sid: shared.dice.sid("DTR_"),
            name: request.name,
            encryption: request.encryption,
            frame_encoding: request.frame_encoding,
            schema: request.schema,
        };
        let sid = info.sid.clone();
        participant.data.published.push(Published { id, info: info.clone() });
        let (hidden, participant_sid) = (participant.permission.hidden, participant.sid.clone());
        if let (Some(node), Some(connection)) = (&self.node, participant.connection(Role::Publisher)) {
            shared.put(node, Entry::Transport(connection.row.clone()));
            let publisher = connection.transport;
            shared.put(node, Entry::DataTrack(DataTrack { id, call: self.call, publisher, handle }));
        }
        self.data_tracks.insert(sid.clone(), (key, id));
        let response = PublishDataTrackResponse { info: Some(info) };
        shared.out.send(socket, Message::PublishDataTrackResponse(response));
        self.touch(key, false);
        self.changes.room |= !hidden;
        let room = self.name.clone();
        shared.out.notice(Notice::TrackPublished { room, participant: participant_sid, track: sid });
        for receiver in self.participants.keys().copied().collect::<Vec<_>>() {
            self.reconsider_data(shared, receiver, key, id);
        }
    }

    pub(crate) fn unpublish_data_track(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        request: UnpublishDataTrackRequest,
    ) {
        let Some(participant) = self.participants.get(&key) else { return };
        let named = participant.data.published.iter().find(|track| track.info.pub_handle == request.pub_handle);
        match named.map(|track| track.id) {
            Some(id) => self.end_data_track(shared, key, id, true),
            None => {
                let message = "no data track is published under this handle";
                let request = request_response::Request::UnpublishDataTrack(request);
                let refusal = refusal(request_response::Reason::NotFound, message, request);
                shared.out.send(participant.socket, refusal);
            }
        }
    }

    /// Takes all data tracks of a participant away; it is told if `tell`. Tells how many there were.
    pub(crate) fn end_data_tracks(&mut self, shared: &mut Shared, key: ParticipantKey, tell: bool) -> usize {
        let ids = self.participants.get(&key).map(|participant| participant.data.ids()).unwrap_or_default();
        for &id in &ids {
            self.end_data_track(shared, key, id, tell);
        }
        ids.len()
    }

    fn end_data_track(&mut self, shared: &mut Shared, key: ParticipantKey, id: DataTrackId, tell: bool) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(index) = participant.data.published.iter().position(|track| track.id == id) else { return };
        let info = participant.data.published.remove(index).info;
        let (hidden, participant_sid) = (participant.permission.hidden, participant.sid.clone());
        let sid = info.sid.clone();
        if tell {
            let response = UnpublishDataTrackResponse { info: Some(info) };
            shared.out.send(participant.socket, Message::UnpublishDataTrackResponse(response));
        }
        self.data_tracks.remove(&sid);
        for (&receiver, participant) in &mut self.participants {
            // The sid does not come again: what was wanted of it would only use up the bound on wishes.
            if participant.data.received.remove(&id).is_some() | participant.wants.remove(&sid).is_some() {
                self.changes.notes.insert(receiver);
            }
        }
        if let Some(node) = &self.node {
            shared.op(node, Op::Remove(Key::DataTrack(id)));
        }
        self.touch(key, false);
        self.changes.room |= !hidden;
        let room = self.name.clone();
        shared.out.notice(Notice::TrackUnpublished { room, participant: participant_sid, track: sid });
    }

    /// UpdateDataSubscription. Sids that are not there (yet) are kept in mind.
    pub(crate) fn update_data_subscription(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        request: &UpdateDataSubscription,
    ) {
        for update in request.updates.iter().take(SIDS_MAX) {
            let Some(participant) = self.participants.get_mut(&key) else { return };
            if let Some(want) = participant.want(&update.track_sid) {
                want.subscribe = Some(update.subscribe);
            }
            if let Some(&(owner, id)) = self.data_tracks.get(&update.track_sid) {
                self.reconsider_data(shared, key, owner, id);
                // Who asks waits for handles, even if it asked before.
                if update.subscribe {
                    self.changes.handles.insert(key);
                }
            }
        }
        self.changes.notes.insert(key);
    }

    /// What a resumed client believes of data tracks. False: it publishes what is not known here.
    pub(crate) fn sync_data(&mut self, shared: &mut Shared, key: ParticipantKey, state: &SyncState) -> bool {
        let mut infos = state.publish_data_tracks.iter().filter_map(|published| published.info.as_ref());
        if !infos.all(|info| self.data_tracks.get(&info.sid).is_some_and(|&(owner, _)| owner == key)) {
            return false;
        }
        if let Some(subscription) = &state.data_subscription {
            self.update_data_subscription(shared, key, subscription);
        }
        true
    }

    /// Compares what a participant shall receive of all data tracks with what it does.
    pub(crate) fn reconsider_data_receiver(&mut self, shared: &mut Shared, receiver: ParticipantKey) {
        for (owner, id) in self.data_tracks.values().copied().collect::<Vec<_>>() {
            self.reconsider_data(shared, receiver, owner, id);
        }
    }

    /// Compares what everybody shall receive of a participant's data tracks with what they do.
    pub(crate) fn reconsider_data_owner(&mut self, shared: &mut Shared, owner: ParticipantKey) {
        let ids = self.participants.get(&owner).map(|participant| participant.data.ids()).unwrap_or_default();
        for receiver in self.participants.keys().copied().collect::<Vec<_>>() {
            for &id in &ids {
                self.reconsider_data(shared, receiver, owner, id);
            }
        }
    }

    fn reconsider_data(
        &mut self,
        shared: &mut Shared,
        receiver: ParticipantKey,
        owner: ParticipantKey,
        id: DataTrackId,
    ) {
        if receiver == owner {
            return;
        }
        let (Some(from), Some(to)) = (self.participants.get(&owner), self.participants.get(&receiver)) else { return };
        let Some(track) = from.data.get(id) else { return };
        let wanted = wants(from, to, &track.info.sid);
        let receives = to.data.received.contains_key(&id);
        let Some(transport) = to.connection(Role::Subscriber).map(|connection| connection.transport) else { return };
        let Some(to) = self.participants.get_mut(&receiver) else { return };
        match (wanted, receives) {
            (true, false) if to.data.received.len() < DATA_SUBSCRIPTIONS_MAX => {
                let handle = to.data.free_handle();
                to.data.received.insert(id, Received { owner, handle });
                if let Some(node) = &self.node {
                    let row = DataSubscription { receiver: transport, track: id, handle };
                    shared.put(node, Entry::DataSubscription(row));
                }
                self.changes.handles.insert(receiver);
            }
            (false, true) => {
                to.data.received.remove(&id);
                if let Some(node) = &self.node {
                    shared.op(node, Op::Remove(Key::DataSubscription { receiver: transport, track: id }));
                }
            }
            _ => return,
        }
        self.changes.notes.insert(receiver);
    }

    /// Tells a participant under which handles it receives what.
    pub(crate) fn tell_handles(&self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get(&key) else { return };
        let told = participant.data.received.iter().filter_map(|(&id, received)| {
            let owner = self.participants.get(&received.owner)?;
            let track = PublishedDataTrack {
                publisher_identity: owner.identity().to_owned(),
                publisher_sid: owner.sid.clone(),
                track_sid: owner.data.get(id)?.info.sid.clone(),
            };
            Some((u32::from(received.handle), track))
        });
        let handles = DataTrackSubscriberHandles { sub_handles: told.collect() };
        if !handles.sub_handles.is_empty() {
            shared.out.send(participant.socket, Message::DataTrackSubscriberHandles(handles));
        }
    }

    /// Puts back what a restored participant received, under the handles that its client knows.
    pub(crate) fn resubscribe_data(&mut self, key: ParticipantKey, received: &[(DataTrackId, u16)]) {
        for &(id, handle) in received {
            let Some(&(owner, _)) = self.data_tracks.values().find(|(_, known)| *known == id) else { continue };
            if let Some(participant) = self.participants.get_mut(&key) {
                participant.data.received.insert(id, Received { owner, handle });
            }
        }
    }

    /// Makes the data tracks of a restored participant known.
    pub(crate) fn readmit_data(&mut self, key: ParticipantKey, participant: &Participant) {
        let tracks = participant.data.published.iter().map(|track| (track.info.sid.clone(), (key, track.id)));
        self.data_tracks.extend(tracks);
    }

    /// All data tracks and subscriptions to them, as the node shall have them.
    pub(crate) fn data_rows(&self) -> impl Iterator<Item = Entry> + '_ {
        let tracks = self.participants.values().flat_map(move |participant| {
            let publisher = participant.connection(Role::Publisher).map(|connection| connection.transport);
            participant.data.published.iter().filter_map(move |track| {
                let handle = u16::try_from(track.info.pub_handle).ok()?;
                Some(Entry::DataTrack(DataTrack { id: track.id, call: self.call, publisher: publisher?, handle }))
            })
        });
        let subscriptions = self.participants.values().flat_map(|participant| {
            let receiver = participant.connection(Role::Subscriber).map(|connection| connection.transport);
            participant.data.received.iter().filter_map(move |(&track, received)| {
                let row = DataSubscription { receiver: receiver?, track, handle: received.handle };
                Some(Entry::DataSubscription(row))
            })
        });
        tracks.chain(subscriptions)
    }
}

fn wants(from: &Participant, to: &Participant, sid: &str) -> bool {
    let wanted = to.wants.get(sid).and_then(|want| want.subscribe).unwrap_or(to.data.auto_subscribe);
    wanted && to.permission.can_subscribe && !to.broken && !from.permission.hidden && from.lets(to, sid)
}

/// The publisher's handle, if the track may be published.
fn check(
    participant: &Participant,
    request: &PublishDataTrackRequest,
) -> Result<u16, (request_response::Reason, &'static str)> {
    use request_response::Reason;
    let published = &participant.data.published;
    if !participant.permission.can_publish_data {
        return Err((Reason::NotAllowed, "the token does not permit to publish data"));
    }
    let handle = u16::try_from(request.pub_handle).ok().filter(|&handle| handle != 0);
    let handle = handle.ok_or((Reason::InvalidHandle, "a handle is 1 to 65535"))?;
    if request.name.is_empty() || request.name.len() > TRACK_NAME_BYTES_MAX {
        return Err((Reason::InvalidName, "the name is empty or too long"));
    }
    if published.iter().any(|track| track.info.pub_handle == request.pub_handle) {
        return Err((Reason::DuplicateHandle, "a data track is published under this handle"));
    }
    if published.iter().any(|track| track.info.name == request.name) {
        return Err((Reason::DuplicateName, "a data track is published under this name"));
    }
    let bytes: usize = published.iter().map(|track| track.info.encoded_len()).sum();
    let length = request.encoded_len();
    if length > DATA_TRACK_BYTES_MAX || bytes + length > DATA_TRACKS_BYTES_MAX || published.len() >= DATA_TRACKS_MAX {
        return Err((Reason::LimitExceeded, "too many data tracks, or too long a description"));
    }
    Ok(handle)
}

fn refusal(reason: request_response::Reason, message: &str, request: request_response::Request) -> Message {
    Message::RequestResponse(RequestResponse {
        request_id: 0,
        reason: reason as i32,
        message: message.to_owned(),
        request: Some(request),
    })
}
