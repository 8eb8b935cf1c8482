//! The peer connection that we offer: the client receives on it.
//!
//! M-line 0 is the application section, so that the transport exists without tracks and the bundle's tagged section is never
//! rejected. Every further m-line is a [`Slot`] that carries one track after another.

mod error;
mod source;
mod ssrcs;

pub use error::{AddError, AnswerError};
pub use source::Backup;

use serde::{Deserialize, Serialize};
use sluice_messages::{
    Codec, Extension, ExtensionMap, Fingerprint, Ice, IceCredentials, Kind, Payload, PayloadMap, TrackId,
};

use crate::{
    NodeInfo, Quirks, candidates, codecs,
    sdp::{self, Description, Direction, Media, MediaKind, Setup},
};

use source::{Accepted, accepted, map};
use ssrcs::Ssrcs;

/// MID of the application section.
const DATA_MID: &str = "0";

/// A track to be received.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SubscribedTrack {
    pub track: TrackId,
    pub kind: Kind,
    /// `PA_…` of the publisher.
    pub participant_sid: String,
    /// `TR_…`
    pub track_sid: String,
    /// Replaces the track sid in the stream id, in rooms with `sync_streams`.
    pub stream: Option<String>,
    /// The publisher's formats, first the one it sends.
    pub payloads: Vec<Payload>,
    /// Other codecs in which the same picture is, or can be, published. All are offered at once, so that whoever cannot
    /// decode the first is served by another without a second offer.
    pub backups: Vec<Backup>,
    /// A backup that has media is better than the first codec, for everybody who decodes it.
    pub regress: bool,
    /// Opus in stereo.
    pub stereo: bool,
}

/// Negotiation state of a server-offered peer connection. One offer is outstanding at most; what changes meanwhile goes
/// into the next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Subscriber {
    ice: Ice,
    /// The client was told `ice.local`.
    ice_offered: bool,
    quirks: Quirks,
    session: u64,
    ssrcs: Ssrcs,
    /// Id of the last offer, and its version in the origin line.
    last_id: u32,
    next_mid: u32,
    outstanding: Option<Outstanding>,
    /// The next offer differs from the last.
    changed: bool,
    fingerprint: Option<Fingerprint>,
    send_extensions: ExtensionMap,
    data: bool,
    slots: Vec<Slot>,
}

/// An offer without answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Outstanding {
    id: u32,
    /// MID and, for those that send, SSRC of every slot it has.
    slots: Vec<(u32, Option<u32>)>,
}

/// An m-line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Slot {
    mid: u32,
    kind: Kind,
    state: State,
}

/// Whether a slot carries a track. A track's slot must be seen inactive by the client before another track takes it, so that
/// the client ends the first one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum State {
    Sending(Box<Sending>),
    /// Its track is removed; to be offered inactive, or with port zero where it cannot be reused.
    Closing {
        codecs: Vec<Codec>,
        stop: bool,
    },
    /// The client knows that it is inactive: a track of the same kind may take it.
    Free {
        codecs: Vec<Codec>,
    },
    /// Port zero on both sides: a track of any kind may take it under a new mid (RFC 9429 section 5.2.2).
    Stopped,
}

/// A track on its slot.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Sending {
    track: SubscribedTrack,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    /// What the client receives, by its answer to an offer with this SSRC.
    accepted: Option<Vec<Accepted>>,
    /// What may have been sent with this SSRC. Another source needs another SSRC: one key must never protect two packets
    /// under the same index.
    used: Option<TrackId>,
}

/// An offer to send.
#[derive(Clone, PartialEq, Debug)]
pub struct Offer {
    /// Never 0.
    pub id: u32,
    pub sdp: String,
}

/// An answer was applied.
#[derive(Clone, PartialEq, Debug)]
pub struct SubscriberAnswered {
    pub ice: Ice,
    /// Certificate of the client.
    pub fingerprint: Fingerprint,
    /// Extensions we may send, by canonical id.
    pub send_extensions: ExtensionMap,
    /// There is an application section.
    pub data: bool,
    /// Everything that is negotiated now, not only what is new.
    pub subscriptions: Vec<NegotiatedSubscription>,
    /// Tracks that this answer refused: the client cannot decode them (`SE_CODEC_UNSUPPORTED`). They are removed.
    pub unsupported: Vec<TrackId>,
    /// Something changed while the offer was out: call [`Subscriber::offer`] again.
    pub more: bool,
}

