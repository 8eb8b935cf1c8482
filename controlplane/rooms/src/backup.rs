//! Further codecs of a published video track, for those who cannot decode the first: announced with the track or later, each
//! on a media section of its own. Publishers send one when somebody waits for it, see `demand`.

use livekit_protocol::{
    AddTrackRequest, SimulcastCodecInfo, TrackPublishedResponse, TrackType, VideoLayer, request_response::Reason,
    signal_response::Message,
};
use sluice_messages::{Codec, Key, Kind, Op, Track, TrackId};
use sluice_signal::{PendingTrack, PublishedMedia, codecs};

use crate::{
    demand::Demand,
    dice::Dice,
    participant::{Participant, ParticipantKey, Published},
    publish::{Refusal, complete, mime},
    room::Room,
    shared::Shared,
};

/// Another codec of a track. Its entry in `TrackInfo.codecs` stands at its own index plus one.
pub(crate) struct Backup {
    /// What the node calls it.
    pub(crate) id: TrackId,
    pub(crate) codec: Codec,
    /// Client's id of the section; empty until announced.
    pub(crate) cid: String,
    /// As the node has it; none until its section was in an offer.
    pub(crate) row: Option<Track>,
    pub(crate) demand: Demand,
}

impl Backup {
    pub(crate) fn new(dice: &mut Dice, codec: Codec, cid: &str) -> Backup {
        Backup { id: dice.track(), codec, cid: cid.to_owned(), row: None, demand: Demand::default() }
    }
}

impl Published {
    /// Everything the node may know it as, the first codec first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = TrackId> {
        std::iter::once(self.id).chain(self.backups.iter().map(|backup| backup.id))
    }

    /// What the node has of it.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Track> {
        self.row.iter().chain(self.backups.iter().filter_map(|backup| backup.row.as_ref()))
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        self.row.iter_mut().chain(self.backups.iter_mut().filter_map(|backup| backup.row.as_mut()))
    }

    pub(crate) fn row_of(&self, source: TrackId) -> Option<&Track> {
        self.rows().find(|row| row.id == source)
    }

    /// Index in `TrackInfo.codecs`.
    pub(crate) fn index_of(&self, source: TrackId) -> Option<usize> {
        self.sources().position(|id| id == source)
    }

    /// Layers of a codec as announced, or of the track where clients list them there.
    pub(crate) fn layers(&self, source: TrackId) -> &[VideoLayer] {
        let codec = self.index_of(source).and_then(|index| self.info.codecs.get(index));
        #[expect(deprecated, reason = "clients of protocol 13 list layers only here")]
        match codec {
            Some(codec) if !codec.layers.is_empty() => &codec.layers,
            _ => &self.info.layers,
        }
    }

    pub(crate) fn demand_mut(&mut self, source: TrackId) -> Option<&mut Demand> {
        if source == self.id {
            return Some(&mut self.demand);
        }
        self.backups.iter_mut().find(|backup| backup.id == source).map(|backup| &mut backup.demand)
    }

    /// The section of this cid carries this codec of the track.
    pub(crate) fn carries(&self, source: TrackId, cid: &str) -> bool {
        match self.backups.iter().find(|backup| backup.id == source) {
            Some(backup) => backup.cid == cid,
            None => self.request.cid == cid || self.pending.first().is_some_and(|pending| pending.cid == cid),
        }
    }
}

/// The further codecs of a request, as the track has them and as its info shows them.
pub(crate) fn listed(dice: &mut Dice, request: &AddTrackRequest) -> (Vec<Backup>, Vec<SimulcastCodecInfo>) {
    let (mut backups, mut infos) = (Vec::new(), Vec::new());
    let Some((first, rest)) = request.simulcast_codecs.split_first() else { return (backups, infos) };
    let mut known = vec![codecs::named(&first.codec)];
    for listed in rest.iter().filter(|_| request.r#type() == TrackType::Video) {
        let codec = codecs::named(&listed.codec).filter(|codec| codec.kind() == Kind::Video);
        let Some(codec) = codec.filter(|codec| !known.contains(&Some(*codec))) else { continue };
        known.push(Some(codec));
        backups.push(Backup::new(dice, codec, &listed.cid));
        infos.push(info(codec, &listed.cid, &listed.layers, listed.video_layer_mode));
    }
    (backups, infos)
}

fn info(codec: Codec, cid: &str, layers: &[VideoLayer], mode: i32) -> SimulcastCodecInfo {
    SimulcastCodecInfo {
        mime_type: mime(codec),
        cid: cid.to_owned(),
        layers: layers.to_vec(),
        video_layer_mode: mode,
        ..Default::default()
    }
}

