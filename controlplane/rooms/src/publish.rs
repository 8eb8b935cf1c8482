//! Publishing: announcements, offers, what becomes live and what ends.

use livekit_protocol::{
    AddTrackRequest, Codec, MuteTrackRequest, RequestResponse, SessionDescription, SimulcastCodecInfo, TrackInfo,
    TrackPublishedResponse, TrackSource, TrackType, TrackUnpublishedResponse, VideoLayer, request_response,
    signal_response::Message,
};
use prost::Message as _;
use sluice_messages::{Codec as MediaCodec, Data, Encoding, Entry, Ice, Key, Kind, Op, Track, TrackId};
use sluice_signal::{PendingTrack, PublishedMedia, Publisher};

use crate::{
    CloseReason, Notice, backup,
    demand::Demand,
    limits::{ADD_TRACK_BYTES_MAX, CID_BYTES_MAX, LAYERS_MAX, TRACK_NAME_BYTES_MAX, TRACKS_MAX},
    participant::{Negotiation, ParticipantKey, PeerConnection, Published, Role, transport_row},
    room::{Leave, Room},
    shared::Shared,
};

/// What clients may publish, told at join. The first video codec is what most of them prefer.
pub(crate) fn codecs() -> Vec<Codec> {
    let mimes = ["video/vp8", "video/h264", "video/vp9", "video/av1", "audio/opus", "audio/red"];
    mimes.map(|mime| Codec { mime: mime.to_owned(), fmtp_line: String::new() }).to_vec()
}

/// As TrackInfo has it.
pub(crate) fn mime(codec: MediaCodec) -> String {
    let kind = match codec.kind() {
        Kind::Audio => "audio",
        Kind::Video => "video",
    };
    format!("{kind}/{}", codec.name().to_ascii_lowercase())
}