/// How a track appears at the receiver.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NegotiatedSubscription {
    pub track: TrackId,
    /// Which of its codecs: `track` itself or that of a [`Backup`].
    pub source: TrackId,
    pub mid: String,
    pub ssrc: u32,
    /// Present where the client accepted RTX.
    pub rtx_ssrc: Option<u32>,
    /// Empty while the publisher does not send the source.
    pub payloads: Vec<PayloadMap>,
}

impl Subscriber {
    /// MID that candidates are given for: the application section, which is in every offer.
    pub fn candidate_mid(&self) -> &'static str {
        DATA_MID
    }

    /// A peer connection before its first offer. `seed` decides SSRCs and the origin line; it must differ between peer
    /// connections.
    pub fn new(local: IceCredentials, seed: u64, quirks: Quirks) -> Subscriber {
        Subscriber {
            ice: Ice { local, remote: None, previous_local: None },
            ice_offered: false,
            quirks,
            // RFC 9429 section 5.2.1: the highest bit is zero.
            session: seed >> 1,
            ssrcs: Ssrcs::new(seed),
            last_id: 0,
            next_mid: 1,
            outstanding: None,
            changed: true,
            fingerprint: None,
            send_extensions: ExtensionMap::default(),
            data: false,
            slots: Vec::new(),
        }
    }

    /// Adds a track to the next offer. Adding one that is there already takes over changed codecs and nothing else; look at
    /// [`Subscriber::subscription`] then, since not every change needs an offer.
    pub fn add(&mut self, track: SubscribedTrack) -> Result<(), AddError> {
        if self.codecs(&track).is_empty() {
            return Err(AddError::NoCodec);
        }
        if let Some(index) = self.slots.iter().position(|slot| slot.track() == Some(track.track)) {
            self.update(index, track);
            return Ok(());
        }
        let reuse = self.reuses(&track);
        let free = |slot: &Slot| reuse && slot.kind == track.kind && matches!(slot.state, State::Free { .. });
        let stopped = |slot: &Slot| matches!(slot.state, State::Stopped);
        let index = self.slots.iter().position(free).or_else(|| self.slots.iter().position(stopped));
        if index.is_none() && self.slots.len() + 1 >= sdp::MEDIA_MAX {
            return Err(AddError::Full);
        }
        let ssrc = self.ssrcs.draw();
        let rtx_ssrc = (track.kind == Kind::Video).then(|| self.ssrcs.draw());
        let kind = track.kind;
        let state = State::Sending(Box::new(Sending { track, ssrc, rtx_ssrc, accepted: None, used: None }));
        match index.map(|index| &mut self.slots[index]) {
            Some(slot) if matches!(slot.state, State::Free { .. }) => slot.state = state,
            Some(slot) => *slot = Slot { mid: next(&mut self.next_mid), kind, state },
            None => self.slots.push(Slot { mid: next(&mut self.next_mid), kind, state }),
        }
        self.changed = true;
        Ok(())
    }

    /// Takes a track out of the next offer; false if it is not there.
    pub fn remove(&mut self, track: TrackId) -> bool {
        let Some(index) = self.slots.iter().position(|slot| slot.track() == Some(track)) else { return false };
        self.close(index);
        true
    }

    /// The track is here, negotiated or not.
    pub fn contains(&self, track: TrackId) -> bool {
        self.slots.iter().any(|slot| slot.track() == Some(track))
    }

    /// Tracks that are here, negotiated or not.
    pub fn tracks(&self) -> impl Iterator<Item = TrackId> {
        self.slots.iter().filter_map(Slot::track)
    }

    /// Uses new local credentials from the next offer on. Give [`Subscriber::ice`] to the node at once: the client checks
    /// with them as soon as it has the offer.
    pub fn restart_ice(&mut self, local: IceCredentials) {
        let old = std::mem::replace(&mut self.ice.local, local);
        // Credentials that no client has seen need not stay accepted.
        if std::mem::take(&mut self.ice_offered) {
            self.ice.previous_local = Some(old);
        }
        self.changed = true;
    }

    /// Gives every track another SSRC with the next offer, since another node sends it under other keys. ICE stays as it is.
    pub fn renew(&mut self) {
        for slot in &mut self.slots {
            let State::Sending(sending) = &mut slot.state else { continue };
            (sending.ssrc, sending.accepted, sending.used) = (self.ssrcs.draw(), None, None);
            sending.rtx_ssrc = sending.rtx_ssrc.map(|_| self.ssrcs.draw());
        }
        self.changed = true;
    }

    /// Forgets the outstanding offer because it, or its answer, was lost with the WebSocket. Its changes go into the next.
    pub fn abandon_offer(&mut self) {
        self.changed |= self.outstanding.take().is_some();
    }

    /// The client has answered to everything there is.
    pub fn is_settled(&self) -> bool {
        !self.changed && self.outstanding.is_none()
    }

    /// The next offer, if something changed since the last one and none is outstanding.
    pub fn offer(&mut self, node: &NodeInfo) -> Option<Offer> {
        if !self.changed || self.outstanding.is_some() {
            return None;
        }
        self.changed = false;
        self.ice_offered = true;
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let slots = self.slots.iter().map(|slot| (slot.mid, slot.sending().map(|sending| sending.ssrc))).collect();
        self.outstanding = Some(Outstanding { id: self.last_id, slots });
        Some(Offer { id: self.last_id, sdp: self.describe(node).to_string() })
    }

    /// Applies the answer to the outstanding offer. `Ok(None)`: the answer belongs to an earlier offer and is ignored. Id 0
    /// counts as the outstanding one, since Rust clients do not echo ids.
    pub fn on_answer(&mut self, id: u32, sdp: &str) -> Result<Option<SubscriberAnswered>, AnswerError> {
        let Some(outstanding) = self.outstanding.as_ref().filter(|offer| id == 0 || offer.id == id) else {
            return Ok(None);
        };
        let answer = Description::parse(sdp)?;
        check_order(outstanding, &self.slots, &answer)?;
        let (remote, fingerprint) = self.check_transport(&answer)?;
        // Nothing is refused from here on.
        let offered = self.outstanding.take().map(|outstanding| outstanding.slots).unwrap_or_default();
        self.ice.remote = Some(remote);
        self.fingerprint = Some(fingerprint);
        self.data = answer.media[0].port != 0;
        self.send_extensions = accepted_extensions(&answer);
        let mut unsupported = Vec::new();
        for (index, (_, ssrc)) in offered.into_iter().enumerate() {
            unsupported.extend(self.apply(index, ssrc, &answer.media[index + 1]));
        }
        Ok(Some(SubscriberAnswered {
            ice: self.ice.clone(),
            fingerprint,
            send_extensions: self.send_extensions,
            data: self.data,
            subscriptions: self.subscriptions(),
            unsupported,
            more: self.changed,
        }))
    }

    /// Everything negotiated by the last answer and still wanted.
    pub fn subscriptions(&self) -> Vec<NegotiatedSubscription> {
        self.slots.iter().filter_map(Slot::negotiated).collect()
    }

    /// A track as negotiated by the last answer.
    pub fn subscription(&self, track: TrackId) -> Option<NegotiatedSubscription> {
        self.slots.iter().find(|slot| slot.track() == Some(track))?.negotiated()
    }

    /// Credentials as the node shall have them.
    pub fn ice(&self) -> &Ice {
        &self.ice
    }

    /// Certificate of the client, after the first answer.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Extensions we may send, by canonical id.
    pub fn send_extensions(&self) -> ExtensionMap {
        self.send_extensions
    }

    /// The client accepted the application section.
    pub fn data(&self) -> bool {
        self.data
    }

    /// Takes over changed codecs of a track that is there.
    fn update(&mut self, index: usize, track: SubscribedTrack) {
        let State::Sending(sending) = &self.slots[index].state else { return };
        let reoffer = self.codecs(&sending.track) != self.codecs(&track);
        if let State::Sending(sending) = &mut self.slots[index].state {
            (sending.track.payloads, sending.track.backups) = (track.payloads, track.backups);
            sending.track.regress = track.regress;
        }
        self.changed |= reoffer;
        self.keep_source(index);
    }

    /// Sees to it that an SSRC carries one source only: a track that shall come from another one is offered anew.
    fn keep_source(&mut self, index: usize) {
        let source = self.slots[index].negotiated().filter(|negotiated| !negotiated.payloads.is_empty());
        let State::Sending(sending) = &mut self.slots[index].state else { return };
        let Some(source) = source.map(|negotiated| negotiated.source) else { return };
        if *sending.used.get_or_insert(source) == source {
            return;
        }
        (sending.ssrc, sending.accepted, sending.used) = (self.ssrcs.draw(), None, None);
        sending.rtx_ssrc = sending.rtx_ssrc.map(|_| self.ssrcs.draw());
        self.changed = true;
    }

    /// Codecs to offer for a track, in the publisher's order.
    fn codecs(&self, track: &SubscribedTrack) -> Vec<Codec> {
        let mut codecs: Vec<Codec> = Vec::new();
        let backups = track.backups.iter().map(|backup| backup.codec);
        for codec in track.payloads.iter().map(|payload| payload.codec).chain(backups) {
            let fits = codec.kind() == track.kind && (codec != Codec::Red || self.quirks.red);
            if fits && !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        codecs
    }

    /// A receiver keeps its first track id for life, so that clients must find the track by the stream id.
    fn reuses(&self, track: &SubscribedTrack) -> bool {
        self.quirks.transceiver_reuse && track.stream.is_none()
    }

    fn close(&mut self, index: usize) {
        if let Some(sending) = self.slots[index].sending() {
            let (codecs, stop) = (self.codecs(&sending.track), !self.reuses(&sending.track));
            self.slots[index].state = State::Closing { codecs, stop };
            self.changed = true;
        }
    }

    fn describe(&self, node: &NodeInfo) -> Description {
        let mut data = Media {
            sctp_port: Some(codecs::SCTP_PORT),
            max_message_size: Some(codecs::MESSAGE_BYTES_MAX),
            ..Media::new(MediaKind::Application, DATA_MID.to_owned())
        };
        data.candidates =
            node.candidates.iter().enumerate().map(|(i, a)| candidates::host(i, a, node.generation)).collect();
        let mut media = vec![data];
        media.extend(self.slots.iter().map(|slot| self.section(slot)));
        for media in media.iter_mut().filter(|media| media.port != 0) {
            media.ice = Some(self.ice.local.clone());
            media.fingerprint = Some(node.fingerprint);
            media.setup = Some(Setup::ActPass);
        }
        Description {
            session: self.session,
            version: u64::from(self.last_id),
            ice_lite: true,
            extmap_allow_mixed: true,
            bundle: media.iter().filter(|media| media.port != 0).map(|media| media.mid.clone()).collect(),
            media,
        }
    }

    fn section(&self, slot: &Slot) -> Media {
        let kind = match slot.kind {
            Kind::Audio => MediaKind::Audio,
            Kind::Video => MediaKind::Video,
        };
        let mut media = Media::new(kind, slot.mid.to_string());
        let mut stereo = false;
        let offered = match &slot.state {
            State::Sending(sending) => {
                let track = &sending.track;
                let stream = track.stream.as_ref().unwrap_or(&track.track_sid);
                media.direction = Direction::SendOnly;
                media.msid = Some((format!("{}|{stream}", track.participant_sid), track.track_sid.clone()));
                media.cname = Some(track.participant_sid.clone());
                media.ssrcs = std::iter::once(sending.ssrc).chain(sending.rtx_ssrc).collect();
                if sending.rtx_ssrc.is_some() {
                    media.groups = vec![("FID".to_owned(), media.ssrcs.clone())];
                }
                stereo = track.stereo;
                self.codecs(track)
            }
            State::Closing { codecs, .. } | State::Free { codecs } => codecs.clone(),
            State::Stopped => Vec::new(),
        };
        if matches!(slot.state, State::Closing { stop: true, .. } | State::Stopped) {
            media.port = 0;
        }
        // The grammar wants at least one format, also where nothing is sent.
        let placeholder = match slot.kind {
            Kind::Audio => Codec::Opus,
            Kind::Video => Codec::Vp8,
        };
        let offered = if offered.is_empty() { vec![placeholder] } else { offered };
        media.formats = offered.into_iter().flat_map(|codec| codecs::offered(codec, stereo)).collect();
        media.rtcp_mux = true;
        media.rtcp_rsize = true;
        let extension = |extension: Extension| (extension.canonical_id(), extension.uri().to_owned());
        media.extensions = codecs::sent_extensions(slot.kind).map(extension).collect();
        media
    }

    fn check_transport(&self, answer: &Description) -> Result<(IceCredentials, Fingerprint), AnswerError> {
        let mut known = self.fingerprint;
        let mut ice = None;
        for media in answer.media.iter().filter(|media| media.port != 0) {
            let mid = || media.mid.clone();
            if media.setup != Some(Setup::Active) {
                return Err(AnswerError::Role { mid: mid() });
            }
            if media.kind != MediaKind::Application && !media.rtcp_mux {
                return Err(AnswerError::NotMuxed { mid: mid() });
            }
            let fingerprint = media.fingerprint.ok_or(AnswerError::NoFingerprint)?;
            if *known.get_or_insert(fingerprint) != fingerprint {
                return Err(AnswerError::Fingerprint { mid: mid() });
            }
            // Of a bundle the first section's count.
            ice = ice.or_else(|| media.ice.clone());
        }
        Ok((ice.ok_or(AnswerError::NoCredentials)?, known.ok_or(AnswerError::NoFingerprint)?))
    }

    /// Brings a slot to what the client answered for it; returns its track if the client cannot decode it.
    fn apply(&mut self, index: usize, offered: Option<u32>, answer: &Media) -> Option<TrackId> {
        let slot = &mut self.slots[index];
        match &mut slot.state {
            State::Sending(sending) if offered == Some(sending.ssrc) => {
                let track = sending.track.track;
                sending.accepted = Some(accepted(sending.track.kind, answer));
                if slot.negotiated().is_some() {
                    self.keep_source(index);
                    return None;
                }
                self.close(index);
                if answer.port == 0 {
                    self.slots[index].state = State::Stopped;
                }
                Some(track)
            }
            // It took the slot after the offer was made.
            State::Sending(_) => None,
            State::Closing { codecs, stop } => {
                if answer.port == 0 || (offered.is_none() && *stop) {
                    slot.state = State::Stopped;
                } else if offered.is_none() {
                    slot.state = State::Free { codecs: std::mem::take(codecs) };
                }
                None
            }
            State::Free { .. } | State::Stopped => {
                if answer.port == 0 {
                    slot.state = State::Stopped;
                }
                None
            }
        }
    }
}

