//! Subscriptions: who shall receive what, offers and answers, and what each client wants of a track.

use livekit_protocol::{
    AudioTrackFeature, BackupCodecPolicy, SessionDescription, SignalTarget, SubscriptionError, SubscriptionPermission,
    SubscriptionPermissionUpdate, SubscriptionResponse, TrackSubscribed, UpdateSubscription, UpdateTrackSettings,
    signal_response::Message,
};
use sluice_messages::{Data, Entry, Key, Op, TrackId};
use sluice_signal::{AddError, NegotiatedSubscription, SubscribedTrack, candidates};

use crate::{
    limits::{SID_BYTES_MAX, SIDS_MAX, SUBSCRIPTIONS_MAX, TRACK_PERMISSIONS_MAX, WISHES_MAX},
    participant::{Negotiation, Participant, ParticipantKey, Published, Role, Subscription},
    room::Room,
    shared::Shared,
    wish::{self, Settings},
};

impl Room {
    /// Compares what everybody shall receive of a track with what they do.
    pub(crate) fn reconsider_track(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        for receiver in self.participants.keys().copied().collect::<Vec<_>>() {
            self.reconsider(shared, receiver, owner, id);
        }
    }

    /// Compares what a participant shall receive with what it does.
    pub(crate) fn reconsider_receiver(&mut self, shared: &mut Shared, receiver: ParticipantKey) {
        let live = self.participants.iter().flat_map(|(&owner, participant)| {
            participant.tracks.iter().filter(|track| track.is_live()).map(move |track| (owner, track.id))
        });
        for (owner, id) in live.collect::<Vec<_>>() {
            self.reconsider(shared, receiver, owner, id);
        }
        self.reconsider_data_receiver(shared, receiver);
    }

    fn reconsider(&mut self, shared: &mut Shared, receiver: ParticipantKey, owner: ParticipantKey, id: TrackId) {
        if receiver == owner {
            return;
        }
        let (Some(from), Some(to)) = (self.participants.get(&owner), self.participants.get(&receiver)) else { return };
        let Some(track) = from.track_by_id(id) else { return };
        let wanted = track.is_live() && wants(from, to, track);
        match (wanted, to.subscriptions.contains_key(&id)) {
            (true, false) => self.subscribe(shared, receiver, owner, id),
            (false, true) => self.unsubscribe(shared, receiver, id),
            _ => {}
        }
    }

