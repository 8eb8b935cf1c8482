//! What clients say once they are in: one branch for each message.

use livekit_protocol::DisconnectReason;
use livekit_protocol::{
    LeaveRequest, Pong, RequestResponse, SimulateScenario, SpeakerInfo, SpeakersChanged, SyncState,
    UpdateLocalAudioTrack, UpdateLocalVideoTrack, UpdateParticipantMetadata, leave_request, request_response,
    signal_request::Message as Request, signal_response::Message, simulate_scenario::Scenario,
};
use sluice_signal::candidates;

use crate::{
    CloseReason,
    limits::{ATTRIBUTES_BYTES_MAX, LAYERS_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, SIDS_MAX},
    participant::{Participant, ParticipantKey, Simulate},
    room::{Leave, Room},
    shared::Shared,
};

impl Room {
    /// A message of a participant's client.
    pub(crate) fn signal(&mut self, shared: &mut Shared, key: ParticipantKey, request: Request) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        participant.last_heard = shared.now.monotonic;
        let socket = participant.socket;
        match request {
            Request::Offer(offer) => self.offer(shared, key, offer),
            Request::Answer(answer) => self.answer(shared, key, &answer),
            Request::Trickle(trickle) => self.check_candidate(shared, key, &trickle.candidate_init),
            Request::AddTrack(request) => self.add_track(shared, key, request),
            Request::Mute(request) => self.mute_own(shared, key, &request),
            Request::Subscription(update) => self.update_subscription(shared, key, &update),
            Request::TrackSetting(update) => self.update_settings(shared, key, &update),
            Request::Leave(leave) => self.leave(shared, key, &leave),
            Request::SubscriptionPermission(permission) => self.set_allowed(shared, key, permission),
            Request::SyncState(state) => self.sync(shared, key, &state),
            Request::Simulate(scenario) => self.simulate(shared, key, &scenario),
            Request::Ping(_) => shared.out.send(socket, Message::Pong(shared.now.unix_ms)),
            Request::PingReq(ping) => {
                let pong = Pong { last_ping_timestamp: ping.timestamp, timestamp: shared.now.unix_ms };
                shared.out.send(socket, Message::PongResp(pong));
            }
            Request::UpdateMetadata(update) => self.update_own(shared, key, update),
            Request::UpdateAudioTrack(update) => self.update_audio(key, update),
            Request::UpdateVideoTrack(update) => self.update_video(shared, key, &update),
            Request::PublishDataTrackRequest(request) => self.publish_data_track(shared, key, request),
            Request::UnpublishDataTrackRequest(request) => self.unpublish_data_track(shared, key, request),
            Request::UpdateDataSubscription(update) => self.update_data_subscription(shared, key, &update),
            #[expect(deprecated, reason = "a name in a list of what is not served")]
            Request::UpdateLayers(_) | Request::StoreDataBlobRequest(_) | Request::GetDataBlobRequest(_) => {}
        }
    }

    /// The node learns addresses from authenticated checks alone; what is trickled is only looked at.
    fn check_candidate(&mut self, shared: &mut Shared, key: ParticipantKey, init: &str) {
        if let Err(error) = candidates::parse(init) {
            self.complain(shared, key, format!("trickle: {error}"));
        }
    }

    /// A client's leave is final.
    fn leave(&mut self, shared: &mut Shared, key: ParticipantKey, leave: &LeaveRequest) {
        self.hang_up(shared, key, None);
        let reason = match leave.reason() {
            DisconnectReason::UnknownReason => DisconnectReason::ClientInitiated,
            other => other,
        };
        self.remove(shared, key, reason, false);
    }

    /// Name, metadata and attributes of itself.
    fn update_own(&mut self, shared: &mut Shared, key: ParticipantKey, update: UpdateParticipantMetadata) {
        let Some(participant) = self.participants.get(&key) else { return };
        let (socket, request_id) = (participant.socket, update.request_id);
        let result = match participant.permission.can_update_metadata {
            false => Err((request_response::Reason::NotAllowed, "the token does not permit to update own metadata")),
            true => check_profile(participant, &update),
        };
        let (reason, message) = match result {
            Ok(()) => (request_response::Reason::Ok, ""),
            Err(refusal) => refusal,
        };
        if result.is_ok() {
            self.set_profile(shared, key, &update.name, &update.metadata, update.attributes.clone());
        }
        let response = RequestResponse {
            request_id,
            reason: reason as i32,
            message: message.to_owned(),
            request: Some(request_response::Request::UpdateMetadata(update)),
        };
        shared.out.send(socket, Message::RequestResponse(response));
    }

    /// Sets what is not empty; an attribute with an empty value is removed.
    pub(crate) fn set_profile(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        name: &str,
        metadata: &str,
        attributes: impl IntoIterator<Item = (String, String)>,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let renamed = !name.is_empty() && name != participant.name;
        if renamed {
            participant.name = name.to_owned();
            participant.claims.name = name.to_owned();
        }
        if !metadata.is_empty() {
            participant.metadata = metadata.to_owned();
            participant.claims.metadata = metadata.to_owned();
        }
        for (name, value) in attributes {
            match value.is_empty() {
                true => participant.attributes.remove(&name),
                false => participant.attributes.insert(name, value),
            };
        }
        participant.claims.attributes = participant.attributes.clone();
        self.touch(key, true);
        if renamed {
            self.refresh_token(shared, key);
        }
    }

    fn update_audio(&mut self, key: ParticipantKey, mut update: UpdateLocalAudioTrack) {
        update.features.truncate(LAYERS_MAX);
        let Some(track) = self.participants.get_mut(&key).and_then(|p| p.track_mut(&update.track_sid)) else { return };
        track.info.audio_features = update.features;
        self.touch(key, false);
    }

    fn update_video(&mut self, shared: &mut Shared, key: ParticipantKey, update: &UpdateLocalVideoTrack) {
        let Some(track) = self.participants.get_mut(&key).and_then(|p| p.track_mut(&update.track_sid)) else { return };
        (track.info.width, track.info.height) = (update.width, update.height);
        let id = track.id;
        self.touch(key, false);
        self.rewish_all(shared, key, id);
    }

    /// What a resumed client believes. What it wants is taken over; what it publishes must be known here.
    fn sync(&mut self, shared: &mut Shared, key: ParticipantKey, state: &SyncState) {
        let Some(participant) = self.participants.get(&key) else { return };
        let published = state.publish_tracks.iter().filter_map(|published| published.track.as_ref());
        let unknown = published.map(|track| &track.sid).find(|sid| participant.track(sid).is_none());
        if let Some(sid) = unknown {
            let reason = format!("sync state: track {sid:?} is not known");
            self.refuse(shared, key, reason);
            return;
        }
        if !self.sync_data(shared, key, state) {
            self.refuse(shared, key, "sync state: a data track is not known".to_owned());
            return;
        }
        if let Some(subscription) = &state.subscription {
            self.update_subscription(shared, key, subscription);
        }
        for sid in state.track_sids_disabled.iter().take(SIDS_MAX) {
            let known = self.participants.get(&key).and_then(|participant| participant.wants.get(sid)?.settings);
            let settings = crate::wish::Settings { disabled: true, ..known.unwrap_or(crate::wish::Settings::HIGH) };
            self.set_wish(shared, key, sid, settings);
        }
    }

    /// Provoked failures, for tests of clients.
    fn simulate(&mut self, shared: &mut Shared, key: ParticipantKey, scenario: &SimulateScenario) {
        match scenario.scenario {
            Some(Scenario::NodeFailure(true)) => self.restart(shared, key, None),
            Some(Scenario::Migration(true) | Scenario::LeaveRequestFullReconnect(true)) => {
                self.restart(shared, key, Some(Leave::reconnect(DisconnectReason::Migration)));
            }
            Some(Scenario::ServerLeave(true)) => {
                self.dismiss(shared, key, Leave::disconnect(DisconnectReason::ServerShutdown));
            }
            Some(Scenario::SwitchCandidateProtocol(_)) => {
                let leave = Leave { reason: DisconnectReason::Migration, action: leave_request::Action::Resume };
                let Some(participant) = self.participants.get(&key) else { return };
                shared.out.send(participant.socket, leave.message());
            }
            Some(Scenario::DisconnectSignalOnResume(true)) => {
                self.break_resume(shared, key, Simulate::CloseAfterReconnect)
            }
            Some(Scenario::DisconnectSignalOnResumeNoMessages(true)) => {
                self.break_resume(shared, key, Simulate::CloseBeforeReconnect);
            }
            Some(Scenario::SpeakerUpdate(_)) => {
                let speakers = self.participants.values().map(|participant| {
                    self.speaking.insert(participant.sid.clone(), 1.0);
                    SpeakerInfo { sid: participant.sid.clone(), level: 0.9, active: true }
                });
                let speakers: Vec<SpeakerInfo> = speakers.collect();
                for participant in self.participants.values() {
                    let message = SpeakersChanged { speakers: speakers.clone() };
                    shared.out.send(participant.socket, Message::SpeakersChanged(message));
                }
            }
            _ => {}
        }
    }

    fn break_resume(&mut self, shared: &mut Shared, key: ParticipantKey, how: Simulate) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        participant.simulate = Some(how);
        // The session must outlast its broken sockets even if its media never came up.
        participant.was_connected = true;
        if let Some(socket) = participant.socket {
            shared.out.close(socket, CloseReason::Simulated);
            self.lost_socket(shared, key);
        }
    }
}

type Refusal = (request_response::Reason, &'static str);

/// Name, metadata and attributes after an update stay within their bounds.
fn check_profile(participant: &Participant, update: &UpdateParticipantMetadata) -> Result<(), Refusal> {
    let attributes = update.attributes.iter();
    match profile_fits(participant, &update.name, &update.metadata, attributes) {
        true => Ok(()),
        false => Err((request_response::Reason::LimitExceeded, "name, metadata or attributes are too long")),
    }
}

/// Name, metadata and attributes after an update stay within their bounds.
pub(crate) fn profile_fits<'a>(
    participant: &Participant,
    name: &str,
    metadata: &str,
    attributes: impl Iterator<Item = (&'a String, &'a String)>,
) -> bool {
    let old: usize = participant.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    let change: isize = attributes
        .map(|(name, value)| {
            let before = participant.attributes.get(name).map_or(0, |value| name.len() + value.len());
            let after = if value.is_empty() { 0 } else { name.len() + value.len() };
            after as isize - before as isize
        })
        .sum();
    let total = old.saturating_add_signed(change);
    name.len() <= NAME_BYTES_MAX
        && metadata.len() <= METADATA_BYTES_MAX
        && (total <= ATTRIBUTES_BYTES_MAX || change <= 0)
}