impl Room {
    /// AddTrack: answered at once; the track is announced to others when an offer shows it.
    pub(crate) fn add_track(&mut self, shared: &mut Shared, key: ParticipantKey, request: AddTrackRequest) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let socket = participant.socket;
        let same = |track: &&Published| !track.is_live() && track.request.cid == request.cid;
        if let Some(same) = participant.tracks.iter().find(same).filter(|_| request.sid.is_empty()) {
            let track = Some(same.info.clone());
            shared.out.send(socket, Message::TrackPublished(TrackPublishedResponse { cid: request.cid, track }));
            return;
        }
        let checked = check(participant, &request);
        let second = checked.is_ok() && !request.sid.is_empty();
        let result = if second { self.add_codec(shared, key, &request) } else { checked };
        if let Err((reason, message)) = result {
            let refusal = RequestResponse {
                request_id: 0,
                reason: reason as i32,
                message: message.to_owned(),
                request: Some(request_response::Request::AddTrack(request)),
            };
            shared.out.send(socket, Message::RequestResponse(refusal));
            return;
        }
        let Some(participant) = self.participants.get_mut(&key).filter(|_| !second) else { return };
        let (backups, codecs) = backup::listed(&mut shared.dice, &request);
        let mut info = describe(shared.dice.sid("TR_"), &request);
        info.codecs.extend(codecs);
        let response = TrackPublishedResponse { cid: request.cid.clone(), track: Some(info.clone()) };
        shared.out.send(socket, Message::TrackPublished(response));
        participant.tracks.push(Published {
            id: shared.dice.track(),
            info,
            pending: PendingTrack::from_request(&request),
            request,
            row: None,
            backups,
            receivers: Default::default(),
            told: false,
            demand: Demand::default(),
        });
        self.changes.notes.insert(key);
        self.announce(shared, key);
    }

    /// The offer may have come before the announcement.
    pub(crate) fn announce(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let pending = participant.pending();
        let found = participant.publisher().map(|publisher| publisher.announce(&pending)).unwrap_or_default();
        self.end_others(shared, key, &found);
        for media in found {
            self.go_live(shared, key, &media);
        }
    }

    /// An offer of the client: answered, then what it shows goes live and what it lacks ends.
    pub(crate) fn offer(&mut self, shared: &mut Shared, key: ParticipantKey, offer: SessionDescription) {
        let Some(node) = self.node.clone() else { return };
        let Some(node_info) = self.node_info(shared) else { return };
        self.open_publisher(shared, key);
        let fresh = shared.dice.ice();
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let pending = participant.pending();
        let Some(publisher) = participant.publisher() else { return };
        let answered = match publisher.on_offer(offer.id, &offer.sdp, &pending, &node_info, fresh) {
            Ok(answered) => answered,
            Err(refused) => {
                let reason = refused.to_string();
                self.refuse(shared, key, format!("offer: {reason}"));
                return;
            }
        };
        let socket = participant.socket;
        let delivers = !participant.permission.can_subscribe;
        let may_send = participant.permission.can_publish_data;
        let Some(connection) = participant.connection_mut(Role::Publisher) else { return };
        connection.row.ice = answered.ice;
        connection.row.fingerprint = Some(answered.fingerprint);
        connection.row.receive_extensions = answered.receive_extensions;
        connection.row.data =
            answered.data.then_some(Data { opened_by_us: false, may_send, delivers, streams: connection.resumed() });
        if answered.ice_restarted {
            connection.trickled = false;
            connection.seen.clear();
        }
        shared.put(&node, Entry::Transport(connection.row.clone()));
        let answer = SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answered.sdp,
            id: answered.id,
            ..Default::default()
        };
        shared.out.send(socket, Message::Answer(answer));
        self.trickle(shared, key, Role::Publisher);
        self.changes.notes.insert(key);
        self.apply_media(shared, key, &answered.media);
    }

    pub(crate) fn open_publisher(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else { return };
        if participant.publisher().is_some() {
            return;
        }
        let local = shared.dice.ice();
        let publisher = Publisher::new(local.clone(), shared.dice.seed() >> 1, participant.quirks());
        let ice = Ice { local, remote: None, previous_local: None };
        let id = shared.dice.transport();
        let row = transport_row(id, self.call, &participant.sid, participant.identity(), ice, None);
        shared.transports.insert(id, (self.call, key));
        participant.connections.push(PeerConnection::new(Negotiation::Publisher(Box::new(publisher)), row));
    }

    /// A description cannot be used: both sides no longer agree on what there is, so the client starts anew.
    pub(crate) fn refuse(&mut self, shared: &mut Shared, key: ParticipantKey, reason: String) {
        let leave = Leave::reconnect(livekit_protocol::DisconnectReason::StateMismatch);
        self.hang_up_for(shared, key, Some(leave), CloseReason::Refused(reason.clone()));
        self.complain(shared, key, reason);
        self.restart(shared, key, None);
    }

    fn apply_media(&mut self, shared: &mut Shared, key: ParticipantKey, media: &[PublishedMedia]) {
        let Some(participant) = self.participants.get(&key) else { return };
        let live = participant.tracks.iter().flat_map(Published::rows);
        let shown = |mid: &str| media.iter().any(|media| media.active && media.mid == *mid);
        let gone: Vec<TrackId> = live.filter(|row| !shown(&row.mid)).map(|row| row.id).collect();
        self.end_sources(shared, key, &gone);
        self.end_others(shared, key, media);
        for section in media.iter().filter(|media| media.active) {
            self.go_live(shared, key, section);
        }
    }

    /// Ends what was on a section that carries another announced track now.
    fn end_others(&mut self, shared: &mut Shared, key: ParticipantKey, media: &[PublishedMedia]) {
        let Some(participant) = self.participants.get(&key) else { return };
        let replaced = |track: &Published, id: TrackId, cid: &String| {
            // A cid that was announced again while its track is live means the new one.
            let again = |other: &Published| !other.is_live() && other.request.cid == *cid;
            !track.carries(id, cid) || participant.tracks.iter().any(again)
        };
        let section = |mid: &str| media.iter().find(|media| media.active && media.mid == *mid)?.cid.as_ref();
        let gone = participant.tracks.iter().flat_map(|track| {
            let gone = move |row: &&Track| section(&row.mid).is_some_and(|cid| replaced(track, row.id, cid));
            track.rows().filter(gone).map(|row| row.id)
        });
        let gone: Vec<TrackId> = gone.collect();
        self.end_sources(shared, key, &gone);
    }

    /// A track ends with its first codec.
    fn end_sources(&mut self, shared: &mut Shared, key: ParticipantKey, gone: &[TrackId]) {
        for &source in gone {
            let participant = self.participants.get(&key);
            match participant.and_then(|participant| participant.track_of(source)).map(|track| track.id) {
                Some(id) if id == source => drop(self.end_track(shared, key, id, true)),
                Some(id) => self.end_backup(shared, key, id, source),
                None => {}
            }
        }
    }

    /// Starts the track or further codec that a section carries, or updates it if it is live already.
    fn go_live(&mut self, shared: &mut Shared, key: ParticipantKey, media: &PublishedMedia) {
        let Some(node) = self.node.clone() else { return };
        let Some(participant) = self.participants.get_mut(&key) else { return };
        let Some(transport) = participant.connection(Role::Publisher).map(|connection| connection.transport) else {
            return;
        };
        let Some((index, source)) = participant.carried(media) else { return };
        let permission = participant.permission.clone();
        let track = &mut participant.tracks[index];
        if !permission.allows(track.info.source()) {
            return;
        }
        let row = Track {
            id: source,
            call: self.call,
            publisher: transport,
            kind: media.kind,
            mid: media.mid.clone(),
            payloads: media.payloads.clone(),
            encodings: learned(&media.encodings, track.row_of(source)),
            muted: track.info.muted,
            rate_bps: declared_bps(track.layers(source)),
        };
        if track.row_of(source) == Some(&row) {
            return;
        }
        shared.put(&node, Entry::Track(row.clone()));
        if source != track.id {
            self.backup_live(shared, key, row, media);
            return;
        }
        let before = track.row.replace(row.clone());
        complete(&mut track.info, 0, media);
        let (id, sid) = (track.id, track.info.sid.clone());
        let participant_sid = participant.sid.clone();
        match before {
            None => {
                shared.tracks.insert(id, (self.call, key));
                self.tracks.insert(sid.clone(), (key, id));
                self.changes.room |= !permission.hidden;
                let room = self.name.clone();
                shared.out.notice(Notice::TrackPublished { room, participant: participant_sid, track: sid });
                self.changes.demand.insert((key, id));
            }
            Some(before) => {
                if before.payloads != row.payloads {
                    self.reoffer(shared, key, id);
                }
                self.rewish_all(shared, key, id);
            }
        }
        self.touch(key, false);
        self.reconsider_track(shared, key, id);
    }

    /// Takes a track away from everybody; its publisher is told if `tell`. False if it was only announced, or is unknown.
    pub(crate) fn end_track(&mut self, shared: &mut Shared, key: ParticipantKey, id: TrackId, tell: bool) -> bool {
        self.withdraw(shared, key, id);
        let Some(participant) = self.participants.get_mut(&key) else { return false };
        let Some(index) = participant.tracks.iter().position(|track| track.id == id) else { return false };
        let track = participant.tracks.remove(index);
        let sid = track.info.sid.clone();
        if tell {
            let gone = TrackUnpublishedResponse { track_sid: sid.clone() };
            shared.out.send(participant.socket, Message::TrackUnpublished(gone));
        }
        let (hidden, participant_sid) = (participant.permission.hidden, participant.sid.clone());
        self.changes.demand.remove(&(key, id));
        self.changes.notes.insert(key);
        for source in track.rows().map(|row| row.id) {
            shared.tracks.remove(&source);
            if let Some(node) = &self.node {
                shared.op(node, Op::Remove(Key::Track(source)));
            }
        }
        if track.row.is_none() {
            return false;
        }
        self.tracks.remove(&sid);
        self.touch(key, false);
        self.changes.room |= !hidden;
        shared.out.notice(Notice::TrackUnpublished {
            room: self.name.clone(),
            participant: participant_sid,
            track: sid,
        });
        true
    }

    /// The client muted or unmuted one of its tracks.
    pub(crate) fn mute_own(&mut self, shared: &mut Shared, key: ParticipantKey, request: &MuteTrackRequest) {
        self.mute(shared, key, &request.sid, request.muted);
    }

    /// Mutes or unmutes a track for everybody; false if there is no such track.
    pub(crate) fn mute(&mut self, shared: &mut Shared, key: ParticipantKey, sid: &str, muted: bool) -> bool {
        let Some(track) = self.participants.get_mut(&key).and_then(|participant| participant.track_mut(sid)) else {
            return false;
        };
        if track.info.muted == muted {
            return true;
        }
        track.info.muted = muted;
        track.rows_mut().for_each(|row| row.muted = muted);
        let rows: Vec<Track> = track.rows().cloned().collect();
        if let Some(node) = &self.node {
            rows.into_iter().for_each(|row| shared.put(node, Entry::Track(row)));
        }
        self.changes.notes.insert(key);
        self.touch(key, false);
        true
    }

    pub(crate) fn track_mut(&mut self, owner: ParticipantKey, id: TrackId) -> Option<&mut Published> {
        self.participants.get_mut(&owner)?.tracks.iter_mut().find(|track| track.id == id)
    }
}

