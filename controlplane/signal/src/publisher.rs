//! The peer connection that the client offers: it publishes on it.

use std::collections::{HashMap, HashSet};

use livekit_protocol::{AddTrackRequest, AudioTrackFeature, TrackType};
use serde::{Deserialize, Serialize};
use sluice_messages::{Codec, Encoding, ExtensionMap, Fingerprint, Ice, IceCredentials, Kind, Payload, Track};

use crate::{
    NodeInfo, Quirks, candidates, codecs,
    sdp::{Description, Direction, Format, Media, MediaKind, SdpError, Setup},
};

/// A media section that the client announced with AddTrack: one per codec (`simulcast_codecs`) that has a cid of its own.
/// Give all announced ones on each call, those that already have media included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PendingTrack {
    /// Client's id of the MediaStreamTrack.
    pub cid: String,
    pub kind: Kind,
    /// Codec asked for; it goes first in the answer, and clients send what comes first.
    pub codec: Option<Codec>,
    /// RIDs of the announced layers, from low to high.
    pub rids: Vec<String>,
    /// Opus in stereo.
    pub stereo: bool,
    /// Opus with discontinuous transmission.
    pub dtx: bool,
    /// Opus inside RED.
    pub red: bool,
}

impl PendingTrack {
    /// The sections a request announces; none if its type is neither audio nor video. A backup codec whose cid is still
    /// empty comes with a later request.
    #[expect(deprecated, reason = "clients of protocol 13 say stereo and disable_dtx only in the old fields")]
    pub fn from_request(request: &AddTrackRequest) -> Vec<PendingTrack> {
        let kind = match TrackType::try_from(request.r#type) {
            Ok(TrackType::Audio) => Kind::Audio,
            Ok(TrackType::Video) => Kind::Video,
            _ => return Vec::new(),
        };
        let has = |feature: AudioTrackFeature| request.audio_features.contains(&(feature as i32));
        let section = |cid: &str, codec: Option<Codec>, layers: &[livekit_protocol::VideoLayer]| {
            let mut layers: Vec<_> = layers.iter().filter(|layer| !layer.rid.is_empty()).collect();
            layers.sort_by_key(|layer| layer.quality);
            PendingTrack {
                cid: cid.to_owned(),
                kind,
                codec: codec.filter(|codec| codec.kind() == kind),
                rids: layers.into_iter().map(|layer| layer.rid.clone()).collect(),
                stereo: request.stereo || has(AudioTrackFeature::TfStereo),
                dtx: !(request.disable_dtx || has(AudioTrackFeature::TfNoDtx)),
                red: !request.disable_red,
            }
        };
        let mut sections: Vec<PendingTrack> = Vec::new();
        for codec in request.simulcast_codecs.iter().filter(|codec| !codec.cid.is_empty()) {
            let layers = if codec.layers.is_empty() { &request.layers } else { &codec.layers };
            if !sections.iter().any(|other| other.cid == codec.cid) {
                sections.push(section(&codec.cid, codecs::named(&codec.codec), layers));
            }
        }
        if !request.cid.is_empty() && !sections.iter().any(|other| other.cid == request.cid) {
            sections.insert(0, section(&request.cid, None, &request.layers));
        }
        sections
    }
}

/// Negotiation state of a client-offered peer connection.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Publisher {
    ice: Ice,
    quirks: Quirks,
    session: u64,
    version: u64,
    fingerprint: Option<Fingerprint>,
    receive_extensions: ExtensionMap,
    data: bool,
    sections: Vec<Section>,
}

/// An m-line of the last accepted offer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Section {
    mid: String,
    /// Port zero in the answer: the m-line may be recycled under another mid (RFC 9429 section 5.3.1).
    rejected: bool,
    /// Track id of the description.
    track: String,
    /// Present for audio and video.
    media: Option<PublishedMedia>,
}

/// An accepted offer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    /// Id of the offer, to echo.
    pub id: u32,
    /// The answer, candidates included.
    pub sdp: String,
    /// Credentials for the node from now on.
    pub ice: Ice,
    /// The offer restarted ICE: `ice.local` is the fresh pair, `ice.previous_local` the one before.
    pub ice_restarted: bool,
    /// Certificate of the client.
    pub fingerprint: Fingerprint,
    /// Header extension ids in what the client sends.
    pub receive_extensions: ExtensionMap,
    /// There is an application section.
    pub data: bool,
    /// Every audio and video section in m-line order, inactive ones too. What was active before and is not now has ended.
    pub media: Vec<PublishedMedia>,
}

