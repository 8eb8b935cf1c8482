//! Dynamic broadcasting: a publisher is told which codecs and layers anybody wants, so that it need not encode the others.
//! Raising is told at once, lowering after [`DEMAND_HOLD`].

use std::time::Duration;

use livekit_protocol::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, VideoQuality, signal_response::Message,
};
use sluice_messages::{Kind, TrackId};

use crate::{limits::DEMAND_HOLD, participant::ParticipantKey, room::Room, shared::Shared, wish};

/// What a publisher was told about a codec of a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Demand {
    /// Qualities it was told to send: 0 none, 1 low, 2 up to medium, 3 all. None: nothing was said; it sends all of the first
    /// codec and nothing of others.
    told: Option<u8>,
    /// When a lower demand is told, unless it rises before.
    pub(crate) lower_at: Option<Duration>,
}

const ALL: u8 = 3;

impl Room {
    /// Looks at who wants what of a track.
    pub(crate) fn weigh_demand(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        let now = shared.now.monotonic;
        let Some(track) = self.track_mut(owner, id) else { return };
        if !track.row.as_ref().is_some_and(|row| row.kind == Kind::Video) {
            return;
        }
        let (mut raised, mut lowered) = (false, false);
        for source in track.sources().collect::<Vec<_>>() {
            let wanted = self.demand(owner, id, source);
            let Some(demand) = self.track_mut(owner, id).and_then(|track| track.demand_mut(source)) else { continue };
            let told = demand.told.unwrap_or(if source == id { ALL } else { 0 });
            if wanted < told {
                lowered = true;
                demand.lower_at.get_or_insert(now + DEMAND_HOLD);
            } else {
                demand.lower_at = None;
                if wanted > told {
                    raised = true;
                    demand.told = Some(wanted);
                }
            }
        }
        if lowered {
            self.await_deadline(shared, owner);
        }
        if raised {
            self.tell_demand(shared, owner, id);
        }
    }

    /// Tells what was held back for long enough.
    pub(crate) fn demand_due(&mut self, shared: &mut Shared, owner: ParticipantKey) {
        let now = shared.now.monotonic;
        let Some(participant) = self.participants.get(&owner) else { return };
        let ids: Vec<TrackId> = participant.tracks.iter().filter(|track| track.row.is_some()).map(|t| t.id).collect();
        for id in ids {
            let Some(track) = self.track_mut(owner, id) else { continue };
            let mut due: Vec<TrackId> = track.sources().collect();
            due.retain(|&source| {
                let lower_at = track.demand_mut(source).and_then(|demand| demand.lower_at);
                lower_at.is_some_and(|at| at <= now)
            });
            for &source in &due {
                let told = Some(self.demand(owner, id, source));
                if let Some(demand) = self.track_mut(owner, id).and_then(|track| track.demand_mut(source)) {
                    *demand = Demand { told, lower_at: None };
                }
            }
            if !due.is_empty() {
                self.tell_demand(shared, owner, id);
            }
        }
    }

    /// What a resuming publisher may have missed. Unlike a change it is repeated as it was, so that no layer flaps.
    pub(crate) fn repeat_demand(&mut self, shared: &mut Shared, owner: ParticipantKey) {
        let Some(participant) = self.participants.get(&owner) else { return };
        let told = participant.tracks.iter().filter(|track| {
            track.demand.told.is_some() || track.backups.iter().any(|backup| backup.demand.told.is_some())
        });
        for id in told.map(|track| track.id).collect::<Vec<_>>() {
            self.tell_demand(shared, owner, id);
        }
    }

    fn tell_demand(&mut self, shared: &mut Shared, owner: ParticipantKey, id: TrackId) {
        let Some(participant) = self.participants.get(&owner) else { return };
        let Some(track) = participant.track_by_id(id) else { return };
        let asked = track.backups.iter().enumerate().filter_map(|(i, backup)| Some((i + 1, backup.demand.told?)));
        let mut codecs: Vec<(usize, u8)> =
            std::iter::once((0, track.demand.told.unwrap_or(ALL))).chain(asked).collect();
        if !participant.quirks().encoding_toggle {
            // Whole codecs can be asked for all the same.
            if codecs.len() == 1 {
                return;
            }
            for (index, wanted) in &mut codecs {
                *wanted = if *index == 0 || *wanted > 0 { ALL } else { 0 };
            }
        }
        let qualities = |wanted: u8| {
            [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
                .map(|quality| SubscribedQuality {
                    quality: quality as i32,
                    enabled: (quality as i32) < i32::from(wanted),
                })
                .to_vec()
        };
        let name = |index: usize| {
            let mime = track.info.codecs.get(index).map_or(&track.info.mime_type, |codec| &codec.mime_type);
            mime.rsplit('/').next().unwrap_or_default().to_owned()
        };
        #[expect(deprecated, reason = "clients of protocol 13 read the old field")]
        let update = SubscribedQualityUpdate {
            track_sid: track.info.sid.clone(),
            subscribed_qualities: qualities(codecs[0].1),
            subscribed_codecs: codecs
                .iter()
                .map(|&(index, wanted)| SubscribedCodec { codec: name(index), qualities: qualities(wanted) })
                .collect(),
        };
        shared.out.send(participant.socket, Message::SubscribedQualityUpdate(update));
    }

    /// The highest quality anybody wants of a codec, plus one; zero if nobody wants any.
    fn demand(&self, owner: ParticipantKey, id: TrackId, source: TrackId) -> u8 {
        let Some(track) = self.participants.get(&owner).and_then(|participant| participant.track_by_id(id)) else {
            return ALL;
        };
        let encodings = track.row_of(source).map(|row| &row.encodings[..]).unwrap_or_default();
        let gets = |key: &&ParticipantKey| {
            let subscription = self.participants.get(key).and_then(|participant| participant.subscriptions.get(&id));
            subscription.is_some_and(|subscription| subscription.source == Some(source))
        };
        let wishes = track.receivers.iter().filter(gets).filter_map(|&key| self.wish(key, id));
        let qualities = wishes.filter(|wish| wish.enabled).map(|wish| match encodings.len() {
            // Spatial layers of one stream are not told apart by what is forwarded.
            0 | 1 => ALL,
            many => {
                let index = usize::from(wish.max_encoding).min(many - 1);
                wish::encoding_quality(index, track.layers(source), encodings) + 1
            }
        });
        qualities.max().unwrap_or(0)
    }
}