    fn subscribe(&mut self, shared: &mut Shared, receiver: ParticipantKey, owner: ParticipantKey, id: TrackId) {
        let Some(offered) = self.offered(owner, id) else { return };
        let Some(to) = self.participants.get_mut(&receiver) else { return };
        let socket = to.socket;
        if to.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            to.waiting = true;
            return;
        }
        let sid = offered.track_sid.clone();
        let Some(subscriber) = to.subscriber() else { return };
        match subscriber.add(offered) {
            Ok(()) => {
                to.subscriptions.insert(id, Subscription { owner, source: None, row: None, paused: false });
                self.changes.receivers.insert(receiver);
            }
            Err(AddError::NoCodec) => {
                to.undecodable.insert(id);
                unsupported(shared, socket, sid);
            }
            Err(AddError::Full) => to.waiting = true,
        }
    }

    /// A track as its receivers are offered it.
    fn offered(&self, owner: ParticipantKey, id: TrackId) -> Option<SubscribedTrack> {
        let from = self.participants.get(&owner)?;
        let track = from.track_by_id(id)?;
        let row = track.row.as_ref()?;
        let features = &track.info.audio_features;
        #[expect(deprecated, reason = "most clients still say stereo in the old field")]
        let stereo = track.info.stereo || features.contains(&(AudioTrackFeature::TfStereo as i32));
        let stream = Some(track.info.stream.clone()).filter(|stream| self.settings.sync_streams && !stream.is_empty());
        let backup = |backup: &crate::backup::Backup| sluice_signal::subscriber::Backup {
            track: backup.id,
            codec: backup.codec,
            payloads: backup.row.as_ref().map(|row| row.payloads.clone()).unwrap_or_default(),
        };
        Some(SubscribedTrack {
            track: id,
            kind: row.kind,
            participant_sid: from.sid.clone(),
            track_sid: track.info.sid.clone(),
            stream,
            payloads: row.payloads.clone(),
            backups: track.backups.iter().map(backup).collect(),
            regress: track.info.backup_codec_policy() == BackupCodecPolicy::Regression,
            stereo,
        })
    }

    /// The publisher sends other formats or codecs than before: its receivers are offered them where they need to be.
    pub(crate) fn reoffer(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        let Some(offered) = self.offered(owner, id) else { return };
        for receiver in self.participants.keys().copied().collect::<Vec<_>>() {
            let Some(to) = self.participants.get_mut(&receiver).filter(|p| p.subscriptions.contains_key(&id)) else {
                continue;
            };
            let added = to.subscriber().map(|subscriber| {
                let added = subscriber.add(offered.clone());
                added.map(|()| subscriber.subscription(id))
            });
            match added {
                Some(Ok(negotiated)) => {
                    self.changes.receivers.insert(receiver);
                    if let Some(negotiated) = negotiated {
                        self.receive(shared, receiver, negotiated);
                    }
                }
                _ => self.unsubscribe(shared, receiver, id),
            }
        }
    }

    pub(crate) fn unsubscribe(&mut self, shared: &mut Shared, receiver: ParticipantKey, id: TrackId) {
        let Some(to) = self.participants.get_mut(&receiver) else { return };
        let Some(subscription) = to.subscriptions.remove(&id) else { return };
        if let Some(subscriber) = to.subscriber() {
            subscriber.remove(id);
        }
        if let (Some(row), Some(node)) = (subscription.row, &self.node) {
            shared.op(node, Op::Remove(Key::Subscription { receiver: row.receiver, track: row.track }));
        }
        self.changes.receivers.insert(receiver);
        self.changes.notes.insert(receiver);
        self.drop_receiver(subscription.owner, id, receiver);
    }

    /// Takes a track from all its receivers.
    pub(crate) fn withdraw(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        if !self.participants.get(&owner).and_then(|p| p.track_by_id(id)).is_some_and(Published::is_live) {
            return;
        }
        let has = |(&key, participant): (&ParticipantKey, &Participant)| {
            participant.subscriptions.contains_key(&id).then_some(key)
        };
        for receiver in self.participants.iter().filter_map(has).collect::<Vec<_>>() {
            self.unsubscribe(shared, receiver, id);
        }
        for participant in self.participants.values_mut() {
            participant.undecodable.remove(&id);
        }
    }

    /// Somebody receives a track no more.
    pub(crate) fn drop_receiver(&mut self, owner: ParticipantKey, id: TrackId, receiver: ParticipantKey) {
        if let Some(track) = self.track_mut(owner, id)
            && track.receivers.remove(&receiver)
        {
            self.changes.demand.insert((owner, id));
        }
    }

    /// An answer of the client: media may flow as it says.
    pub(crate) fn answer(&mut self, shared: &mut Shared, key: ParticipantKey, answer: &SessionDescription) {
        let Some(node) = self.node.clone() else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let socket = participant.socket;
        let Some(subscriber) = participant.subscriber() else { return };
        let answered = match subscriber.on_answer(answer.id, &answer.sdp) {
            Ok(Some(answered)) => answered,
            Ok(None) => return,
            Err(error) => {
                let reason = error.to_string();
                self.refuse(shared, key, format!("answer: {reason}"));
                return;
            }
        };
        let may_send = participant.permission.can_publish_data;
        let Some(connection) = participant.connection_mut(Role::Subscriber) else { return };
        let mut row = connection.row.clone();
        row.ice = answered.ice;
        row.fingerprint = Some(answered.fingerprint);
        row.send_extensions = answered.send_extensions;
        row.data = answered.data.then_some(Data {
            opened_by_us: true,
            may_send,
            delivers: true,
            streams: connection.resumed(),
        });
        if row != connection.row {
            connection.row = row;
            shared.put(&node, Entry::Transport(connection.row.clone()));
        }
        self.changes.notes.insert(key);
        for id in answered.unsupported {
            let sid = self.sid_of(shared, id);
            let Some(participant) = self.participants.get_mut(&key) else { return };
            participant.undecodable.insert(id);
            self.unsubscribe(shared, key, id);
            if let Some(sid) = sid {
                unsupported(shared, socket, sid);
            }
        }
        for negotiated in answered.subscriptions {
            self.receive(shared, key, negotiated);
        }
        if answered.more {
            self.changes.receivers.insert(key);
        }
        // What ended leaves room when the client has answered that it knows.
        let participant = self.participants.get_mut(&key);
        if participant.is_some_and(|participant| std::mem::take(&mut participant.waiting)) {
            self.reconsider_receiver(shared, key);
        }
    }

    /// A subscription is negotiated: the node forwards it from now on, or from when the publisher sends the codec.
    fn receive(&mut self, shared: &mut Shared, key: ParticipantKey, negotiated: NegotiatedSubscription) {
        let (id, source) = (negotiated.track, negotiated.source);
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(subscription) = participant.subscriptions.get_mut(&id) else { return };
        let owner = subscription.owner;
        if subscription.source.replace(source) != Some(source) {
            self.changes.demand.insert((owner, id));
        }
        let old = subscription.row.take_if(|row| row.track != source || negotiated.payloads.is_empty());
        if let (Some(row), Some(node)) = (old, &self.node) {
            shared.op(node, Op::Remove(Key::Subscription { receiver: row.receiver, track: row.track }));
        }
        if let Some(track) = self.track_mut(owner, id) {
            track.receivers.insert(key);
        }
        if negotiated.payloads.is_empty() {
            return;
        }
        let Some(wish) = self.wish(key, id) else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(receiver) = participant.connection(Role::Subscriber).map(|connection| connection.transport) else {
            return;
        };
        let Some(subscription) = participant.subscriptions.get_mut(&id) else { return };
        let row = sluice_messages::Subscription {
            receiver,
            track: source,
            mid: negotiated.mid,
            ssrc: negotiated.ssrc,
            rtx_ssrc: negotiated.rtx_ssrc,
            payloads: negotiated.payloads,
            wish,
        };
        if subscription.row.as_ref() == Some(&row) {
            return;
        }
        subscription.row = Some(row.clone());
        if let Some(node) = &self.node {
            shared.put(node, Entry::Subscription(row));
        }
        let socket = self.participants.get(&owner).and_then(|participant| participant.socket);
        let Some(track) = self.track_mut(owner, id) else { return };
        if !std::mem::replace(&mut track.told, true) {
            let sid = track.info.sid.clone();
            shared.out.send(socket, Message::TrackSubscribed(TrackSubscribed { track_sid: sid }));
        }
        self.changes.demand.insert((owner, id));
    }

    /// UpdateSubscription, of the client or of the API. Sids that are not there (yet) are kept in mind.
    pub(crate) fn update_subscription(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        update: &UpdateSubscription,
    ) {
        let sids = update.participant_tracks.iter().flat_map(|tracks| &tracks.track_sids).chain(&update.track_sids);
        for sid in sids.take(SIDS_MAX) {
            let Some(participant) = self.participants.get_mut(&key) else { return };
            if let Some(want) = participant.want(sid) {
                want.subscribe = Some(update.subscribe);
            }
            match self.tracks.get(sid) {
                Some(&(owner, id)) => {
                    if update.subscribe && self.participants.get(&key).is_some_and(|p| p.undecodable.contains(&id)) {
                        let socket = self.participants.get(&key).and_then(|participant| participant.socket);
                        unsupported(shared, socket, sid.clone());
                    }
                    self.reconsider(shared, key, owner, id);
                }
                None => continue,
            }
        }
        self.changes.stale.insert(key);
    }

    /// UpdateTrackSettings.
    pub(crate) fn update_settings(&mut self, shared: &mut Shared, key: ParticipantKey, update: &UpdateTrackSettings) {
        let settings = Settings::of(update);
        for sid in update.track_sids.iter().take(SIDS_MAX) {
            self.set_wish(shared, key, sid, settings);
        }
    }

    pub(crate) fn set_wish(&mut self, shared: &mut Shared, key: ParticipantKey, sid: &str, settings: Settings) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        if let Some(want) = participant.want(sid) {
            want.settings = Some(settings);
        }
        self.changes.stale.insert(key);
        if let Some(&(_, id)) = self.tracks.get(sid) {
            self.rewish(shared, key, id);
        }
    }

    /// A track's layers changed: everybody's wish may mean another one.
    pub(crate) fn rewish_all(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        let receivers = self.participants.get(&owner).and_then(|p| p.track_by_id(id)).map(|t| t.receivers.clone());
        for receiver in receivers.unwrap_or_default() {
            self.rewish(shared, receiver, id);
        }
    }

    fn rewish(&mut self, shared: &mut Shared, key: ParticipantKey, id: TrackId) {
        let Some(wish) = self.wish(key, id) else { return };
        let Some(subscription) = self.participants.get_mut(&key).and_then(|p| p.subscriptions.get_mut(&id)) else {
            return;
        };
        self.changes.demand.insert((subscription.owner, id));
        let Some(row) = subscription.row.as_mut().filter(|row| row.wish != wish) else { return };
        row.wish = wish;
        if let Some(node) = &self.node {
            shared.put(node, Entry::Subscription(row.clone()));
        }
    }

    /// What the forwarder shall do for a receiver, in the codec that it gets or waits for.
    pub(crate) fn wish(&self, key: ParticipantKey, id: TrackId) -> Option<sluice_messages::Wish> {
        let participant = self.participants.get(&key)?;
        let subscription = participant.subscriptions.get(&id)?;
        let track = self.participants.get(&subscription.owner)?.track_by_id(id)?;
        let source = subscription.source.unwrap_or(id);
        let row = track.row_of(source);
        let kind = track.row.as_ref()?.kind;
        let want = participant.wants.get(&track.info.sid);
        let encodings = row.map(|row| &row.encodings[..]).unwrap_or_default();
        Some(wish::wish(want, participant.adaptive_stream, kind, track.layers(source), encodings))
    }

    /// Who may subscribe to a participant's tracks.
    pub(crate) fn set_allowed(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        mut allowed: SubscriptionPermission,
    ) {
        allowed.track_permissions.truncate(TRACK_PERMISSIONS_MAX);
        let Some(owner) = self.participants.get(&key) else { return };
        let (owner_sid, live) = (owner.sid.clone(), owner.tracks.iter().filter(|track| track.is_live()));
        let live: Vec<(TrackId, String)> = live.map(|track| (track.id, track.info.sid.clone())).collect();
        let lets = |room: &Room| -> Vec<bool> {
            let Some(owner) = room.participants.get(&key) else { return Vec::new() };
            let of = |other: &Participant| live.iter().map(|(_, sid)| owner.lets(other, sid)).collect::<Vec<_>>();
            room.participants.values().flat_map(of).collect()
        };
        let before = lets(self);
        if let Some(owner) = self.participants.get_mut(&key) {
            owner.allowed = Some(allowed);
        }
        let after = lets(self);
        let pairs = self.participants.values().flat_map(|other| live.iter().map(move |(_, sid)| (other, sid)));
        for ((other, track_sid), (before, allowed)) in pairs.zip(before.into_iter().zip(after)) {
            if before != allowed && other.key != key {
                let (participant_sid, track_sid) = (owner_sid.clone(), track_sid.clone());
                let update = SubscriptionPermissionUpdate { participant_sid, track_sid, allowed };
                shared.out.send(other.socket, Message::SubscriptionPermissionUpdate(update));
            }
        }
        for (id, _) in live {
            self.reconsider_track(shared, key, id);
        }
        self.reconsider_data_owner(shared, key);
        self.changes.notes.insert(key);
    }

    /// Sends the next offer to a receiver if there is one.
    pub(crate) fn negotiate(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(node) = self.node_info(shared) else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(socket) = participant.socket else { return };
        let Some(offer) = participant.subscriber().and_then(|subscriber| subscriber.offer(&node)) else { return };
        let offer =
            SessionDescription { r#type: "offer".to_owned(), sdp: offer.sdp, id: offer.id, ..Default::default() };
        shared.out.send(Some(socket), Message::Offer(offer));
        self.changes.notes.insert(key);
        self.trickle(shared, key, Role::Subscriber);
    }

    /// Gives the client the node's candidates, once for each generation of credentials.
    pub(crate) fn trickle(&mut self, shared: &mut Shared, key: ParticipantKey, role: Role) {
        let (Some(id), Some(node)) = (self.node.clone(), self.node_info(shared)) else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let socket = participant.socket;
        let Some(connection) = participant.connection_mut(role) else { return };
        if std::mem::replace(&mut connection.trickled, true) {
            return;
        }
        connection.seen.push(id);
        let (mid, target) = match &connection.negotiation {
            Negotiation::Publisher(publisher) => (publisher.candidate_mid().unwrap_or("0"), SignalTarget::Publisher),
            Negotiation::Subscriber(subscriber) => (subscriber.candidate_mid(), SignalTarget::Subscriber),
        };
        for candidate in candidates::trickle(&node, mid, target) {
            shared.out.send(socket, Message::Trickle(candidate));
        }
    }

    fn sid_of(&self, shared: &Shared, id: TrackId) -> Option<String> {
        let &(call, owner) = shared.tracks.get(&id)?;
        let owner = self.participants.get(&owner).filter(|_| call == self.call)?;
        owner.track_of(id).map(|track| track.info.sid.clone())
    }
}

impl Participant {
    /// What it wants of a track; none if it wants too many things or what cannot be.
    pub(crate) fn want(&mut self, sid: &str) -> Option<&mut crate::wish::Want> {
        if sid.len() > SID_BYTES_MAX || (self.wants.len() >= WISHES_MAX && !self.wants.contains_key(sid)) {
            return None;
        }
        Some(self.wants.entry(sid.to_owned()).or_default())
    }
}

fn wants(from: &Participant, to: &Participant, track: &Published) -> bool {
    let sid = &track.info.sid;
    let wanted = to.wants.get(sid).and_then(|want| want.subscribe).unwrap_or(to.auto_subscribe);
    let possible = to.permission.can_subscribe && !to.broken && !to.undecodable.contains(&track.id);
    wanted && possible && !from.permission.hidden && from.lets(to, sid)
}

fn unsupported(shared: &mut Shared, socket: Option<crate::SocketId>, track_sid: String) {
    let response = SubscriptionResponse { track_sid, err: SubscriptionError::SeCodecUnsupported as i32 };
    shared.out.send(socket, Message::SubscriptionResponse(response));
}