pub(crate) type Refusal = (request_response::Reason, &'static str);

fn check(participant: &crate::participant::Participant, request: &AddTrackRequest) -> Result<(), Refusal> {
    use request_response::Reason;
    if !matches!(request.r#type(), TrackType::Audio | TrackType::Video) {
        return Err((Reason::UnsupportedType, "tracks are audio or video"));
    }
    if !participant.permission.allows(request.source()) {
        return Err((Reason::NotAllowed, "the token does not permit to publish this source"));
    }
    if request.sid.is_empty() && participant.tracks.len() >= TRACKS_MAX {
        return Err((Reason::LimitExceeded, "too many tracks"));
    }
    let layers = request.layers.len().max(request.simulcast_codecs.iter().map(|c| c.layers.len()).max().unwrap_or(0));
    if layers > LAYERS_MAX || request.simulcast_codecs.len() > LAYERS_MAX {
        return Err((Reason::LimitExceeded, "too many layers or codecs"));
    }
    let cid_max = request.simulcast_codecs.iter().map(|codec| codec.cid.len()).max().unwrap_or(0);
    if request.name.len() > TRACK_NAME_BYTES_MAX || request.cid.len().max(cid_max) > CID_BYTES_MAX {
        return Err((Reason::InvalidName, "name or cid is too long"));
    }
    if request.encoded_len() > ADD_TRACK_BYTES_MAX {
        return Err((Reason::LimitExceeded, "the request is too long"));
    }
    if request.cid.is_empty() {
        return Err((Reason::InvalidRequest, "cid is missing"));
    }
    Ok(())
}

/// What is known of a track before its section is negotiated.
#[expect(deprecated, reason = "clients of protocol 13 read the old fields")]
fn describe(sid: String, request: &AddTrackRequest) -> TrackInfo {
    let mime_of = |codec: &str| {
        let codec = codec.to_ascii_lowercase();
        match (codec.is_empty() || codec.contains('/'), request.r#type()) {
            (true, _) => codec,
            (false, TrackType::Audio) => format!("audio/{codec}"),
            (false, _) => format!("video/{codec}"),
        }
    };
    let first = request.simulcast_codecs.first();
    let mut layers = first.map(|codec| codec.layers.clone()).filter(|layers| !layers.is_empty());
    let layers = layers.get_or_insert_with(|| request.layers.clone());
    if layers.is_empty() && request.r#type() == TrackType::Video {
        layers.push(VideoLayer { quality: 2, width: request.width, height: request.height, ..Default::default() });
    }
    let codec = SimulcastCodecInfo {
        mime_type: mime_of(first.map_or("", |codec| &codec.codec)),
        cid: request.cid.clone(),
        layers: layers.clone(),
        video_layer_mode: first.map_or(0, |codec| codec.video_layer_mode),
        ..Default::default()
    };
    TrackInfo {
        sid,
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers: layers.clone(),
        mime_type: codec.mime_type.clone(),
        codecs: vec![codec],
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: match (request.stream.is_empty(), request.source()) {
            (false, _) => request.stream.clone(),
            (true, TrackSource::Camera | TrackSource::Microphone) => "camera".to_owned(),
            (true, TrackSource::ScreenShare | TrackSource::ScreenShareAudio) => "screen".to_owned(),
            (true, TrackSource::Unknown) => String::new(),
        },
        audio_features: request.audio_features.clone(),
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..Default::default()
    }
}