/// One media section of the publisher.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PublishedMedia {
    /// Unique within the peer connection, also over time.
    pub mid: String,
    pub kind: Kind,
    /// The announced track it carries, or carried if it is not active; none while no AddTrack fits (see
    /// [`Publisher::announce`]).
    pub cid: Option<String>,
    /// Track id in the description, where it is not `cid` (for `TrackInfo.codecs[].sdp_cid`).
    pub sdp_cid: Option<String>,
    /// Accepted formats; the first is the one the client sends.
    pub payloads: Vec<Payload>,
    /// Layers from low to high; one without RID for anything but simulcast.
    pub encodings: Vec<Encoding>,
    /// The client sends on it.
    pub active: bool,
}

/// Why an offer was not accepted. State is as before the offer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// {0}
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// the offer has no media section
    #[error("the offer has no media section")]
    NoMedia,
    /// media section {mid:?} has no codec that can be forwarded
    #[error(
        "media section {mid:?} has no codec that can be forwarded: Opus for audio, VP8, H264 (packetization-mode 1), VP9 (profile 0) or AV1 (profile 0) for video"
    )]
    NoCodec { mid: String },
    /// media section {mid:?} is not bundled
    #[error("media section {mid:?} is not in the BUNDLE group; use one transport for everything")]
    NotBundled { mid: String },
    /// media section {mid:?} does not offer rtcp-mux
    #[error("media section {mid:?} does not offer rtcp-mux")]
    NotMuxed { mid: String },
    /// media section {mid:?} takes the wrong DTLS role
    #[error("media section {mid:?} must offer setup:actpass or setup:active, since the server is passive")]
    Role { mid: String },
    /// no ICE credentials
    #[error("the offer has no ICE credentials")]
    NoCredentials,
    /// the client is ICE-lite
    #[error("both sides would be ICE-lite, and nobody would send checks")]
    IceLite,
    /// no SHA-256 fingerprint
    #[error("the offer has no SHA-256 fingerprint")]
    NoFingerprint,
    /// media section {mid:?} has another fingerprint
    #[error("media section {mid:?} has another fingerprint than the first one or than the offer before")]
    Fingerprint { mid: String },
    /// m-line {index} changed its mid or is gone
    #[error("m-line {index} changed its mid or is gone; m-lines keep their order (RFC 9429 section 5.2.2)")]
    Order { index: usize },
}

impl Publisher {
    /// MID that candidates are given for: the first section that is not rejected, as all are bundled. None before the first
    /// offer.
    pub fn candidate_mid(&self) -> Option<&str> {
        self.sections.iter().find(|section| !section.rejected).map(|section| section.mid.as_str())
    }

    /// A peer connection before its first offer. `session` goes into the origin line (RFC 8866 section 5.2); any random
    /// number will do.
    pub fn new(local: IceCredentials, session: u64, quirks: Quirks) -> Publisher {
        Publisher {
            ice: Ice { local, remote: None, previous_local: None },
            quirks,
            // RFC 9429 section 5.2.1: the highest bit is zero.
            session: session >> 1,
            version: 0,
            fingerprint: None,
            receive_extensions: ExtensionMap::default(),
            data: false,
            sections: Vec::new(),
        }
    }

    /// Answers an offer. `fresh` is used if the offer restarts ICE and dropped otherwise.
    pub fn on_offer(
        &mut self,
        id: u32,
        sdp: &str,
        pending: &[PendingTrack],
        node: &NodeInfo,
        fresh: IceCredentials,
    ) -> Result<Answered, Refused> {
        let offer = Description::parse(sdp)?;
        self.check_order(&offer)?;
        // Before the transport: where nothing can be used, nothing has a transport either.
        let mut sections = Vec::with_capacity(offer.media.len());
        for (index, media) in offer.media.iter().enumerate() {
            sections.push(section(media, self.sections.get(index))?);
        }
        let fingerprint = self.check_transport(&offer)?;
        let remote = credentials(&offer)?;
        // Nothing is refused from here on.
        bind(&mut sections, &self.sections, pending);
        let ice_restarted = self.ice.remote.as_ref().is_some_and(|known| *known != remote);
        if ice_restarted {
            self.ice.previous_local = Some(std::mem::replace(&mut self.ice.local, fresh));
        }
        self.ice.remote = Some(remote);
        self.fingerprint = Some(fingerprint);
        self.receive_extensions = ExtensionMap::default();
        self.data = offer.media.iter().any(is_data);
        self.version += 1;
        let answer = self.answer(&offer, &mut sections, pending, node);
        self.sections = sections;
        Ok(Answered {
            id,
            sdp: answer.to_string(),
            ice: self.ice.clone(),
            ice_restarted,
            fingerprint,
            receive_extensions: self.receive_extensions,
            data: self.data,
            media: self.media().cloned().collect(),
        })
    }