impl Slot {
    fn sending(&self) -> Option<&Sending> {
        match &self.state {
            State::Sending(sending) => Some(sending),
            _ => None,
        }
    }

    fn track(&self) -> Option<TrackId> {
        self.sending().map(|sending| sending.track.track)
    }

    /// The subscription as answered; none if the client takes none of the codecs.
    fn negotiated(&self) -> Option<NegotiatedSubscription> {
        let sending = self.sending()?;
        let accepted = sending.accepted.as_ref()?;
        let (source, payloads) = sending.track.sources().find_map(|(source, sent, payloads)| {
            // RED is stripped to its Opus for those who do not take it.
            accepted.iter().any(|format| format.codec == sent).then(|| (source, map(payloads, accepted)))
        })?;
        let rtx = payloads.iter().any(|map| map.rtx.is_some());
        Some(NegotiatedSubscription {
            track: sending.track.track,
            source,
            mid: self.mid.to_string(),
            ssrc: sending.ssrc,
            rtx_ssrc: sending.rtx_ssrc.filter(|_| rtx),
            payloads,
        })
    }
}

/// The m-lines of an answer are those of its offer.
fn check_order(outstanding: &Outstanding, slots: &[Slot], answer: &Description) -> Result<(), AnswerError> {
    let (offered, answered) = (outstanding.slots.len() + 1, answer.media.len());
    if offered != answered {
        return Err(AnswerError::Count { offered, answered });
    }
    if answer.media[0].mid != DATA_MID || answer.media[0].kind != MediaKind::Application {
        return Err(AnswerError::Order { index: 0 });
    }
    for (i, (media, (mid, _))) in answer.media[1..].iter().zip(&outstanding.slots).enumerate() {
        // A slot that was stopped in the offer may have got a new mid and kind meanwhile.
        let renamed = slots[i].mid != *mid;
        if media.mid != mid.to_string() || !renamed && codecs::kind(media) != Some(slots[i].kind) {
            return Err(AnswerError::Order { index: i + 1 });
        }
    }
    Ok(())
}

/// What the client accepted with the ids that were offered. Ids are the same in all sections of a bundle, so what one
/// section accepted may be sent.
fn accepted_extensions(answer: &Description) -> ExtensionMap {
    let accepted: Vec<&(u8, String)> =
        answer.media.iter().filter(|media| media.port != 0).flat_map(|media| &media.extensions).collect();
    ExtensionMap::canonical(|extension| {
        accepted.iter().any(|(id, uri)| *id == extension.canonical_id() && uri == extension.uri())
    })
}

fn next(counter: &mut u32) -> u32 {
    let value = *counter;
    *counter += 1;
    value
}