/// What all layers of a track take together, if the client says it of each.
fn declared_bps(layers: &[VideoLayer]) -> u64 {
    let rates = layers.iter().map(|layer| u64::from(layer.bitrate));
    if layers.iter().all(|layer| layer.bitrate > 0) { rates.sum() } else { 0 }
}

/// Adds what the negotiated section of the codec at `index` says.
#[expect(deprecated, reason = "clients of protocol 13 read the old fields")]
pub(crate) fn complete(info: &mut TrackInfo, index: usize, media: &PublishedMedia) {
    let Some(codec) = info.codecs.get_mut(index) else { return };
    if let Some(payload) = media.payloads.first() {
        codec.mime_type = mime(payload.codec);
    }
    codec.mid.clone_from(&media.mid);
    codec.sdp_cid = media.sdp_cid.clone().unwrap_or_default();
    let simulcast = media.encodings.len() > 1;
    for (i, encoding) in media.encodings.iter().enumerate() {
        let rid = encoding.rid.as_deref().unwrap_or_default();
        let by_rid = codec.layers.iter().position(|layer| !rid.is_empty() && layer.rid == rid);
        // Spatial layers of one stream share its SSRC, so only the first is given it.
        if let Some(layer) = by_rid.or(Some(i)).and_then(|index| codec.layers.get_mut(index)) {
            if simulcast && layer.rid.is_empty() {
                layer.rid = rid.to_owned();
            }
            layer.ssrc = encoding.ssrc.unwrap_or(layer.ssrc);
            layer.repair_ssrc = encoding.rtx_ssrc.unwrap_or(layer.repair_ssrc);
        }
    }
    if index == 0 {
        info.mid.clone_from(&codec.mid);
        info.mime_type.clone_from(&codec.mime_type);
        info.layers.clone_from(&codec.layers);
        info.simulcast = simulcast;
    }
}

/// Layers as described, with the SSRCs that the node learned of those that were there before: a client names a layer only
/// in its first packets, and the next node will not see those.
fn learned(described: &[Encoding], before: Option<&Track>) -> Vec<Encoding> {
    let known = |rid: &Option<String>| before?.encodings.iter().find(|known| known.rid == *rid);
    let learned = |encoding: &Encoding| {
        let known = known(&encoding.rid).filter(|_| encoding.rid.is_some() && encoding.ssrc.is_none());
        known.unwrap_or(encoding).clone()
    };
    described.iter().map(learned).collect()
}