    /// Matches sections whose AddTrack came after the offer; returns those that got their cid now. Give all announced tracks.
    pub fn announce(&mut self, pending: &[PendingTrack]) -> Vec<PublishedMedia> {
        let before = self.sections.clone();
        bind(&mut self.sections, &before, pending);
        let new = |(now, old): (&Section, &Section)| {
            let media = now.media.as_ref().filter(|media| media.active && media.cid.is_some());
            media.filter(|_| now.media.as_ref().map(|m| &m.cid) != old.media.as_ref().map(|m| &m.cid)).cloned()
        };
        self.sections.iter().zip(&before).filter_map(new).collect()
    }

    /// Every audio and video section of the last accepted offer.
    pub fn media(&self) -> impl Iterator<Item = &PublishedMedia> {
        self.sections.iter().filter_map(|section| section.media.as_ref())
    }

    /// Credentials as the node shall have them.
    pub fn ice(&self) -> &Ice {
        &self.ice
    }

    /// Certificate of the client, after the first offer.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Header extension ids in what the client sends.
    pub fn receive_extensions(&self) -> ExtensionMap {
        self.receive_extensions
    }

    /// There is an application section.
    pub fn data(&self) -> bool {
        self.data
    }

    fn check_order(&self, offer: &Description) -> Result<(), Refused> {
        if offer.media.is_empty() {
            return Err(Refused::NoMedia);
        }
        let kept = |(index, known): (usize, &Section)| {
            let same = |media: &Media| known.rejected || media.mid == known.mid;
            if offer.media.get(index).is_some_and(same) { Ok(()) } else { Err(Refused::Order { index }) }
        };
        self.sections.iter().enumerate().try_for_each(kept)
    }

    /// Everything must fit on one transport with us as DTLS server.
    fn check_transport(&self, offer: &Description) -> Result<Fingerprint, Refused> {
        if offer.ice_lite {
            return Err(Refused::IceLite);
        }
        let mut known = self.fingerprint;
        let alone = offer.media.len() == 1;
        for media in offer.media.iter().filter(|media| accepted(media)) {
            let mid = || media.mid.clone();
            if !alone && !offer.bundle.contains(&media.mid) {
                return Err(Refused::NotBundled { mid: mid() });
            }
            if codecs::kind(media).is_some() && !media.rtcp_mux {
                return Err(Refused::NotMuxed { mid: mid() });
            }
            if !matches!(media.setup, Some(Setup::ActPass | Setup::Active)) {
                return Err(Refused::Role { mid: mid() });
            }
            let fingerprint = media.fingerprint.ok_or(Refused::NoFingerprint)?;
            if *known.get_or_insert(fingerprint) != fingerprint {
                return Err(Refused::Fingerprint { mid: mid() });
            }
        }
        known.ok_or(Refused::NoFingerprint)
    }

    fn answer(
        &mut self,
        offer: &Description,
        sections: &mut [Section],
        pending: &[PendingTrack],
        node: &NodeInfo,
    ) -> Description {
        let mut answer = Description {
            session: self.session,
            version: self.version,
            ice_lite: true,
            extmap_allow_mixed: offer.extmap_allow_mixed,
            ..Default::default()
        };
        for (media, section) in offer.media.iter().zip(sections) {
            if section.rejected {
                answer.media.push(rejected(media));
                continue;
            }
            let mut ours = match (&mut section.media, codecs::kind(media)) {
                (Some(published), Some(kind)) => self.rtp(media, kind, published, pending),
                _ => Media {
                    sctp_port: Some(codecs::SCTP_PORT),
                    max_message_size: Some(codecs::MESSAGE_BYTES_MAX),
                    ..Media::new(MediaKind::Application, media.mid.clone())
                },
            };
            ours.protocol.clone_from(&media.protocol);
            ours.ice = Some(self.ice.local.clone());
            ours.fingerprint = Some(node.fingerprint);
            ours.setup = Some(Setup::Passive);
            answer.media.push(ours);
        }
        let is_accepted = |mid: &&String| answer.media.iter().any(|media| media.mid == **mid && media.port != 0);
        answer.bundle = offer.bundle.iter().filter(is_accepted).cloned().collect();
        let tagged = answer.bundle.first().cloned();
        if let Some(media) = answer.media.iter_mut().find(|media| tagged.as_ref().is_none_or(|mid| media.mid == *mid)) {
            media.candidates =
                node.candidates.iter().enumerate().map(|(i, a)| candidates::host(i, a, node.generation)).collect();
        }
        answer
    }

