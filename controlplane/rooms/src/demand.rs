//! Dynamic broadcasting: a publisher is told which layers anybody wants, so that it need not encode the others. Raising is
//! told at once, lowering after [`DEMAND_HOLD`].

use std::time::Duration;

use livekit_protocol::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, VideoQuality, signal_response::Message,
};
use sluice_messages::{Kind, TrackId};

use crate::{limits::DEMAND_HOLD, participant::ParticipantKey, room::Room, shared::Shared, wish};

/// What a publisher was told about a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Demand {
    /// Qualities it was told to send: 0 none, 1 low, 2 up to medium, 3 all. None: nothing was said, it sends all.
    told: Option<u8>,
    /// When a lower demand is told, unless it rises before.
    pub(crate) lower_at: Option<Duration>,
}

const ALL: u8 = 3;

impl Room {
    /// Looks at who wants what of a track.
    pub(crate) fn weigh_demand(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        let wanted = self.demand(owner, id);
        let now = shared.now.monotonic;
        let Some(track) = self.track_mut(owner, id) else { return };
        if !track.row.as_ref().is_some_and(|row| row.kind == Kind::Video) {
            return;
        }
        let told = track.demand.told.unwrap_or(ALL);
        if wanted < told {
            if track.demand.lower_at.is_none() {
                track.demand.lower_at = Some(now + DEMAND_HOLD);
                self.await_deadline(shared, owner);
            }
            return;
        }
        track.demand.lower_at = None;
        if wanted > told {
            self.tell_demand(shared, owner, id, wanted);
        }
    }

    /// Tells what was held back for long enough.
    pub(crate) fn demand_due(&mut self, shared: &mut Shared, owner: ParticipantKey) {
        let now = shared.now.monotonic;
        let Some(participant) = self.participants.get(&owner) else { return };
        let due = participant.tracks.iter().filter(|track| track.demand.lower_at.is_some_and(|at| at <= now));
        for id in due.map(|track| track.id).collect::<Vec<_>>() {
            let wanted = self.demand(owner, id);
            self.tell_demand(shared, owner, id, wanted);
        }
    }

    /// What a resuming publisher may have missed. Unlike a change it is repeated as it was, so that no layer flaps.
    pub(crate) fn repeat_demand(&mut self, shared: &mut Shared, owner: ParticipantKey) {
        let Some(participant) = self.participants.get(&owner) else { return };
        let told = participant.tracks.iter().filter_map(|track| Some((track.id, track.demand.told?)));
        for (id, told) in told.collect::<Vec<_>>() {
            self.tell_demand(shared, owner, id, told);
        }
    }

    fn tell_demand(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId, wanted: u8) {
        let Some(participant) = self.participants.get_mut(&owner) else { return };
        let toggles = participant.quirks().encoding_toggle;
        let socket = participant.socket;
        let Some(track) = participant.tracks.iter_mut().find(|track| track.id == id) else { return };
        track.demand = Demand { told: Some(wanted), lower_at: None };
        if !toggles {
            return;
        }
        let qualities = || {
            [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
                .map(|quality| SubscribedQuality {
                    quality: quality as i32,
                    enabled: (quality as i32) < i32::from(wanted),
                })
                .to_vec()
        };
        let codec = track.info.mime_type.rsplit('/').next().unwrap_or_default().to_owned();
        #[expect(deprecated, reason = "clients of protocol 13 read the old field")]
        let update = SubscribedQualityUpdate {
            track_sid: track.info.sid.clone(),
            subscribed_qualities: qualities(),
            subscribed_codecs: vec![SubscribedCodec { codec, qualities: qualities() }],
        };
        shared.out.send(socket, Message::SubscribedQualityUpdate(update));
    }

    /// The highest quality anybody wants, plus one; zero if nobody wants any.
    fn demand(&self, owner: ParticipantKey, id: TrackId) -> u8 {
        let Some(track) = self.participants.get(&owner).and_then(|participant| participant.track_by_id(id)) else {
            return ALL;
        };
        let Some(row) = &track.row else { return ALL };
        let wishes = track.receivers.iter().filter_map(|key| {
            self.participants.get(key)?.subscriptions.get(&id)?.row.as_ref().map(|subscription| subscription.wish)
        });
        let qualities = wishes.filter(|wish| wish.enabled).map(|wish| match row.encodings.len() {
            // Spatial layers of one stream are not told apart by what is forwarded.
            0 | 1 => ALL,
            many => {
                wish::encoding_quality(usize::from(wish.max_encoding).min(many - 1), &track.info, &row.encodings) + 1
            }
        });
        qualities.max().unwrap_or(0)
    }
}
