//! What a node reports about media: who is heard, how connections do, what is paused.

use std::collections::BTreeMap;

use livekit_protocol::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, DisconnectReason, SpeakerInfo, SpeakersChanged,
    StreamState, StreamStateInfo, StreamStateUpdate, participant_info, signal_response::Message,
};
use sluice_messages::{DataKind, Failure, LayerLive, Quality, Speaker, TrackId, TransportId, TransportState};

use crate::{
    Notice,
    participant::{Link, ParticipantKey, Role},
    room::{Leave, Room},
    shared::Shared,
};

/// How a participant's connections do.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Rating {
    up: Option<Quality>,
    down: Option<Quality>,
    /// What clients were told.
    told: Option<ConnectionQuality>,
}

/// Share of packets lost from which a connection is merely good, and from which it is poor. Lower values blame connections
/// that retransmission still repairs unnoticed.
const LOSS_GOOD: f32 = 0.02;
const LOSS_POOR: f32 = 0.08;
/// Round trips from which a connection is merely good, and from which talking over it is hard.
const RTT_GOOD_US: u32 = 300_000;
const RTT_POOR_US: u32 = 800_000;

/// Levels told to clients are steps of this: smaller ones cost messages that nobody sees.
const LEVEL_STEP: f32 = 0.125;

impl Room {
    /// A transport's state changed.
    pub(crate) fn transport_event(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        transport: TransportId,
        state: &TransportState,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let primary = participant.primary();
        let Some(connection) = participant.connections.iter_mut().find(|c| c.transport == transport) else { return };
        let role = connection.role;
        match state {
            TransportState::Checking => {}
            TransportState::Connected => {
                connection.link = Link::Connected;
                participant.was_connected = true;
                if role == primary && !participant.is_active() {
                    participant.state = participant_info::State::Active;
                    let (sid, identity) = (participant.sid.clone(), participant.identity().to_owned());
                    shared.out.notice(Notice::ParticipantActive { room: self.name.clone(), sid, identity });
                    self.touch(key, false);
                }
                self.changes.notes.insert(key);
                self.rate(shared, key);
            }
            TransportState::Disconnected => {
                connection.link = Link::Disconnected;
                self.rate(shared, key);
            }
            TransportState::Failed(failure) => {
                connection.link = Link::Failed;
                self.failed(shared, key, *failure);
            }
        }
    }

    /// A data channel is open, or is not any more.
    pub(crate) fn channel_event(
        &mut self,
        key: ParticipantKey,
        transport: TransportId,
        kind: DataKind,
        stream: Option<u16>,
    ) {
        let participant = self.participants.get_mut(&key);
        let connection = participant.and_then(|p| p.connections.iter_mut().find(|c| c.transport == transport));
        if let Some(connection) = connection {
            connection.streams.set(kind, stream);
        }
    }