    /// The answer to an audio or video section; fills in what `published` gets from it.
    fn rtp(&mut self, offer: &Media, kind: Kind, published: &mut PublishedMedia, pending: &[PendingTrack]) -> Media {
        let announced = pending.iter().find(|track| published.active && Some(&track.cid) == published.cid.as_ref());
        let formats = self.preferred(codecs::usable(kind, offer), announced);
        let payload = |&(codec, format): &(Codec, &Format)| Payload {
            payload_type: format.payload_type,
            codec,
            rtx: codecs::rtx_of(offer, format.payload_type).map(|rtx| rtx.payload_type),
            nack: format.has_feedback("nack"),
        };
        published.payloads = formats.iter().map(payload).collect();
        published.encodings = encodings(offer, announced);
        let mut media = Media::new(offer.kind.clone(), offer.mid.clone());
        media.direction = if published.active { Direction::RecvOnly } else { Direction::Inactive };
        media.rtcp_mux = true;
        media.rtcp_rsize = offer.rtcp_rsize;
        media.extensions = codecs::received_extensions(offer, &mut self.receive_extensions);
        for (codec, format) in formats {
            media.formats.push(answered(codec, format, announced));
            media.formats.extend(codecs::rtx_of(offer, format.payload_type).cloned());
        }
        if published.active {
            media.rids = offer
                .rids
                .iter()
                .filter(|rid| published.encodings.iter().any(|e| e.rid.as_ref() == Some(*rid)))
                .cloned()
                .collect();
        }
        media
    }

    /// Puts the format first that the client shall send.
    fn preferred<'f>(
        &self,
        mut formats: Vec<(Codec, &'f Format)>,
        announced: Option<&PendingTrack>,
    ) -> Vec<(Codec, &'f Format)> {
        if !self.quirks.red || announced.is_some_and(|track| !track.red) {
            formats.retain(|(codec, _)| *codec != Codec::Red);
        }
        let first = match announced {
            Some(track) if track.kind == Kind::Audio && track.red => Some(Codec::Red),
            Some(track) => track.codec,
            None => None,
        };
        let Some(first) = first.filter(|first| formats.iter().any(|(codec, _)| codec == first)) else { return formats };
        if first.kind() == Kind::Video && !self.quirks.codec_order {
            // What such a client sends is decided by what is left.
            formats.retain(|(codec, _)| *codec == first);
        }
        formats.sort_by_key(|(codec, _)| *codec != first);
        formats
    }
}

/// It is not rejected by either side.
fn accepted(media: &Media) -> bool {
    let usable = |kind| !codecs::usable(kind, media).is_empty();
    media.port != 0 && (is_data(media) || codecs::kind(media).is_some_and(usable))
}

fn is_data(media: &Media) -> bool {
    media.kind == MediaKind::Application
        && media.port != 0
        && media.sctp_port.is_some()
        && media.protocol.ends_with("DTLS/SCTP")
}

/// Those of the section whose transport carries the bundle.
fn credentials(offer: &Description) -> Result<IceCredentials, Refused> {
    let bundled = offer.bundle.iter().filter_map(|mid| offer.media.iter().find(|media| media.mid == *mid));
    bundled
        .chain(&offer.media)
        .filter(|media| accepted(media))
        .find_map(|media| media.ice.clone())
        .ok_or(Refused::NoCredentials)
}

/// A section as offered, not yet bound to a track.
fn section(media: &Media, previous: Option<&Section>) -> Result<Section, Refused> {
    let mid = media.mid.clone();
    let sends = media.port != 0 && media.direction.sends();
    let published = codecs::kind(media).map(|kind| {
        if sends && codecs::usable(kind, media).is_empty() {
            return Err(Refused::NoCodec { mid: mid.clone() });
        }
        let before = previous.filter(|section| section.mid == mid).and_then(|section| section.media.clone());
        Ok(PublishedMedia {
            mid: mid.clone(),
            kind,
            // What it carried remains visible when it ends; `bind` decides anew while it is active.
            cid: before.as_ref().and_then(|media| media.cid.clone()).filter(|_| !sends),
            sdp_cid: before.and_then(|media| media.sdp_cid).filter(|_| !sends),
            payloads: Vec::new(),
            encodings: Vec::new(),
            active: sends,
        })
    });
    let track = media.msid.as_ref().map_or("", |(_, track)| bare(track)).to_owned();
    Ok(Section { rejected: !accepted(media), track, media: published.transpose()?, mid })
}

/// Older Firefox writes track ids in braces.
fn bare(track: &str) -> &str {
    track.strip_prefix('{').and_then(|track| track.strip_suffix('}')).unwrap_or(track)
}