impl Participant {
    /// The track and the codec that a section carries: as it was, or announced and not live yet.
    pub(crate) fn carried(&self, media: &PublishedMedia) -> Option<(usize, TrackId)> {
        let live = self.tracks.iter().enumerate().find_map(|(index, track)| {
            let row = track.rows().find(|row| row.mid == media.mid)?;
            Some((index, row.id))
        });
        let announced = || {
            let cid = media.cid.as_ref()?;
            self.tracks.iter().enumerate().find_map(|(index, track)| {
                let source =
                    track.sources().find(|&source| track.row_of(source).is_none() && track.carries(source, cid))?;
                Some((index, source))
            })
        };
        live.or_else(announced)
    }
}

impl Room {
    /// AddTrack with a sid: another codec of a track that is there.
    pub(crate) fn add_codec(
        &mut self,
        shared: &mut Shared,
        key: ParticipantKey,
        request: &AddTrackRequest,
    ) -> Result<(), Refusal> {
        let Some(participant) = self.participants.get_mut(&key) else { return Ok(()) };
        let socket = participant.socket;
        let Some(track) = participant.track_mut(&request.sid) else {
            return Err((Reason::NotFound, "there is no track with this sid"));
        };
        let listed = request.simulcast_codecs.iter().find(|codec| !codec.cid.is_empty());
        let codec = listed.and_then(|listed| codecs::named(&listed.codec));
        let sent = track.row.as_ref().and_then(|row| row.payloads.first()).map(|payload| payload.codec);
        let first = sent.or_else(|| track.pending.first().and_then(|pending| pending.codec));
        let (Some(listed), Some(codec)) = (listed, codec) else {
            return Err((Reason::UnsupportedType, "a second codec must be named, with its cid, in simulcast_codecs"));
        };
        if track.info.r#type() != TrackType::Video || codec.kind() != Kind::Video || first == Some(codec) {
            return Err((Reason::UnsupportedType, "a second codec is a video codec other than the first"));
        }
        let layers = if listed.layers.is_empty() { &request.layers } else { &listed.layers };
        let info = info(codec, &listed.cid, layers, listed.video_layer_mode);
        match track.backups.iter().position(|backup| backup.codec == codec) {
            Some(index) => {
                let old = std::mem::replace(&mut track.backups[index].cid, listed.cid.clone());
                track.pending.retain(|pending| old.is_empty() || pending.cid != old);
                track.info.codecs[index + 1] = info;
            }
            None => {
                track.backups.push(Backup::new(&mut shared.dice, codec, &listed.cid));
                track.info.codecs.push(info);
            }
        }
        let section = PendingTrack::from_request(request).into_iter().find(|section| section.cid == listed.cid);
        track.pending.extend(section);
        let id = track.id;
        let response = TrackPublishedResponse { cid: request.cid.clone(), track: Some(track.info.clone()) };
        shared.out.send(socket, Message::TrackPublished(response));
        for other in self.participants.values_mut() {
            other.undecodable.remove(&id);
        }
        self.touch(key, false);
        self.reoffer(shared, key, id);
        self.reconsider_track(shared, key, id);
        self.announce(shared, key);
        Ok(())
    }

    /// A further codec has media.
    pub(crate) fn backup_live(&mut self, shared: &mut Shared, key: ParticipantKey, row: Track, media: &PublishedMedia) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(track) = participant.tracks.iter_mut().find(|track| track.sources().any(|id| id == row.id)) else {
            return;
        };
        let (id, source, index) = (track.id, row.id, track.index_of(row.id).unwrap_or_default());
        complete(&mut track.info, index, media);
        if let Some(backup) = track.backups.iter_mut().find(|backup| backup.id == source) {
            backup.row = Some(row);
        }
        shared.tracks.insert(source, (self.call, key));
        self.touch(key, false);
        self.reoffer(shared, key, id);
        self.rewish_all(shared, key, id);
        self.changes.demand.insert((key, id));
    }

    /// A further codec of a track ended; the track goes on.
    pub(crate) fn end_backup(&mut self, shared: &mut Shared, key: ParticipantKey, id: TrackId, source: TrackId) {
        let fresh = shared.dice.track();
        let Some(track) = self.track_mut(key, id) else { return };
        let Some(backup) = track.backups.iter_mut().find(|backup| backup.id == source) else { return };
        let cid = std::mem::take(&mut backup.cid);
        // What ended and what may come are two things to the node.
        (backup.id, backup.row, backup.demand) = (fresh, None, Demand::default());
        track.pending.retain(|pending| pending.cid != cid);
        if let Some(codec) = track.index_of(fresh).and_then(|index| track.info.codecs.get_mut(index)) {
            codec.cid.clear();
            codec.mid.clear();
        }
        shared.tracks.remove(&source);
        if let Some(node) = &self.node {
            shared.op(node, Op::Remove(Key::Track(source)));
        }
        for participant in self.participants.values_mut() {
            if let Some(subscription) = participant.subscriptions.get_mut(&id) {
                subscription.row.take_if(|row| row.track == source);
            }
        }
        self.touch(key, false);
        self.reoffer(shared, key, id);
        self.changes.demand.insert((key, id));
    }
}