    /// Media does not come back by itself. Without consent the association is still there: a resume, which restarts ICE, is
    /// enough. Otherwise a client that talks starts anew, and one that is away has to when it returns.
    fn failed(&mut self, shared: &mut Shared, key: ParticipantKey, failure: Failure) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let away = participant.socket.is_none();
        if away {
            participant.broken |= failure != Failure::Consent;
            return;
        }
        let reason = match failure {
            Failure::Consent => "transport: no consent to send (RFC 7675)",
            Failure::Fingerprint => "transport: the certificate is not the one of the description",
            Failure::Dtls => "transport: DTLS ended",
            Failure::Full => "transport: the node is full",
        };
        self.complain(shared, key, reason);
        match failure {
            Failure::Consent => self.suspend(shared, key, DisconnectReason::ConnectionTimeout),
            _ => self.restart(shared, key, Some(Leave::reconnect(DisconnectReason::ConnectionTimeout))),
        }
    }

    /// The node learned which SSRC carries which layer; clients find it in the track's info.
    pub(crate) fn layers_event(&mut self, key: ParticipantKey, source: TrackId, live: &[LayerLive]) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let index = participant.tracks.iter().position(|track| track.row_of(source).is_some());
        let Some(track) = index.and_then(|index| participant.tracks.get_mut(index)) else { return };
        let Some(row) = track.row_of(source) else { return };
        let learned: Vec<(Option<String>, &LayerLive)> = live
            .iter()
            .filter_map(|live| Some((row.encodings.get(usize::from(live.encoding))?.rid.clone(), live)))
            .collect();
        if let Some(row) = track.rows_mut().find(|row| row.id == source) {
            for live in live {
                if let Some(encoding) = row.encodings.get_mut(usize::from(live.encoding)) {
                    (encoding.ssrc, encoding.rtx_ssrc) = (Some(live.ssrc), live.rtx_ssrc.or(encoding.rtx_ssrc));
                }
            }
        }
        let Some(codec) = track.index_of(source).and_then(|index| track.info.codecs.get_mut(index)) else { return };
        let mut changed = false;
        for (rid, live) in learned {
            let by_rid = codec.layers.iter().position(|layer| rid.as_ref() == Some(&layer.rid));
            let layer = codec.layers.get_mut(by_rid.unwrap_or(usize::from(live.encoding)));
            if let Some(layer) = layer.filter(|layer| layer.ssrc != live.ssrc) {
                layer.ssrc = live.ssrc;
                changed = true;
            }
        }
        if changed {
            #[expect(deprecated, reason = "clients of protocol 13 read the old field")]
            if source == track.id {
                track.info.layers.clone_from(&track.info.codecs[0].layers);
            }
            self.touch(key, false);
        }
    }

    pub(crate) fn quality_event(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        transport: TransportId,
        quality: Quality,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(connection) = participant.connections.iter().find(|c| c.transport == transport) else { return };
        match connection.role {
            Role::Publisher => participant.rating.up = Some(quality),
            Role::Subscriber => participant.rating.down = Some(quality),
        }
        self.rate(shared, key);
    }

    /// Tells everybody if a participant's connection got better or worse.
    fn rate(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let lost = participant.connections.iter().any(|connection| connection.link == Link::Disconnected);
        let (quality, score) = match (lost, participant.rating.up, participant.rating.down) {
            (true, _, _) => (ConnectionQuality::Lost, 1.0),
            // Nothing is measured yet; only the end of an interruption is worth telling.
            (false, None, None) if participant.rating.told != Some(ConnectionQuality::Lost) => return,
            (false, up, down) => {
                let loss = up.map_or(0.0, |q| q.loss_up).max(down.map_or(0.0, |q| q.loss_down));
                let rtt_us = up.map_or(0, |q| q.rtt_us).max(down.map_or(0, |q| q.rtt_us));
                grade(loss, rtt_us)
            }
        };
        if participant.rating.told.replace(quality) == Some(quality) {
            return;
        }
        let info = ConnectionQualityInfo { participant_sid: participant.sid.clone(), quality: quality as i32, score };
        if participant.permission.hidden {
            let update = ConnectionQualityUpdate { updates: vec![info] };
            shared.out.send(participant.socket, Message::ConnectionQuality(update));
        } else {
            self.news.rate(info);
        }
    }

    /// All that are heard now. Clients are told what differs from before.
    pub(crate) fn speakers_event(&mut self, shared: &mut Shared, speakers: &[Speaker]) {
        let mut heard: BTreeMap<String, f32> = BTreeMap::new();
        for speaker in speakers {
            let Some(&(call, key)) = shared.tracks.get(&speaker.track) else { continue };
            let participant = self.participants.get(&key).filter(|_| call == self.call);
            let Some(participant) = participant.filter(|participant| !participant.permission.hidden) else { continue };
            let level = (speaker.level.clamp(0.0, 1.0) / LEVEL_STEP).ceil().max(1.0) * LEVEL_STEP;
            let loudest = heard.entry(participant.sid.clone()).or_default();
            *loudest = loudest.max(level);
        }
        // In a large room the loudness of those who are heard anyway is told less often.
        let now = shared.now.monotonic;
        let same = heard.keys().eq(self.speaking.keys());
        if same && self.levels_at.is_some_and(|at| at + self.news_period() > now) {
            return;
        }
        let changed = heard.iter().filter(|&(sid, level)| self.speaking.get(sid) != Some(level));
        let mut changes: Vec<SpeakerInfo> =
            changed.map(|(sid, &level)| SpeakerInfo { sid: sid.clone(), level, active: true }).collect();
        let silent = self.speaking.keys().filter(|sid| !heard.contains_key(*sid));
        changes.extend(silent.map(|sid| SpeakerInfo { sid: sid.clone(), level: 0.0, active: false }));
        self.speaking = heard;
        if changes.is_empty() {
            return;
        }
        self.levels_at = Some(now);
        let listening = self.participants.values().filter(|participant| participant.permission.can_subscribe);
        let sockets = listening.filter_map(|participant| participant.socket).collect();
        shared.out.tell(sockets, Message::SpeakersChanged(SpeakersChanged { speakers: changes }));
    }

    /// Tells one who just came who is heard.
    pub(crate) fn tell_speaking(&self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get(&key) else { return };
        if self.speaking.is_empty() || !participant.permission.can_subscribe {
            return;
        }
        let speakers = self.speaking.iter();
        let speakers = speakers.map(|(sid, &level)| SpeakerInfo { sid: sid.clone(), level, active: true }).collect();
        shared.out.send(participant.socket, Message::SpeakersChanged(SpeakersChanged { speakers }));
    }

    /// What a receiver gets of a track. A client is told of a pause that it did not ask for.
    pub(crate) fn forwarding_event(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        id: TrackId,
        encoding: Option<u8>,
    ) {
        let Some(&(_, owner)) = shared.tracks.get(&id) else { return };
        let Some((owner_sid, track)) =
            self.participants.get(&owner).and_then(|p| Some((p.sid.clone(), p.track_of(id)?)))
        else {
            return;
        };
        let (id, track_sid, muted) = (track.id, track.info.sid.clone(), track.info.muted);
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let socket = participant.socket;
        let Some(subscription) = participant.subscriptions.get_mut(&id) else { return };
        let asked = muted || subscription.row.as_ref().is_none_or(|row| !row.wish.enabled);
        let paused = encoding.is_none() && !asked;
        if std::mem::replace(&mut subscription.paused, paused) == paused {
            return;
        }
        let state = if paused { StreamState::Paused } else { StreamState::Active } as i32;
        let stream_states = vec![StreamStateInfo { participant_sid: owner_sid, track_sid, state }];
        shared.out.send(socket, Message::StreamStateUpdate(StreamStateUpdate { stream_states }));
    }
}

/// Quality and a score between 1 and 5 as of listeners (MOS).
fn grade(loss: f32, rtt_us: u32) -> (ConnectionQuality, f32) {
    let score = (4.7 - loss * 25.0 - rtt_us as f32 / 500_000.0).clamp(1.0, 4.7);
    let quality = if loss >= LOSS_POOR || rtt_us >= RTT_POOR_US {
        ConnectionQuality::Poor
    } else if loss >= LOSS_GOOD || rtt_us >= RTT_GOOD_US {
        ConnectionQuality::Good
    } else {
        ConnectionQuality::Excellent
    };
    (quality, score)
}