/// Gives announced tracks to active sections: by track id; then as they were; then by kind, since replaced tracks and reused
/// transceivers show ids that nobody announced.
fn bind(sections: &mut [Section], previous: &[Section], pending: &[PendingTrack]) {
    let carried = |section: &Section| section.media.as_ref().and_then(|media| media.cid.clone());
    let had_media: HashSet<String> = previous.iter().filter_map(carried).collect();
    let active_before = |section: &&Section| section.media.as_ref().is_some_and(|media| media.active);
    let before: HashMap<&str, &Section> =
        previous.iter().filter(active_before).map(|section| (section.mid.as_str(), section)).collect();
    let mut taken = HashSet::new();
    for media in sections.iter_mut().filter_map(|section| section.media.as_mut()).filter(|media| media.active) {
        (media.cid, media.sdp_cid) = (None, None);
    }
    for pass in 0..4 {
        for section in sections.iter_mut() {
            let Some(media) = section.media.as_mut().filter(|media| media.active && media.cid.is_none()) else {
                continue;
            };
            let before = before.get(section.mid.as_str()).filter(|before| before.track == section.track);
            let before = before.and_then(|before| carried(before));
            let fits = |track: &PendingTrack| match pass {
                0 => bare(&track.cid) == section.track,
                1 => before.as_ref() == Some(&track.cid),
                2 => !had_media.contains(&track.cid),
                _ => true,
            };
            let free = |track: &&PendingTrack| track.kind == media.kind && fits(track) && !taken.contains(&track.cid);
            let Some(track) = pending.iter().find(free) else { continue };
            taken.insert(track.cid.clone());
            let differs = !section.track.is_empty() && section.track != bare(&track.cid);
            media.sdp_cid = differs.then(|| section.track.clone());
            media.cid = Some(track.cid.clone());
        }
    }
}

/// Layers from low to high.
fn encodings(offer: &Media, announced: Option<&PendingTrack>) -> Vec<Encoding> {
    if !offer.rids.is_empty() {
        let mut rids = offer.rids.clone();
        let announced = announced.map(|track| &track.rids[..]).unwrap_or_default();
        let known = ["q", "h", "f"].map(str::to_owned);
        for order in [announced, &known] {
            let rank = |rid: &String| order.iter().position(|other| other == rid);
            if rids.iter().all(|rid| rank(rid).is_some()) {
                rids.sort_by_key(rank);
                break;
            }
        }
        rids.truncate(Track::MAX_ENCODINGS);
        return rids.into_iter().map(|rid| Encoding { rid: Some(rid), ssrc: None, rtx_ssrc: None }).collect();
    }
    let simulcast = offer.groups.iter().find(|(semantics, _)| semantics == "SIM").map(|(_, ssrcs)| &ssrcs[..]);
    let mut ssrcs = simulcast.unwrap_or(offer.ssrcs.get(..1).unwrap_or_default()).to_vec();
    ssrcs.truncate(Track::MAX_ENCODINGS);
    if ssrcs.is_empty() {
        return vec![Encoding { rid: None, ssrc: None, rtx_ssrc: None }];
    }
    ssrcs.into_iter().map(|ssrc| Encoding { rid: None, ssrc: Some(ssrc), rtx_ssrc: offer.rtx_of(ssrc) }).collect()
}

/// A format as answered: the client's, with the feedback both sides know.
fn answered(codec: Codec, offered: &Format, announced: Option<&PendingTrack>) -> Format {
    let known = codecs::feedback(codec.kind()).iter().filter(|feedback| offered.has_feedback(feedback));
    let mut format = Format { feedback: known.map(|&feedback| feedback.to_owned()).collect(), ..offered.clone() };
    if codec == Codec::Opus {
        format.parameters = "minptime=10;useinbandfec=1".to_owned();
        if announced.is_some_and(|track| track.dtx) {
            format.parameters.push_str(";usedtx=1");
        }
        if announced.is_some_and(|track| track.stereo) {
            format.parameters.push_str(";stereo=1");
        }
    }
    format
}

/// Port zero, with the offered formats, as the grammar wants at least one.
fn rejected(offer: &Media) -> Media {
    let mut media = Media::new(offer.kind.clone(), offer.mid.clone());
    media.port = 0;
    media.protocol.clone_from(&offer.protocol);
    media.other_formats.clone_from(&offer.other_formats);
    media.direction = Direction::Inactive;
    let bare = |format: &Format| Format { payload_type: format.payload_type, ..Default::default() };
    media.formats = offer.formats.iter().map(bare).collect();
    media
}
